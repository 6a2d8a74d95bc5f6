"""Where the tool keeps what it may use again: below the user's cache folder. It may be deleted at any time."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

_TOP = Path(__file__).resolve().parents[1]
_LIBRARIES = ("libcst", "black", "pathspec", "packaging")
"""What decides beside our own code how a tree is migrated."""


def folder() -> Path:
    """The tool's own cache folder, by the platform's custom; it need not be there."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):
        home = Path(given)
    elif sys.platform == "darwin":
        home = Path.home() / "Library" / "Caches"
    else:
        home = Path.home() / ".cache"
    return home / "titan-migrate"


def of_this_tool(*rooms: str) -> Iterator[bytes]:
    """What results depend on, beside what they are results of: the code, Python and libraries.

    Args:
        rooms: the packages of ours whose code counts.
    """
    yield f"{sys.version_info[:2]}".encode()
    yield " ".join(f"{name} {metadata.version(name)}" for name in _LIBRARIES).encode()
    for room in rooms:
        for path in sorted((_TOP / room).rglob("*.py")):
            yield path.read_bytes()


def put(place: Path, content: bytes) -> None:
    """Keep a file, whole or not at all; where there is no room for it, not."""
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=place.parent, prefix=".staged-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.replace(name, place)
        except BaseException:
            os.unlink(name)
            raise
