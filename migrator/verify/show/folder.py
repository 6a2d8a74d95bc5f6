"""The report folder: where it lies, whose it is, that one verify at a time writes into it, and what an earlier one left there."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from migrator.verify.choose.models import folder_name
from migrator.verify.errors import VerifyError
from migrator.verify.train import disk, nodes

MARKER = ".titan-migrate-report"
"""The file that says that a folder is verify's to write into; nothing is removed from one without it."""

_SAYS = "titan-migrate verify keeps its report in this folder and removes it before the next one.\n"
_STAGED = f"{MARKER}.new"
_FILES = ("report.json", "report.md")
_OURS = (*_FILES, "plots")
# What nodes that came before node 0 have put into a new folder.
_NODE_FILE = re.compile(r"node\d+\.(json|tmp)")


def report_folder(root: Path, given: Path | None) -> Path:
    """The report folder of a checkout at `root`, made if need be; beside the checkout where none is given.

    Raises VerifyError where it lies inside the checkout or around it, cannot be
    made, or holds what is not verify's.
    """
    given = given or root.parent / "titan-migrate-report"
    try:
        folder = given.resolve()
    except (OSError, RuntimeError) as error:
        # A loop of links is a RuntimeError before Python 3.13.
        why = getattr(error, "strerror", None) or error
        raise _unusable(given, "cannot be found", why) from None
    if folder == root or root in folder.parents:
        raise VerifyError(
            f"The report folder {folder} lies inside the checkout: name one outside with --report."
        )
    if folder in root.parents:
        raise VerifyError(
            f"The report folder {folder} holds the checkout itself: name a new or empty folder with --report."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, "cannot be made", error.strerror) from None
    _refuse_foreign(folder)
    return folder


@contextlib.contextmanager
def written_alone(folder: Path) -> Iterator[None]:
    """Makes a report folder verify's, and keeps other verifies out of it; an earlier report stays until `clear`.

    Raises VerifyError where another one is writing into it, where it holds what
    is not verify's, or cannot be written to.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise _unusable(folder, "cannot be read", error.strerror) from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise VerifyError(
                f"Another verify is writing into {folder}: wait for it, or name another folder with --report."
            ) from None
        except OSError:
            pass  # a file system without locks
        _refuse_foreign(folder)
        _earlier(folder)
        _mark(folder)
        yield
    finally:
        os.close(handle)


def clear(folder: Path, titles: Iterable[str] = ()) -> None:
    """Removes an earlier report from a folder that is `written_alone`, and nothing that verify did not put there.

    Raises VerifyError where something else is in the way of the next report, of
    the models of these titles; nothing is removed then.
    """
    if not (folder / MARKER).is_file():
        raise _foreign(folder)
    # A verify that was broken off has left traces and no report.json.
    broken_off = {path.parent.parent.name for path in folder.glob("*/seed/job.toml")}
    earlier = _earlier(folder) | broken_off
    folders = {"plots", *map(folder_name, titles)}
    for name, is_file in [
        *((name, True) for name in _FILES),
        *((name, False) for name in sorted(folders)),
    ]:
        path = folder / name
        if os.path.lexists(path) and not (path.is_file() if is_file else path.is_dir()):
            raise VerifyError(
                f"{path} is in the way of the report: move it away, or name a new or empty folder with --report."
            )
    try:
        # report.json last: broken off, the next verify still knows the rest by it.
        for entry in sorted(folder.iterdir(), key=lambda path: path.name == _FILES[0]):
            if entry.name not in earlier:
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
    except OSError as error:
        raise VerifyError(
            f"The earlier report in {folder} cannot be removed ({error.strerror}): name another folder with --report."
        ) from None


def _earlier(folder: Path) -> set[str]:
    """The names in a folder of verify's that an earlier report takes up; raises VerifyError where report.json is none of ours."""
    path = folder / _FILES[0]
    if not os.path.lexists(path):
        return set()
    try:
        titles = list(json.loads(path.read_bytes())["models"])
        return {*map(folder_name, titles), *_OURS}
    except (ValueError, KeyError, TypeError, AttributeError, OSError):
        raise VerifyError(
            f"{path} is no report of verify, and would be written over: name a new or empty folder with --report."
        ) from None


def _refuse_foreign(folder: Path) -> None:
    """Raises VerifyError where a folder has no marker and is not empty either, but for what nodes have put there."""
    try:
        names = set(os.listdir(folder)) - {_STAGED}
        # Node 0 may have marked it, and gone on, since it was listed.
        if MARKER in names or (folder / MARKER).is_file():
            return
        if nodes.FOLDER in names and all(
            _NODE_FILE.fullmatch(name) for name in os.listdir(folder / nodes.FOLDER)
        ):
            names.remove(nodes.FOLDER)
    except OSError as error:
        raise _unusable(folder, "cannot be read", error.strerror) from None
    if names:
        raise _foreign(folder)


def _mark(folder: Path) -> None:
    """Writes the marker, anew where there is one, which shows whether the folder can be written to."""
    staged = folder / _STAGED
    try:
        staged.write_text(_SAYS, encoding="utf-8")
        os.replace(staged, folder / MARKER)
    except OSError as error:
        with contextlib.suppress(OSError):
            staged.unlink()
        if disk.is_full(error):
            raise
        raise _unusable(folder, "cannot be written to", error.strerror) from None


def _foreign(folder: Path) -> VerifyError:
    return VerifyError(
        f"The folder {folder} is not empty, and holds no report of verify (there is no {MARKER} in it):"
        " name a new or empty folder with --report."
    )


def _unusable(folder: Path, what: str, why: object) -> VerifyError:
    return VerifyError(
        f"The report folder {folder} {what} ({why}): name another with --report."
    )
