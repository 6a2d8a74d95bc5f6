"""The process that forks torchruns, and a torchrun that was forked."""

from __future__ import annotations

import contextlib
import json
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from migrator.signals import signals_blocked
from migrator.verify.errors import VerifyError
from migrator.verify.groups import end_groups

HOST = Path(__file__).with_name("in_rank") / "warm.py"


class Torchrun(Protocol):
    """A torchrun that runs; as `subprocess.Popen`, which is one. `pid` leads a process group."""

    pid: int

    def poll(self) -> int | None: ...

    def wait(self, timeout: float | None = None) -> int: ...


class Warm:
    """The process that has torch imported, `in_rank/warm.py`.

    caches: its working directory. environment: what it starts with; a job may have another,
    which does not reach what was read when packages were imported.
    """

    def __init__(self, caches: Path, environment: dict[str, str]) -> None:
        self._process, self._channel = on_a_socket(HOST, caches, environment)
        # Unbuffered, so that `select` sees all that was not read.
        self._lines = self._channel.makefile("rb", buffering=0)
        self._job: Forked | None = None
        self.ready = self._lines.readline() == b"true\n"

    @property
    def alive(self) -> bool:
        """Whether it can take a job."""
        return self._process.poll() is None

    def start(
        self, arguments: list[str], environment: dict[str, str], folder: Path, log: Path
    ) -> Torchrun:
        """Has it fork a torchrun; one at a time. Raises VerifyError where it has just ended."""
        job = {
            "torchrun": arguments,
            "environment": environment,
            "folder": str(folder),
            "log": str(log),
        }
        # What is started is known, so that it can be ended.
        with signals_blocked():
            with contextlib.suppress(OSError):
                self._channel.sendall(f"{json.dumps(job)}\n".encode())
            started = self._lines.readline()
            if started:
                self._job = Forked(int(started), self._lines)
                return self._job
        raise VerifyError(
            f"The process that starts the ranks has ended (status {self._process.wait()}): see whether the memory is enough."
        )

    def end(self) -> None:
        """Ends it, and the job that it has forked."""
        if self._job and self._job.poll() is None:
            end_groups(self._job.pid)
        self._process.kill()
        self._process.wait()
        self._lines.close()
        self._channel.close()


class Forked:
    """A torchrun that was forked, with the methods of `subprocess.Popen` that are needed here."""

    def __init__(self, pid: int, lines: socket.SocketIO) -> None:
        self.pid, self._lines = pid, lines
        self._status: int | None = None

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        if self._status is None:
            if not select.select([self._lines], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("torchrun", timeout or 0)
            # No answer comes where what forked it is gone.
            self._status = int(self._lines.readline() or -signal.SIGKILL)
        return self._status


def on_a_socket(
    script: Path, folder: Path, environment: dict[str, str]
) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Starts a Python that reads and writes its stdin, and says nothing else; the process, and our end.

    It leads a session: Ctrl-C reaches this process only.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, str(script)],
            cwd=folder,
            env=environment,
            stdin=theirs.fileno(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    return process, ours
