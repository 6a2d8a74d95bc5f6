"""One run as it is kept: what it was told, how it ended, and all that its ranks wrote, as they wrote it.

A run that is laid out again is read as one that has just ended, so its verdict is the
same. What is kept of it is plain JSON with its digest, packed by gzip, so a file that was
damaged, or changed by hand, is told from one that was written.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from migrator.verify.train.launch import Outcome

FORMAT = "titan-migrate runs"
VERSION = 2
"""Counted up where what is written here is read otherwise than before."""

_TRACE = re.compile(r"rank\d+\.jsonl")
_FILE = re.compile(r"rank\d+\.(jsonl|log)|torchrun\.log")


class Damaged(Exception):
    """What is kept cannot be read; the message says in a few words why."""


def packed(
    what: str,
    outcome: Outcome,
    traces: Path,
    named: Callable[[str], str] = lambda text: text,
) -> dict[str, Any]:
    """A run as plain values.

    Args:
        what: all that it was told, as text.
        outcome: how it ended.
        traces: the folder in which its ranks left traces and logs.
        named: says a text without the paths of temporary folders.
    """
    wanted = _TRACE if outcome.status == 0 else _FILE
    return {
        "what": what,
        "status": outcome.status,
        "seconds": outcome.seconds,
        "timed_out": outcome.timed_out,
        "files": {
            path.name: named(path.read_text(encoding="utf-8", errors="replace"))
            for path in sorted(traces.iterdir())
            if wanted.fullmatch(path.name)
        },
    }


def laid_out(run: Mapping[str, Any], traces: Path) -> Outcome:
    """Writes what the ranks of a kept run left into `traces`; returns how it ended. Raises Damaged, and OSError."""
    try:
        files = {str(name): str(text) for name, text in run["files"].items()}
        outcome = Outcome(
            int(run["status"]), float(run["seconds"]), bool(run["timed_out"])
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Damaged(f"a run in it is not whole: {error!r}") from None
    for name in files:
        if not _FILE.fullmatch(name):
            raise Damaged(f"a run in it has a file {name!r}")
    for name, text in files.items():
        (traces / name).write_text(text, encoding="utf-8")
    return outcome


def write(path: Path, values: Mapping[str, Any]) -> None:
    """Writes plain values into a file, whole or not at all (OSError)."""
    whole = {"format": FORMAT, "version": VERSION, **values}
    whole["digest"] = _digest(whole)
    # mtime: the same values make the same file.
    raw = gzip.compress(json.dumps(whole).encode(), 6, mtime=0)
    staged = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        staged.write_bytes(raw)
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)


def read(path: Path) -> dict[str, Any]:
    """The values of a file that `write` wrote; raises Damaged where it is none, or no longer whole, and OSError."""
    raw = path.read_bytes()
    try:
        values = json.loads(gzip.decompress(raw))
    except (EOFError, zlib.error, ValueError, RecursionError, OSError):
        raise Damaged("it is damaged, or no file of titan-migrate") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise Damaged("it is no file of titan-migrate")
    if values.get("version") != VERSION:
        raise Damaged(
            f"its version is {values.get('version')}, and this titan-migrate reads {VERSION}"
        )
    if values.pop("digest", None) != _digest(values):
        raise Damaged("it was changed after it was written")
    return values


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()
