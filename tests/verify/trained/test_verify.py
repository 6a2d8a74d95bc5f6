"""`verify` on real torchtitan: right migrations pass, planted defects fail, and nothing is left behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from migrator.verify.train import worktrees

from forks import edit, git, verified

pytestmark = pytest.mark.torchrun

LLAMA = Path("torchtitan/models/llama3/infra/parallelize.py")


def verify(tree: Path, **options):
    """The verdict of the cell dp, and what was printed."""
    cells, printed = verified(tree, cells=("dp",), **options)
    return cells["dp"], printed


@pytest.mark.usefixtures("warm_ranks", "short")
def test_0_2_1_equals_ddp(migrated):
    tree = migrated("0.2.1")
    before = git(tree, "status", "--porcelain"), git(tree, "worktree", "list")
    verdict, printed = verify(tree)
    assert verdict.passed, printed
    pairs = {
        (c.quantity, c.right): c.verdict
        for c in verdict.comparisons
        if c.left == "migrated"
    }
    assert pairs["loss", "baseline"] == pairs["grad_norm", "baseline"] == "bitwise"
    assert pairs["parameters", "baseline"] == "bitwise"
    assert len(verdict.traces["migrated"].steps) == 10
    assert "PASSED" in printed
    assert (git(tree, "status", "--porcelain"), git(tree, "worktree", "list")) == before
    report = json.loads((tree.parent / "report" / "report.json").read_text())
    took = report["environment"]
    assert took["total_seconds"] <= 1.15 * sum(took["seconds"].values())
    for name in ("report.md", "plots/00-llama3-dp.png", "plots/00-llama3-dp.svg"):
        assert (tree.parent / "report" / name).stat().st_size > 1000
    assert (
        report["passed"]
        and report["models"]["llama3"]["dp"]["traces"]["reference"]["ranks"][1]["steps"]
    )


@pytest.mark.usefixtures("warm_ranks", "short")
def test_undone_call_site_of_the_trained_model_fails(migrated):
    tree = migrated("0.2.1")
    source = (tree / LLAMA).read_text()
    at = source.index("apply_replicate(", source.index("def parallelize_llama"))
    (tree / LLAMA).write_text(
        source[:at] + "apply_ddp(" + source[at + len("apply_replicate(") :]
    )
    verdict, printed = verify(tree, steps=1)
    assert not verdict.passed
    assert "NameError: name 'apply_ddp' is not defined" in " ".join(printed.split())
    assert "Traceback" in verdict.details
    assert f'File "{tree / LLAMA}", line' in verdict.details
    assert worktrees.PREFIX not in printed + verdict.details


@pytest.mark.usefixtures("warm_ranks", "short")
def test_base_that_does_not_train_is_no_verdict(migrated):
    tree = migrated("0.2.0")
    git(tree, "stash")
    for name in ("apply_ddp", "apply_fsdp"):
        edit(
            tree / LLAMA,
            f"def {name}(\n",
            f"def {name}(*args, **kwargs):\n    raise RuntimeError('planted')\n\n\ndef _{name}(\n",
        )
    git(tree, "commit", "--quiet", "--all", "--message", "broken")
    (tree / "torchtitan" / "train.py").open("a").write("# changed\n")
    verdict, printed = verify(tree, steps=1)
    assert verdict.word == "not run"
    assert "neither DDP nor FSDP trains here: RuntimeError: planted" in verdict.not_run
    assert "No cell ran" in printed
