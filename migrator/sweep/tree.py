"""A tree that git keeps, read as a clean checkout of it would be."""

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

from codemods.dependency import UNKNOWN, Dependency
from codemods.source import SourceFile
from codemods.texts import TextFile
from migrator.checkout import Checkout
from migrator.place import Place
from migrator.sweep.objects import APART, Repository, Unreadable
from migrator.sweep.shared import Shared
from migrator.sweep.watch import WatchedSource

MOST = 100_000
"""Files of the largest tree that is read."""

_LINKS = 40
"""Symlinks that are followed on the way to one file, as Linux does."""

_FOLDER, _LINK, _SUBMODULE = 0o040000, 0o120000, 0o160000


@dataclass(frozen=True)
class Entry:
    """What a tree says of a name in it.

    Args:
        mode: what it is, as git writes it.
        id: of the object.
    """

    mode: int
    id: str

    @property
    def is_folder(self) -> bool:
        return self.mode in (_FOLDER, _SUBMODULE)

    @property
    def is_link(self) -> bool:
        return self.mode == _LINK

    @property
    def is_submodule(self) -> bool:
        return self.mode == _SUBMODULE


class Trees:
    """The trees of a repository; what two of them share is read once.

    Args:
        repository: which holds them.
        kept: as many folders as are remembered.
    """

    def __init__(self, repository: Repository, kept: int = 4096) -> None:
        self.repository = repository
        self._kept = kept
        self._known: OrderedDict[str, Mapping[str, Entry]] = OrderedDict()

    def folder(self, id: str) -> Mapping[str, Entry]:
        """Name -> entry, of a folder.

        Raises:
            Unreadable: it is not there or broken, or has names that no folder has.
        """
        if id in self._known:
            self._known.move_to_end(id)
            return self._known[id]
        found = dict(_entries(id, self.repository.read(id, "tree")))
        self._known[id] = found
        if len(self._known) > self._kept:
            self._known.popitem(last=False)
        return found


def _entries(id: str, raw: bytes) -> Iterator[tuple[str, Entry]]:
    """The entries of a tree as git keeps it: mode, name and the bytes of the id."""
    size, at = len(id) // 2, 0
    while at < len(raw):
        space, end = raw.find(b" ", at), raw.find(b"\0", at)
        name = os.fsdecode(raw[space + 1 : end])
        if not at < space < end or len(raw) < end + 1 + size:
            raise Unreadable(f"the tree {id} is broken")
        if "/" in name or name.lower() in ("", ".", "..", ".git"):
            raise Unreadable(f"the tree {id} has {name!r} in it, which is no name")
        yield name, Entry(int(raw[at:space], 8), raw[end + 1 : end + 1 + size].hex())
        at = end + 1 + size


class Tree:
    """One tree.

    Args:
        trees: of its repository.
        id: of the tree.
    """

    def __init__(self, trees: Trees, id: str) -> None:
        self.trees, self.id = trees, id

    @cached_property
    def entries(self) -> Mapping[str, Entry]:
        """Path -> entry, of all that is no folder, in the order of a listing.

        Raises:
            Unreadable: a part of it cannot be read, or it is too large.
        """
        found = dict(self._below(self.id, "", [0]))
        return {p: found[p] for p in sorted(found, key=lambda path: path.split("/"))}

    def _below(
        self, id: str, above: str, count: list[int]
    ) -> Iterator[tuple[str, Entry]]:
        for name, entry in self.trees.folder(id).items():
            count[0] += 1
            if count[0] > MOST or above.count("/") > 200:
                raise Unreadable(f"it has more than {MOST} files, or folders too deep")
            if entry.mode == _FOLDER:
                yield from self._below(entry.id, f"{above}{name}/", count)
            else:
                yield f"{above}{name}", entry

    def at(self, parts: tuple[str, ...]) -> tuple[tuple[str, ...], Entry] | None:
        """Where a path leads, symlinks followed, and what is there; None for nowhere in the tree."""
        way = [Entry(_FOLDER, self.id)]
        here: list[str] = []
        todo, links = list(reversed(parts)), 0
        while todo:
            name = todo.pop()
            if name in ("", "."):
                if not way[-1].is_folder:  # `file/` is none
                    return None
                continue
            if name == "..":
                if not here or not way[-1].is_folder:  # `file/..` is none either
                    return None
                here.pop()
                way.pop()
                continue
            entry = self._child(way[-1], name)
            if entry is None:
                return None
            if not entry.is_link:
                here.append(name)
                way.append(entry)
                continue
            links += 1
            target = os.fsdecode(self.trees.repository.read(entry.id, "blob"))
            if links > _LINKS or target.startswith("/"):
                return None
            todo += reversed(target.split("/"))
        return tuple(here), way[-1]

    def _child(self, entry: Entry, name: str) -> Entry | None:
        if entry.mode != _FOLDER:
            return None
        return self.trees.folder(entry.id).get(name)

    def entry(self, parts: tuple[str, ...]) -> Entry | None:
        """What is at a path, a symlink itself if it is one."""
        above = self.at(parts[:-1])
        if above is None or not parts:
            return above and above[1]
        return self._child(above[1], parts[-1])

    def names(self, parts: tuple[str, ...]) -> list[str]:
        """What is in a folder; nothing in a submodule, whose content is another repository's."""
        found = self.at(parts)
        if found is None or found[1].mode != _FOLDER:
            return []
        return list(self.trees.folder(found[1].id))


_OUT = ("..",)
"""What leads out of a tree."""


@dataclass(frozen=True)
class Size:
    """What is known of a file without reading it."""

    st_size: int


@dataclass(frozen=True)
class TreePath:
    """A path in a tree, as a `Place`; from the root of the tree, whose name is ``this tree``.

    Args:
        tree: in which.
        parts: the names on the way.
    """

    tree: Tree
    parts: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "/".join(self.parts) or "this tree"

    def __lt__(self, other: Any) -> bool:
        return isinstance(other, TreePath) and self.parts < other.parts

    def __truediv__(self, key: str, /) -> Place:
        if key.startswith("/"):
            return Path(key)
        names = (name for name in key.split("/") if name not in ("", "."))
        return TreePath(self.tree, (*self.parts, *names))

    @property
    def name(self) -> str:
        return self.parts[-1] if self.parts else ""

    @property
    def parent(self) -> "TreePath":
        return TreePath(self.tree, self.parts[:-1])

    def _leads_to(self) -> Entry | None:
        found = self.tree.at(self.parts)
        return found and found[1]

    def exists(self) -> bool:
        return self._leads_to() is not None

    def is_dir(self) -> bool:
        entry = self._leads_to()
        return entry is not None and entry.is_folder

    def is_file(self) -> bool:
        entry = self._leads_to()
        return entry is not None and not entry.is_folder

    def is_symlink(self) -> bool:
        entry = self.tree.entry(self.parts)
        return entry is not None and entry.is_link

    def iterdir(self) -> Iterator["TreePath"]:
        for name in self.tree.names(self.parts):
            yield TreePath(self.tree, (*self.parts, name))

    def glob(self, pattern: str, /) -> Iterator["TreePath"]:
        first, _, rest = pattern.partition("/")
        for place in self.iterdir():
            if fnmatchcase(place.name, first):
                if not rest:
                    yield place
                elif place.is_dir():
                    yield from place.glob(rest)

    def read_bytes(self) -> bytes:
        entry = self._leads_to()
        if entry is None or entry.is_folder:
            raise FileNotFoundError(2, "No such file", str(self))
        try:
            return self.tree.trees.repository.read(entry.id, "blob")
        except Unreadable as error:
            raise Unreadable(f"{self}: {error}") from error

    def stat(self) -> Size:
        entry = self._leads_to()
        if entry is None or entry.is_folder:
            return Size(0)
        return Size(self.tree.trees.repository.size(entry.id))

    def resolve(self) -> "TreePath":
        found = self.tree.at(self.parts)
        if found is not None:
            return TreePath(self.tree, found[0])
        entry = self.tree.entry(self.parts)
        return TreePath(self.tree, _OUT) if entry or ".." in self.parts else self

    def is_relative_to(self, other: Any, /) -> bool:
        return (
            isinstance(other, TreePath)
            and self.parts[: len(other.parts)] == other.parts
            and self.parts[:1] != _OUT
        )

    def relative_to(self, other: "TreePath", /) -> PurePosixPath:
        return PurePosixPath(*self.parts[len(other.parts) :])


@dataclass(frozen=True, kw_only=True)
class TreeCheckout(Checkout):
    """A tree to migrate, as a clean checkout of it would be.

    Args:
        tree: what is read; ``root`` is where git keeps it.
        shared: the files of other trees.
    """

    tree: Tree
    shared: Shared
    as_kept: ClassVar[bool] = True

    @property
    def folder(self) -> TreePath:
        return TreePath(self.tree)

    @property
    def named(self) -> str | None:
        """The torchtitan that the options or the tree itself name, a path or a version."""
        return self._given

    @cached_property
    def dependency(self) -> Dependency:
        found = super().dependency
        if found is UNKNOWN:
            return found
        files = {path: self.shared.same(file) for path, file in found.files.items()}
        return replace(found, files=files)

    def refuse_sparse(self) -> None:
        """Nothing is left out of a tree."""

    def _gitlinks(self) -> dict[str, str]:
        return {p: e.id for p, e in self.tree.entries.items() if e.is_submodule}

    def _listed(self, *patterns: str) -> Iterator[tuple[str, Place]]:
        for path, entry in self.tree.entries.items():
            if entry.is_folder or not any(fnmatchcase(path, p) for p in patterns):
                continue
            place = TreePath(self.tree, tuple(path.split("/")))
            if not entry.is_link or place.is_file():
                yield path, place

    def _source(self, relative: str, path: Place) -> SourceFile:
        return self.shared.file(
            WatchedSource, relative, self._blob(relative), path.read_bytes
        )

    def _text(self, relative: str, path: Place) -> TextFile:
        return self.shared.file(
            TextFile, relative, self._blob(relative), path.read_bytes
        )

    def _blob(self, relative: str) -> str:
        """What a file holds, or the one that it leads to."""
        found = self.tree.at(tuple(relative.split("/")))
        return found[1].id if found else ""

    def git(self, *arguments: str, **process: Any) -> str:
        env = {"GIT_DIR": str(self.root), **APART, **(process.pop("env", None) or {})}
        return super().git(*arguments, env=env, **process)
