"""The objects of a repository, read through one `git cat-file --batch`.

Nothing in the repository changes, nothing that it configures is run, nothing is fetched,
and what replaces an object is not looked at.
"""

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from migrator.checkout import ELSEWHERE, NO_FETCH, SAFE_GIT, Checkout
from migrator.errors import FileProblem, TitanMigrateError

LONGEST = 16_000_000
"""Bytes of the largest object that is read; of torchtitan's own files the largest has 50,000."""

_CHUNK = 1 << 20

_SIZES = 100_000
"""As many sizes are remembered."""

_DEEPEST = 40
"""Tags of tags that are followed."""

APART = {
    **NO_FETCH,
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}
"""Variables under which git reads what a repository holds, and nothing else."""


class Unreadable(FileProblem):
    """An object that is not there, broken, too large or of another kind than it should be."""


class TooLarge(Unreadable):
    """An object that has more bytes than are read of one."""


@dataclass(frozen=True)
class Commit:
    """What a ref leads to.

    Args:
        id: of the commit.
        tree: of its tree.
        date: when it was committed, in seconds since 1970.
    """

    id: str
    tree: str
    date: int


class Repository:
    """A repository of this disk, bare or with a working tree.

    Args:
        folder: the repository, or a folder of its working tree.

    Raises:
        TitanMigrateError: there is none, or git does not read it.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise TitanMigrateError(
                f"{folder} is not a folder. Name a repository: bare, or one with a working tree."
            )
        at = Checkout(folder.resolve(), is_git=True)
        try:
            found = at.git("rev-parse", "--absolute-git-dir", "--git-common-dir")
        except TitanMigrateError as error:
            if "not a git repository" not in str(error):
                raise
            raise TitanMigrateError(
                f"{folder} is not a git repository, of which sweep reads every ref. Name one, or "
                f"look at the folder alone with `titan-migrate check {folder}`."
            ) from None
        git_dir, common = found.splitlines()
        self.folder = folder
        self.git_dir = Path(git_dir)
        self.common = (folder.resolve() / common).resolve()
        self._process: subprocess.Popen[bytes] | None = None
        self._last: tuple[str, str, bytes] | None = None
        self._sizes: dict[str, int] = {}

    def __enter__(self) -> "Repository":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the process that reads."""
        if self._process is not None:
            assert self._process.stdin and self._process.stdout
            self._process.stdin.close()
            self._process.stdout.close()
            self._process.kill()
            self._process.wait()
            self._process = None

    def git(self, *arguments: str) -> str:
        """The output of a git command in this repository.

        Raises:
            TitanMigrateError: git failed.
        """
        at = Checkout(self.folder.resolve(), is_git=True)
        return at.git(*arguments, env={"GIT_DIR": str(self.git_dir), **APART})

    def read(self, name: str, kind: str) -> bytes:
        """The content of an object.

        Args:
            name: its id.
            kind: what it has to be: ``blob``, ``tree``, ``commit`` or ``tag``.

        Raises:
            Unreadable: it is not there, broken, too large or something else.
        """
        found, content = self._read(name)
        if found != kind:
            raise Unreadable(f"{name} should be a {kind} and is a {found}")
        return content

    def size(self, name: str) -> int:
        """How many bytes an object has, however many these are.

        Raises:
            Unreadable: it is not there or broken.
        """
        if name not in self._sizes:
            with contextlib.suppress(TooLarge):
                self._read(name)
        return self._sizes[name]

    def _read(self, name: str) -> tuple[str, bytes]:
        if self._last is not None and self._last[0] == name:
            return self._last[1:]
        process = self._running()
        assert process.stdin and process.stdout
        try:
            process.stdin.write(f"{name}\n".encode())
            process.stdin.flush()
            said = process.stdout.readline()
        except OSError:
            said = b""
        header = re.fullmatch(rb"[0-9a-f]+ (\w+) (\d+)\n", said)
        if header is None:
            missing = said.endswith(b" missing\n")
            if not missing:  # git ends where an object is broken
                self.close()
            raise Unreadable(
                f"the object {name} {'is missing' if missing else 'is broken'} in the repository"
            )
        size = int(header[2])
        if len(self._sizes) >= _SIZES:
            self._sizes.clear()
        self._sizes[name] = size
        if size > LONGEST:
            self._skip(size + 1)
            raise TooLarge(
                f"the object {name} has {size / 1e6:.0f} MB, and {LONGEST / 1e6:.0f} is the most "
                "that sweep reads"
            )
        content = process.stdout.read(size + 1)[:-1]
        if len(content) != size:
            self.close()
            raise Unreadable(f"the object {name} is broken in the repository")
        self._last = name, header[1].decode(), content
        return self._last[1:]

    def _skip(self, size: int) -> None:
        assert self._process and self._process.stdout
        while size > 0:
            size -= len(self._process.stdout.read(min(size, _CHUNK))) or size

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            environment = {k: v for k, v in os.environ.items() if k not in ELSEWHERE}
            self._process = subprocess.Popen(
                [
                    "git",
                    *SAFE_GIT,
                    f"--git-dir={self.git_dir}",
                    "cat-file",
                    "--batch",
                ],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**environment, **APART},
                start_new_session=True,  # Ctrl-C is for us to tell
            )
        return self._process

    def commit(self, name: str) -> Commit:
        """The commit that an object is, or that a tag leads to.

        Raises:
            Unreadable: it leads to none.
        """
        for _ in range(_DEEPEST):
            kind, content = self._read(name)
            head = content.partition(b"\n\n")[0]
            if kind == "commit":
                tree = re.match(rb"tree ([0-9a-f]+)$", head, re.MULTILINE)
                date = re.search(rb"^committer .* (\d+) [-+]\d+$", head, re.MULTILINE)
                if tree is None:
                    raise Unreadable(f"the commit {name} names no tree")
                return Commit(name, tree[1].decode(), int(date[1]) if date else 0)
            target = re.match(rb"object ([0-9a-f]+)$", head, re.MULTILINE)
            if kind != "tag" or target is None:
                raise Unreadable(f"it leads to a {kind}, and not to a commit")
            name = target[1].decode()
        raise Unreadable("it leads from tag to tag, to no end")

    def refs(self) -> Iterator[tuple[str, str | None]]:
        """The full name of every ref, sorted, and the object that it names.

        What is another name of a ref, as ``refs/remotes/origin/HEAD``, is left out. None
        stands for the object of what git takes for no ref, though it is where they are kept.
        """
        listed = self.git(
            "for-each-ref", "--format=%(refname)%00%(objectname)%00%(symref)"
        )
        known: dict[str, str | None] = {}
        aliases = set()
        for line in listed.split("\n")[:-1]:
            name, target, alias = line.split("\0")
            if alias:
                aliases.add(name)
            else:
                known[name] = target
        for name in self._loose():
            if name not in aliases:
                known.setdefault(name, None)
        yield from sorted(known.items(), key=lambda ref: os.fsencode(ref[0]))

    def _loose(self) -> Iterator[str]:
        """The files among the refs, whatever they are called."""
        for home in ("heads", "remotes", "tags"):
            for folder, _, names in os.walk(self.common / "refs" / home):
                above = Path(folder).relative_to(self.common).as_posix()
                for name in names:
                    if name.endswith(".lock"):  # of a git at work
                        continue
                    if not _is_alias(Path(folder, name)):  # of a ref that is gone
                        yield f"{above}/{name}"


def _is_alias(file: Path) -> bool:
    """Whether a file among the refs names another ref."""
    try:
        with file.open("rb") as content:
            return content.read(4) == b"ref:"
    except OSError:
        return False
