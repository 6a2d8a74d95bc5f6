"""Runs torchrun jobs and leaves nothing of them behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from migrator.signals import signals_kept
from migrator.verify.groups import end_groups, signal_group
from migrator.verify.train.warm import Torchrun, Warm

HOST = Path(__file__).with_name("in_rank") / "host.py"
# What torchrun gets to end its ranks by itself before it is killed, seconds.
GRACE = 5.0
# Between two looks at a running job, seconds.
_POLL = 0.25
# Each would win over HF_HOME, and our training data stay in the user's cache.
_CACHES = (
    "HF_DATASETS_CACHE",
    "HF_DATASETS_DOWNLOADED_DATASETS_PATH",
    "HF_DATASETS_EXTRACTED_DATASETS_PATH",
    "HF_MODULES_CACHE",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_ASSETS_CACHE",
    "HUGGINGFACE_ASSETS_CACHE",
    "HF_XET_CACHE",
)


@dataclass(frozen=True)
class Outcome:
    """How a job ended: torchrun's exit status, seconds of wall time, and whether the time limit ended it."""

    status: int
    seconds: float
    timed_out: bool


@dataclass(frozen=True)
class Nodes:
    """The machines that train together, as torchrun is told of them.

    count: of nodes. rank: this node's. endpoint: host:port of node 0. job: tells
    one job's rendezvous from the next one's.
    """

    count: int = 1
    rank: int = 0
    endpoint: str = ""
    job: str = ""

    @property
    def on_this_host(self) -> bool:
        """Whether all of them run on this host, which a loopback address says."""
        host = self.endpoint.rpartition(":")[0].strip("[]")
        return self.count == 1 or host == "localhost" or host.startswith("127.")

    def arguments(self) -> list[str]:
        """torchrun's rendezvous arguments."""
        if self.count == 1:
            # standalone: a rendezvous of its own on a free port of this host
            return ["--standalone", "--local-addr=127.0.0.1"]
        return [
            f"--nnodes={self.count}",
            f"--node-rank={self.rank}",
            f"--rdzv-endpoint={self.endpoint}",
            "--rdzv-backend=static",
            f"--rdzv-id={self.job}",
        ]


class Launcher:
    """Starts the torchrun jobs of one node.

    Where it can, it has a process import torch once, which then forks torchrun and the
    ranks of each job; importing takes half the time of a short run. On GPUs, and on
    systems other than Linux, each job is a torchrun command of its own, since a process
    that has touched CUDA, or the frameworks of macOS, cannot be forked.

    caches: a folder of this node alone, for what the runs leave there.
    """

    def __init__(self, caches: Path) -> None:
        self.caches = caches
        self._warm: Warm | None = None
        self._can_fork = sys.platform.startswith("linux")

    def __enter__(self) -> Launcher:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Ends the process that forks, if there is one."""
        with signals_kept():
            if self._warm:
                self._warm.end()
            self._warm = None

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
        nodes: Nodes = Nodes(),
        watch: Callable[[], bool | None] = lambda: None,
    ) -> Outcome:
        """Trains `tree` (the folder that holds `torchtitan/`) on `nproc` ranks of this node as `config` (TOML) says.

        `folder` is the working directory, `traces` receives `rank<N>.jsonl`,
        `rank<N>.log` and `torchrun.log` (`torchrun-node<K>.log` on a node behind the
        first), `options` go to the host in each rank. Blocks until the job is over,
        `timeout` seconds have passed, or `watch`, which is called a few times a
        second, returns True. However it is left, by an exception too, all its
        processes of this node are gone afterwards.
        """
        traces.mkdir(parents=True, exist_ok=True)
        on_cpu = options["device"] == "cpu"
        arguments = [
            *nodes.arguments(),
            f"--nproc-per-node={nproc}",
            str(HOST),
            str(tree),
            str(traces),
            json.dumps(options),
            "--",
            f"--job.config_file={config}",
        ]
        name = "torchrun.log" if nodes.rank == 0 else f"torchrun-node{nodes.rank}.log"
        began = time.monotonic()
        process: Torchrun | None = None
        timed_out = ended = False
        try:
            process = self._start(
                arguments,
                environment(self.caches, on_cpu=on_cpu, nodes=nodes),
                folder,
                traces / name,
                forked=on_cpu,
            )
            while process.poll() is None and not (timed_out or ended):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL)
                ended = bool(watch())
                timed_out = time.monotonic() - began > timeout
        finally:
            with signals_kept():
                if process is not None:
                    _end(process, traces)
        # torchrun may have ended well while the last look was taken.
        status = process.wait() if not timed_out else -1
        return Outcome(status, time.monotonic() - began, timed_out)

    def _start(
        self,
        arguments: list[str],
        environment: dict[str, str],
        folder: Path,
        log: Path,
        forked: bool,
    ) -> Torchrun:
        if forked and self._can_fork:
            if not (self._warm and self._warm.alive):
                self._warm = Warm(self.caches, environment)
            if self._warm.ready:
                return self._warm.start(arguments, environment, folder, log)
            self._can_fork = False
            self.end()
        with open(log, "wb") as out:
            return subprocess.Popen(
                [sys.executable, "-m", "torch.distributed.run", *arguments],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches this process only, which then ends the job in order.
                start_new_session=True,
            )


def environment(
    folder: Path, *, on_cpu: bool, nodes: Nodes = Nodes()
) -> dict[str, str]:
    """This process's environment, with what a run needs to be offline and the same each time."""
    # Settings of an outer torchrun or Slurm step would reach the ranks.
    outer = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in outer and not key.startswith(("TORCHELASTIC_", "PET_"))
    }
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    environment.update(
        OMP_NUM_THREADS="1",
        HF_HUB_OFFLINE="1",
        HF_HOME=str(folder / "cache"),
        # What torchrun and torch.compile leave goes with the folder.
        TMPDIR=str(temporary),
        TORCHINDUCTOR_CACHE_DIR=str(folder / "inductor"),
        # tiktoken caches by path and never looks whether the file has changed.
        TIKTOKEN_CACHE_DIR="",
        TOKENIZERS_PARALLELISM="false",
        PYTHONHASHSEED="0",
        # pyarrow would start a thread when it is imported, and forks lose it.
        JE_ARROW_MALLOC_CONF="background_thread:false",
        TITAN_MIGRATE_PID=str(os.getpid()),
    )
    for name in ("PYTHONSTARTUP", *_CACHES):
        environment.pop(name, None)
    if on_cpu:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    if on_cpu and nodes.on_this_host and sys.platform.startswith("linux"):
        # Else gloo looks up the host's name, which sandboxes do not resolve.
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return environment


def _end(process: Torchrun, traces: Path) -> None:
    """Ends torchrun and its ranks. Where each rank leads a session of its own, torchrun has to be asked first."""
    if process.poll() is None:
        signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    end_groups(process.pid, *rank_processes(traces))
    process.wait()


def rank_processes(traces: Path) -> list[int]:
    """Process ids of this process's ranks that still run, found by the job's trace folder in their command line (Linux).

    Those that were forked are in torchrun's process group and not among them.
    Elsewhere the list is empty: there the ranks see by themselves that
    torchrun is gone and end within a second.
    """
    marker = os.fsencode(traces)
    # Another node's ranks have the same command line, and may be on this host.
    mine = f"TITAN_MIGRATE_PID={os.getpid()}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if marker not in words or os.fsencode(HOST) not in words:
                continue
            if mine in (entry / "environ").read_bytes().split(b"\0"):
                found.append(int(entry.name))
    return found


def torchrun_log(traces: Path) -> str:
    """What torchrun has printed on all nodes, node 0 first."""
    paths = sorted(
        traces.glob("torchrun*.log"), key=lambda path: (len(path.name), path)
    )
    return "\n".join(
        path.read_text(encoding="utf-8", errors="replace") for path in paths
    )


def failed_ranks(log: str) -> list[tuple[int, int]]:
    """(rank, exit status) of the ranks that torchrun's closing summaries list, and of all forks that failed; a negative status is a signal."""
    return [*_summarised(log), *_forks(log)]


def _summarised(log: str) -> list[tuple[int, int]]:
    found = re.findall(
        r"^\s*rank\s*:\s*(\d+).*\n\s*exitcode\s*:\s*(-?\d+)", log, re.MULTILINE
    )
    return [(int(rank), int(status)) for rank, status in found]


def _forks(log: str) -> Iterator[tuple[int, int]]:
    """What `in_rank/warm.py` has noted; a node's log comes as a whole, so that its process ids are its own."""
    ranks: dict[str, int] = {}
    noted = r"^process (\d+) (?:is rank (\d+)|ended with status (-?\d+))$"
    for process, rank, status in re.findall(noted, log, re.MULTILINE):
        if rank:
            ranks[process] = int(rank)
        elif process in ranks:
            yield ranks[process], int(status)


def killed_rank(log: str) -> tuple[int, int] | None:
    """(rank, signal) of a fork that a signal ended, or from torchrun's closing summaries, where a node's first failure was a signal; else None."""
    for rank, status in _forks(log):
        # With SIGTERM torchrun itself ends those that are left.
        if status < 0 and -status != signal.SIGTERM:
            return rank, -status
    # The other failures of a summary may be ranks that torchrun itself has ended.
    for summary in log.split("Root Cause")[1:]:
        for rank, status in _summarised(summary)[:1]:
            if status < 0:
                return rank, -status
    return None


def first_traceback(log: str) -> tuple[str, str, str]:
    """Type, message and text of the first exception that a rank's log shows; "Death" and its last lines where it shows none."""
    # torch's excepthook numbers the lines.
    log = re.sub(r"^\[rank\d+\]: ?", "", log, flags=re.MULTILINE)
    before, start, rest = log.partition("Traceback (most recent call last):\n")
    if not start:
        lines = before.strip().splitlines()[-25:]
        return "Death", lines[-1] if lines else "it left no word", "\n".join(lines)
    lines = rest.splitlines()
    # The frames are indented, what was raised is not.
    end = next((i for i, line in enumerate(lines) if line[:1].strip()), len(lines) - 1)
    kind, _, message = lines[end].partition(": ")
    return kind, message, start + "\n".join(lines[: end + 1])
