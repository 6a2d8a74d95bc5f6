"""Runs one torchrun job and leaves nothing of it behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from migrator.signals import signals_held

HOST = Path(__file__).with_name("in_rank") / "host.py"
# What torchrun gets to end its ranks by itself before it is killed, seconds.
GRACE = 5.0
# Between two looks at a running job, seconds.
_POLL = 0.25


@dataclass(frozen=True)
class Outcome:
    """How a job ended: torchrun's exit status, seconds of wall time, and whether the time limit ended it."""

    status: int
    seconds: float
    timed_out: bool


@dataclass(frozen=True)
class Nodes:
    """The machines that train together, as torchrun is told of them.

    count: of nodes. rank: this node's. endpoint: host:port of node 0.
    """

    count: int = 1
    rank: int = 0
    endpoint: str = ""

    def arguments(self, job: str) -> list[str]:
        """torchrun's rendezvous arguments; `job` tells one job from the next."""
        if self.count == 1:
            # standalone: a rendezvous of its own on a free port of this host
            return ["--standalone", "--local-addr=127.0.0.1"]
        return [
            f"--nnodes={self.count}",
            f"--node-rank={self.rank}",
            f"--rdzv-endpoint={self.endpoint}",
            "--rdzv-backend=static",
            f"--rdzv-id={job}",
        ]


def run_job(
    tree: Path,
    *,
    config: Path,
    folder: Path,
    traces: Path,
    nproc: int,
    options: dict[str, object],
    timeout: float,
    nodes: Nodes = Nodes(),
    watch: Callable[[], None] = lambda: None,
) -> Outcome:
    """Trains `tree` (the folder that holds `torchtitan/`) on `nproc` ranks of this node as `config` (TOML) says.

    `folder` is the working directory, `traces` receives `rank<N>.jsonl`,
    `rank<N>.log` and `torchrun.log`, `options` go to the host in each rank.
    Blocks until the job is over or `timeout` seconds have passed, and calls
    `watch` a few times a second. However it is left, by an exception too, all
    its processes are gone afterwards.
    """
    traces.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *nodes.arguments(traces.name),
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
    with open(traces / name, "wb") as log:
        process = None
        timed_out = False
        try:
            process = subprocess.Popen(
                command,
                cwd=folder,
                env=_environment(
                    folder, on_cpu=options["device"] == "cpu", nodes=nodes
                ),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C reaches this process only, which then ends the job in order.
                start_new_session=True,
            )
            while process.poll() is None and not timed_out:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_POLL)
                watch()
                timed_out = time.monotonic() - began > timeout
        finally:
            with signals_held():
                if process is not None:
                    _end(process, traces)
    status = -1 if timed_out else process.returncode
    return Outcome(status, time.monotonic() - began, timed_out)


def _environment(folder: Path, *, on_cpu: bool, nodes: Nodes) -> dict[str, str]:
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
        TITAN_MIGRATE_PID=str(os.getpid()),
    )
    environment.pop("PYTHONSTARTUP", None)
    if on_cpu:
        environment["CUDA_VISIBLE_DEVICES"] = ""
    if on_cpu and nodes.count == 1 and sys.platform.startswith("linux"):
        # Else gloo looks up the host's name, which sandboxes do not resolve.
        environment.setdefault("GLOO_SOCKET_IFNAME", "lo")
    return environment


def _end(process: subprocess.Popen, traces: Path) -> None:
    """Ends torchrun and its ranks. Each rank leads a session of its own, so torchrun is asked first."""
    if process.poll() is None:
        _signal_group(process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    ranks = rank_processes(traces)
    _signal_group(process.pid, signal.SIGKILL)
    for pid in ranks:
        _signal_group(pid, signal.SIGKILL)
    process.wait()


def rank_processes(traces: Path) -> list[int]:
    """Process ids of ranks that still run, found by this job's trace folder in their command line (Linux).

    Elsewhere the list is empty: there the ranks see by themselves that
    torchrun is gone and end within a second.
    """
    marker = os.fsencode(traces)
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = entry.read_bytes().split(b"\0")
            if marker in words and os.fsencode(HOST) in words:
                found.append(int(entry.parent.name))
    return found


def killed_rank(log: str) -> tuple[int, int] | None:
    """(rank, signal) from torchrun's closing summary, where the first failure was a signal; else None."""
    summary = log.rpartition("Root Cause")[2]
    rank = re.search(r"^\s*rank\s*:\s*(\d+)", summary, re.MULTILINE)
    status = re.search(r"^\s*exitcode\s*:\s*-(\d+)", summary, re.MULTILINE)
    return (int(rank[1]), int(status[1])) if rank and status else None


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)
