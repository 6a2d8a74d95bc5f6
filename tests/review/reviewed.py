"""Checkouts, migrated and edited, and reports of verify, for the tests of `report`."""

import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path
from unittest.mock import patch

from click.testing import CliRunner

from migrator import review
from migrator.apply import apply_checkout
from migrator.cli import main
from migrator.verify.judge.judges import judge_combination, judge_parity
from migrator.verify.judge.verdict import Verdict, Verification
from migrator.verify.rehearse.layouts import layout
from migrator.verify.rehearse.verdict import Problem, Rehearsal, Scene
from migrator.verify.show import files, plots
from migrator.verify.show.plots import draw_all
from migrator.verify.train import nodes

from hostile import committed
from places import FIXTURES
from planted import BASELINE, CONTROL, MIGRATED, REFERENCE, failing, judged
from planted import run as trained
from recorded import changed, ddp, record
from releases import git

PLAN = "torchtitan/models/llama3/infra/parallelize.py"
UTILS = "torchtitan/distributed/utils.py"
BASE = "a" * 40
EVIL = (
    '<img src=x onerror="window.pwned=1"> </td></style></script><script>window.pwned=2</script>'
    " ]]> --> ``` ~~~ | a | b <details open> @octocat #12 [x](javascript:pwned) &lt; {{ 7*7 }} {% x %}"
    " https://evil.example/ ::error::x ##[error]y"
)
"""Text that every format gives some meaning, in one line."""


def fork(folder: Path, name: str = "v0_2_1") -> Path:
    """A checkout with one commit of a fixture, in ``folder``/fork."""
    shutil.copytree(FIXTURES / name, folder / "fork")
    return committed(folder / "fork")


def migrated(tree: Path, target: str = "1d") -> Path:
    apply_checkout(tree, target=target)
    return tree


def edit(tree: Path, path: str, old: str, new: str) -> None:
    text = (tree / path).read_text()
    assert old in text
    (tree / path).write_text(text.replace(old, new, 1))


def head(tree: Path) -> str:
    return git(tree, "rev-parse", "HEAD").strip()


PASSED = judged(judge_parity, BASELINE, MIGRATED, REFERENCE, CONTROL)
FAILED = judged(
    judge_parity,
    BASELINE,
    trained("migrated", "replicate", scale=2.0),
    REFERENCE,
    CONTROL,
)
REFUSED = judged(
    judge_combination, failing("baseline", "DDP refuses"), MIGRATED, REFERENCE
)
NOT_RUN = Verdict(not_run="there is no such GPU here")


def rehearsal(word: str = "") -> Rehearsal:
    """One with a scene of each kind, whose failing plan averages the gradients of one block; `word` is in all that it says."""
    right = {
        "baseline": ddp(),
        "migrated": record("dp_replicate"),
        "reference": record("fsdp"),
    }
    wrong = changed("dp_replicate", lambda r: r["groups"][1].update(divide=None))
    wrong["groups"][3]["modules"] = [f"output{word}"]
    dp = layout(dp_replicate=2)
    return Rehearsal(
        (
            Scene("llama3", dp, notes=(f"DDP refuses{word}.",), records=right),
            Scene(
                f"qwen3{word}",
                dp,
                (f"layers.0: wrong{word}.",),
                records={**right, "migrated": wrong},
            ),
            Scene("flux", layout(tp=2), not_run=f"no package{word}"),
            Scene("vlm", layout(tp=2), broken=f"boom{word}", details=f"T{word}"),
        ),
        problem=Problem(f"it has ended{word}", broken=True),
    )


def verify_report(
    folder: Path,
    tree: Path,
    base: str | None = None,
    before: Rehearsal | None = None,
    **cells,
) -> Path:
    """A report of verify about a tree, as ``verify`` would have written it.

    Args:
        folder: where; made here.
        tree: the checkout whose Python files were trained.
        base: the revision compared with, HEAD where None.
        before: what was rehearsed.
        cells: verdict by cell, ``dp`` passed where there are none.
    """
    folder.mkdir()
    command = ["titan-migrate", "verify", "--base", base or head(tree), "--cells", "dp"]
    environment = {
        "command": command,
        "python": "3.11",
        "packages": {"torch": "2.13.0"},
        "base_revision": base or head(tree),
        "migrated_revision": head(tree),
        "migrated_digest": nodes.digest(tree),
        "seconds": {"llama3/dp/migrated": 3.0},
        "total_seconds": 4.0,
    }
    models = {"llama3": cells or {"dp": PASSED}}
    with patch.object(plots, "draw_all", draw_all if cells else _curves):
        files.write(Verification(models, environment, before), folder)
    return folder


def _curves(verification: Verification, folder: Path) -> dict:
    """Those of `dp` passed, drawn once: it takes longer than all else of a report."""
    figures, files = _drawn()
    (folder / "plots").mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return figures


@cache
def _drawn() -> tuple[dict, dict[str, bytes]]:
    verification = Verification({"llama3": {"dp": PASSED}}, {})
    with tempfile.TemporaryDirectory() as folder:
        figures = draw_all(verification, Path(folder))
        names = [name for plot in figures.values() for name in (plot.png, plot.svg)]
        return figures, {name: Path(folder, name).read_bytes() for name in names}


def evil(verdict: Verdict) -> Verdict:
    """A verdict whose every sentence is hostile."""
    return replace(verdict, notes=(EVIL,), failures=(EVIL,), details=f"{EVIL}\n{EVIL}")


def run(*arguments: object):
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def reviewed(tree: Path, **options):
    return review.review(tree, **{"target": "1d", **options})


def file_of(found, path: str):
    (file,) = (file for file in found.files if file.path == path)
    return file


def alone(*arguments: object):
    """`report` in a process of its own, for what would hang this one."""
    command = [sys.executable, "-m", "migrator.cli", "report", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)
