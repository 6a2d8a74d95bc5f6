"""The trees that are trained: git worktrees in a temporary folder. The user's checkout is only read."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import git

from migrator.signals import signals_held

from . import disk
from .errors import VerifyError

# No hook and no filesystem monitor of the checkout may run.
_QUIET = (
    "-c",
    f"core.hooksPath={os.devnull}",
    "-c",
    "core.fsmonitor=false",
    "-c",
    "advice.detachedHead=false",
)

# The module that a migrated tree imports replicate from.
_MARK = "replicate_with_fsdp"


@dataclass(frozen=True)
class Trees:
    """Folders that hold the `torchtitan` package of the base revision and of the migrated tree.

    base_revision: full hash. changed: paths, relative to the git root, of the
    Python files in which the two differ.
    """

    base: Path
    migrated: Path
    base_revision: str
    migrated_revision: str
    changed: tuple[str, ...]


def open_checkout(path: Path) -> git.Repo:
    """The git repository of `path`; raises VerifyError where there is none, or no commit in it."""
    if not path.exists():
        raise VerifyError(
            f"{path} does not exist: give the path of a torchtitan checkout."
        )
    try:
        repo = git.Repo(path, search_parent_directories=True)
    except (git.InvalidGitRepositoryError, git.NoSuchPathError):
        raise VerifyError(
            f"{path} is not in a git checkout: verify compares two revisions, so put the tree under git"
            " (git init, commit the unmigrated state, then apply)."
        ) from None
    if repo.bare or repo.working_tree_dir is None:
        raise VerifyError(
            f"{path} is a bare git repository: give the path of a checkout with files."
        )
    if not repo.head.is_valid():
        raise VerifyError(
            f"{repo.working_tree_dir} has no commit yet: commit the unmigrated tree first."
        )
    return repo


def package_parent(root: Path, path: Path) -> Path:
    """The folder, relative to the git root, whose child `torchtitan` is the package.

    Looked for at `path`, above it up to the root, then below the root, at
    most three folders deep. Raises VerifyError where there is none, and for
    the 2024 layout, whose train.py lies at the top.
    """

    def holds(folder: Path) -> bool:
        return (folder / "torchtitan" / "train.py").is_file()

    path = path.resolve() if path.is_dir() else path.resolve().parent
    above = [
        folder
        for folder in (path, *path.parents)
        if folder == root or root in folder.parents
    ]
    below = sorted(
        train.parent.parent
        for depth in range(1, 4)
        for train in root.glob("/".join(["*"] * depth + ["torchtitan", "train.py"]))
    )
    for folder in (*above, *below):
        if holds(folder):
            return folder.relative_to(root)
    if (root / "train.py").is_file() and (root / "torchtitan").is_dir():
        raise VerifyError(
            f"{root} keeps train.py at its top, as torchtitan did in 2024: verify trains 0.1.0 to 0.2.2 and forks of them."
        )
    raise VerifyError(
        f"No torchtitan package (torchtitan/train.py) was found in {root}: give the path of a torchtitan checkout."
    )


def find_base(repo: git.Repo, base: str | None) -> str:
    """The full hash of the unmigrated revision.

    `base` if given; HEAD while tracked Python files are changed in the working
    tree; else the parent of the newest commit that brought
    `replicate_with_fsdp` in. Raises VerifyError where none of this leads anywhere.
    """
    if base is not None:
        try:
            return repo.git.rev_parse(
                "--verify", "--end-of-options", f"{base}^{{commit}}"
            )
        except git.GitCommandError:
            raise VerifyError(
                f"--base {base} is no revision of {repo.working_tree_dir}."
            ) from None
    if any(path.endswith(".py") for path, _ in _changes(repo, "HEAD")):
        return repo.head.commit.hexsha
    for commit in repo.git.log("-S", _MARK, "--format=%H", "--", "*.py").split():
        parents = repo.commit(commit).parents
        if parents and _introduces(
            repo.git.diff(
                "--no-ext-diff", "-U0", parents[0].hexsha, commit, "--", "*.py"
            )
        ):
            return parents[0].hexsha
    raise VerifyError(
        f"{repo.working_tree_dir} is not migrated: it has no uncommitted change, and no commit in its history"
        " brought replicate in. Run `titan-migrate apply` first, or name the unmigrated revision with --base."
    )


def _introduces(patch: str) -> bool:
    """Whether a patch adds more mentions of replicate's module than it takes away."""
    lines = [line for line in patch.splitlines() if _MARK in line]
    return sum(line.startswith("+") for line in lines) > sum(
        line.startswith("-") for line in lines
    )


def _changes(repo: git.Repo, revision: str) -> list[tuple[str, bool]]:
    """(path, still exists) of what the working tree changes against `revision`, untracked files left out."""
    words = repo.git.execute(
        [
            "git",
            *_QUIET,
            "diff",
            "--name-status",
            "--no-renames",
            "--no-ext-diff",
            "-z",
            revision,
        ],
        strip_newline_in_stdout=False,
    ).split("\0")
    return [
        (path, not status.startswith("D"))
        for status, path in zip(words[::2], words[1::2])
    ]


def _hidden(repo: git.Repo) -> list[str]:
    """Tracked files whose changes git is told not to see: assume-unchanged, skip-worktree."""
    listed = repo.git.execute(
        ["git", *_QUIET, "ls-files", "-v", "-z"], strip_newline_in_stdout=False
    )
    entries = [entry for entry in listed.split("\0") if entry]
    return [entry[2:] for entry in entries if entry[0].islower() or entry[0] == "S"]


def _generated(repo: git.Repo, parent: Path) -> list[str]:
    """Python files of the package that git ignores, such as a generated version."""
    listed = repo.git.execute(
        [
            "git",
            *_QUIET,
            "ls-files",
            "--others",
            "--ignored",
            "--exclude-standard",
            "-z",
            "--",
            f"{(parent / 'torchtitan').as_posix()}/*.py",
        ],
        strip_newline_in_stdout=False,
    )
    return [path for path in listed.split("\0") if path]


def _untracked(repo: git.Repo) -> list[str]:
    listed = repo.git.execute(
        ["git", *_QUIET, "ls-files", "--others", "--exclude-standard", "-z"],
        strip_newline_in_stdout=False,
    )
    return [path for path in listed.split("\0") if path]


@contextlib.contextmanager
def trees(repo: git.Repo, path: Path, base: str, folder: Path) -> Iterator[Trees]:
    """Checks out base revision and migrated tree below `folder`, and takes both away again, come what may.

    The migrated tree is the working tree as it is: HEAD, overlaid with every
    tracked change and every untracked file that git does not ignore.
    """
    root = Path(repo.working_tree_dir)
    parent = package_parent(root.resolve(), path)
    known = {"base": base, "migrated": repo.head.commit.hexsha}
    made = {name: folder / name for name in known}
    try:
        for name, revision in known.items():
            try:
                repo.git.execute(
                    [
                        "git",
                        *_QUIET,
                        "worktree",
                        "add",
                        "--detach",
                        "--force",
                        str(made[name]),
                        revision,
                    ]
                )
            except git.GitCommandError as error:
                if disk.says_full(error.stderr):
                    raise OSError(
                        errno.ENOSPC, os.strerror(errno.ENOSPC), str(made[name])
                    ) from None
                raise VerifyError(
                    f"git could not check out {revision[:12]}: {error.stderr.strip()}"
                ) from None
        overlaid = _overlay(repo, root, made["migrated"])
        for name in _generated(repo, parent):
            for tree in made.values():
                if not (tree / name).exists():
                    (tree / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy2(root / name, tree / name)
        committed = repo.git.execute(
            [
                "git",
                *_QUIET,
                "diff",
                "--name-only",
                "--no-renames",
                "--no-ext-diff",
                "-z",
                base,
                "HEAD",
            ],
            strip_newline_in_stdout=False,
        ).split("\0")
        changed = sorted(
            name for name in {*overlaid, *committed} if name.endswith(".py")
        )
        if not (made["base"] / parent / "torchtitan" / "train.py").is_file():
            raise VerifyError(
                f"The base revision {base[:12]} has no {parent / 'torchtitan' / 'train.py'}: name another with --base."
            )
        yield Trees(
            made["base"] / parent,
            made["migrated"] / parent,
            base,
            known["migrated"],
            tuple(_differing(made, changed)),
        )
    finally:
        with signals_held():
            for tree in made.values():
                with contextlib.suppress(git.GitCommandError):
                    repo.git.execute(
                        [
                            "git",
                            *_QUIET,
                            "worktree",
                            "remove",
                            "--force",
                            "--force",
                            str(tree),
                        ]
                    )
                shutil.rmtree(tree, ignore_errors=True)


def _overlay(repo: git.Repo, root: Path, tree: Path) -> list[str]:
    """Copies the working tree's changes over a checkout of HEAD; returns the paths."""
    touched = _changes(repo, "HEAD") + [
        (path, True)
        for path in [*_untracked(repo), *_hidden(repo)]
        if (root / path).exists()
    ]
    for name, exists in touched:
        source, target = root / name, tree / name
        if target.is_symlink() or target.is_file():
            target.unlink()
        if not exists or (source.is_dir() and not source.is_symlink()):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            shutil.copy2(source, target, follow_symlinks=False)
    return [name for name, _ in touched]


def _differing(made: dict[str, Path], names: list[str]) -> Iterator[str]:
    for name in names:
        before, after = (made[key] / name for key in ("base", "migrated"))
        if not (
            before.is_file()
            and after.is_file()
            and before.read_bytes() == after.read_bytes()
        ):
            yield name
