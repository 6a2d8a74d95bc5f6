"""A Python that has imported torch once, and forks a torchrun with its ranks for each job.

    python warm.py

Its stdin is a Unix socket. It says first whether it can fork at all, true or false. Then a line
of JSON is a job,

    torchrun      the arguments of torchrun, host.py and its own among them
    environment   the whole environment of the job
    folder        its working directory
    log           the file that it prints to

answered by two numbers, a line each: the id of its process, which leads the job's process group,
and, once that has ended, its status as subprocess has it. One job runs at a time.

What can be imported is, but for torchtitan: each job imports its own, and what it does to torch
or to the process ends with it. torchrun is torch's own, and only told to fork its ranks.

A process of its own kind, as `host.py`: it imports nothing of titan-migrate but this folder.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

HOST = Path(__file__).with_name("host.py")

IMPORTED = """
    torch torch.distributed.run torch.distributed.tensor torch.distributed.fsdp
    torch.distributed.checkpoint torch.distributed.tensor.parallel
    torch.distributed.pipelining torch._inductor.compile_fx
    torch.nn.attention.flex_attention torch.utils.tensorboard
    torchdata.stateful_dataloader pandas pyarrow.dataset tokenizers tyro
    datasets.distributed huggingface_hub.hf_api
""".split()
"""What torchtitan's releases import on their way to a first step."""


def main() -> None:
    channel = socket.socket(fileno=os.dup(0)).makefile("rw", encoding="utf-8")
    silent = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(silent, number)
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    for name in (*IMPORTED, "in_rank.host"):
        # A job that needs it will say what is wrong with it.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    # A fork has none of the other threads, and the locks that they hold for ever.
    alone = len(os.listdir("/proc/self/task")) == 1
    print(json.dumps(alone), file=channel, flush=True)
    for line in channel:
        child = os.fork()
        if child == 0:
            channel.close()
            run(json.loads(line))
        # Here too, so that the group is there once its number is told.
        with contextlib.suppress(OSError):
            os.setpgid(child, child)
        print(child, file=channel, flush=True)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), file=channel, flush=True)


def run(job: dict[str, Any]) -> None:
    """Is the torchrun of a job, and ends with it."""
    os.setpgid(0, 0)

    def body() -> None:
        from torch.distributed import run as torchrun
        from torch.distributed.launcher.api import elastic_launch

        def forking(config: Any, entrypoint: object) -> Any:
            config.start_method = "fork"
            return elastic_launch(config, rank)

        note_ends()
        torchrun.elastic_launch = forking  # type: ignore[attr-defined, assignment]
        torchrun.main(job["torchrun"])

    be(body, job["environment"], Path(job["folder"]), Path(job["log"]))


def be(
    body: Callable[[], object], environment: dict[str, str], folder: Path, log: Path
) -> NoReturn:
    """Does what `body` does in this fork as a Python of its own would, and ends with it."""
    status = 1
    try:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environment)
        tempfile.tempdir = None  # it is looked up in the environment anew
        body()
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(bool(end.code))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def note_ends() -> None:
    """Has the log say of each rank that did not end well how it did; of forks torchrun's summary lists one."""
    from multiprocessing.popen_fork import Popen

    poll = Popen.poll

    def poll_and_note(process: Popen, *flags: int) -> int | None:
        known, status = process.returncode, poll(process, *flags)
        if known is None and status:
            print(f"process {process.pid} ended with status {status}", flush=True)
        return status

    Popen.poll = poll_and_note  # type: ignore[method-assign, assignment]


def rank(*command: str) -> None:
    """Is a rank: what the command `-u host.py ...` of torchrun would be as a Python of its own."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)  # torchrun's own handlers are inherited
    from in_rank import host

    print(f"process {os.getpid()} is rank {os.environ['RANK']}", flush=True)
    try:
        host.main(list(command[command.index(str(HOST)) + 1 :]))
    except Exception:
        traceback.print_exc()  # as a Python of its own would
        raise


if __name__ == "__main__":
    main()
