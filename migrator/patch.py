"""A patch as a person meets it: its colours, its diffstat, a pager."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import click

from migrator.terminal import plain


@dataclass(frozen=True)
class Counts:
    """How much of one file changes.

    Args:
        path: as a patch names it.
        added: lines.
        removed: lines.
    """

    path: str
    added: int
    removed: int


def count(path: str, patch: bytes) -> Counts:
    """The lines that one file's part of a patch adds and removes."""
    lines = patch.split(b"\n")[3:]  # after `diff --git`, `---` and `+++`
    added = sum(line.startswith(b"+") for line in lines)
    return Counts(path, added, sum(line.startswith(b"-") for line in lines))


def coloured(patch: bytes) -> bytes:
    """One file's part of a patch in git's colours; without them, the same bytes."""
    head, lines = patch.split(b"\n")[:3], patch.split(b"\n")[3:]
    painted = [_painted(line, bold=True) for line in head]
    for line in lines:
        if line.startswith(b"@@"):
            painted.append(_painted(line, fg="cyan"))
        elif line.startswith(b"+"):
            painted.append(_painted(line, fg="green"))
        elif line.startswith(b"-"):
            painted.append(_painted(line, fg="red"))
        else:
            painted.append(line)
    return b"\n".join(painted)


def _painted(line: bytes, **style: Any) -> bytes:
    # Latin-1 has every byte: whatever the encoding, the line comes out as it was. The
    # carriage return stays at the very end, where a terminal and less expect it.
    text = line.removesuffix(b"\r")
    shown = click.style(text.decode("latin-1"), **style).encode("latin-1")
    return shown + line[len(text) :]


def diffstat(counts: Iterable[Counts], width: int = 80, colour: bool = False) -> str:
    """What ``git diff --stat`` says, laid out as git does.

    Args:
        counts: of each file.
        width: columns there are.
        colour: whether the graph is coloured.
    """
    files = list(counts)
    if not files:
        return ""
    most = max(file.added + file.removed for file in files)
    digits = len(str(most))
    names, graph = _columns(max(len(file.path) for file in files), most, digits, width)
    lines = []
    for file in files:
        added, removed = _bars(file, most, graph)
        plus, minus = "+" * added, "-" * removed
        if colour:
            plus = click.style(plus, fg="green") if plus else ""
            minus = click.style(minus, fg="red") if minus else ""
        name = _shortened(file.path, names)
        total = file.added + file.removed
        lines.append(f" {name:<{names}} | {total:>{digits}} {plus}{minus}")
    lines.append(_summary(files))
    return "".join(f"{line}\n" for line in lines)


def _columns(longest: int, most: int, digits: int, width: int) -> tuple[int, int]:
    """How wide names and the graph may be: at least 5/8 and 3/8 if both are short of room."""
    width = max(width, 16 + 6 + digits)
    names, graph = longest, most
    if names + digits + 6 + graph > width:
        least = width * 3 // 8 - digits - 6
        if graph > least:
            graph = max(least, 6)
        if names > width - digits - 6 - graph:
            names = width - digits - 6 - graph
        else:
            graph = width - digits - 6 - names
    return names, graph


def _bars(file: Counts, most: int, graph: int) -> tuple[int, int]:
    added, removed = file.added, file.removed
    if graph > most:
        return added, removed
    total = _scaled(added + removed, graph, most)
    if total < 2 and added and removed:
        total = 2
    if added < removed:
        added = _scaled(added, graph, most)
        return added, total - added
    removed = _scaled(removed, graph, most)
    return total - removed, removed


def _scaled(number: int, graph: int, most: int) -> int:
    """Something of what is not nothing stays."""
    return 1 + number * (graph - 1) // most if number else 0


def _shortened(path: str, room: int) -> str:
    """A path with its beginning cut off, at a slash where there is one."""
    if len(path) <= room:
        return path
    end = path[len(path) - (room - 3) :]
    return "..." + (end[end.index("/") :] if "/" in end else end)


def _summary(files: list[Counts]) -> str:
    added = sum(file.added for file in files)
    removed = sum(file.removed for file in files)
    parts = [f"{len(files)} file{_s(len(files))} changed"]
    if added or not removed:
        parts.append(f"{added} insertion{_s(added)}(+)")
    if removed or not added:
        parts.append(f"{removed} deletion{_s(removed)}(-)")
    return " " + ", ".join(parts)


def _s(number: int) -> str:
    return "" if number == 1 else "s"


def wants_colour(when: str) -> bool:
    """Whether to colour what goes to stdout.

    Args:
        when: ``always``, ``never``, or ``auto``: on a terminal that has colours, unless
            NO_COLOR is set.
    """
    if when != "auto":
        return when == "always"
    return not plain() and sys.stdout is not None and sys.stdout.isatty()


def show(content: bytes, paged: bool = True) -> None:
    """Write to stdout: as it is, or, on a terminal, through the pager that git would take.

    Args:
        content: what to show.
        paged: whether a pager may be started.
    """
    if sys.stdout is None:  # closed before the start
        return
    command = _pager() if paged and content and sys.stdout.isatty() else None
    if command is None or not _page(content, command):
        sys.stdout.buffer.write(content)
        sys.stdout.flush()


def _pager() -> str | None:
    """The pager that the person chose, as git finds it; what a checkout configures is not asked."""
    pager = os.environ.get("GIT_PAGER")
    if pager is None:
        pager = _global_pager()
    if pager is None:
        pager = os.environ.get("PAGER", "less")
    return None if pager in ("", "cat") else pager


def _global_pager() -> str | None:
    """``core.pager`` of the person's own configuration."""
    command = ["git", "config", "--global", "--includes", "--get", "core.pager"]
    try:
        # Away from the checkout, so that nothing of it counts.
        done = subprocess.run(command, cwd=os.sep, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.removesuffix("\n") if done.returncode == 0 else None


def _page(content: bytes, command: str) -> bool:
    """Show something in a pager until the person leaves it; False if there is no such pager."""
    if shutil.which("sh") is None:
        return False
    environment = {"LESS": "FRX", "LV": "-c", **os.environ}
    pager = subprocess.Popen(
        ["sh", "-c", command], stdin=subprocess.PIPE, env=environment
    )
    # Ctrl-C is for the pager: less stops a search with it.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        # A pager that is left early closes its end, which this takes as it is.
        pager.communicate(content)
    finally:
        signal.signal(signal.SIGINT, before)
    return pager.returncode not in (126, 127)  # the shell's: cannot be run, not found
