"""A full disk as a sentence that says which disk, and what to do about it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from migrator.verify.errors import VerifyError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def full_disk_explained(report: Path, temporary: Path) -> Iterator[None]:
    """Turns an OSError that says that a disk is full into a VerifyError; any other goes through.

    `report` is the report folder, `temporary` the folder for temporary files:
    all that `verify` writes lies below one of them.
    """
    try:
        yield
    except OSError as error:
        if not is_full(error):
            raise
        raise VerifyError(_sentence(_written(error), report, temporary)) from error


def is_full(error: OSError) -> bool:
    """Whether an error means that there is no space, or no quota, left."""
    if isinstance(error, shutil.Error):
        # copytree gathers (source, target, message) of the files that failed.
        return any(says_full(str(failed[-1])) for failed in error.args[0])
    return error.errno in _FULL


def says_full(text: str) -> bool:
    """Whether a message, git's say, says so."""
    # A file that git could create and not fill: it does not say why.
    words = ("unable to write file", *map(os.strerror, _FULL))
    return any(word in text for word in words)


def free_bytes(folder: Path) -> int:
    """What is left on the disk of a folder, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def _written(error: OSError) -> Path | None:
    """The file that could not be written, where the error says so; a failed write() does not."""
    if isinstance(error, shutil.Error):
        return Path(error.args[0][0][1])
    name = error.filename2 or error.filename
    return Path(os.fsdecode(name)) if isinstance(name, (str, bytes)) else None


def _sentence(written: Path | None, report: Path, temporary: Path) -> str:
    if written is None:
        folder = min((temporary, report), key=free_bytes)
    else:
        # The report folder may itself lie below the temporary one.
        inside = [f for f in (report, temporary) if f in (written, *written.parents)]
        folder = inside[0] if inside else written.parent
    what = {
        report: "name a folder on another disk with --report",
        temporary: "set TMPDIR to a folder on another disk",
    }
    otherwise = f", or {what[folder]}" if folder in what else ""
    return (
        f"No space is left on the disk of {folder} ({free_bytes(folder) // 2**20} MiB free): make room there{otherwise}."
        " The checkout is as it was, and nothing runs any more."
    )
