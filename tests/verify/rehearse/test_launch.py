"""The rehearsing processes: nothing of them is left, however they end."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from migrator.verify.rehearse import launch
from migrator.verify.rehearse.launch import Gone, Theatre

from places import TOP
from rehearsing import edit, make_base, make_migrated
from releases import git

# In place of the real process: it has a fork that sleeps for each tree, and answers with both.
HOST = """
import json, os, socket, sys, time
control = socket.socket(fileno=os.dup(0))
while True:
    tree, passed, _, _ = socket.recv_fds(control, 1 << 16, 1)
    child = os.fork()
    if child == 0:
        channel = socket.socket(fileno=passed[0])
        for line in channel.makefile("r"):
            if "end" in json.loads(line):
                os._exit(3)
            told = {"child": os.getpid(), "cwd": os.getcwd(), "tree": tree.decode()}
            channel.sendall((json.dumps(told) + "\\n").encode())
        time.sleep(600)
    os.close(passed[0])
"""


@pytest.fixture
def host(tmp_path, monkeypatch):
    script = tmp_path / "host.py"
    script.write_text(HOST)
    monkeypatch.setattr(launch, "HOST", script)
    return tmp_path


def test_trees_answer_in_one_folder_and_end_together(host):
    with Theatre(host) as theatre:
        answers = [theatre.open(host / name).ask({}) for name in ("a", "b")]
        assert [one["tree"] for one in answers] == [str(host / "a"), str(host / "b")]
        for answer in answers:
            assert answer["cwd"] == str(host)
            assert alive(answer["child"])
    wait_for(lambda: not any(alive(answer["child"]) for answer in answers))


def test_a_process_that_ends_by_itself_is_told(host):
    with Theatre(host) as theatre:
        stage = theatre.open(host)
        with pytest.raises(Gone, match=r"rehearses .* has ended"):
            stage.ask({"end": 1})


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A fork with a migration that is not committed, and a model that takes long to be made."""
    top = tmp_path_factory.mktemp("fork")
    make_base(top / "base")
    make_migrated(top / "base", top / "migrated")
    slow = "        super().__init__()\n        self.model_args"
    wait = "        import pathlib, time\n        pathlib.Path('world').touch()\n        time.sleep(600)\n"
    for tree in (top / "base", top / "migrated"):
        edit(tree, "models/llama3/model/model.py", (slow, wait + slow))
    git(top / "base", "init", "-q")
    git(top / "base", "add", "-A")
    git(top / "base", "commit", "-q", "-m", "base")
    shutil.copytree(
        top / "migrated" / "torchtitan", top / "base" / "torchtitan", dirs_exist_ok=True
    )
    return top / "base"


@pytest.mark.parametrize(
    ("number", "code", "left"),
    [
        (signal.SIGINT, 130, []),
        (signal.SIGTERM, 143, []),
        # Nothing can be cleaned up then, but no process may go on.
        (signal.SIGKILL, -9, None),
    ],
)
def test_a_signal_leaves_nothing(checkout, tmp_path, number, code, left):
    before = git(checkout, "status", "--porcelain"), git(checkout, "worktree", "list")
    running = subprocess.Popen(
        [sys.executable, "-m", "migrator.cli", "rehearse", str(checkout)]
        + ["--model", "llama3", "--world", "dp_replicate=2"],
        cwd=TOP,
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(TOP)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_for(lambda: list(tmp_path.glob("*/world")))
    ours = started_by(running.pid)
    # One that has torch, one for each tree, and their worlds.
    assert len(ours) == 5
    assert not any(listens(pid) for pid in ours)
    os.kill(running.pid, number)
    assert running.wait(30) == code
    wait_for(lambda: not any(map(alive, ours)))
    if left is not None:
        assert [path.name for path in tmp_path.iterdir()] == left
        after = git(checkout, "status", "--porcelain")
        assert (after, git(checkout, "worktree", "list")) == before


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def started_by(pid: int) -> list[int]:
    """The processes that carry the mark of a titan-migrate."""
    mark = f"TITAN_MIGRATE_PID={pid}".encode()
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            if mark in (place / "environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
        except OSError:
            continue
    return found


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    # Until init takes it in.
    return state != "Z"


def listens(pid: int) -> bool:
    """Whether a process has an internet socket open that waits for others."""
    inodes = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                inodes.add(f"socket:[{fields[9]}]")
    held = {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    return bool(held & inodes)
