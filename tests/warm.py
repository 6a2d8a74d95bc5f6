"""A Python that has imported torch once, and forks for each program that is to run with it.

Each rank of a training and each import of a torchtitan costs some five seconds of a core, in
which torch, its compiler and pandas are imported anew. Here the programs find them imported;
torchtitan itself is not, so each has its own.
"""

from __future__ import annotations

import importlib
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "migrator" / "verify" / "train"))
from in_rank.warm import IMPORTED, be


class Server:
    """The process that forks."""

    def __init__(self) -> None:
        self.cache = tempfile.TemporaryDirectory()
        self.process = subprocess.Popen(
            [sys.executable, "-u", __file__],
            # As the ranks that `verify` starts have it.
            env={
                **os.environ,
                "PYTHONHASHSEED": "0",
                "OMP_NUM_THREADS": "1",
                # pyarrow would start a thread.
                "JE_ARROW_MALLOC_CONF": "background_thread:false",
                # These two are read when `datasets` is imported, so all runs share a cache.
                "HF_HUB_OFFLINE": "1",
                "HF_HOME": self.cache.name,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(
        self,
        argv: list[str],
        *,
        cwd: Path,
        log: Path,
        environments: list[dict[str, str]],
        timeout: float = 300,
        watch: Callable[[], bool | None] = lambda: None,
    ) -> int | None:
        """Runs a program in one process for each environment; when one fails, the others are ended.

        Returns the status of the first that failed, or 0; None where the time was up or
        `watch` returned True.
        """
        asked = {"argv": argv, "cwd": str(cwd), "log": str(log), "env": environments}
        deadline = time.monotonic() + timeout
        try:
            print(json.dumps(asked), file=self.process.stdin, flush=True)
            while not select.select([self.process.stdout], [], [], 0.1)[0]:
                if watch() or time.monotonic() > deadline:
                    self.end()
                    return None
            return json.loads(self.process.stdout.readline())
        except BaseException:
            self.end()
            raise

    def printed(self, script: str, folder: Path) -> str:
        """What a script prints that is run alone, errors too.

        Args:
            script: the code.
            folder: where it is written, and runs.
        """
        place, log = folder / "script.py", folder / "log"
        place.write_text(script)
        self.run([str(place)], cwd=folder, log=log, environments=[dict(os.environ)])
        return log.read_text()

    def end(self) -> None:
        """Ends it and all that it runs."""
        server.cache_clear()
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@cache
def server() -> Server:
    """The one of this process, which ends with it."""
    return Server()


# In the server


def serve() -> None:
    answers = os.fdopen(os.dup(1), "w")
    for name in IMPORTED:
        importlib.import_module(name)
    assert len(os.listdir("/proc/self/task")) == 1, "a fork would lose the threads"
    for line in sys.stdin:
        asked = json.loads(line)
        running = [fork(asked, environment) for environment in asked["env"]]
        failed = 0
        while running:
            pid, status = os.wait()
            running.remove(pid)
            if status and not failed:
                failed = os.waitstatus_to_exitcode(status)
                for other in running:
                    os.kill(other, signal.SIGTERM)
        print(json.dumps(failed), file=answers, flush=True)


def fork(asked: dict, environment: dict[str, str]) -> int:
    """Starts the program as `python -u PROGRAM ...` would; returns its process id."""
    pid = os.fork()
    if pid:
        return pid

    def body() -> None:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        sys.argv = asked["argv"]
        sys.path[0] = str(Path(sys.argv[0]).parent)
        runpy.run_path(sys.argv[0], run_name="__main__")

    be(body, environment, Path(asked["cwd"]), Path(asked["log"]))


if __name__ == "__main__":
    serve()
