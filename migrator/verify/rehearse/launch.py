"""The rehearsing processes: started, asked, ended. Nothing of them is left."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from pathlib import Path
from typing import Any

from migrator.signals import signals_kept
from migrator.verify.errors import VerifyError
from migrator.verify.groups import end_groups
from migrator.verify.train.launch import environment
from migrator.verify.train.warm import on_a_socket

HOST = Path(__file__).with_name("in_world") / "host.py"

# An import that takes longer hangs, seconds; a world ends earlier by itself.
LIMIT = 600.0


class Gone(VerifyError):
    """A rehearsing process has ended by itself, or does not answer."""


class Theatre:
    """The process that has torch imported, and opens a stage for each tree; see `in_world/host.py`.

    scratch: the working directory of all processes, which holds what they leave.
    """

    def __init__(self, scratch: Path) -> None:
        self._stages: list[Stage] = []
        # Its forks are in its group.
        self._process, self._control = on_a_socket(
            HOST,
            scratch,
            {**environment(scratch, on_cpu=True), "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def __enter__(self) -> Theatre:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def open(self, tree: Path) -> Stage:
        """A process that imports the torchtitan in the folder `tree`."""
        ours, theirs = socket.socketpair()
        with theirs:
            try:
                socket.send_fds(self._control, [os.fsencode(tree)], [theirs.fileno()])
            except OSError:
                ours.close()
                raise Gone(
                    f"The rehearsing process has ended (status {self._process.poll()})."
                ) from None
        stage = Stage(tree, ours)
        self._stages.append(stage)
        return stage

    def end(self) -> None:
        """Ends all processes and worlds."""
        with signals_kept():
            end_groups(self._process.pid)
            self._process.wait()
            self._control.close()
            for stage in self._stages:
                stage.close()


class Stage:
    """A process that has a tree's models imported and makes worlds of them.

    tree: the folder that holds `torchtitan/`.
    """

    def __init__(self, tree: Path, channel: socket.socket) -> None:
        self.tree = tree
        channel.settimeout(LIMIT)
        self._channel = channel
        self._answers = channel.makefile("r", encoding="utf-8")

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request; raises Gone where the process is, or takes too long."""
        answer = ""
        with contextlib.suppress(OSError, ValueError):
            self._channel.sendall((json.dumps(request) + "\n").encode())
            answer = self._answers.readline()
        if not answer.endswith("\n"):
            raise Gone(f"The process that rehearses {self.tree} has ended, or hangs.")
        found: dict[str, Any] = json.loads(answer)
        return found

    def close(self) -> None:
        """Ends its process, as soon as that is at leisure."""
        with contextlib.suppress(OSError):
            # A thread that waits for an answer wakes up.
            self._channel.shutdown(socket.SHUT_RDWR)
        self._channel.close()
