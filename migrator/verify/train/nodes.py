"""Several nodes: node 0 judges and says what to train, the others train along.

They speak through the report folder, which all nodes have to share. Each node
keeps one file there, `nodes/node<rank>.json`, and writes it anew every second:

    token    tells this process from any other that ever wrote the file
    run      the token of the node 0 that it belongs to, null until it is taken in
    beat     counts the writings; where it stands still, the node is gone

    node 0   members: rank -> token of the nodes that it has taken in; order: the
             job to train, numbered from 1; over: the number of the last job that
             has ended badly; exit, why: how all of it ended
    others   facts: what has to be the same on all nodes; job, status: the last
             job that has ended here; left, why: this node does no more

A file that an earlier verification left behind is followed by nobody: its
members are none of the processes that run now.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console

from migrator.signals import signals_held
from migrator.verify.choose.models import GRAFTED
from migrator.verify.errors import VerifyError
from migrator.verify.train.assets_build import ASSETS
from migrator.verify.train.launch import Launcher, Nodes, Outcome
from migrator.verify.train.worktrees import Trees

FOLDER = "nodes"
"""The folder, below the report folder, through which the nodes speak."""

RUN_FOLDER = "run"
"""The folder, below the report folder, for what the runs need and leave."""

# All in seconds. Between two beats.
BEAT = 1.0
# Without a beat a node is gone; file systems of clusters may stall for a while.
SILENCE = 60.0
# Until every node has to have shown up.
JOIN = 120.0
# For ranks to end by themselves, with their own error, once another node's have.
LINGER = 10.0
# For the other nodes to end what they do, once they are told to.
END = 30.0
_POLL = 0.2


def nodes_of(count: int, rank: int | None, endpoint: str | None) -> Nodes:
    """What --nnodes, --node-rank and --rdzv-endpoint say; raises VerifyError where they do not fit.

    A missing rank is the one that Slurm gives this node.
    """
    if count < 1:
        raise VerifyError(f"--nnodes {count} trains nowhere: give at least 1.")
    if count == 1:
        if rank or endpoint:
            raise VerifyError(
                "--node-rank and --rdzv-endpoint are for several nodes: give their number with --nnodes."
            )
        return Nodes()
    if rank is None:
        given = os.environ.get("SLURM_NODEID", "")
        if not given.isdecimal():
            raise VerifyError(
                f"--nnodes {count} needs --node-rank: 0 on the node that judges, and counted up from there on the others."
            )
        rank = int(given)
    if not 0 <= rank < count:
        raise VerifyError(
            f"--node-rank {rank} is none of {count} nodes: they are numbered from 0 to {count - 1}."
        )
    endpoint = endpoint or ""
    host, _, port = endpoint.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise VerifyError(
            f"--nnodes {count} needs --rdzv-endpoint HOST:PORT: node 0's address, and a port that is free there,"
            f" the same on every node{f' (not {endpoint})' if endpoint else ''}."
        )
    return Nodes(count, rank, endpoint)


def uneven(ranks: int, count: int) -> str | None:
    """Why so many ranks cannot train on so many nodes; None if they can."""
    if ranks % count == 0:
        return None
    return f"{ranks} ranks do not divide evenly over {count} nodes: ask for another --nproc"


class Board:
    """This node's file, and a look at those of the others."""

    def __init__(self, report: Path, rank: int) -> None:
        self.folder = report / FOLDER
        self.rank = rank
        self.token = uuid.uuid4().hex
        self._state: dict[str, Any] = {"token": self.token, "run": None, "beat": 0}
        self._heard: dict[int, tuple[tuple[object, object], float]] = {}
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    @property
    def run(self) -> str | None:
        """The token of the node 0 that this node belongs to."""
        token: str | None = self._state["run"]
        return token

    def start(self) -> None:
        """Writes the file, and goes on doing so."""
        self.post()
        self._thread.start()

    def post(self, **values: object) -> None:
        """Says something new, at once; raises OSError where the file cannot be written."""
        with self._lock:
            self._state |= values
            self._write()

    def stop(self, **values: object) -> None:
        """Says a last thing, as far as there still is a folder for it, and no more after that."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        with contextlib.suppress(OSError):
            self.post(**values)

    def read(self, rank: int) -> dict[str, Any]:
        """What another node has said last, empty where there is nothing from it."""
        state: dict[str, Any] = {}
        with contextlib.suppress(OSError, ValueError):
            # Opening a file is what makes a network file system look for news of it.
            state = json.loads((self.folder / f"node{rank}.json").read_bytes())
        # By this node's own clock: those of two nodes may be apart.
        mark = (state.get("token"), state.get("beat"))
        if rank not in self._heard or self._heard[rank][0] != mark:
            self._heard[rank] = (mark, time.monotonic())
        return state

    def silent(self, rank: int) -> bool:
        """Whether another node's file has not changed for too long, by the last `read`."""
        return time.monotonic() - self._heard[rank][1] > SILENCE

    def _beat(self) -> None:
        while not self._stopped.wait(BEAT):
            # The others see that no beat comes.
            with contextlib.suppress(OSError):
                self.post()

    def _write(self) -> None:
        self._state["beat"] += 1
        if self._state["run"] is None:
            # Later on a folder that is gone means that all is over.
            self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.folder / f"node{self.rank}.tmp"
        temporary.write_text(json.dumps(self._state), encoding="utf-8")
        os.replace(temporary, self.folder / f"node{self.rank}.json")


# --- node 0 ---------------------------------------------------------------------


@contextlib.contextmanager
def leading(nodes: Nodes, report: Path) -> Iterator[Leader | None]:
    """The other nodes, as node 0 needs them; None where it is alone.

    Set `exit_code` before leaving: they end with it, or with what an exception
    makes of it, and nothing of this module is left in the folder.
    """
    if nodes.count == 1:
        yield None
        return
    leader = Leader(nodes, report)
    why = ""
    try:
        leader.start()
        yield leader
    except BaseException as error:
        why = _reason(error)
        leader.exit_code = _exit_code(error)
        raise
    finally:
        with signals_held():
            leader.dismiss(why)


def _reason(error: BaseException) -> str:
    """What ended a node, in words for the others."""
    if isinstance(error, KeyboardInterrupt):
        return "it was interrupted."
    if isinstance(error, SystemExit):
        return f"it was ended by a signal (exit code {error.code})."
    return str(error).strip() or type(error).__name__


def _exit_code(error: BaseException) -> int:
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    # A full disk becomes a VerifyError further out.
    return 2 if isinstance(error, OSError) else getattr(error, "exit_code", 1)


class Leader:
    """Node 0's side: takes the other nodes in, and has them train along.

    run_folder: for what the runs need and leave; all nodes see it.
    """

    def __init__(self, nodes: Nodes, report: Path) -> None:
        self.nodes = nodes
        self.report = report
        self.run_folder = report / RUN_FOLDER
        self.exit_code = 2
        self._board = Board(report, 0)
        self._others = range(1, nodes.count)
        self._members: dict[int, str] = {}
        self._job = 0
        self._trees: Trees | None = None
        self._launcher: Launcher | None = None

    def start(self) -> None:
        """Shows the other nodes that node 0 is there."""
        shutil.rmtree(self.run_folder, ignore_errors=True)
        for rank in self._others:
            # Who is there writes it again; who is not, must not seem to be.
            (self._board.folder / f"node{rank}.json").unlink(missing_ok=True)
        self._board.start()

    def gather(self, trees: Trees, launcher: Launcher, console: Console) -> None:
        """Waits for the other nodes and compares what they train with; `launcher` starts this node's ranks.

        Raises VerifyError where one does not show up, gives up, or has something
        else to train.
        """
        self._trees, self._launcher = trees, launcher
        since = time.monotonic()
        with console.status(f"waiting for {len(self._others)} other nodes …"):
            while True:
                self._take_in()
                told = {rank: self._alive(rank) for rank in self._members}
                missing = [k for k in self._others if "facts" not in told.get(k, {})]
                if not missing:
                    break
                absent = [str(rank) for rank in missing if rank not in self._members]
                if absent and time.monotonic() - since > JOIN:
                    raise VerifyError(
                        f"Node {', '.join(absent)} has not shown up in {self.report} within {JOIN:g} seconds: start the"
                        " same command on every node, each with a --node-rank of its own, and name a report folder"
                        " that all of them share with --report."
                    )
                time.sleep(_POLL)
        mine = facts(trees, self.report)
        for rank, state in told.items():
            for what, value in mine.items():
                if state["facts"].get(what) != value:
                    raise VerifyError(
                        f"{what} of node {rank} is {state['facts'].get(what)}, and of node 0 {value}: it has to be"
                        " the same on all nodes."
                    )

    def run_job(
        self,
        tree: Path,
        *,
        config: Path,
        folder: Path,
        traces: Path,
        nproc: int,
        options: dict[str, object],
        timeout: float,
        watch: Callable[[], bool | None] = lambda: None,
    ) -> Outcome:
        """`Launcher.run_job` on all nodes; `nproc` ranks in all, a single one on node 0 alone.

        Returns when all nodes are done with it. The status is node 0's, or the
        first other one where that went well. Raises VerifyError where a node is gone.
        """
        assert self._trees and self._launcher  # `gather` comes first
        launched = functools.partial(
            self._launcher.run_job,
            tree,
            config=config,
            folder=folder,
            traces=traces,
            options=options,
            timeout=timeout,
        )
        if nproc == 1:
            return launched(nproc=1, watch=watch)
        self._job += 1
        began = time.monotonic()
        nodes = dataclasses.replace(
            self.nodes, job=f"{self._board.token[:12]}-{self._job}"
        )
        order = {
            "job": self._job,
            "id": nodes.job,
            "tree": "base" if tree == self._trees.base else "migrated",
            "config": str(config),
            "folder": str(folder),
            "traces": str(traces),
            "nproc": nproc // nodes.count,
            "options": options,
            "timeout": timeout,
        }
        self._board.post(order=order)
        failed_at: float | None = None

        def look() -> bool:
            nonlocal failed_at
            watch()
            if failed_at is None and any(self._ended().values()):
                failed_at = time.monotonic()
            return failed_at is not None and time.monotonic() - failed_at > LINGER

        outcome = launched(nproc=nproc // nodes.count, nodes=nodes, watch=look)
        while len(self._ended()) < len(self._others) and outcome.status == 0:
            if time.monotonic() - began > timeout:
                outcome = Outcome(-1, time.monotonic() - began, True)
            time.sleep(_POLL)
        if outcome.status != 0:
            self._board.post(over=self._job)
        told = time.monotonic()
        while len(self._ended()) < len(self._others):
            if time.monotonic() - told > LINGER + END:
                late = [str(k) for k in self._others if k not in self._ended()]
                raise VerifyError(
                    f"Node {', '.join(late)} does not end its part of a run that is over: see torchrun-node*.log in {traces}."
                )
            time.sleep(_POLL)
        bad = [status for _, status in sorted(self._ended().items()) if status != 0]
        if outcome.status == 0 and bad:
            outcome = dataclasses.replace(outcome, status=bad[0])
        return outcome

    def dismiss(self, why: str) -> None:
        """Tells the other nodes that all is over, waits until they have ended, and takes the files away."""
        began = time.monotonic()
        with contextlib.suppress(OSError):
            self._board.post(exit=self.exit_code, why=why, over=self._job)
        while time.monotonic() - began < LINGER + END:
            with contextlib.suppress(OSError):
                self._take_in()
            if all(self._gone(rank, began) for rank in self._others):
                break
            time.sleep(_POLL)
        self._board.stop()
        for path in self._board.folder.glob("node*"):
            with contextlib.suppress(OSError):
                path.unlink()
        with contextlib.suppress(OSError):  # gone, or not empty
            self._board.folder.rmdir()
        shutil.rmtree(self.run_folder, ignore_errors=True)

    def _take_in(self) -> None:
        """Makes members of the nodes that have shown up."""
        found = {
            rank: state["token"]
            for rank in self._others
            if rank not in self._members
            and (state := self._board.read(rank))
            and state["run"] is None
        }
        if found:
            self._members |= found
            self._board.post(members={str(k): v for k, v in self._members.items()})

    def _alive(self, rank: int) -> dict[str, Any]:
        """What a member says; raises VerifyError where it is gone."""
        state = self._board.read(rank)
        if state.get("left"):
            raise VerifyError(f"Node {rank} has given up: {state['why']}")
        if state.get("token", self._members[rank]) != self._members[rank]:
            raise VerifyError(
                f"Another process has taken the place of node {rank}: give each a --node-rank of its own."
            )
        if self._board.silent(rank):
            raise VerifyError(
                f"Node {rank} is gone: nothing was heard of it in {self._board.folder} for {SILENCE:g} seconds."
                " See what has ended it there, and run the same command on every node again."
            )
        return state

    def _ended(self) -> dict[int, int]:
        """Status of the current job on the nodes on which it has ended."""
        told = {rank: self._alive(rank) for rank in self._others}
        return {
            rank: state["status"]
            for rank, state in told.items()
            if state.get("job") == self._job
        }

    def _gone(self, rank: int, since: float) -> bool:
        if rank not in self._members:
            # One that was about to come shall hear of the end.
            return time.monotonic() - since > 3 * BEAT
        state = self._board.read(rank)
        other = state.get("token") not in (self._members[rank], None)
        return other or bool(state.get("left")) or self._board.silent(rank)


def facts(trees: Trees, report: Path) -> dict[str, str]:
    """What has to be the same on all nodes, each with its name."""
    return {
        "The base tree": digest(trees.base),
        "The migrated tree": digest(trees.migrated),
        "The path of the report folder": str(report),
        "The path of titan-migrate": str(ASSETS.parent),
        "The version of torch": metadata.version("torch"),
    }


def digest(tree: Path, instead: Mapping[Path, bytes] = {}) -> str:
    """The same for two trees whose packages hold the same Python files.

    Of a torchtitan that was laid into a tree nothing counts, but all that is the tree's own.
    `instead`: what some of the files are taken to hold.
    """
    package = tree / "torchtitan"
    files: Iterable[Path] = package.rglob("*.py")
    if (tree / GRAFTED).is_file():
        files = (p for p in tree.rglob("*.py") if package not in p.parents)
    return digest_of(
        {
            path.relative_to(tree).as_posix(): (
                instead[path] if path in instead else path.read_bytes()
            )
            # Neither a link that leads nowhere nor a folder called x.py.
            for path in files
            if path.is_file()
        }
    )


def digest_of(files: Mapping[str, bytes]) -> str:
    """The same of files by their names."""
    found = hashlib.sha256()
    for name in sorted(files, key=lambda name: name.split("/")):
        content = files[name]
        found.update(f"{name}\0{len(content)}\0".encode() + content)
    return found.hexdigest()[:16]


# --- the other nodes --------------------------------------------------------------


@contextlib.contextmanager
def following(nodes: Nodes, report: Path) -> Iterator[Board]:
    """Shows node 0 that this node is there, and that it has left, and why, afterwards."""
    board = Board(report, nodes.rank)
    why = ""
    try:
        board.start()
        yield board
    except BaseException as error:
        why = _reason(error)
        raise
    finally:
        with signals_held():
            board.stop(left=True, why=why)


def follow(
    nodes: Nodes, board: Board, trees: Trees, report: Path, launcher: Launcher
) -> tuple[int, str]:
    """Trains along until node 0 ends; returns the exit code and the reason that it gives.

    `launcher` starts this node's ranks. Raises VerifyError where node 0 does
    not show up, does not take this node in, or is gone.
    """
    board.post(facts=facts(trees, report))
    leader = _join(nodes, board, report)
    done = 0
    while leader.get("exit") is None:
        order = leader.get("order")
        if order and order["job"] > done:
            outcome = _train(nodes, board, trees, order, launcher)
            done = order["job"]
            board.post(job=done, status=outcome.status)
        time.sleep(_POLL)
        leader = _heard(board)
    return leader["exit"], leader["why"]


def _join(nodes: Nodes, board: Board, report: Path) -> dict[str, Any]:
    """Waits until node 0 has taken this node in; returns what it says."""
    since = time.monotonic()
    while True:
        leader = board.read(0)
        members = leader.get("members", {})
        if members.get(str(nodes.rank)) == board.token:
            board.post(run=leader["token"])
            return leader
        if time.monotonic() - since > JOIN and (
            str(nodes.rank) in members or not leader or board.silent(0)
        ):
            raise VerifyError(
                f"Node 0 has not taken node {nodes.rank} in within {JOIN:g} seconds, looked for in {report}: start the"
                " same command on every node, each with a --node-rank of its own, and name a report folder that"
                " all of them share with --report."
            )
        time.sleep(_POLL)


def _heard(board: Board) -> dict[str, Any]:
    """What node 0 says; raises VerifyError where it is gone."""
    leader = board.read(0)
    if leader.get("token") not in (board.run, None):
        raise VerifyError(
            f"Another verification has begun in {board.folder.parent}: this one is over."
        )
    if board.silent(0):
        raise VerifyError(
            f"Node 0 is gone: nothing was heard of it in {board.folder} for {SILENCE:g} seconds."
        )
    return leader


def _train(
    nodes: Nodes, board: Board, trees: Trees, order: dict[str, Any], launcher: Launcher
) -> Outcome:
    over_at: float | None = None

    def look() -> bool:
        nonlocal over_at
        leader = _heard(board)
        if leader.get("exit") is not None:
            return True
        if over_at is None and leader.get("over") == order["job"]:
            over_at = time.monotonic()
        return over_at is not None and time.monotonic() - over_at > LINGER

    return launcher.run_job(
        getattr(trees, order["tree"]),
        config=Path(order["config"]),
        folder=Path(order["folder"]),
        traces=Path(order["traces"]),
        nproc=order["nproc"],
        options=order["options"],
        # Node 0 is to say first that it took too long.
        timeout=order["timeout"] + END,
        nodes=dataclasses.replace(nodes, job=order["id"]),
        watch=look,
    )
