"""Files that many trees share: each blob is read and parsed once, as long as there is room."""

from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from codemods.source import SourceFile
from codemods.texts import TextFile

ROOM = 1_600_000
"""Bytes of source that are kept with their syntax trees, which take some forty times that."""

_File = TypeVar("_File", SourceFile, TextFile)


class Shared:
    """The files that were read last, by what is in them.

    Args:
        room: bytes of source that are kept.
    """

    def __init__(self, room: int = ROOM) -> None:
        self._room = room
        self._files: OrderedDict[object, SourceFile | TextFile] = OrderedDict()

    def file(
        self, kind: type[_File], path: str, blob: str, read: Callable[[], bytes]
    ) -> _File:
        """The file of a path that holds a blob, read where it is not known yet.

        Args:
            kind: of file.
            path: from the root of its tree.
            blob: the id of what it holds.
            read: gives that.
        """
        key = kind, path, blob
        known = self._files.get(key)
        if isinstance(known, kind):
            self._files.move_to_end(key)
            return known
        return self._keep(key, kind(path, read()))

    def same(self, file: SourceFile) -> SourceFile:
        """A file that is known and alike in all respects, or this one, which is known from then on."""
        known = self._files.get(file)
        if isinstance(known, SourceFile):
            self._files.move_to_end(file)
            return known
        return self._keep(file, file)

    def _keep(self, key: object, file: _File) -> _File:
        self._files[key] = file
        self._room -= len(file.raw)
        while self._room < 0 and len(self._files) > 1:
            _, dropped = self._files.popitem(last=False)
            self._room += len(dropped.raw)
        return file
