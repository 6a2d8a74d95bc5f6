"""Runs of the base revision in the user's cache folder, so that the next verify on this machine need not make them.

Each lies in a folder of its own, named by the digest of all that it depends on:

    run.json.gz   the run (`record`), and the digests of the files beside it
    <part>/...    what else is needed of it: its weights, the seed checkpoint
    <word>.mark   what was found of it

It may be deleted at any time, and by any verify: what is not there, or not whole, is
made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from migrator import caches
from migrator.verify.keep import record
from migrator.verify.train.launch import Outcome

LARGEST = 2 * 2**30
"""Bytes that all kept runs take together; those that nobody has asked for longest go first."""

_RUN = "run.json.gz"
_STAGED = ".new-"
# What a verify that was killed has left half written is of no use after an hour.
_STALE = 3600.0


def folder() -> Path:
    """Where kept runs lie; it need not be there."""
    return caches.folder() / "runs"


class Cache:
    """The kept runs that depend on the same.

    Args:
        root: of `folder`.
        facts: what each run depends on beside what it is told.
        largest: bytes that may be kept.
    """

    def __init__(
        self, root: Path, facts: Mapping[str, str], largest: int = LARGEST
    ) -> None:
        self.root = root
        self.largest = largest
        self._facts = dict(sorted(facts.items()))

    def get(self, what: str, traces: Path, parts: Mapping[str, Path]) -> Outcome | None:
        """Lays a kept run out again; None where there is none that is whole.

        Args:
            what: all that it is told.
            traces: the folder for what its ranks left.
            parts: name -> the folder to put it in, which must not be there.
        """
        entry = self._entry(what)
        try:
            run = record.read(entry / _RUN)
            if run["facts"] != self._facts or run["what"] != what:
                raise record.Damaged("it is another run")
            for name, place in parts.items():
                shutil.copytree(entry / name, place)
                if run["parts"][name] != _digests(place):
                    raise record.Damaged(f"{name} is not what was kept")
            outcome = record.laid_out(run, traces)
        except (record.Damaged, KeyError, TypeError):
            shutil.rmtree(entry, ignore_errors=True)
            outcome = None
        except OSError:
            # Not there, or another verify is removing it.
            outcome = None
        if outcome is None:
            for place in parts.values():
                shutil.rmtree(place, ignore_errors=True)
            return None
        with contextlib.suppress(OSError):
            os.utime(entry)
        return outcome

    def put(
        self, what: str, outcome: Outcome, traces: Path, parts: Mapping[str, Path]
    ) -> str:
        """Keeps a run that ended well; returns why it could not be kept, empty where it was.

        Arguments as of `get`.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            staged = Path(tempfile.mkdtemp(prefix=_STAGED, dir=self.root))
        except OSError as error:
            return f"{self.root} cannot be written to ({error.strerror})"
        try:
            self._fill(staged, what, outcome, traces, parts)
            with contextlib.suppress(OSError):
                # One that is there, another verify has just made.
                os.rename(staged, self._entry(what))
        except (OSError, shutil.Error) as error:
            return f"{self.root} cannot be written to ({error})"
        finally:
            shutil.rmtree(staged, ignore_errors=True)
        self._bound()
        return ""

    def mark(self, what: str, word: str) -> None:
        """Notes a word beside a run, as far as it is kept."""
        with contextlib.suppress(OSError):
            (self._entry(what) / f"{word}.mark").touch()

    def marked(self, what: str, word: str) -> bool:
        """Whether a word was noted beside a run."""
        return (self._entry(what) / f"{word}.mark").is_file()

    def _fill(
        self,
        staged: Path,
        what: str,
        outcome: Outcome,
        traces: Path,
        parts: Mapping[str, Path],
    ) -> None:
        for name, place in parts.items():
            shutil.copytree(place, staged / name)
        run: dict[str, Any] = {
            **record.packed(what, outcome, traces),
            "facts": self._facts,
            "parts": {name: _digests(staged / name) for name in parts},
        }
        record.write(staged / _RUN, run)

    def _entry(self, what: str) -> Path:
        told = hashlib.sha256(f"{record.VERSION}\0{what}".encode())
        for name, value in self._facts.items():
            told.update(f"\0{name}\0{value}".encode("utf-8", "surrogateescape"))
        return self.root / told.hexdigest()

    def _bound(self) -> None:
        """Removes what was not asked for longest, until the rest is small enough."""
        kept: list[tuple[float, int, Path]] = []
        with contextlib.suppress(OSError):
            for entry in self.root.iterdir():
                age = entry.stat().st_mtime
                if not entry.name.startswith(_STAGED):
                    kept.append((age, _size(entry), entry))
                elif time.time() - age > _STALE:
                    shutil.rmtree(entry, ignore_errors=True)
        total = sum(size for _, size, _ in kept)
        for _, size, entry in sorted(kept):
            if total <= self.largest:
                return
            shutil.rmtree(entry, ignore_errors=True)
            total -= size


def _digests(place: Path) -> dict[str, str]:
    """File -> digest."""
    found = {}
    for path in _files(place):
        with open(path, "rb") as file:
            # hashlib.file_digest is of Python 3.11.
            content = hashlib.sha256()
            while block := file.read(2**20):
                content.update(block)
        found[path.relative_to(place).as_posix()] = content.hexdigest()
    return found


def _size(entry: Path) -> int:
    return sum(path.stat().st_size for path in _files(entry))


def _files(place: Path) -> Iterator[Path]:
    return (path for path in sorted(place.rglob("*")) if path.is_file())
