"""Where the files of a checkout are read from: a folder of this disk, or a tree that git keeps."""

from collections.abc import Iterable
from typing import Any, Protocol


class Sized(Protocol):
    """What is known of a file without reading it."""

    @property
    def st_size(self) -> int: ...


class Place(Protocol):
    """A file or a folder that is only read: what of `pathlib.Path` that takes."""

    @property
    def name(self) -> str: ...

    @property
    def parent(self) -> "Place": ...

    def __truediv__(self, key: str, /) -> "Place": ...

    def __lt__(self, other: Any, /) -> bool: ...

    def exists(self) -> bool: ...

    def is_file(self) -> bool: ...

    def is_dir(self) -> bool: ...

    def is_symlink(self) -> bool: ...

    def iterdir(self) -> Iterable["Place"]: ...

    def glob(self, pattern: str, /) -> Iterable["Place"]: ...

    def read_bytes(self) -> bytes: ...

    def resolve(self) -> "Place": ...

    def stat(self) -> Sized: ...

    def is_relative_to(self, other: Any, /) -> bool: ...

    def relative_to(self, other: Any, /) -> Any: ...


def inside(folder: Place, place: Place) -> str | None:
    """Where a place lies below a folder, with forward slashes; None where it lies elsewhere."""
    if type(folder) is not type(place) or not place.is_relative_to(folder):
        return None
    path: str = place.relative_to(folder).as_posix()
    return path
