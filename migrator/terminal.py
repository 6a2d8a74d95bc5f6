"""What commands print on: whatever becomes of stdout and stderr, a command goes on to its end."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from rich.console import Console


@contextlib.contextmanager
def working(what: str, quiet: bool = False) -> Iterator[None]:
    """Show on stderr that something goes on, where that is a terminal which moves."""
    console = screen()
    if quiet or console is None or plain():
        yield
    else:
        with console.status(f"{what} …"):
            yield


def plain() -> bool:
    """Whether a terminal is to be told nothing but text: `NO_COLOR` is set, or it is a dumb one."""
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def screen() -> Console | None:
    """Where people read what commands say, in colour and within its width; None where stderr is no terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        return None
    from rich.console import Console

    return Console(
        stderr=True,
        color_system=None if plain() else "auto",
        markup=False,
        highlight=False,
        emoji=False,
    )


def console_on_stdout(quiet: bool = False) -> Console:
    """A console that prints what it is given as it is, and ends or fails no command for what stdout cannot take."""
    from rich.console import Console

    below = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(below, Kept):
        below.matters = False
    if quiet or sys.stdout is None:  # closed before the start
        return Console(quiet=True, markup=False)
    return Console(
        file=_Lenient(sys.stdout),  # type: ignore[arg-type]  # has what rich calls
        color_system=None if plain() else "auto",
        markup=False,
    )


class Kept(io.RawIOBase):
    """What is below stdout or stderr: falls silent where that cannot be written to, and keeps why.

    Args:
        below: the file that is written to.
    """

    def __init__(self, below: io.FileIO) -> None:
        self._below = below
        self.error: OSError | None = None
        self.matters = True
        """Whether what is lost is what the command is run for."""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._below.fileno()

    def isatty(self) -> bool:
        return self._below.isatty()

    def write(self, data: Any) -> int | None:
        if self.error is None:
            try:
                return self._below.write(data)
            except OSError as error:
                self.error = error
        return len(data)


@contextlib.contextmanager
def kept(name: str) -> Iterator[Kept | None]:
    """Have no command broken off, half-way through, by what ``stdout`` or ``stderr`` cannot take.

    A reader that is gone (`check | head`) or a full disk would else hide what the
    command found, or that it has written the checkout by then.

    Args:
        name: of the stream in `sys`.
    """
    stream = getattr(sys, name)
    buffer = getattr(stream, "buffer", None)
    below = getattr(buffer, "raw", buffer)  # unbuffered, there is nothing between
    if not isinstance(below, io.FileIO):  # closed before the start, or in memory
        yield None
        return
    stream.flush()
    raw = Kept(below)
    ours = io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
    )
    setattr(sys, name, ours)
    try:
        yield raw
    finally:
        ours.flush()
        setattr(sys, name, stream)


class _Lenient:
    """A text stream that falls silent where the one below cannot be written to, and replaces what that cannot encode."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._silent = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if not self._silent:
            encoding = self._stream.encoding or "utf-8"
            shown = text.encode(encoding, "replace").decode(encoding)
            try:
                self._stream.write(shown)
            except OSError:
                self._fall_silent()
        return len(text)

    def flush(self) -> None:
        if not self._silent:
            try:
                self._stream.flush()
            except OSError:
                self._fall_silent()

    def _fall_silent(self) -> None:
        """The reader of a pipe is gone, or a disk is full."""
        self._silent = True
        # Python flushes what is left when it ends, and would fail again.
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            try:
                os.dup2(null, self._stream.fileno())
            finally:
                os.close(null)
