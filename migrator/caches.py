"""Where the tool keeps what it may use again: below the user's cache folder. It may be deleted at any time."""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from migrator.errors import TitanMigrateError

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


class Untold(TitanMigrateError):
    """What this tool is made of cannot be told, so nothing that it worked out can be kept."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"what titan-migrate is made of cannot be told ({reason}), so nothing that it works "
            "out can be kept. Install it, and its libraries, with pip."
        )


def of_this_tool() -> Iterator[bytes]:
    """What results depend on, beside what they are results of: our code, Python and libraries.

    Raises:
        Untold: our code is not in files, or a library does not say its version.
    """
    yield f"{sys.version_info[:2]}".encode()
    try:
        told = [f"{name} {metadata.version(name)}" for name in _LIBRARIES]
    except metadata.PackageNotFoundError as error:
        raise Untold(f"{error.name} does not say its version") from error
    yield " ".join(told).encode()
    for room in ("codemods", "migrator"):
        paths = sorted((_TOP / room).rglob("*.py"))
        if not paths:
            raise Untold(f"the code of {room} is not in files")
        for path in paths:
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
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)
