"""The trees that are trained: git worktrees in a temporary folder. The user's checkout is only read."""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import os
import re
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from migrator.checkout import EXPECTED, Checkout, refuse_empty, refuse_no_folder
from migrator.errors import TitanMigrateError
from migrator.series.message import BASE_TRAILER
from migrator.signals import BREAKING_OFF, signals_held
from migrator.verify.errors import VerifyError
from migrator.verify.train import disk, graft

PREFIX = "titan-migrate-"
"""How the name of the temporary folder begins in which a verify keeps its trees."""

# In a verify's temporary folder: its process id for people, and a lock for as long as it lives.
_MARKER = "verify.pid"
_NAMES = ("base", "migrated")

# The module that a migrated tree imports replicate from.
_MARK = "replicate_with_fsdp"

# Has git show a change without the programs that the checkout names for that.
_AS_IS = ("--no-ext-diff", "--no-textconv")


@dataclass(frozen=True)
class Trees:
    """Folders that hold the `torchtitan` package of the base revision and of the migrated tree.

    base_revision: full hash. migrated_revision: full hash of what the migrated
    tree is, or is a working tree of. changed: paths, relative to the git root,
    of the Python files in which the two differ. folder: holds both worktrees.
    names: path of a worktree -> how a reader finds what is in it.
    """

    base: Path
    migrated: Path
    base_revision: str
    migrated_revision: str
    changed: tuple[str, ...]
    folder: Path
    names: tuple[tuple[str, str], ...] = ()

    def named(self, text: str) -> str:
        """A message in which no path leads into the temporary folder.

        A file of the working tree is where the user has it, one of a revision is as
        `git show` takes it.
        """
        for path, name in self.names:
            text = text.replace(f"{path}/", name)
            text = text.replace(path, name.rstrip("/:"))
        return text

    @property
    def base_root(self) -> Path:
        """The whole worktree of the base revision, whose package may lie deeper."""
        return self.folder / _NAMES[0]


def open_checkout(path: Path, torchtitan: str | None = None) -> Checkout:
    """The git checkout of `path`; raises VerifyError where there is none, or no commit in it.

    torchtitan: the one that it uses and does not hold, a folder or a version; found where None.
    """
    refuse_no_folder(path)
    import git  # which is not there for it where only a report is read

    try:
        with git.Repo(path, search_parent_directories=True) as repo:
            root = None if repo.bare else repo.working_tree_dir
    except (git.InvalidGitRepositoryError, git.NoSuchPathError):
        refuse_empty(path)
        raise VerifyError(
            f"{path} is not in a git checkout, and two revisions are compared. Run `git init`, commit"
            " the unmigrated tree, and then `titan-migrate apply`."
        ) from None
    if root is None:
        raise VerifyError(f"{path} is a bare git repository, without files. {EXPECTED}")
    checkout = Checkout(Path(root).resolve(), is_git=True, torchtitan=torchtitan)
    checkout.git("rev-parse", "--git-dir")  # git may refuse the folder for its owner
    try:
        _commit(checkout, "HEAD")
    except TitanMigrateError:
        raise VerifyError(
            f"{root} has no commit yet: commit the unmigrated tree first."
        ) from None
    return checkout


def parent_of(checkout: Checkout, path: Path) -> Path:
    """`package_parent`; of a checkout that uses torchtitan and does not hold it, the folder of its own packages."""
    if graft.is_dependent(checkout):
        return graft.parent(checkout)
    return package_parent(checkout.root, path)


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
            " Train it before and after by its own trainer, and compare the losses."
        )
    raise VerifyError(
        f"No torchtitan package (torchtitan/train.py) was found in {root}. {EXPECTED}"
    )


def find_base(checkout: Checkout, base: str | None, rev: str | None = None) -> str:
    """The full hash of the unmigrated revision.

    `base` if given; HEAD while the migration is not committed, that is while
    changes of tracked Python files bring `replicate_with_fsdp` in, unless it
    is `rev` that is verified; else what the newest commit with a
    `Titan-Migrate-Base` trailer names; else the parent of the newest commit
    that brought `replicate_with_fsdp` in. Both are looked for from `rev` down,
    or from HEAD, and HEAD it is again where there is neither, but changed
    Python files. Raises VerifyError where `base` or `rev` is no commit, and
    where none of this leads anywhere.
    """
    tip = _tip(checkout, rev)
    if base is not None:
        try:
            return _commit(checkout, base)
        except TitanMigrateError:
            raise VerifyError(
                f"--base {base} is no revision of {checkout.root}."
            ) from None
    dirty = rev is None and any(
        letters != "??" and path.endswith(".py") for letters, path in checkout.status()
    )
    # Else the migration is committed, and something was edited since.
    if dirty and _introduces(_patch(checkout, tip)):
        return tip
    found = _recorded_base(checkout, tip) or _before_replicate(checkout, tip)
    if found:
        return found
    if dirty:
        return tip
    if rev is not None:
        raise VerifyError(
            f"--rev {rev} is not migrated: no commit in its history brought replicate in."
            " Name another revision, or the unmigrated one with --base."
        )
    raise VerifyError(
        f"{checkout.root} is not migrated: it has no uncommitted change, and no commit in its history"
        " brought replicate in. Run `titan-migrate apply` first, or name the unmigrated revision with --base."
    )


def _tip(checkout: Checkout, rev: str | None) -> str:
    """The full hash of `rev`, or of HEAD; raises VerifyError where `rev` is no commit."""
    try:
        return _commit(checkout, "HEAD" if rev is None else rev)
    except TitanMigrateError:
        raise VerifyError(f"--rev {rev} is no revision of {checkout.root}.") from None


def _commit(checkout: Checkout, name: str) -> str:
    """The full hash of the commit that a name stands for; raises TitanMigrateError where there is none."""
    return checkout.git(
        "rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}"
    ).strip()


def _recorded_base(checkout: Checkout, tip: str) -> str | None:
    """What the newest commit with our trailer names as its base; raises VerifyError where that is not here."""
    listed = checkout.git(
        "log",
        f"--grep=^{BASE_TRAILER}: ",
        f"--format=%H %(trailers:key={BASE_TRAILER},valueonly,separator=%x20)",
        tip,
    )
    for line in listed.splitlines():
        commit, _, value = line.partition(" ")
        # Words of the message that only look like the trailer have no value here.
        if not re.fullmatch("[0-9a-f]{40}|[0-9a-f]{64}", value):
            continue
        try:
            return _commit(checkout, value)
        except TitanMigrateError:
            raise VerifyError(
                f"{commit[:12]} names {value[:12]} as its base, which is not in {checkout.root}:"
                " fetch it, or name the unmigrated revision with --base."
            ) from None
    return None


def _before_replicate(checkout: Checkout, tip: str) -> str | None:
    """The parent of the newest commit that brought replicate in, where there is one."""
    listed = checkout.git(
        "log", "-S", _MARK, *_AS_IS, "--format=%H %P", tip, "--", "*.py"
    )
    for line in listed.splitlines():
        commit, *parents = line.split()
        if parents and _introduces(_patch(checkout, parents[0], commit)):
            return parents[0]
    return None


def _patch(checkout: Checkout, *revisions: str) -> str:
    """How the Python files of two revisions differ, or of one and the working tree."""
    # `git diff` of a working tree writes the index, unlike `git status` even without optional locks.
    quiet = ("-c", "diff.autoRefreshIndex=false")
    # A submodule may be called x.py, and git would ask in it, with its filters.
    how = (*_AS_IS, "--ignore-submodules=all", "-U0")
    return checkout.git(*quiet, "diff", *how, *revisions, "--", "*.py")


def _introduces(patch: str) -> bool:
    """Whether a patch adds more mentions of replicate's module than it takes away."""
    lines = [line for line in patch.splitlines() if _MARK in line]
    return sum(line.startswith("+") for line in lines) > sum(
        line.startswith("-") for line in lines
    )


@contextlib.contextmanager
def trees(
    checkout: Checkout, path: Path, base: str, folder: Path, rev: str | None = None
) -> Iterator[Trees]:
    """Checks out base revision and migrated tree below `folder`, and takes both away again, come what may.

    The migrated tree is the working tree as it is: HEAD, overlaid with every
    tracked change, and with the untracked files below the torchtitan package
    that git does not ignore. Untracked files elsewhere, such as checkpoints, no
    run needs. With `rev` it is that revision, and nothing is taken from the
    working tree.

    `folder` is made where it is not there, and removed with all that is in it.
    What an earlier verify left of itself when it was killed outright is taken
    away first; that is recognised in folders whose name begins with PREFIX.
    Raises VerifyError where a revision cannot be checked out or has no package.
    """
    parent = parent_of(checkout, path)
    grafted = graft.is_dependent(checkout)
    tip = _tip(checkout, rev)
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    made = {name: folder / name for name in _NAMES}
    (folder / _MARKER).write_text(f"{os.getpid()}\n")

    def take_down() -> None:
        with signals_held():
            _take_down(checkout, folder)

    with _claim(folder):
        # A signal that comes just as the `finally` begins would pass it by.
        atexit.register(take_down)
        try:
            _remove_leftovers(checkout)
            _add(checkout, made["base"], base)
            _add(checkout, made["migrated"], tip)
            touched = _committed(checkout, base, tip)
            if rev is None:
                touched += _overlay(checkout, parent, made["migrated"], grafted)
                _copy_generated(checkout, parent, made)
            for name in _NAMES if grafted else ():
                graft.graft(checkout, made[name] / parent)
            for name, revision, option in (
                ("base", base, "--base"),
                ("migrated", tip, "--rev"),
            ):
                train = parent / "torchtitan" / "train.py"
                if not (made[name] / train).is_file():
                    raise VerifyError(
                        f"The {name} revision {revision[:12]} has no {train}: name another with {option}."
                    )
            found = Trees(
                made["base"] / parent,
                made["migrated"] / parent,
                base,
                tip,
                tuple(_differing(made, touched)),
                folder,
                (
                    (str(made["base"]), f"{base[:12]}:"),
                    (
                        str(made["migrated"]),
                        f"{checkout.root}/" if rev is None else f"{tip[:12]}:",
                    ),
                ),
            )
            with _named(found):
                yield found
        finally:
            take_down()
            atexit.unregister(take_down)


@contextlib.contextmanager
def _named(trees: Trees) -> Iterator[None]:
    """Has the tool's own errors name files where the user has them."""
    try:
        yield
    except TitanMigrateError as error:
        said = trees.named(str(error))
        if said == str(error):
            raise
        raise type(error)(said) from error


def _add(checkout: Checkout, tree: Path, revision: str) -> None:
    """Checks a revision out as the worktree `tree`; raises VerifyError where git cannot, OSError where the disk is full."""
    try:
        with _alone(checkout), _signals_put_off():
            checkout.git(
                "worktree", "add", "--quiet", "--detach", "--force", str(tree), revision
            )
    except TitanMigrateError as error:
        if disk.says_full(str(error)):
            reason = os.strerror(errno.ENOSPC)
            raise OSError(errno.ENOSPC, reason, str(tree)) from None
        raise VerifyError(f"git could not check out {revision[:12]}. {error}") from None


def _take_down(checkout: Checkout, folder: Path) -> None:
    """Takes a verify's worktrees out of git's list, as far as they are in it, and removes its folder."""
    for name in _NAMES:
        # First, since git does not remove a worktree that is half there, but does one that is gone.
        shutil.rmtree(folder / name, ignore_errors=True)
    with contextlib.suppress(TitanMigrateError, OSError), _alone(checkout):
        for name in _NAMES:
            with contextlib.suppress(TitanMigrateError):
                tree = str(folder / name)
                checkout.git("worktree", "remove", "--force", "--force", tree)
        # A git that was interrupted while it added the first one leaves an empty list.
        common = checkout.git("rev-parse", "--git-common-dir").removesuffix("\n")
        (checkout.root / common / "worktrees").rmdir()
    # Last: as long as git lists a tree, the marker in here says whose it is.
    shutil.rmtree(folder, ignore_errors=True)


def _remove_leftovers(checkout: Checkout) -> None:
    """Takes down what verifies of this repository left that were killed outright, and nobody else's worktree."""
    with _alone(checkout):
        listed = checkout.git("worktree", "list", "--porcelain").splitlines()
    for line in listed:
        tree = Path(line.removeprefix("worktree "))
        if tree.name in _NAMES and tree.parent.name.startswith(PREFIX):
            # No marker, or one that a living verify holds.
            with contextlib.suppress(OSError), _claim(tree.parent), _signals_put_off():
                _take_down(checkout, tree.parent)


def _claim(folder: Path) -> IO[str]:
    """A verify's marker, locked until it is closed or this process ends, in whatever way.

    Not the process id in it: another process, or another container, may have the
    same. Raises OSError where there is no marker, or its verify lives.
    """
    marker = open(folder / _MARKER)
    try:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        marker.close()
        raise
    return marker


@contextlib.contextmanager
def _alone(checkout: Checkout) -> Iterator[None]:
    """Keeps other verifies of this repository from adding and removing worktrees meanwhile.

    git reads every worktree for that, and dies on one that is half there. The lock
    is on git's own folder, so no file is left. Where it cannot be had, on a disk
    without locks or in ten seconds, we go on without.
    """
    common = checkout.git("rev-parse", "--git-common-dir").strip()
    handle = os.open(checkout.root / common, os.O_RDONLY)
    try:
        for _ in range(200):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                break
            else:
                break
        yield
    finally:
        os.close(handle)


@contextlib.contextmanager
def _signals_put_off() -> Iterator[None]:
    """Has SIGINT, SIGTERM and their like wait until the end, for programs started meanwhile too.

    Ignored, a Ctrl-C would be lost; and git has to be let finish, for a terminal sends
    it the same Ctrl-C, and a `kill` would leave it at work behind our back.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, BREAKING_OFF)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _committed(checkout: Checkout, base: str, tip: str) -> list[str]:
    """Paths in which two revisions differ."""
    listed = checkout.git(
        "diff", "--name-only", "--no-renames", "--no-ext-diff", "-z", base, tip
    )
    return [path for path in listed.split("\0") if path]


def _overlay(
    checkout: Checkout, parent: Path, tree: Path, everywhere: bool
) -> list[str]:
    """Copies the working tree's changes over a checkout of HEAD; returns the paths.

    Of untracked files only those below the package, which lies in `parent`; Python files
    `everywhere` where the checkout has other packages.
    """
    root = checkout.root
    package = (parent / "torchtitan").as_posix()
    names = [
        path
        for letters, path in checkout.status()
        if letters != "??"
        or path == package
        or path.startswith(f"{package}/")
        or (everywhere and path.endswith(".py"))
    ]
    # What a sparse checkout leaves out is hidden too, and not changed.
    names += [path for path in checkout.hidden() if os.path.lexists(root / path)]
    for name in names:
        source, target = root / name, tree / name
        # A folder on the way that became a link is copied as one. Through it we would
        # write where it leads, and that may be the user's own files.
        if _behind_link(tree, target):
            continue
        if target.is_symlink() or target.is_file():
            target.unlink()
        # Neither what is gone nor a repository of its own.
        with _readable(name):
            there = source.is_symlink() or source.is_file()
        if there and not _behind_link(root, source):
            if target.is_dir():
                shutil.rmtree(target)
            target.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileNotFoundError), _readable(name):
                shutil.copy2(source, target, follow_symlinks=False)
    return names


def _behind_link(top: Path, path: Path) -> bool:
    """Whether a folder between `top` and `path` is a symbolic link."""
    between = path.relative_to(top).parents
    return any((top / folder).is_symlink() for folder in between if folder.parts)


@contextlib.contextmanager
def _readable(name: str) -> Iterator[None]:
    """Raises VerifyError where a file of the working tree may not be read."""
    try:
        yield
    except PermissionError as error:
        raise VerifyError(
            f"{name} could not be read ({error.strerror}): give yourself read permission and run again,"
            " or verify a commit with --rev."
        ) from None


def _copy_generated(checkout: Checkout, parent: Path, made: dict[str, Path]) -> None:
    """Copies the package's Python files that git ignores, such as a generated version, to trees without them."""
    listed = checkout.git(
        "ls-files",
        "--others",
        "--ignored",
        "--exclude-standard",
        "-z",
        "--",
        f"{(parent / 'torchtitan').as_posix()}/*.py",
    )
    for name in (path for path in listed.split("\0") if path):
        # Neither a link that leads nowhere nor a repository called x.py.
        if not (checkout.root / name).is_file():
            continue
        for tree in made.values():
            if not (tree / name).exists() and not _behind_link(tree, tree / name):
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                with _readable(name):
                    shutil.copy2(checkout.root / name, tree / name)


def _differing(made: dict[str, Path], names: list[str]) -> Iterator[str]:
    """The Python files among `names` that are not the same in both trees, sorted."""
    for name in sorted({name for name in names if name.endswith(".py")}):
        before, after = (made[key] / name for key in _NAMES)
        if not (
            before.is_file()
            and after.is_file()
            and before.read_bytes() == after.read_bytes()
        ):
            yield name
