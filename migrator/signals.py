"""Signals: let clean-ups run, and let nothing break them off."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterable, Iterator

# A terminal sends the last two: when the connection to it is lost, and for Ctrl-\\.
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

BREAKING_OFF = (signal.SIGINT, *_ENDING)
"""The signals that end a command and leave it time to clean up."""

ENDED = tuple(128 + number for number in _ENDING)
"""The exit codes that `terminable` gives."""


@contextlib.contextmanager
def _answered(
    numbers: Iterable[int], handler: Callable[[int, object], None] | signal.Handlers
) -> Iterator[None]:
    """Have a handler answer signals for a while. In another thread they are the caller's business."""
    before = {}
    try:
        for number in numbers:
            with contextlib.suppress(ValueError):  # not the main thread
                before[number] = signal.signal(number, handler)
        yield
    finally:
        for number, known in before.items():
            signal.signal(number, known)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Ignore these signals for the time of a clean-up, so that a second Ctrl-C does not break it off."""
    with _answered(BREAKING_OFF, signal.SIG_IGN):
        yield


@contextlib.contextmanager
def signals_kept() -> Iterator[None]:
    """Let these signals wait for the end of a clean-up after which there is more to do, and take effect then.

    Where an exception is what is cleaned up after, they are held: one has come already.
    """
    if sys.exc_info()[0] is not None:
        with signals_held():
            yield
        return
    came: list[int] = []
    try:
        with _answered(BREAKING_OFF, lambda number, frame: came.append(number)):
            yield
    finally:
        if came:
            signal.raise_signal(came[0])


@contextlib.contextmanager
def signals_blocked() -> Iterator[None]:
    """Let these signals wait for the end of what takes a moment and must not be left half done."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, BREAKING_OFF)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Turn SIGTERM into SystemExit(143), and its like, so that clean-ups run as they do on Ctrl-C."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    # `nohup` has SIGHUP ignored, and that is to stay so.
    ending = [n for n in _ENDING if signal.getsignal(n) != signal.SIG_IGN]
    with _answered(ending, leave):
        yield
