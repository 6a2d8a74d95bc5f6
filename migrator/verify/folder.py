"""The report folder: where it lies, that one verify at a time writes into it, and what an earlier one left there."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from .errors import VerifyError
from .models import folder_name

_OURS = ("report.json", "report.md", "plots")


def report_folder(root: Path, given: Path | None) -> Path:
    """The report folder of a checkout at `root`, made if need be; beside the checkout where none is given.

    Raises VerifyError where it lies inside the checkout or cannot be made.
    """
    folder = (given or root.parent / "titan-migrate-report").resolve()
    if folder == root or root in folder.parents:
        raise VerifyError(
            f"The report folder {folder} lies inside the checkout: name one outside with --report."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise VerifyError(
            f"The report folder {folder} cannot be made ({error.strerror}): name another with --report."
        ) from None
    return folder


@contextlib.contextmanager
def written_alone(folder: Path) -> Iterator[None]:
    """Keeps other verifies out of a report folder, and takes an earlier report out of it first.

    Raises VerifyError where another one is writing into it, or where it holds a
    report.json that is none of ours.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise VerifyError(
                f"Another verify is writing into {folder}: wait for it, or name another folder with --report."
            ) from None
        except OSError:
            pass  # a file system without locks
        _clear(folder)
        yield
    finally:
        os.close(handle)


def _clear(folder: Path) -> None:
    """Removes an earlier report, and nothing that verify did not put there."""
    earlier = folder / "report.json"
    if not earlier.exists():
        return
    try:
        titles = list(json.loads(earlier.read_bytes())["models"])
    except (ValueError, KeyError, TypeError, OSError):
        raise VerifyError(
            f"{earlier} is no report of verify, and would be written over: name another folder with --report."
        ) from None
    try:
        ours = {*map(folder_name, titles), *_OURS}
        for entry in [entry for entry in folder.iterdir() if entry.name in ours]:
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    except OSError as error:
        raise VerifyError(
            f"The earlier report in {folder} cannot be removed ({error.strerror}): name another folder with --report."
        ) from None
