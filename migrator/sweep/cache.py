"""What was planned before: a file for each tree, below the user's cache folder. It may be deleted at any time."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from migrator import caches
from migrator.dependency import installed
from migrator.sweep.plan import Options
from migrator.sweep.row import Planned
from migrator.version import VERSION, installed_torch


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
    yield f"{VERSION} {options} {installed_torch()}".encode()
    yield from caches.of_this_tool()
    # A torchtitan of this disk that trees may use.
    for place in installed():
        yield os.fsencode(str(place))
        yield b"".join(_content(place / "direct_url.json"))
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
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None

    def put(self, tree: str, planned: Planned) -> None:
        """Keep it, whole or not at all; where there is no room for it, not."""
        caches.put(self._place(tree), json.dumps(planned.as_data()).encode())

    def _place(self, tree: str) -> Path:
        return self.folder / tree[:2] / f"{tree}.json"
