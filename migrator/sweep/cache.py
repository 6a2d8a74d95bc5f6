"""What was planned before: a file for each tree, below the user's cache folder. It may be deleted at any time."""

import hashlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from migrator import caches
from migrator.dependency import installed
from migrator.sweep.plan import Options
from migrator.sweep.row import Planned
from migrator.version import VERSION, installed_torch

_TOP = Path(__file__).resolve().parents[1]
_LIBRARIES = ("libcst", "black", "pathspec", "packaging")
"""What decides beside our own code how a tree is migrated."""


def key_of(options: Options) -> str:
    """What results depend on beside the tree: this tool, its libraries, the options, this environment.

    Args:
        options: what is asked of every tree.
    """
    told = hashlib.sha256()
    for part in _parts(options):
        told.update(f"{len(part)}:".encode())
        told.update(part)
    return told.hexdigest()[:32]


def _parts(options: Options) -> Iterator[bytes]:
    yield f"{VERSION} {sys.version_info[:2]} {options} {installed_torch()}".encode()
    yield " ".join(f"{name} {metadata.version(name)}" for name in _LIBRARIES).encode()
    for room in ("codemods", "migrator"):
        for path in sorted((_TOP.parent / room).rglob("*.py")):
            yield path.read_bytes()
    # A torchtitan of this disk that trees may use.
    for place in installed():
        yield os.fsencode(str(place))
        yield b"".join(_content(place.parent / "torchtitan"))
    if options.torchtitan is not None and os.path.isabs(options.torchtitan):
        yield b"".join(_content(Path(options.torchtitan)))


def _content(place: Path) -> Iterator[bytes]:
    paths = sorted(place.rglob("*.py")) if place.is_dir() else [place]
    for path in paths:
        if path.is_file():
            yield os.fsencode(str(path)) + b"\0" + path.read_bytes()


class Cache:
    """The results of one key.

    Args:
        key: of ``key_of``.
    """

    def __init__(self, key: str) -> None:
        self.folder = caches.folder() / "sweep" / key

    def get(self, tree: str) -> Planned | None:
        """What was planned for a tree, None where nothing is known."""
        try:
            return Planned.of_data(json.loads(self._place(tree).read_bytes()))
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def put(self, tree: str, planned: Planned) -> None:
        """Keep it, whole or not at all; where there is no room for it, not."""
        place = self._place(tree)
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=place.parent, prefix=".staged-")
            try:
                with os.fdopen(handle, "w") as file:
                    json.dump(planned.as_data(), file)
                os.replace(name, place)
            except BaseException:
                os.unlink(name)
                raise
        except OSError:
            return

    def _place(self, tree: str) -> Path:
        return self.folder / tree[:2] / f"{tree}.json"
