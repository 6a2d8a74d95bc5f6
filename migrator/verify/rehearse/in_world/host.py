"""Rehearses trees: makes their models in fake worlds and says what came out. One process, many trees and worlds.

    python host.py

Its stdin is a Unix socket. A message there is a folder that holds a `torchtitan` package, and
with it comes a socket. For each, this process, which has torch imported, forks one that imports
that package; on its socket, a request is a line of JSON and its answer another. The first one,

    {"models": [{"name": ..., "module": ...}]}

imports these models once, before anything is forked, and is answered by
{"models": {name: {"flavors": [...], "error": ...}}}. Every other one is a world,

    name, flavor   the model        module      what to import to have it registered, or null
    arguments      of torchtitan's own command line
    degrees        {"pp": ...}, as large as the world is to be      rank      the rank to be
    settings       what each degree is called in the configuration
    overrides      arguments of the model itself       step      whether to count a fake step

answered by {"record": ..., "step": ...} as `read.py` and `step.py` make them, or by {"error":
{"type", "message", "traceback", "ours", "missing"}}; an error is `ours` where no code of the
checkout raised it, so that it says nothing of the checkout; `missing` names a module that there is not. Each world is a fork: what it leaves in
torch goes with it, and the imports are paid once.

When stdin ends, all of these processes do: they are one group.

A process of its own kind, as in `in_rank`: it runs in whatever environment a fork
trains in, and imports nothing of titan-migrate but that folder and this one.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any

_HERE = Path(__file__).resolve().parent
sys.path[:1] = [str(_HERE.parent), str(_HERE.parents[1] / "train")]
from in_rank.cpu import prepare_cpu  # noqa: E402
from in_world.build import Unknown, look_up, make, parsed  # noqa: E402
from in_world.read import record  # noqa: E402
from in_world.step import count  # noqa: E402

# A world that takes longer is given up, seconds.
LIMIT = 300.0


def main() -> None:
    control = socket.socket(fileno=os.dup(0))
    # What torchtitan logs is nobody's answer.
    silent = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(silent, number)
    problem: BaseException | None = None
    try:
        prepare_cpu()
        from torch.testing._internal.distributed import fake_pg  # noqa: F401
    except ImportError as error:
        problem = Unknown(f"this torch cannot rehearse: {error}")
    except Exception as error:
        problem = error
    while True:
        tree, passed, _, _ = socket.recv_fds(control, 1 << 16, 1)
        if not passed:
            # Those that it has forked are in a group of their own with it.
            if os.getpgrp() == os.getpid():
                os.killpg(0, signal.SIGKILL)
            os._exit(0)
        if os.fork() == 0:
            control.close()
            serve(os.fsdecode(tree), socket.socket(fileno=passed[0]), problem)
        os.close(passed[0])


def serve(tree: str, channel: socket.socket, problem: BaseException | None) -> None:
    """Answers what is asked of a tree, in a process of its own that ends with its channel."""
    status = 1
    try:
        sys.path[:2] = [tree]
        # torchtitan's configuration reads the arguments when it is imported.
        sys.argv = ["torchtitan.train"]
        with channel.makefile("r", encoding="utf-8") as requests:
            for line in requests:
                request = json.loads(line)
                if "models" not in request:
                    reply = forked(request, tree, channel)
                elif problem:
                    reply = {"error": told(problem, tree)}
                else:
                    reply = prepared(request["models"], tree)
                channel.sendall((json.dumps(reply) + "\n").encode())
        status = 0
    finally:
        os._exit(status)


def prepared(models: list[dict[str, Any]], tree: str) -> dict[str, Any]:
    """Imports the models, and lists the flavors of each or the error that it ends with."""
    try:
        import torchtitan

        found = Path(torchtitan.__file__).resolve().parent.parent
        if found != Path(tree).resolve():
            raise Unknown(
                f"torchtitan was imported from {found}, not from the tree under test, {tree}"
            )
    except Exception as error:
        return {"error": told(error, tree)}
    answers: dict[str, Any] = {}
    for model in models:
        try:
            _, flavors = look_up(model["name"], model["module"])
            answers[model["name"]] = {"flavors": [str(flavor) for flavor in flavors]}
        except Exception as error:
            answers[model["name"]] = {"error": told(error, tree)}
    # What a parser finds out about the configuration's classes, it keeps.
    with contextlib.suppress(BaseException):  # each world will say it of itself
        parsed([])
    # Worlds share what is there, as long as they do not write to it.
    gc.collect()
    gc.freeze()
    return {"models": answers}


def forked(
    request: dict[str, Any], tree: str, channel: socket.socket
) -> dict[str, Any]:
    """The answer of a world that lives and ends in a fork of this process; it closes `channel`, which would seem to go on without us."""
    began = time.monotonic()
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        channel.close()
        os.close(reads)
        with os.fdopen(writes, "w", encoding="utf-8") as out:
            json.dump(answered(request, tree), out)
        os._exit(0)
    os.close(writes)
    received = bytearray()
    try:
        while True:
            left = LIMIT - (time.monotonic() - began)
            if not select.select([reads], [], [], max(left, 0))[0]:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return died("Timeout", f"not over after {LIMIT:g} seconds")
            part = os.read(reads, 1 << 20)
            if not part:
                break
            received += part
    finally:
        os.close(reads)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return died("Killed", f"ended by signal {os.WTERMSIG(status)}")
    if not received:
        return died("Died", f"ended with status {os.WEXITSTATUS(status)}")
    reply: dict[str, Any] = json.loads(received)
    reply["seconds"] = time.monotonic() - began
    for name in reply.pop("imported"):
        # The next world finds it imported.
        with contextlib.suppress(Exception):
            importlib.import_module(name)
    return reply


def answered(request: dict[str, Any], tree: str) -> dict[str, Any]:
    """The answer to a request, in the process that becomes its world."""
    before = set(sys.modules)
    reply: dict[str, Any]
    try:
        made = make(request)
        reply = {"record": record(made)}
        if request["step"]:
            reply["step"] = count(made)
    except BaseException as error:  # what a checkout raises may be SystemExit
        reply = {"error": told(error, tree)}
    # What torch imports by and by, such as its compiler, costs half a second.
    later = [name for name in sys.modules if name not in before]
    return reply | {"imported": [n for n in later if n.partition(".")[0] == "torch"]}


def told(error: BaseException, tree: str) -> dict[str, Any]:
    """An exception in words."""
    lines = traceback.format_exception(error)
    return {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(lines),
        "ours": not isinstance(error, Unknown) and not _by_the_tree(error, tree),
        "missing": error.name if isinstance(error, ModuleNotFoundError) else None,
    }


def _by_the_tree(error: BaseException, tree: str) -> bool:
    """Whether code of the checkout raised it, or called what did: its frame comes after the last one of this folder."""
    within = str(Path(tree).resolve())
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        place = Path(frame.filename).resolve()
        if place.is_relative_to(within):
            return True
        if place.parent == _HERE:
            return False
    return False


def died(kind: str, message: str) -> dict[str, Any]:
    return {
        "error": {
            "type": kind,
            "message": message,
            "traceback": "",
            "ours": True,
            "missing": None,
        }
    }


if __name__ == "__main__":
    main()
