"""`verify` on real torchtitan: right migrations pass, planted defects fail, and nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from forks import edit, git

from migrator.verify import run_verify
from rich.console import Console

pytestmark = pytest.mark.torchrun

LLAMA = Path("torchtitan/models/llama3/infra/parallelize.py")


def verify(tree: Path, cell: str = "dp", **options):
    """Verifies one cell, with a report beside the checkout; returns its verdict and what was printed."""
    console = Console(record=True, width=140, file=open(os.devnull, "w"))
    verification = run_verify(
        tree,
        console=console,
        report_dir=tree.parent / "report",
        cells=(cell,),
        **options,
    )
    return verification.cells[cell], console.export_text()


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
    assert (
        report["passed"]
        and report["models"]["llama3"]["dp"]["traces"]["reference"]["ranks"][1]["steps"]
    )


def test_0_2_2_says_that_ddp_divided_twice(migrated):
    verdict, printed = verify(migrated("0.2.2"), steps=3)
    assert verdict.passed, printed
    assert "DDP divided the gradients twice" in " ".join(printed.split())
    norms = {name: trace.steps[0].grad_norm for name, trace in verdict.traces.items()}
    assert norms["migrated"] == pytest.approx(2 * norms["baseline"], rel=1e-6)
    assert norms["migrated"] == pytest.approx(norms["reference"], rel=1e-3)


def test_dropped_gradient_scaling_fails(migrated):
    """0.2.2 without disable_fsdp_gradient_division does just what DDP did, and that was wrong."""
    tree = migrated("0.2.2")
    source = (tree / LLAMA).read_text()
    at = source.index(
        "disable_fsdp_gradient_division(model)", source.index("def apply_replicate")
    )
    (tree / LLAMA).write_text(
        source[:at]
        + "pass"
        + source[at + len("disable_fsdp_gradient_division(model)") :]
    )
    verdict, printed = verify(tree, steps=2)
    assert not verdict.passed
    assert any(
        "divided by the data-parallel degree twice (as under DDP)" in f
        for f in verdict.failures
    ), printed


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_killed_verify_leaves_nothing(migrated, tmp_path, number):
    tree = migrated("0.2.1")
    before = git(tree, "worktree", "list")
    script = "import sys; from pathlib import Path; from migrator.verify import run_verify; run_verify(Path(sys.argv[1]))"
    environment = os.environ | {
        "TMPDIR": str(tmp_path),
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tree)],
        env=environment,
        stderr=subprocess.DEVNULL,
        # A shell starts its background jobs, such as a CI's, with SIGINT ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    trace = (
        tmp_path / "titan-migrate-report" / "llama3" / "dp" / "baseline" / "rank1.jsonl"
    )
    deadline = time.monotonic() + 120
    while (
        not (trace.exists() and trace.read_text().strip())
        and time.monotonic() < deadline
    ):
        assert process.poll() is None
        time.sleep(0.1)
    pids = [
        json.loads(p.read_text().splitlines()[0])["pid"]
        for p in trace.parent.glob("rank*.jsonl")
        if p.read_text().strip()
    ]
    process.send_signal(number)
    assert process.wait(30) != 0
    assert pids and not any(alive(pid) for pid in pids)
    assert git(tree, "worktree", "list") == before
    assert not list(tmp_path.glob("titan-migrate-*/run"))


def test_killed_rank_fails_the_migrated_tree(migrated):
    """The migrated tree's rank 1 kills itself: no traceback, and still a verdict that says which run died."""
    tree = migrated("0.2.1")
    with (tree / LLAMA).open("a") as file:
        file.write(
            "\n\n_apply_replicate = apply_replicate\n\n\n"
            "def apply_replicate(*args, **kwargs):\n"
            "    import os, signal\n\n"
            "    if os.environ['RANK'] == '1':\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "    return _apply_replicate(*args, **kwargs)\n"
        )
    verdict, printed = verify(tree, steps=1)
    assert not verdict.passed
    assert any(
        "Migrated tree" in f and "rank 1 failed with Killed: ended by signal 9" in f
        for f in verdict.failures
    ), printed


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
