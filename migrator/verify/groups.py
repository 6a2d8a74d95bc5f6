"""Process groups of what `verify` starts: signalled, and ended."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection
from pathlib import Path

# The kernel takes back the memory of what is killed before that is gone, seconds at most.
_PATIENCE = 5.0


def signal_group(pid: int, number: int) -> None:
    """Sends a signal to the process group that `pid` leads, if it is still there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def end_groups(*pids: int) -> None:
    """Kills the process groups that these lead, and waits until they are gone (Linux), a few seconds at most."""
    for pid in pids:
        signal_group(pid, signal.SIGKILL)
    until = time.monotonic() + _PATIENCE
    while _is_one_there(pids) and time.monotonic() < until:
        time.sleep(0.01)


def _is_one_there(groups: Collection[int]) -> bool:
    """Whether a process of these groups lives, by /proc; those that have ended and were not waited for do not."""
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # pid (command) state parent group; a command may have brackets in it.
            state, _, group = entry.read_text().rpartition(")")[2].split()[:3]
            if int(group) in groups and state not in "ZX":
                return True
    return False
