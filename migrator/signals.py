"""Signals: let clean-ups run, and let nothing break them off."""

import contextlib
import signal
import sys
from collections.abc import Iterator

# A terminal sends the last two: when the connection to it is lost, and for Ctrl-\\.
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)

BREAKING_OFF = (signal.SIGINT, *_ENDING)
"""The signals that end a command and leave it time to clean up."""

ENDED = tuple(128 + number for number in _ENDING)
"""The exit codes that `terminable` gives."""


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Ignore these signals for the time of a clean-up, so that a second Ctrl-C does not break it off."""
    before = {}
    try:
        for number in BREAKING_OFF:
            with contextlib.suppress(ValueError):  # not the main thread
                before[number] = signal.signal(number, signal.SIG_IGN)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
    before = {}
    try:
        for number in BREAKING_OFF:
            with contextlib.suppress(ValueError):  # not the main thread
                before[number] = signal.signal(number, lambda *now: came.append(now[0]))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
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

    before = {}
    try:
        for number in _ENDING:
            # `nohup` has SIGHUP ignored, and that is to stay so.
            if signal.getsignal(number) != signal.SIG_IGN:
                # In another thread the handler is the caller's business.
                with contextlib.suppress(ValueError):
                    before[number] = signal.signal(number, leave)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
