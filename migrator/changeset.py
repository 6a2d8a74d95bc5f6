"""All changes of a migration, in memory, and writing them as a whole."""

import contextlib
import difflib
import errno
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from codemods.findings import Finding
from codemods.outcome import Outcome
from migrator.checkout import Checkout
from migrator.errors import FileProblem
from migrator.place import inside
from migrator.signals import signals_held, terminable


@dataclass(frozen=True)
class Changeset:
    """What a migration changes in a checkout; nothing is written yet.

    Args:
        checkout: where.
        outcome: what the rules say.
    """

    checkout: Checkout
    outcome: Outcome

    @property
    def changes(self) -> Mapping[str, bytes]:
        return self.outcome.changes

    def before(self, path: str) -> bytes | None:
        """What a file holds that changes, None where it is new."""
        file = self.checkout.files.get(path)
        return None if file is None else file.raw

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.outcome.findings

    @property
    def places(self) -> Mapping[str, str]:
        """Where git has each file that changes, sorted -> the path it was read by.

        What is changed through a symlink is a change of the file that it leads to:
        git does not patch through one.
        """
        root = self.checkout.folder.resolve()
        places = {
            inside(root, (root / path).resolve()) or path: path for path in self.changes
        }
        return dict(sorted(places.items()))

    def patches(self, context: int = 3) -> Iterator[tuple[str, bytes]]:
        """The part of the patch for each file, with the path as the patch names it.

        Args:
            context: lines around each hunk.
        """
        for name, path in self.places.items():
            patch = file_diff(name, self.before(path), self.changes[path], context)
            if patch:
                yield _quoted(name), patch

    def diff(self, context: int = 3) -> bytes:
        """The changes as a patch that ``git apply`` takes.

        Args:
            context: lines around each hunk.
        """
        return b"".join(patch for _, patch in self.patches(context))

    def write(self) -> None:
        """Write every change, or none.

        Each file is replaced in one step, with its mode; a symlink stays one and the
        file it leads to is written. If any file cannot be written, those already
        written get their old bytes back.

        Raises:
            FileProblem: a file changed since it was read, is out of the checkout, or
                cannot be written. The checkout is as it was.
        """
        root = self.checkout.root.resolve()
        places = {path: (root / path).resolve() for path in self.changes}
        for path, place in places.items():
            if not place.is_relative_to(root):
                raise FileProblem(
                    f"{path} leads out of the checkout; nothing was written."
                )
            if _read(path, place) != self.before(path):
                raise FileProblem(
                    f"{path} changed while the migration was worked out; nothing was "
                    "written. Run again."
                )
        started: list[str] = []
        with terminable():
            try:
                for path, after in self.changes.items():
                    started.append(path)
                    if self.before(path) is None:
                        new_file(places[path], after)
                    else:
                        replace_file(places[path], after)
            except BaseException as error:
                with signals_held():
                    left = self._restore(started)
                if left:
                    git = "with `git checkout` " if self.checkout.is_git else ""
                    raise FileProblem(
                        f"{started[-1]} could not be written ({_reason(error)}), and these files "
                        f"are migrated and could not get their old bytes back: {', '.join(left)}. "
                        f"{_advice(error)}, and get them back {git}before you run again."
                    ) from error
                if isinstance(error, OSError):
                    raise FileProblem(
                        f"{started[-1]} could not be written ({_reason(error)}); every file is "
                        f"as it was. {_advice(error)} and run again."
                    ) from error
                raise

    def _restore(self, paths: list[str]) -> list[str]:
        """Give files their old bytes back; returns those that could not be given them.

        The last one first: on a full disk there is room again for what each one needed.
        """
        root = self.checkout.root.resolve()
        left = []
        for path in reversed(paths):
            place, before = (root / path).resolve(), self.before(path)
            try:
                if before is None:
                    place.unlink(missing_ok=True)
                elif place.read_bytes() != before:
                    replace_file(place, before)
            except OSError:
                left.append(path)
        return left[::-1]


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _advice(error: BaseException) -> str:
    """What to do about a file that could not be written, as the beginning of a sentence."""
    if isinstance(error, PermissionError):
        return "Give yourself write permission"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Make room on the disk"
    return "Mend that"


def file_diff(path: str, before: bytes | None, after: bytes, context: int = 3) -> bytes:
    """One file's part of a patch, byte for byte, whatever its encoding.

    Args:
        path: of the file.
        before: what it holds, None where it is new.
        after: what it is to hold.
        context: lines around each hunk.
    """
    lines = difflib.diff_bytes(
        difflib.unified_diff,
        _lines(before or b""),
        _lines(after),
        b"/dev/null" if before is None else _quoted(f"a/{path}").encode(),
        _quoted(f"b/{path}").encode(),
        n=context,
    )
    body = b"".join(
        line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n"
        for line in lines
    )
    head = f"diff --git {_quoted(f'a/{path}')} {_quoted(f'b/{path}')}\n"
    if before is None:
        head += "new file mode 100644\n"
    return head.encode() + body if body else b""


def _lines(data: bytes) -> list[bytes]:
    """Lines as git sees them: only a line feed ends one."""
    parts = data.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def _quoted(path: str) -> str:
    """A path as git writes it in a patch: C-quoted where it has odd characters."""
    raw = path.encode("utf-8", "surrogateescape")
    if all(32 <= byte < 127 and byte not in b'"\\' for byte in raw):
        return path
    named = {9: "\\t", 10: "\\n", 13: "\\r", 34: '\\"', 92: "\\\\"}
    body = "".join(
        named.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}")
        for byte in raw
    )
    return f'"{body}"'


def _read(path: str, place: Path) -> bytes | None:
    """What a file holds now, None where there is none."""
    try:
        return place.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise FileProblem(
            f"{path} could not be read ({error.strerror}); nothing was written."
        ) from error


@contextlib.contextmanager
def _staged(place: Path, content: bytes) -> Iterator[str]:
    """A file beside ``place`` with what that is to hold, on the disk; gone afterwards unless it was moved."""
    handle, name = tempfile.mkstemp(dir=place.parent, prefix=f".{place.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield name
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def new_file(place: Path, content: bytes) -> None:
    """Make a file that is not there, whole or not at all, in a folder that is there."""
    with _staged(place, content) as name:
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.link(name, place)  # raises where something came into its place meanwhile


def replace_file(place: Path, content: bytes) -> None:
    """Put ``content`` in the place of a file, in one step, with its mode and owner."""
    if not os.access(place, os.W_OK):
        raise PermissionError(13, "no permission to write", str(place))
    known = place.stat()
    with _staged(place, content) as name:
        os.chmod(name, stat.S_IMODE(known.st_mode))
        with contextlib.suppress(OSError):
            os.chown(name, known.st_uid, known.st_gid)
        os.replace(name, place)
