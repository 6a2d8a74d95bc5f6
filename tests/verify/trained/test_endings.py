"""Runs that end badly: past the time limit, or on a full disk. Nothing is left, and the reason is shown."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from migrator.verify import run
from migrator.verify.train import launch

from forks import git, verified

pytestmark = [pytest.mark.torchrun, pytest.mark.usefixtures("warm_ranks")]

LLAMA = Path("torchtitan/models/llama3/infra/parallelize.py")
PLANTED = """

_apply_replicate = apply_replicate


def apply_replicate(*args, **kwargs):
    import os, time

    if os.environ["RANK"] == "1":
{body}
    return _apply_replicate(*args, **kwargs)
"""


def plant(tree: Path, *lines: str) -> Path:
    """Has rank 1 of the migrated tree run these lines before it wraps the model; returns the tree."""
    body = "\n".join(" " * 8 + line for line in lines)
    with (tree / LLAMA).open("a") as file:
        file.write(PLANTED.format(body=body))
    return tree


def verify(tree: Path, **options):
    """The verdict of the cell dp after one step, and what was printed."""
    cells, printed = verified(tree, cells=("dp",), steps=1, **options)
    return cells["dp"], " ".join(printed.split())


def ranks_left(tree: Path) -> list[int]:
    """Processes of the migrated run that still are there."""
    traces = (tree.parent / "report" / "llama3" / "dp" / "migrated").glob("rank*.jsonl")
    pids = [json.loads(path.read_text().splitlines()[0])["pid"] for path in traces]
    assert len(pids) == 2
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_rank_that_hangs_is_ended_at_the_time_limit(small):
    tree = plant(small, "time.sleep(10**6)")
    before = git(tree, "worktree", "list")
    verdict, printed = verify(tree, timeout=30)
    assert verdict.word == "failed"
    assert "Timeout: not over after 30 seconds (--timeout)" in verdict.failures[0]
    assert verdict.failures[0] in printed
    assert not ranks_left(tree)
    assert git(tree, "worktree", "list") == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_rank_whose_trace_cannot_be_written_shows_why(small):
    """From here on its trace is on a full disk, its log is not."""
    tree = plant(
        small,
        "for fd in os.listdir('/proc/self/fd'):",
        "    path = os.path.realpath(f'/proc/self/fd/{fd}')",
        "    if path.endswith('rank1.jsonl'):",
        "        os.dup2(os.open('/dev/full', os.O_WRONLY), int(fd))",
    )
    verdict, printed = verify(tree)
    assert verdict.word == "failed"
    assert (
        "rank 1 failed with OSError: [Errno 28] No space left on device"
        in verdict.failures[0]
    ), printed
    assert verdict.details.startswith("Traceback")
    assert "in write" in verdict.details
    assert not ranks_left(tree)


def test_a_package_that_the_trainer_lacks_is_named_once_with_what_adds_it(
    small, monkeypatch
):
    error = {
        "event": "error",
        "time": 1.0,
        "type": "ModuleNotFoundError",
        "message": "No module named 'tokenizers'",
        "traceback": "T",
    }

    def run_job(tree, *, traces, **_):
        (traces / "rank0.jsonl").write_text(json.dumps(error) + "\n")
        return launch.Outcome(1, 0.1, False)

    none = contextlib.nullcontext(SimpleNamespace(run_job=run_job))
    monkeypatch.setattr(run, "Launcher", lambda caches: none)
    found, printed = verified(small, cells=("dp", "dp+tp", "fsdp"))
    said = "the package tokenizers is missing here: pip install tokenizers adds it"
    assert {verdict.word for verdict in found.values()} == {"not run"}
    assert all(said in verdict.not_run for verdict in found.values())
    assert " ".join(printed.split()).count(said) == 1
