"""`verify` on two nodes, which here are two processes on one host."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from migrator.verify.show.folder import MARKER

from forks import git
from places import TOP

pytestmark = pytest.mark.torchrun

# The default is for the network file systems of clusters.
START = "from migrator.verify.train import nodes; nodes.SILENCE = 5; from migrator.cli import main; main()"


@pytest.fixture
def node(tmp_path):
    """Starts node `rank` of two on a checkout; whatever is left of it is killed after the test."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []

    def start(rank: int, tree: Path, *options: str) -> subprocess.Popen:
        temporary = tmp_path / f"tmp{rank}"
        temporary.mkdir()
        command = [
            sys.executable,
            "-c",
            START,
            "verify",
            str(tree),
            "--nnodes=2",
            "--no-rehearse",
        ]
        command += [f"--node-rank={rank}", f"--rdzv-endpoint=127.0.0.1:{port}"]
        command += ["--cells=dp", f"--report={tmp_path / 'report'}", *options]
        process = subprocess.Popen(
            command,
            env=os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": str(TOP)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=60)


def folders(tree: Path) -> list[str]:
    """Where the worktrees of a repository are, by git."""
    lines = git(tree, "worktree", "list", "--porcelain").splitlines()
    return [line for line in lines if line.startswith("worktree ")]


def running(folder: Path) -> list[str]:
    """Command lines of processes that have something to do with a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line and path.parent.name != str(os.getpid()):
            found.append(line)
    return found


def test_two_nodes_train_together_and_node_0_judges(small, node, tmp_path):
    tree, other = small, tmp_path / "clone"
    subprocess.run(["cp", "-r", str(tree), str(other)], check=True)
    worktrees = folders(tree), folders(other)
    # What a verification that was killed may have left is not followed.
    stale = tmp_path / "report" / "nodes" / "node0.json"
    stale.parent.mkdir(parents=True)
    stale.write_text('{"token": "old", "run": null, "beat": 7, "exit": 0, "why": ""}')

    second = node(1, other)
    first = node(0, tree, "--steps=2")
    printed = first.communicate(timeout=400)[0]
    followed = second.communicate(timeout=30)[0]
    assert first.returncode == 0, printed + followed
    assert second.returncode == 0, followed
    assert "Node 0 ended with exit code 0" in followed

    folder = tmp_path / "report"
    report = json.loads((folder / "report.json").read_text())
    assert report["environment"]["nodes"] == 2
    cell = report["models"]["llama3"]["dp"]
    for name in ("baseline", "migrated", "control", "reference"):
        ranks = cell["traces"][name]["ranks"]
        assert [(r["rank"], len(r["steps"])) for r in ranks] == [(0, 2), (1, 2)]
    kept = {path.name for path in (folder / "llama3" / "dp" / "migrated").iterdir()}
    assert kept == {
        "job.toml",
        "rank0.jsonl",
        "rank0.log",
        "rank1.jsonl",
        "rank1.log",
        "torchrun.log",
        "torchrun-node1.log",
    }
    written = {path.name for path in folder.iterdir()}
    assert written == {MARKER, "report.json", "report.md", "plots", "llama3"}
    assert (folders(tree), folders(other)) == worktrees
    assert not [*tmp_path.glob("tmp*/*")]
    assert not running(tmp_path)


def test_node_that_dies_ends_the_verification(small, node, tmp_path):
    """Killed with SIGKILL, so that it has no time to say anything."""
    tree = small
    worktrees = folders(tree)
    first = node(0, tree, "--steps=500", "--timeout=120")
    second = node(1, tree)
    trace = tmp_path / "report" / "llama3" / "dp" / "baseline" / "rank1.jsonl"
    deadline = time.monotonic() + 150
    while not (trace.exists() and '"step"' in trace.read_text()):
        assert first.poll() is None and second.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.2)
    second.send_signal(signal.SIGKILL)
    began = time.monotonic()
    printed = " ".join(first.communicate(timeout=60)[0].split())
    assert first.returncode == 2, printed
    assert "Node 1 is gone: nothing was heard of it" in printed
    assert time.monotonic() - began < 45
    deadline = time.monotonic() + 15
    while running(tmp_path / "report") and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not running(tmp_path / "report")
    assert not [*(tmp_path / "tmp0").iterdir()]
    # What the killed process itself had no chance to take away is not node 0's.
    left = [line for line in folders(tree) if "/tmp1/" not in line]
    assert left == worktrees
