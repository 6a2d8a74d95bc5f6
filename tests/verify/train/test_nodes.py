"""Several nodes without training: arguments, and what the nodes say to each other."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console

from migrator.verify import VerifyError
from migrator.verify.train import nodes
from migrator.verify.train.launch import Launcher, Nodes, Outcome
from migrator.verify.train.worktrees import Trees

# --- arguments ---


def test_torchrun_gets_the_arguments_unchanged():
    given = nodes.nodes_of(4, 2, "node0.cluster:29400")
    assert given == Nodes(4, 2, "node0.cluster:29400")
    arguments = given.arguments()
    assert {
        "--nnodes=4",
        "--node-rank=2",
        "--rdzv-endpoint=node0.cluster:29400",
    } <= set(arguments)
    assert nodes.nodes_of(1, None, None).arguments()[0] == "--standalone"


@pytest.mark.parametrize(
    "given, said",
    [
        ((0, None, None), "at least 1"),
        ((1, 1, None), "--nnodes"),
        ((1, None, "a:1"), "--nnodes"),
        ((2, None, "a:1"), "--node-rank: 0 on the node that judges"),
        ((2, 2, "a:1"), "numbered from 0 to 1"),
        ((2, -1, "a:1"), "numbered from 0 to 1"),
        ((2, 0, None), "--rdzv-endpoint HOST:PORT"),
        ((2, 0, "host"), "--rdzv-endpoint HOST:PORT"),
        ((2, 0, "host:x"), "not host:x"),
        ((2, 0, "host:99999"), "--rdzv-endpoint HOST:PORT"),
    ],
)
def test_what_does_not_fit_is_said(given, said, monkeypatch):
    monkeypatch.delenv("SLURM_NODEID", raising=False)
    with pytest.raises(VerifyError, match=said):
        nodes.nodes_of(*given)


def test_slurm_says_which_node_this_is(monkeypatch):
    monkeypatch.setenv("SLURM_NODEID", "3")
    assert nodes.nodes_of(4, None, "a:1").rank == 3
    assert nodes.nodes_of(4, 1, "a:1").rank == 1
    assert nodes.nodes_of(1, None, None) == Nodes()


def test_ranks_that_do_not_divide_are_no_job():
    assert nodes.uneven(4, 2) is None
    assert "3 ranks do not divide evenly over 2 nodes" in nodes.uneven(3, 2)


# --- what the nodes say to each other, each of them a thread here ---


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    waits = {"BEAT": 0.05, "SILENCE": 0.6, "JOIN": 1.0, "LINGER": 0.3, "END": 1.0}
    for name, seconds in {**waits, "_POLL": 0.02}.items():
        monkeypatch.setattr(nodes, name, seconds)


@pytest.fixture
def trees(tmp_path):
    return make_trees(tmp_path / "trees")


def make_trees(folder: Path, text: str = "x = 1\n") -> Trees:
    for name in ("base", "migrated"):
        (folder / name / "torchtitan").mkdir(parents=True)
        (folder / name / "torchtitan" / "train.py").write_text(text)
    return Trees(folder / "base", folder / "migrated", "b", "m", (), folder)


class Follower(threading.Thread):
    """Node 1 of two; `result` is what it ended with."""

    def __init__(self, report: Path, trees: Trees) -> None:
        super().__init__(daemon=True)
        self.report, self.trees = report, trees
        self.result: object = None
        self.start()

    def run(self) -> None:
        two = Nodes(2, 1, "127.0.0.1:1")
        try:
            with nodes.following(two, self.report) as board:
                launcher = Launcher(self.report.parent / "caches1")
                self.result = nodes.follow(
                    two, board, self.trees, self.report, launcher
                )
        except BaseException as error:
            self.result = error

    def ended(self) -> object:
        self.join(10)
        assert not self.is_alive()
        return self.result


def lead(report: Path):
    return nodes.leading(Nodes(2, 0, "127.0.0.1:1"), report)


def gather(leader, trees: Trees, report: Path) -> None:
    leader.gather(trees, Launcher(report.parent / "caches0"), Console(quiet=True))


def train(
    leader, trees: Trees, report: Path, nproc: int = 4, watch=lambda: None
) -> Outcome:
    return leader.run_job(
        trees.migrated,
        config=report / "job.toml",
        folder=report,
        traces=report / "traces",
        nproc=nproc,
        options={"device": "cpu"},
        timeout=2,
        watch=watch,
    )


@pytest.fixture
def jobs(monkeypatch):
    """What torchrun was asked for, as (node, tree, ranks, rendezvous); `jobs.ends[node]` says how it ends."""

    class Jobs(list):
        ends: dict = {}

    asked = Jobs()
    asked.ends = {}

    def run_job(tree, *, nproc, nodes=Nodes(), watch=lambda: None, timeout, **_):
        asked.append((nodes.rank, tree.name, nproc, nodes.job))
        end = asked.ends.get(nodes.rank, 0)
        began = time.monotonic()
        while end == "hangs":
            if watch():
                return Outcome(-15, 1.0, False)
            if time.monotonic() - began > timeout:
                return Outcome(-1, timeout, True)
            time.sleep(0.02)
        return Outcome(end, 0.0, False)

    monkeypatch.setattr(
        Launcher, "run_job", lambda _, *given, **named: run_job(*given, **named)
    )
    return asked


def test_the_others_train_along_and_end_with_node_0(tmp_path, trees, jobs):
    report = tmp_path / "report"
    with lead(report) as leader:
        follower = Follower(report, trees)
        gather(leader, trees, report)
        assert train(leader, trees, report, nproc=1).status == 0
        assert train(leader, trees, report).status == 0
        assert train(leader, trees, report).status == 0
        leader.exit_code = 1
    assert follower.ended() == (1, "")
    assert jobs[0] == (0, "migrated", 1, "")
    ids = [job[3] for job in jobs[1:]]
    assert len(set(ids)) == 2
    assert sorted(jobs[1:3]) == [(k, "migrated", 2, ids[0]) for k in (0, 1)]
    assert sorted(jobs[3:]) == [(k, "migrated", 2, ids[2]) for k in (0, 1)]
    assert not list(report.iterdir())


def test_what_no_node_has_written_stays(tmp_path, trees, jobs):
    report = tmp_path / "report"
    (report / "nodes").mkdir(parents=True)
    (report / "nodes" / "mine.txt").write_text("")
    with lead(report) as leader:
        follower = Follower(report, trees)
        gather(leader, trees, report)
        leader.exit_code = 0
    assert follower.ended() == (0, "")
    assert [path.name for path in (report / "nodes").iterdir()] == ["mine.txt"]


def test_files_of_an_earlier_verification_are_not_followed(tmp_path, trees, jobs):
    report = tmp_path / "report"
    (report / "nodes").mkdir(parents=True)
    old = {"token": "old", "run": None, "beat": 9, "order": {"job": 1}, "exit": 0}
    (report / "nodes" / "node0.json").write_text(json.dumps(old | {"why": ""}))
    (report / "nodes" / "node1.json").write_text(json.dumps(old | {"facts": {}}))
    follower = Follower(report, trees)
    time.sleep(0.2)
    with lead(report) as leader:
        gather(leader, trees, report)
        assert train(leader, trees, report).status == 0
        leader.exit_code = 0
    assert follower.ended() == (0, "") and len(jobs) == 2


def test_a_failure_on_another_node_ends_the_job_here(tmp_path, trees, jobs):
    report = tmp_path / "report"
    jobs.ends = {0: "hangs", 1: 3}
    with lead(report) as leader:
        follower = Follower(report, trees)
        gather(leader, trees, report)
        outcome = train(leader, trees, report)
        assert outcome.status != 0 and not outcome.timed_out
        leader.exit_code = 1
    assert follower.ended() == (1, "")


@pytest.mark.parametrize("end", [1, "hangs"])
def test_a_failure_here_ends_the_job_on_another_node(tmp_path, trees, jobs, end):
    """It hangs there; here it fails, or runs into the time limit."""
    report = tmp_path / "report"
    jobs.ends = {0: end, 1: "hangs"}
    with lead(report) as leader:
        follower = Follower(report, trees)
        gather(leader, trees, report)
        outcome = train(leader, trees, report)
        assert outcome.status != 0
        assert outcome.timed_out == (end == "hangs")
        leader.exit_code = 1
    assert follower.ended() == (1, "")


def test_a_failure_there_is_the_status_of_the_job(tmp_path, trees, jobs):
    report = tmp_path / "report"
    jobs.ends = {1: 5}
    with lead(report) as leader:
        follower = Follower(report, trees)
        gather(leader, trees, report)
        assert train(leader, trees, report).status == 5
        leader.exit_code = 1
    assert follower.ended() == (1, "")


@pytest.mark.parametrize(
    "error, code",
    [
        (KeyboardInterrupt(), 130),
        (SystemExit(143), 143),
        (VerifyError("no torch"), 2),
        (OSError(28, "No space left on device"), 2),
    ],
)
def test_the_others_hear_how_node_0_was_ended(tmp_path, trees, jobs, error, code):
    report = tmp_path / "report"
    jobs.ends = {1: "hangs"}
    with pytest.raises(type(error)):
        with lead(report) as leader:
            follower = Follower(report, trees)
            gather(leader, trees, report)
            raise error
    assert follower.ended()[0] == code
    assert not list(report.iterdir())


def test_ctrl_c_on_node_0_ends_the_job_on_another_node(tmp_path, trees, jobs):
    report = tmp_path / "report"
    jobs.ends = {0: "hangs", 1: "hangs"}

    def interrupt():
        if len(jobs) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with lead(report) as leader:
            follower = Follower(report, trees)
            gather(leader, trees, report)
            train(leader, trees, report, watch=interrupt)
    assert follower.ended()[0] == 130
    assert not list(report.iterdir())


def test_an_early_end_of_node_0_reaches_nodes_it_never_waited_for(tmp_path, trees):
    report = tmp_path / "report"
    follower = Follower(report, trees)
    with pytest.raises(VerifyError):
        with lead(report):
            raise VerifyError("nothing to verify")
    assert follower.ended() == (2, "nothing to verify")


def test_a_node_that_gives_up_says_why(tmp_path, trees, jobs):
    report = tmp_path / "report"
    with pytest.raises(VerifyError, match="Node 1 has given up: its disk is full"):
        with lead(report) as leader:
            with pytest.raises(OSError):
                with nodes.following(Nodes(2, 1, "127.0.0.1:1"), report):
                    time.sleep(0.1)
                    raise OSError("its disk is full")
            gather(leader, trees, report)


def test_a_node_that_is_gone_is_noticed(tmp_path, trees, jobs, monkeypatch):
    report = tmp_path / "report"
    jobs.ends = {0: "hangs", 1: "hangs"}
    monkeypatch.setattr(nodes.Board, "_beat", _stops_beating(nodes.Board._beat))
    with pytest.raises(VerifyError, match="Node 1 is gone: nothing was heard"):
        with lead(report) as leader:
            follower = Follower(report, trees)
            gather(leader, trees, report)
            train(leader, trees, report)
    follower.ended()


def _stops_beating(beat):
    return lambda board: beat(board) if board.rank == 0 else None


def test_node_0_that_is_gone_is_noticed(tmp_path, trees, jobs):
    report = tmp_path / "report"
    two = Nodes(2, 0, "127.0.0.1:1")
    leader = nodes.Leader(two, report)
    leader.start()
    follower = Follower(report, trees)
    gather(leader, trees, report)
    leader._board._stopped.set()  # as if it were killed
    assert "Node 0 is gone" in str(follower.ended())


def test_a_node_that_does_not_come_is_named(tmp_path, trees):
    report = tmp_path / "report"
    with pytest.raises(VerifyError, match="Node 1 has not shown up in .*--report"):
        with lead(report) as leader:
            gather(leader, trees, report)
    said = str(Follower(tmp_path / "not shared", trees).ended())
    assert "Node 0 has not taken node 1 in" in said and "--report" in said


def test_another_tree_is_refused(tmp_path, trees):
    report = tmp_path / "report"
    other = make_trees(tmp_path / "other", "x = 2\n")
    with pytest.raises(VerifyError, match="The base tree of node 1 is"):
        with lead(report) as leader:
            follower = Follower(report, other)
            gather(leader, trees, report)
    code, why = follower.ended()
    assert code == 2 and "same on all nodes" in why
