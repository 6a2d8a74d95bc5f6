"""What git says about a checkout, and the files in it.

Nothing of the checkout is executed: its hooks are switched off, its configuration
is asked for nothing that runs a program, and its code is only read.
"""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache, cached_property
from pathlib import Path
from typing import Any, ClassVar

from codemods.bindings import Checkout as Bindings
from codemods.dependency import UNKNOWN, Dependency
from codemods.outside import uses_torchtitan
from codemods.source import SourceFile
from codemods.texts import LONGEST, PATTERNS, TextFile, is_text
from migrator.config import torchtitan_of
from migrator.errors import FileProblem, GitFailed, TitanMigrateError
from migrator.place import Place, inside

_SKIPPED = {
    ".git",
    ".hg",
    ".tox",
    ".venv",
    "venv",
    "node_modules",
    "__pycache__",
    "build",
}

SAFE_GIT = (
    "-c",
    f"core.hooksPath={os.devnull}",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "core.pager=cat",
    "-c",
    "log.showSignature=false",
    # Else asking for the status writes the index.
    "--no-optional-locks",
)
"""Options that keep git from running anything that a checkout brings, and from writing where it is only asked."""

# A hook, or an alias, sets these for the repository that it runs in. `git worktree add`
# would even write over the index that GIT_INDEX_FILE names.
ELSEWHERE = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR")

# In a partial clone git fetches what it lacks, and the checkout's configuration says by
# which program. The first is for git since 2.44; the second allows no way to fetch by.
NO_FETCH = {"GIT_NO_LAZY_FETCH": "1", "GIT_ALLOW_PROTOCOL": ""}

_IN_ENGLISH = {"LANGUAGE": "C", "LC_ALL": "C"}
"""For git to say things in the words that we look for."""

# Empty: no program, and not required.
_OFF = "TITAN_MIGRATE_OFF"


EXPECTED = (
    "Name the checkout of a fork, the folder with torchtitan/ in it, or of a repository that "
    "uses torchtitan."
)
"""What a command wants for a folder."""


@dataclass(frozen=True)
class Checkout:
    """A folder to migrate.

    Args:
        root: its top, where git has its working tree (or the folder itself).
        is_git: whether git keeps it.
        torchtitan: the torchtitan that it uses and does not hold, a path or a version;
            None for what its pyproject.toml names, or what is found.
    """

    root: Path
    is_git: bool
    torchtitan: str | None = None

    as_kept: ClassVar[bool] = False
    """Whether its files are read as git keeps them, and not as a working tree has them."""

    @property
    def folder(self) -> Place:
        """Where its files are read from."""
        return self.root

    @cached_property
    def dependency(self) -> Dependency:
        """The torchtitan that it uses and does not hold; its files are never written."""
        if self._given is None and not uses_torchtitan(Bindings(self._everything)):
            return UNKNOWN  # without importing what finds one, which takes a while
        from migrator.dependency import find

        return find(self.folder, self._given, self._everything, self._gitlinks)

    @cached_property
    def files(self) -> dict[str, SourceFile]:
        """Every Python file of the checkout, by its path from the root.

        In a git checkout those that git tracks or would add; what it ignores, other
        checkouts inside this one, symlinks that lead out of it, and what is named as the
        torchtitan that it uses are left out.
        """
        if self._given is None:
            return self._everything
        below = self._aside
        everything = self._everything.items()
        return {p: f for p, f in everything if not below or not p.startswith(below)}

    @cached_property
    def _given(self) -> str | None:
        return self.torchtitan or torchtitan_of(self.folder)

    @cached_property
    def _aside(self) -> str:
        from migrator.dependency import aside

        return aside(self.folder, self._given)

    def _gitlinks(self) -> dict[str, str]:
        """Path of each submodule -> the commit that the index names."""
        if not self.is_git:
            return {}
        listed = self.git("ls-files", "-s", "-z").split("\0")
        entries = [
            entry.partition("\t") for entry in listed if entry.startswith("160000")
        ]
        return {path: head.split()[1] for head, _, path in entries}

    @cached_property
    def _everything(self) -> dict[str, SourceFile]:
        found = {}
        for relative, path in self._listed("*.py"):
            try:
                found[relative] = self._source(relative, path)
            except OSError as error:
                raise FileProblem(
                    f"{relative} could not be read ({error.strerror}). Give yourself "
                    "read permission and run again; nothing was written."
                ) from error
        return found

    @cached_property
    def texts(self) -> dict[str, TextFile]:
        """Documentation, guides and configurations, by their path from the root.

        Listed like ``files``. What is linked to, is very large, binary or cannot be read
        is left out: nothing of it is written.
        """
        found = {}
        below = self._aside if self._given else ""
        for relative, path in self._listed(*PATTERNS):
            if not is_text(relative) or path.is_symlink():
                continue
            if below and relative.startswith(below):
                continue
            with contextlib.suppress(OSError):
                if path.stat().st_size <= LONGEST:
                    file = self._text(relative, path)
                    if b"\0" not in file.raw:
                        found[relative] = file
        return found

    def _source(self, relative: str, path: Place) -> SourceFile:
        return SourceFile(relative, path.read_bytes())

    def _text(self, relative: str, path: Place) -> TextFile:
        return TextFile(relative, path.read_bytes())

    def _listed(self, *patterns: str) -> Iterator[tuple[str, Place]]:
        """The files of the checkout whose names fit one of the patterns, sorted, and their paths from the root."""
        names: Iterable[str]
        if self.is_git:
            options = ("ls-files", "-z", "-co", "--exclude-standard", "--")
            names = filter(None, self.git(*options, *patterns).split("\0"))
        else:
            names = _files(self.root, patterns)
        top = self.root.resolve()
        ours = cache(lambda at: inside(top, (self.root / at).resolve()) is not None)
        for name in sorted(set(names), key=lambda name: name.split("/")):
            path = self.root / name
            # Of a folder's files only a symlink leads elsewhere than the folder does.
            at = name if path.is_symlink() else name.rpartition("/")[0]
            if path.is_file() and ours(at):
                yield name, path

    @cached_property
    def filters(self) -> tuple[str, ...]:
        """The names of the filters for which programs are configured."""
        # Included files, and the configuration of a worktree, count as well.
        asked = ("config", "--includes", "--name-only", "-z", "--list")
        listed = os.fsdecode(self._run(*asked))
        keys = [key for key in listed.split("\0") if key.startswith("filter.")]
        return tuple(sorted({key.partition(".")[2].rpartition(".")[0] for key in keys}))

    @property
    def _no_filters(self) -> tuple[str, ...]:
        """Options that switch off the filter programs this checkout configures."""
        options: list[str] = []
        for name in self.filters:
            for key in ("clean", "smudge", "process", "required"):
                option = f"filter.{name}.{key}"
                # `-c` takes a name for ended at its first equals sign; the other is for
                # git since 2.31.
                if "=" in option:
                    options.append(f"--config-env={option}={_OFF}")
                else:
                    options += ("-c", f"{option}=")
        return tuple(options)

    def git(
        self,
        *arguments: str,
        given: bytes | None = None,
        env: Mapping[str, str] | None = None,
        **process: Any,
    ) -> str:
        """The output of one git command in this checkout.

        Args:
            arguments: the command and its arguments.
            given: what it reads from stdin.
            env: variables of its environment besides ours.
            process: more for `subprocess.Popen`.

        Raises:
            TitanMigrateError: git failed.
        """
        command = (*self._no_filters, *arguments)
        return os.fsdecode(self._run(*command, given=given, env=env, **process))

    def content(self, revision: str, path: str) -> bytes:
        """A file of a revision, with the line ends that git would give it on disk.

        Raises:
            TitanMigrateError: there is no such file.
        """
        return self._run(
            *self._no_filters, "cat-file", "--filters", f"{revision}:{path}"
        )

    def _run(
        self,
        *arguments: str,
        given: bytes | None = None,
        env: Mapping[str, str] | None = None,
        **process: Any,
    ) -> bytes:
        if shutil.which("git") is None:
            raise TitanMigrateError(
                f"{self.root} is a git checkout, and there is no git on PATH: install it, or "
                "put it on PATH."
            )
        # The working tree is the folder we look at, whatever the configuration or the
        # environment says.
        command = ["git", *SAFE_GIT, f"--work-tree={self.root}", *arguments]
        own = {n: v for n, v in os.environ.items() if n not in ELSEWHERE}
        # Not by GitPython, whose import takes longer than git does, nor by `subprocess.run`,
        # which kills a git that writes where we are interrupted.
        printed: bytes
        with subprocess.Popen(
            command,
            cwd=self.root,
            stdin=subprocess.DEVNULL if given is None else subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**own, **_IN_ENGLISH, **NO_FETCH, _OFF: "", **(env or {})},
            **process,
        ) as running:
            printed, said = running.communicate(given)
        if running.returncode:
            reason = os.fsdecode(said).strip()
            if "dubious ownership" in reason:
                # git's own words name the command, for the folder as git knows it.
                trust = re.search(
                    r"git config --global --add safe\.directory .+", reason
                )
                raise TitanMigrateError(
                    f"{self.root} belongs to another user, and git reads it only where you say "
                    f"that you trust it. If you do: {trust[0] if trust else reason}"
                )
            words = [
                word
                for word in arguments
                if not word.startswith("-") and "=" not in word
            ]
            reason = reason.rstrip(".")
            failed = GitFailed(
                f"`git {words[0]}` failed in {self.root}: {reason}. Mend the checkout and run "
                "again."
            )
            failed.reason = reason
            raise failed
        return printed

    def dirty(self) -> list[str]:
        """Paths with changes that git could not undo: uncommitted, untracked or hidden from it."""
        if not self.is_git:
            return []
        listed = self.status("--ignored=matching")
        return [*(path for _, path in listed), *self.hidden("*.py")]

    def status(
        self, *options: str, env: Mapping[str, str] | None = None
    ) -> list[tuple[str, str]]:
        """What differs from HEAD: git's two letters and the path, untracked files one by one.

        Submodules are left out: git would ask in them, where their filters are in force.

        Args:
            options: more of them for `git status`.
            env: variables of its environment besides ours.

        Raises:
            TitanMigrateError: git failed.
        """
        listed = self.git(
            "status",
            "--porcelain=v1",
            "-z",
            "--untracked-files=all",
            "--no-renames",
            "--ignore-submodules=all",
            *options,
            env=env,
        )
        return [(entry[:2], entry[3:]) for entry in listed.split("\0") if entry]

    def hidden(self, *patterns: str) -> list[str]:
        """Tracked paths whose changes git is told not to see (assume-unchanged, skip-worktree).

        Args:
            patterns: what to look at; everything where there is none.
        """
        listed = self.git("ls-files", "-v", "-z", "--", *patterns)
        entries = [entry for entry in listed.split("\0") if entry]
        return [entry[2:] for entry in entries if entry[0].islower() or entry[0] == "S"]

    def refuse_sparse(self) -> None:
        """Refuse a checkout that lacks tracked Python files.

        Raises:
            TitanMigrateError: what is not here could not be migrated with the rest.
        """
        if not self.is_git:
            return
        missing = [
            path for path in self.hidden("*.py") if not (self.root / path).exists()
        ]
        if missing:
            raise TitanMigrateError(
                "this checkout is sparse: Python files that are not on disk would be left behind "
                f"({len(missing)}, {missing[0]} among them). Run `git sparse-checkout disable`, "
                "migrate, and make it sparse again."
            )


def open_checkout(
    path: Path, *, require_git: bool = True, torchtitan: str | None = None
) -> Checkout:
    """The checkout that a folder is in.

    Args:
        path: the folder, or one inside the checkout.
        require_git: refuse a folder that git does not keep. Else one that it does keep
            is read without, where there is no git.
        torchtitan: the torchtitan that it uses and does not hold, a path or a version.

    Raises:
        TitanMigrateError: there is no such folder, or it is not git's.
    """
    refuse_no_folder(path)
    for folder in (path.resolve(), *path.resolve().parents):
        if (folder / ".git").exists():
            # What does not ask for it can do without.
            is_git = require_git or shutil.which("git") is not None
            return Checkout(folder, is_git=is_git, torchtitan=torchtitan)
    refuse_empty(path)
    if require_git:
        raise TitanMigrateError(
            f"{path} is not a git checkout, in which a migration could be undone. Run "
            "`git init` and commit first, or pass --no-git to go on without."
        )
    return Checkout(path.resolve(), is_git=False, torchtitan=torchtitan)


def refuse_no_folder(path: Path) -> None:
    """Refuse what is no folder, and name one that may be meant.

    Raises:
        TitanMigrateError: it is a file, or not there.
    """
    if not path.is_dir():
        raise TitanMigrateError(f"{path} is not a folder{_nearest(path)}. {EXPECTED}")


def refuse_empty(folder: Path) -> None:
    """Refuse a folder that has nothing in it, and say what was expected there.

    Raises:
        TitanMigrateError: it is empty.
    """
    if not any(folder.iterdir()):
        raise TitanMigrateError(f"{folder} is empty. {EXPECTED}")


def _nearest(path: Path) -> str:
    from difflib import get_close_matches

    if not path.parent.is_dir():
        return ""
    siblings = [entry.name for entry in path.parent.iterdir() if entry.is_dir()]
    close = get_close_matches(path.name, siblings, n=1)
    return f" (did you mean {path.parent / close[0]}?)" if close else ""


def _files(root: Path, patterns: Iterable[str]) -> Iterator[str]:
    """The files of a folder without git that fit a pattern, by their path in it, environments left out."""
    for folder, folders, names in os.walk(root):
        folders[:] = [
            name
            for name in folders
            if name not in _SKIPPED
            and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))
        ]
        here = Path(folder).relative_to(root)
        yield from (
            (here / name).as_posix()
            for name in names
            if any(fnmatchcase(name, pattern) for pattern in patterns)
        )
