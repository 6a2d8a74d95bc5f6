"""A console for runs that take minutes: whatever becomes of its stdout, the run goes on."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from rich.console import Console


@contextlib.contextmanager
def working(what: str, quiet: bool = False) -> Iterator[None]:
    """Show on stderr that something goes on, where that is a terminal."""
    console = Console(stderr=True, quiet=quiet)
    if quiet or not console.is_terminal:
        yield
    else:
        with console.status(f"{what} …"):
            yield


def console_on_stdout(quiet: bool = False) -> Console:
    """A console that prints what it is given as it is, and ends or fails no command for what stdout cannot take."""
    if quiet or sys.stdout is None:  # closed before the start
        return Console(quiet=True, markup=False)
    return Console(file=_Lenient(sys.stdout), markup=False)  # type: ignore[arg-type]


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
