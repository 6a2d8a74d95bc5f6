"""`verify` interrupted or killed at any moment: no process, worktree, lock or folder of it stays."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from migrator.apply import apply_checkout
from migrator.verify import run_verify
from migrator.verify.train import worktrees

from forks import git, small_checkout
from places import TOP

pytestmark = [
    pytest.mark.torchrun,
    pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc"),
]

# What a run's processes are known by, all of them: its folder, in their environment.
MARK = "TEST_KILLED_FOLDER"

# Stands before git on the PATH: says when worktrees come and go, and takes its time with
# what $SLOW says.
SLOW_GIT = f"""#!/bin/sh
for moment in add remove other; do
  case " $* " in *" worktree $moment "*) break ;; esac
done
touch "${MARK}/$moment-begins"
test "$moment" = "$SLOW" && sleep 0.4
'{shutil.which("git")}' "$@"
status=$?
touch "${MARK}/$moment-ends"
test "$moment" = "$SLOW" && sleep 0.4
exit $status
"""


@dataclass(frozen=True)
class Run:
    """A `titan-migrate verify` in a session of its own, with a temporary folder of its own."""

    process: subprocess.Popen
    folder: Path

    @property
    def report(self) -> Path:
        return self.folder / "report"

    @property
    def printed(self) -> str:
        return " ".join((self.folder / "printed").read_text().split())

    def processes(self) -> list[int]:
        """Everything that was started for it and lives, known by its environment."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if (
                    f"{MARK}={self.folder}\0".encode()
                    in (entry / "environ").read_bytes()
                ):
                    found.append(int(entry.name))
            except OSError:
                pass  # somebody else's, or gone
        return found

    def process_of(self, word: str, parent: int) -> int:
        """The one child of a process that has a word in its command line."""
        (found,) = (
            pid
            for pid in children(parent)
            if word in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
        )
        return found

    def wait_for(self, event: Callable[[], bool]) -> None:
        """Waits for something that happens while it runs."""
        deadline = time.monotonic() + 120
        while not event():
            assert self.process.poll() is None, self.printed
            assert time.monotonic() < deadline, self.printed
            time.sleep(0.005)

    def send(self, number: int) -> None:
        """Sends a signal as a terminal does on Ctrl-C, to all in the foreground, or as `kill` does."""
        send = os.killpg if number == signal.SIGINT else os.kill
        send(self.process.pid, number)


def state(tree: Path) -> dict[str, object]:
    """What must not change in a checkout."""
    folder = tree / ".git"
    return {
        "worktrees": git(tree, "worktree", "list", "--porcelain"),
        "status": git(tree, "status", "--porcelain", "--ignored"),
        "locks": sorted(folder.rglob("*.lock")),
        "files": sorted(path for path in folder.rglob("*") if path.name != "index"),
    }


@pytest.fixture(scope="module")
def unmigrated(tmp_path_factory) -> Path:
    """A checkout that verify leaves as soon as it has made its trees, since they are the same."""
    return small_checkout(tmp_path_factory.mktemp("plain") / "fork")


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A checkout that verify trains."""
    tree = small_checkout(tmp_path_factory.mktemp("migrated") / "fork")
    apply_checkout(tree, target="1d")
    return tree


@pytest.fixture
def verify(tmp_path) -> Iterator[Callable[..., Run]]:
    """Starts a verify of a checkout; when the test is over, nothing of it may be left."""
    (tmp_path / "bin").mkdir()
    shim = tmp_path / "bin" / "git"
    shim.write_text(SLOW_GIT)
    shim.chmod(0o755)
    began: list[tuple[Run, Path, dict]] = []

    def start(tree: Path, slow: str = "") -> Run:
        folder = tmp_path / f"run{len(began)}"
        folder.mkdir()
        before = state(tree)
        command = [
            sys.executable,
            "-m",
            "migrator.cli",
            "verify",
            str(tree),
            "--no-rehearse",
            "--no-cache",
        ]
        command += ["--base=HEAD", "--cells=dp", "--device=cpu"]
        command += ["--steps=100", f"--report={folder / 'report'}"]
        with open(folder / "printed", "wb") as printed:
            process = subprocess.Popen(
                command,
                cwd=TOP,
                env=os.environ
                | {
                    "TMPDIR": str(folder),
                    MARK: str(folder),
                    "SLOW": slow,
                    "PATH": f"{shim.parent}:{os.environ['PATH']}",
                },
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                # A shell starts its background jobs, such as a CI's, with SIGINT ignored.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        began.append((Run(process, folder), tree, before))
        return began[-1][0]

    try:
        yield start
        for run, tree, before in began:
            assert run.process.wait(60) != 0
            until = time.monotonic() + 5  # what was killed takes a moment to be gone
            while run.processes() and time.monotonic() < until:
                time.sleep(0.05)
            left = run.processes()
            assert not left, f"{left} live on; {run.printed}"
            assert state(tree) == before, run.printed
            assert not before["locks"]
            assert not list(run.folder.glob("titan-migrate-*")), run.printed
    finally:
        for run, _, _ in began:
            for pid in run.processes():
                os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "moment", ["add-begins", "add-ends", "remove-begins", "remove-ends"]
)
def test_while_worktrees_come_and_go(verify, unmigrated, moment, number):
    run = verify(unmigrated, slow=moment.partition("-")[0])
    run.wait_for((run.folder / moment).exists)
    run.send(number)
    if moment.startswith("add"):
        assert run.process.wait(60) == 128 + number
        assert "does not differ" not in run.printed


def test_at_any_time(verify, unmigrated):
    """From the interpreter's start to its end, with a second signal on the heels of some."""
    chance = random.Random(2458)
    for _ in range(6):
        run = verify(unmigrated)
        time.sleep(chance.uniform(0, 1.5))
        for number in chance.choices([signal.SIGINT, signal.SIGTERM], k=2):
            if run.process.poll() is None:
                run.send(number)
            time.sleep(chance.uniform(0, 0.1))
        run.process.wait(60)


MOMENTS = {
    "torchrun starts": "seed/torchrun.log",
    "a rank imports": "seed/rank0.log",
    "ranks train": "dp/baseline/rank1.jsonl",
}


def reached(run: Run, moment: str) -> Callable[[], bool]:
    """Whether a run has come to one of MOMENTS, by what it writes."""

    def look() -> bool:
        found = list(run.report.glob(f"**/{MOMENTS[moment]}"))
        if moment == "ranks train":
            return bool(found) and '"step"' in found[0].read_text()
        return bool(found)

    return look


@pytest.mark.parametrize(
    "moment, number",
    [
        ("torchrun starts", signal.SIGINT),
        ("torchrun starts", signal.SIGTERM),
        ("a rank imports", signal.SIGTERM),  # Ctrl-C: below, twice
        ("ranks train", signal.SIGINT),
        ("ranks train", signal.SIGTERM),
    ],
)
def test_while_torchrun_runs(verify, trained, moment, number):
    run = verify(trained)
    run.wait_for(reached(run, moment))
    time.sleep(random.Random(moment).uniform(0, 1))
    run.send(number)
    assert run.process.wait(60) == 128 + number, run.printed


@pytest.mark.parametrize("wait", ["0.2 seconds", "until it cleans up"])
def test_ctrl_c_twice(verify, trained, wait):
    run = verify(trained, slow="remove")
    run.wait_for(reached(run, "a rank imports"))
    run.send(signal.SIGINT)
    if wait == "0.2 seconds":
        time.sleep(0.2)
    else:
        run.wait_for((run.folder / "remove-begins").exists)
    run.send(signal.SIGINT)
    assert run.process.wait(60) == 130, run.printed


@pytest.mark.parametrize("killed", ["what forks", "torchrun", "a rank"])
def test_part_of_the_job_is_killed(verify, trained, killed):
    run = verify(trained)
    run.wait_for(reached(run, "a rank imports"))
    pid = run.process_of("in_rank/warm.py", run.process.pid)
    for _ in range(("what forks", "torchrun", "a rank").index(killed)):
        (pid,) = children(pid)
    os.kill(pid, signal.SIGKILL)
    assert run.process.wait(60) == 2
    assert "makes no seed checkpoint" in run.printed
    assert ("ended by signal 9" if killed == "a rank" else "status -9") in run.printed


def test_next_verify_clears_up_after_one_that_was_killed(verify, trained, tmp_path):
    run = verify(trained)
    run.wait_for(reached(run, "a rank imports"))
    os.kill(run.process.pid, signal.SIGKILL)
    run.process.wait()
    deadline = time.monotonic() + 30
    while run.processes():  # the ranks see by themselves that it is gone
        assert time.monotonic() < deadline, run.printed
        time.sleep(0.05)
    assert git(trained, "worktree", "list").count(str(run.folder)) == 2
    repo = worktrees.open_checkout(trained)
    with worktrees.trees(repo, trained, "HEAD", tmp_path / "next"):
        assert str(run.folder) not in git(trained, "worktree", "list")


@pytest.mark.usefixtures("warm_ranks")
def test_killed_rank_fails_the_migrated_tree(tmp_path):
    """The migrated tree's rank 1 kills itself: no traceback, and still a verdict that says which run died."""
    tree = small_checkout(tmp_path / "fork")
    apply_checkout(tree, target="1d")
    with (tree / "torchtitan/models/llama3/infra/parallelize.py").open("a") as file:
        file.write(
            "\n\n_apply_replicate = apply_replicate\n\n\n"
            "def apply_replicate(*args, **kwargs):\n"
            "    import os, signal\n\n"
            "    if os.environ['RANK'] == '1':\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "    return _apply_replicate(*args, **kwargs)\n"
        )
    verification = run_verify(
        tree,
        steps=1,
        cells=("dp",),
        report_dir=tmp_path / "report",
        rehearsed=False,
    )
    assert not verification.passed
    assert any(
        "Migrated tree" in f and "rank 1 failed with Killed: ended by signal 9" in f
        for f in verification.cells["dp"].failures
    ), verification.cells["dp"].failures


def children(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in listed.split()]
