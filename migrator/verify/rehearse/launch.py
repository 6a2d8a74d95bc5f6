"""The rehearsing process of a tree: started, asked, ended. Nothing of it is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from migrator.signals import signals_held
from migrator.verify.errors import VerifyError
from migrator.verify.train.launch import environment

HOST = Path(__file__).with_name("in_world") / "host.py"


class Stage:
    """A process that has a tree's models imported and makes worlds of them; see `in_world/host.py` for what it is told.

    tree: the folder that holds `torchtitan/`.
    """

    def __init__(self, tree: Path, process: subprocess.Popen[str]) -> None:
        self.tree = tree
        self._process = process

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The answer to a request; raises VerifyError where the process is gone."""
        assert self._process.stdin and self._process.stdout
        answer = ""
        with contextlib.suppress(OSError, ValueError):
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer.endswith("\n"):
            raise VerifyError(
                f"The process that rehearses {self.tree} has ended (status {self._process.poll()})."
            )
        found: dict[str, Any] = json.loads(answer)
        return found

    def end(self) -> None:
        """Ends the process and the worlds that it has forked."""
        with signals_held():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@contextlib.contextmanager
def stages(trees: Sequence[Path], scratch: Path) -> Iterator[list[Stage]]:
    """A rehearsing process for each tree, all ended when this is left; `scratch` is their working directory and holds what they leave."""
    started: list[Stage] = []
    try:
        for tree in trees:
            process = subprocess.Popen(
                [sys.executable, str(HOST), str(tree)],
                cwd=scratch,
                env={
                    **environment(scratch, on_cpu=True),
                    "PYTHONDONTWRITEBYTECODE": "1",
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                encoding="utf-8",
                # Its forks are in its group, and Ctrl-C reaches this process only.
                start_new_session=True,
            )
            started.append(Stage(tree, process))
        yield started
    finally:
        for stage in started:
            stage.end()
