"""Jobs whose ranks are forked, and the same with a Python for each: what a job says, how it ends, what stays."""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator.verify.train.launch import (
    Launcher,
    Outcome,
    failed_ranks,
    killed_rank,
    torchrun_log,
)

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere nothing is forked"
)


class Stage:
    """A launcher, and a checkout of which nothing but its first line is run."""

    def __init__(self, launcher: Launcher, folder: Path) -> None:
        self.launcher, self.folder = launcher, folder
        (folder / "torchtitan").mkdir()

    def run(self, body: str, nproc: int = 2, timeout: float = 60, **more) -> Outcome:
        """Runs ranks that import a torchtitan with this body; `note(x)` in it is for `noted`."""
        (self.folder / "torchtitan/__init__.py").write_text(
            "import json, os, signal, sys, time, torch\n"
            "def note(what):\n"
            f"    with open({str(self.folder)!r} + '/noted', 'a') as file:\n"
            "        file.write(json.dumps(what) + '\\n')\n"
            f"{textwrap.dedent(body)}\nraise SystemExit(0)\n"
        )
        (self.folder / "noted").unlink(missing_ok=True)
        return self.launcher.run_job(
            self.folder,
            config=self.folder / "job.toml",
            folder=self.folder,
            traces=self.folder / "traces",
            nproc=nproc,
            options={"device": "cpu", "overrides": {}},
            timeout=timeout,
            **more,
        )

    @property
    def noted(self) -> list:
        return [json.loads(x) for x in (self.folder / "noted").read_text().splitlines()]


@pytest.fixture(scope="module")
def forking(tmp_path_factory) -> Iterator[Launcher]:
    with Launcher(tmp_path_factory.mktemp("caches")) as launcher:
        yield launcher


@pytest.fixture
def stage(forking, tmp_path) -> Stage:
    return Stage(forking, tmp_path)


@pytest.fixture(params=["forked", "a Python each"])
def either(request, tmp_path, monkeypatch) -> Stage:
    if request.param == "forked":
        return Stage(request.getfixturevalue("forking"), tmp_path)
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(sys, "platform", "darwin")
        return Stage(Launcher(tmp_path / "caches"), tmp_path)


def gone(pid: int) -> bool:
    """Whether a process ends within some seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return True
        if state == "Z":  # which nobody has asked after
            return True
        time.sleep(0.05)
    return False


def test_ranks_find_what_torchrun_gives_them(either):
    outcome = either.run(
        """
        names = "RANK", "WORLD_SIZE", "LOCAL_RANK", "PYTHONHASHSEED", "HF_HOME"
        note([*map(os.environ.get, names), os.getcwd(), sys.argv[0], os.getppid() > 1])
        """
    )
    assert outcome.status == 0, torchrun_log(either.folder / "traces")
    cache = str(either.launcher.caches / "cache")
    assert sorted(either.noted) == [
        [rank, "2", rank, "0", cache, str(either.folder), "torchtitan.train", True]
        for rank in "01"
    ]


def test_killed_rank_is_named(either):
    outcome = either.run(
        """
        if os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)
        """
    )
    assert outcome.status > 0 and not outcome.timed_out
    assert killed_rank(torchrun_log(either.folder / "traces")) == (1, 9)


def test_every_rank_that_fails_is_listed(stage):
    together = f"""
    note(1)
    while len(open({str(stage.folder / "noted")!r}).readlines()) < 2:
        time.sleep(0.001)
    raise ValueError('no such model')
    """
    outcome = stage.run(together)
    assert outcome.status > 0
    failed = failed_ranks(torchrun_log(stage.folder / "traces"))
    assert {(0, 1), (1, 1)} <= {*failed}


def test_error_of_a_rank_fails_the_job(stage):
    outcome = stage.run("raise ValueError('no such model')")
    assert outcome.status > 0
    assert "no such model" in (stage.folder / "traces/rank0.log").read_text()


SLEEPS = """
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(os.getpid())
    time.sleep(60)
"""


def sleep(stage: Stage) -> bool:
    """Whether both ranks of SLEEPS do."""
    return (stage.folder / "noted").exists() and len(stage.noted) == 2


def test_job_that_is_ended_leaves_no_process(either):
    outcome = either.run(SLEEPS, watch=lambda: sleep(either))
    assert outcome.status != 0 and not outcome.timed_out
    assert all(map(gone, either.noted))


def test_interrupted_job_leaves_no_process(stage):
    def watch() -> None:
        if sleep(stage):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stage.run(SLEEPS, watch=watch)
    assert all(map(gone, stage.noted))


def test_job_that_takes_too_long_leaves_no_process(stage):
    assert stage.run("", nproc=1).status == 0  # all is imported
    assert stage.run(SLEEPS, timeout=6).timed_out
    assert sleep(stage) and all(map(gone, stage.noted))


def test_nothing_of_a_run_reaches_the_next(stage):
    body = """
    import random
    note([hasattr(torch, "poison"), "POISON" in os.environ, random.random(),
          torch.get_num_threads(), torch.rand(1).item() if torch.initial_seed() == 5 else 0,
          "poison" in sys.modules, os.getcwd(), torch.get_default_dtype() == torch.float32])
    torch.poison = os.environ["POISON"] = "1"
    sys.modules["poison"] = torch
    random.seed(1), torch.manual_seed(5), torch.set_num_threads(3), os.chdir("/")
    torch.set_default_dtype(torch.float64)
    """
    assert stage.run("import random\nrandom.seed(7)\nnote(random.random())").status == 0
    seen = []
    for _ in range(2):
        assert stage.run(body, nproc=1).status == 0
        seen += stage.noted
    assert seen[0][:2] == [False, False] and seen[0][4:] == seen[1][4:]
    del seen[0][2], seen[1][2]  # Python's own generator starts anywhere
    assert seen[0] == seen[1]


def test_torch_is_found_imported(stage):
    assert (
        stage.run("note('torch.distributed.fsdp' in sys.modules)", nproc=1).status == 0
    )
    assert stage.noted == [True]


def test_where_the_forking_process_dies_the_job_does_and_the_next_has_another(
    tmp_path,
):
    with Launcher(tmp_path / "caches") as launcher:
        stage = Stage(launcher, tmp_path)

        def watch() -> None:
            if (tmp_path / "noted").exists():
                os.kill(stage.noted[0][1], signal.SIGKILL)

        body = "note([os.getpid(), int(open(f'/proc/{os.getppid()}/stat').read().split()[3])])"
        outcome = stage.run(f"{body}\ntime.sleep(60)", nproc=1, watch=watch)
        assert outcome.status == -signal.SIGKILL
        assert gone(stage.noted[0][0])
        assert stage.run(body, nproc=1).status == 0


def test_interrupted_while_it_starts_nothing_goes_on(tmp_path):
    """The signal comes when the job is under way and nobody has it in hand yet."""
    with Launcher(tmp_path / "caches") as launcher:
        stage = Stage(launcher, tmp_path)
        assert stage.run("note(1)", nproc=1).status == 0
        warm = launcher._warm
        start = warm.start

        def interrupted(*given):
            start(*given)
            raise KeyboardInterrupt

        warm.start = interrupted
        with pytest.raises(KeyboardInterrupt):
            stage.run("note(os.getpid())\ntime.sleep(60)", nproc=1)
        job = warm._job.pid
    assert gone(job)
