"""A patch series for each ref, in a folder of its own below one folder."""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from migrator.changeset import Changeset
from migrator.errors import FileProblem, TitanMigrateError
from migrator.series.commits import Taken, parts
from migrator.series.mail import as_mails, write
from migrator.sweep.objects import Repository

MARK = "sweep.json"
"""The file beside the patches of a ref that says what they are of."""

_LONGEST = 80


@dataclass(frozen=True)
class Wanted:
    """Patches that are asked for.

    Args:
        folder: where they go.
        repository: that the ref is of.
        ref: the full name of the ref.
        commit: what it leads to.
        key: what the migration depends on beside the tree.
    """

    folder: Path
    repository: Path
    ref: str
    commit: str
    key: str

    def mark(self, names: Iterable[str]) -> bytes:
        """What ``MARK`` holds beside patches of these names."""
        return json.dumps({**self._about, "patches": sorted(names)}).encode()

    @property
    def _about(self) -> dict[str, str]:
        return {
            "repository": str(self.repository.resolve()),
            "ref": self.ref,
            "commit": self.commit,
            "key": self.key,
        }

    @property
    def is_there(self) -> bool:
        """Whether they were written before, and all of them are there."""
        said = said_in(self.folder)
        names = said.pop("patches", None)
        if said != self._about or not isinstance(names, list) or not names:
            return False
        return all((self.folder / str(name)).is_file() for name in names)


def said_in(folder: Path) -> dict[str, Any]:
    """What the patches in a folder are of, as ``Wanted.mark`` has it; nothing where none are."""
    try:
        said = json.loads((folder / MARK).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return said if isinstance(said, dict) else {}


def place_of(home: Path, repository: Path, ref: str) -> Path:
    """The folder of a ref: its name as any file system takes it, and no other ref's.

    Args:
        home: the folder of all.
        repository: in which the ref is.
        ref: its full name.
    """
    place = repository.resolve()
    told = hashlib.sha256(os.fsencode(f"{place}\0{ref}")).hexdigest()[:10]
    words = f"{place.name.removesuffix('.git')}-{ref.split('/', 2)[-1]}"
    slug = re.sub(r"[^A-Za-z0-9_.]+", "-", words)[:_LONGEST].strip("-.") or "ref"
    return home / f"{slug}-{told}"


def refuse(home: Path, repository: Repository) -> None:
    """Refuse a folder in which a repository would change.

    Raises:
        TitanMigrateError: it is inside of one, or a file.
    """
    place = home.resolve()
    inside = [repository.common, repository.git_dir]
    listed = repository.git("worktree", "list", "--porcelain").split("\n\n")
    for tree, *about in (one.split("\n") for one in listed if one):
        if "bare" not in about:
            inside.append(Path(tree.removeprefix("worktree ")).resolve())
    if any(place.is_relative_to(folder) for folder in inside):
        raise TitanMigrateError(
            f"{home} is inside of {repository.folder}, where nothing is to change: name a "
            "folder outside of it with --patches."
        )
    if home.exists() and not home.is_dir():
        raise TitanMigrateError(f"{home} is a file: name a folder with --patches.")


def write_series(
    changeset: Changeset, found: Taken, wanted: Wanted, anew: bool = False
) -> None:
    """Write the patches of one ref, all of them or none; what a sweep wrote there goes.

    Args:
        changeset: the migration of its tree.
        found: what the commits are to hold.
        wanted: for which ref, and where.
        anew: whether they are written though they are there: what the tree uses may be
            another now.

    Raises:
        TitanMigrateError: git failed, or something else is in that place.
    """
    if wanted.is_there and not anew:
        return
    if wanted.folder.exists():
        if wanted.folder.is_symlink() or not (wanted.folder / MARK).is_file():
            raise FileProblem(
                f"{wanted.folder} is there and not of a sweep: move it away, or name another "
                "folder with --patches"
            )
        shutil.rmtree(wanted.folder)
    series = parts(changeset, wanted.commit, found)
    _, mails = as_mails(changeset.checkout, wanted.commit, series)
    try:
        write(wanted.folder, {**mails, MARK: wanted.mark(mails)})
    except OSError as error:
        raise FileProblem(
            f"{wanted.folder} could not be written ({error.strerror})"
        ) from error
