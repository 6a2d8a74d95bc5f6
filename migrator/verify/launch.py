"""Runs one torchrun job and leaves nothing of it behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from migrator.signals import signals_held

HOST = Path(__file__).with_name("host.py")
# What torchrun gets to end its ranks by itself before it is killed, seconds.
GRACE = 5.0


@dataclass(frozen=True)
class Outcome:
    """How a job ended: torchrun's exit status, seconds of wall time, and whether the time limit ended it."""

    status: int
    seconds: float
    timed_out: bool


def run_job(
    tree: Path,
    *,
    config: Path,
    folder: Path,
    traces: Path,
    nproc: int,
    steps: int,
    timeout: float,
) -> Outcome:
    """Trains `tree` (the folder that holds `torchtitan/`) on `nproc` ranks as `config` (TOML) says.

    `folder` is the working directory, `traces` receives `rank<N>.jsonl`,
    `rank<N>.log` and `torchrun.log`. Blocks until the job is over or `timeout`
    seconds have passed. However it is left, by an exception too, all its
    processes are gone afterwards.
    """
    traces.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        # standalone: a rendezvous of its own on a free port of this host
        "--standalone",
        "--local-addr=127.0.0.1",
        f"--nproc-per-node={nproc}",
        str(HOST),
        str(tree),
        str(traces),
        str(steps),
        "--",
        f"--job.config_file={config}",
    ]
    began = time.monotonic()
    with open(traces / "torchrun.log", "wb") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=_environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Ctrl-C reaches this process only, which then ends the job in order.
            start_new_session=True,
        )
        timed_out = False
        try:
            status = process.wait(timeout)
        except subprocess.TimeoutExpired:
            timed_out, status = True, -1
        finally:
            with signals_held():
                _end(process, traces)
    return Outcome(status, time.monotonic() - began, timed_out)


def _environment(folder: Path) -> dict[str, str]:
    """This process's environment, with what a run needs to be offline, on CPU, and the same each time."""
    # Settings of an outer torchrun or Slurm step would reach the ranks.
    outer = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    environment = {
        key: value
        for key, value in os.environ.items()
        if key not in outer and not key.startswith(("TORCHELASTIC_", "PET_"))
    }
    environment.update(
        OMP_NUM_THREADS="1",
        CUDA_VISIBLE_DEVICES="",
        HF_HUB_OFFLINE="1",
        HF_HOME=str(folder / "cache"),
        # tiktoken caches by path and never looks whether the file has changed.
        TIKTOKEN_CACHE_DIR="",
        TOKENIZERS_PARALLELISM="false",
        PYTHONHASHSEED="0",
        TITAN_MIGRATE_PID=str(os.getpid()),
    )
    environment.pop("PYTHONSTARTUP", None)
    if sys.platform.startswith("linux"):
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
