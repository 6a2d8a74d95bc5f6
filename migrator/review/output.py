"""Writing a page: whole or not at all, and over nothing that is not an earlier page."""

import contextlib
import os
import tempfile
from pathlib import Path

from migrator.checkout import Checkout
from migrator.errors import TitanMigrateError
from migrator.review.page import MARK


def refuse(file: Path, checkout: Checkout) -> None:
    """Refuse a place that no page may be written to.

    Raises:
        TitanMigrateError: there is no such folder, it is git's own, or the file is
            one of the checkout's or somebody else's, or would be Python of the checkout.
    """
    folder = file.parent
    if not folder.is_dir():
        raise TitanMigrateError(
            f"{folder} is not a folder: make it, or name another file with --html."
        )
    place = folder.resolve() / file.name
    if not file.name or place.is_dir():
        raise TitanMigrateError(f"{file} is a folder: name a file in it with --html.")
    if ".git" in place.parts or _in_git(place, checkout):
        raise TitanMigrateError(
            f"{file} would be among git's own files: name another one with --html."
        )
    if _tracked(place, checkout):
        raise TitanMigrateError(
            f"{file} is a file of the checkout, and would be written over: name another one with --html."
        )
    if place.suffix.lower() == ".py" and place.is_relative_to(checkout.root.resolve()):
        raise TitanMigrateError(
            f"{file} would be read as Python by every later run, and is none: name one that ends in .html with --html."
        )
    if os.path.lexists(place) and not _ours(place):
        raise TitanMigrateError(
            f"{file} is there and no report of titan-migrate: move it away, or name another file with --html."
        )


def write(page: str, file: Path) -> None:
    """Put a page in its place, in one step; call ``refuse`` before.

    Raises:
        TitanMigrateError: it cannot be written; what was there is as it was.
    """
    place = file.parent.resolve() / file.name
    name = None
    try:
        handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
        with os.fdopen(handle, "wb") as staged:
            staged.write(page.encode())
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, place)
    except BaseException as error:
        if name is not None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
        if isinstance(error, OSError):
            raise TitanMigrateError(
                f"{file} could not be written ({error.strerror}): name another file with --html."
            ) from error
        raise


def _in_git(place: Path, checkout: Checkout) -> bool:
    """Whether a file lies where git keeps this checkout, which may be elsewhere."""
    if not checkout.is_git:
        return False
    listed = checkout.git("rev-parse", "--git-dir", "--git-common-dir").splitlines()
    return any(
        place.is_relative_to((checkout.root / folder).resolve()) for folder in listed
    )


def _tracked(place: Path, checkout: Checkout) -> bool:
    root = checkout.root.resolve()
    if not checkout.is_git or not place.is_relative_to(root):
        return False
    path = place.relative_to(root).as_posix()
    return bool(checkout.git("--literal-pathspecs", "ls-files", "-z", "--", path))


def _ours(place: Path) -> bool:
    """Whether a file is an earlier page."""
    try:
        if not place.is_file():
            return False  # a pipe would be waited for
        with place.open("rb") as file:
            return MARK.encode() in file.read(200)
    except OSError:
        return False
