"""Rehearses a tree: makes its models in fake worlds and says what came out. One process, many worlds.

    python host.py TREE

TREE is the folder that holds the `torchtitan` package. A request is a line of
JSON on stdin and its answer a line of JSON on stdout. The first one,

    {"models": [{"name": ..., "module": ...}]}

imports these models once, before anything is forked, and is answered by
{"models": {name: {"flavors": [...], "error": ...}}}. Every other one is a world,

    name, flavor   the model        module      what to import to have it registered, or null
    arguments      of torchtitan's own command line
    degrees        {"pp": ...}, as large as the world is to be      rank      the rank to be
    overrides      arguments of the model itself       step      whether to count a fake step

answered by {"record": ...} as `read.py` and `step.py` make it, or by {"error":
{"type", "message", "traceback"}}. Each world is a fork: what it leaves in torch
goes with it, and the imports are paid once.

A process of its own kind, as in `in_rank`: it runs in whatever environment a fork
trains in, and imports nothing of titan-migrate but that folder and this one.
"""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

_VERIFY = Path(__file__).resolve().parents[2]
sys.path[:1] = [str(_VERIFY / "rehearse"), str(_VERIFY / "train")]
from in_rank.cpu import prepare_cpu  # noqa: E402
from in_world.build import look_up, make  # noqa: E402
from in_world.read import record  # noqa: E402
from in_world.step import count  # noqa: E402

# A world that takes longer is given up, seconds.
LIMIT = 300.0


def main(tree: str) -> None:
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # What torchtitan logs is nobody's answer.
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    sys.path[:2] = [tree]
    # torchtitan's configuration reads the arguments when it is imported.
    sys.argv = ["torchtitan.train"]
    for line in sys.stdin:
        request = json.loads(line)
        if "models" in request:
            reply: dict[str, Any] = prepared(request["models"], Path(tree))
        else:
            reply = forked(request, replies.fileno())
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def prepared(models: list[dict[str, Any]], tree: Path) -> dict[str, Any]:
    """Imports torch and the models, and lists the flavors of each or the error that it ends with."""
    try:
        prepare_cpu()
        import torchtitan
        from torch.testing._internal.distributed import fake_pg  # noqa: F401

        found = Path(torchtitan.__file__).resolve().parent.parent
        if found != tree.resolve():
            raise RuntimeError(
                f"torchtitan was imported from {found}, not from the tree under test, {tree}"
            )
    except Exception as error:
        return {"error": told(error)}
    answers: dict[str, Any] = {}
    for model in models:
        try:
            _, flavors = look_up(model["name"], model["module"])
            answers[model["name"]] = {"flavors": [str(flavor) for flavor in flavors]}
        except Exception as error:
            answers[model["name"]] = {"error": told(error)}
    return {"models": answers}


def forked(request: dict[str, Any], replies: int) -> dict[str, Any]:
    """The answer of a world that lives and ends in a fork of this process; it closes `replies`, which would seem to go on without us."""
    began = time.monotonic()
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(replies)
        os.close(reads)
        with os.fdopen(writes, "w", encoding="utf-8") as out:
            json.dump(answered(request), out)
        os._exit(0)
    os.close(writes)
    received = bytearray()
    parent = os.getppid()
    try:
        while True:
            ready, _, _ = select.select([reads], [], [], 0.5)
            part = os.read(reads, 1 << 20) if ready else b"\0"
            if not part:
                break
            received += part if ready else b""
            if os.getppid() != parent:
                os.kill(child, signal.SIGKILL)
                os._exit(1)
            if time.monotonic() - began > LIMIT:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return failed("Timeout", f"not over after {LIMIT:g} seconds")
    finally:
        os.close(reads)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return failed("Killed", f"ended by signal {os.WTERMSIG(status)}")
    if not received:
        return failed("Death", f"ended with status {os.WEXITSTATUS(status)}")
    reply: dict[str, Any] = json.loads(received)
    reply["seconds"] = time.monotonic() - began
    return reply


def answered(request: dict[str, Any]) -> dict[str, Any]:
    """The answer to a request, in the process that becomes its world."""
    try:
        made = make(request)
        found = record(made)
        if request["step"]:
            found["step"] = count(made)
        return {"record": found}
    except BaseException as error:  # a parser of arguments ends with SystemExit
        return {"error": told(error)}


def told(error: BaseException) -> dict[str, str]:
    """An exception in words."""
    lines = traceback.format_exception(error)
    return {
        "type": type(error).__name__,
        "message": str(error),
        "traceback": "".join(lines),
    }


def failed(kind: str, message: str) -> dict[str, Any]:
    return {"error": {"type": kind, "message": message, "traceback": ""}}


if __name__ == "__main__":
    main(sys.argv[1])
