"""A series of commits on a new branch, and the checkout switched to it."""

import contextlib
import os
from collections.abc import Iterable, Mapping
from functools import partial

from migrator.changeset import Changeset, replace_file
from migrator.checkout import Checkout
from migrator.errors import GitFailed, TitanMigrateError
from migrator.series import hooks
from migrator.series.commits import (
    Commit,
    as_paths,
    base_of,
    build,
    parts,
    refuse_filtered,
    refuse_no_identity,
    refuse_uncommitted,
)
from migrator.signals import signals_held, terminable

_UNDER_WAY = {
    "MERGE_HEAD": "merge",
    "rebase-merge": "rebase",
    "rebase-apply": "rebase or `git am`",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
}


def commit_on_branch(
    changeset: Changeset, name: str, *, with_hooks: bool = False
) -> tuple[tuple[Commit, ...], tuple[str, ...]]:
    """Commit a migration on a new branch, and switch the checkout to it.

    Changes of files that the migration does not touch stay as they are, staged or not.
    Whatever breaks it off, the checkout is as before, or on the whole branch.

    Args:
        changeset: the migration, complete and not empty.
        name: of the branch, which must be new.
        with_hooks: commit as the user's git does, with hooks, signing and filters.

    Returns:
        The commits, and the files that hooks changed.

    Raises:
        TitanMigrateError: the name or the state of the checkout does not allow it, or
            git failed.
        LeftToDo: a hook or the signing refused.
    """
    checkout = changeset.checkout
    base = base_of(checkout)
    _refuse_name(checkout, name)
    _refuse_under_way(checkout)
    if not with_hooks:
        refuse_filtered(changeset)
    refuse_uncommitted(changeset)
    refuse_no_identity(checkout)
    series = parts(changeset, base)
    with terminable():
        if with_hooks:
            commits, changed = hooks.build(checkout, base, series)
        else:
            commits, changed = build(checkout, base, series), ()
        with signals_held():
            _switch(changeset, name, commits[-1].hash, with_hooks)
    return commits, changed


def _refuse_name(checkout: Checkout, name: str) -> None:
    try:
        taken_as = checkout.git("check-ref-format", "--branch", name).rstrip("\n")
    except TitanMigrateError:
        taken_as = None
    # `@{-1}` is a name for another branch.
    if taken_as != name:
        raise TitanMigrateError(
            f"{name!r} cannot be the name of a branch: give --branch another."
        )
    listed = checkout.git(
        "for-each-ref", "--format=%(refname)", f"refs/heads/{name}"
    ).splitlines()
    if f"refs/heads/{name}" in listed:
        raise TitanMigrateError(
            f"there is a branch {name} already: give --branch another name, or remove it "
            f"with `git branch -D {name}`."
        )
    # Whether git could make it: `a/b` cannot be beside `a`.
    orders = f"start\ncreate refs/heads/{name} HEAD\nprepare\nabort\n"
    try:
        checkout.git("update-ref", "--stdin", given=os.fsencode(orders))
    except GitFailed as error:
        raise TitanMigrateError(
            f"git cannot make a branch {name} ({error.reason}): give --branch another name."
        ) from None


def _refuse_under_way(checkout: Checkout) -> None:
    asked = [word for name in _UNDER_WAY for word in ("--git-path", name)]
    places = checkout.git("rev-parse", *asked).splitlines()
    for place, what in zip(places, _UNDER_WAY.values()):
        if (checkout.root / place).exists():
            raise TitanMigrateError(
                f"{checkout.root} is in the middle of a {what}: finish or abort it first."
            )
    if checkout.git("ls-files", "--unmerged", "-z"):
        raise TitanMigrateError(
            f"{checkout.root} has unmerged files: resolve the conflicts first."
        )


def _switch(changeset: Changeset, name: str, tip: str, with_hooks: bool) -> None:
    """Make the branch and switch to it, or leave everything as it is.

    One git process does it all, in a session of its own: what ends us does not end it.
    """
    checkout = changeset.checkout
    base = base_of(checkout)
    run_git = partial(hooks.run_git, checkout) if with_hooks else checkout.git
    command = ("switch", "--quiet", "--no-track", "--no-recurse-submodules")
    try:
        run_git(*command, "--create", name, tip, start_new_session=True)
    except Exception:
        # The exit status may be that of a post-checkout hook, which comes too late to refuse.
        if not _is_on(checkout, name):
            _restore(changeset, base, name, tip)
            raise
    if not with_hooks:
        _rewrite(changeset, changeset.places, changeset.changes)


def _is_on(checkout: Checkout, name: str) -> bool:
    try:
        return checkout.git("symbolic-ref", "HEAD") == f"refs/heads/{name}\n"
    except TitanMigrateError:  # detached
        return False


def _restore(changeset: Changeset, base: str, name: str, tip: str) -> None:
    """Take back what a switch did that broke off, on a full disk say."""
    checkout = changeset.checkout
    begun = [place for place in changeset.places if _is_begun(changeset, place)]
    new = [p for p in begun if changeset.before(changeset.places[p]) is None]
    for place in new:
        (checkout.root / place).unlink(missing_ok=True)
    ours = [place for place in begun if place not in new]
    with contextlib.suppress(TitanMigrateError):
        if ours:
            checkout.git(
                "--literal-pathspecs",
                "checkout",
                "--quiet",
                base,
                "--pathspec-from-file=-",
                "--pathspec-file-nul",
                given=as_paths(ours),
            )
    before = {path: changeset.before(path) or b"" for path in changeset.changes}
    _rewrite(changeset, ours, before)
    with contextlib.suppress(TitanMigrateError):
        checkout.git("update-ref", "-d", f"refs/heads/{name}", tip)


def _is_begun(changeset: Changeset, place: str) -> bool:
    """Whether git began to write a file, and not somebody else meanwhile."""
    after = changeset.changes[changeset.places[place]]
    try:
        now = (changeset.checkout.root / place).read_bytes()
    except FileNotFoundError:
        return True
    return after.replace(b"\r\n", b"\n").startswith(now.replace(b"\r\n", b"\n"))


def _rewrite(
    changeset: Changeset, places: Iterable[str], contents: Mapping[str, bytes]
) -> None:
    """Give files the line ends they had, where git by its settings gives them others."""
    # Not the one from before the switch: on another branch other filters may be in
    # force (`includeIf "onbranch:..."`), to be switched off as well.
    checkout = Checkout(changeset.checkout.root, is_git=True)
    rewritten = []
    # No loss if it fails: to git the file is the same with other line ends.
    with contextlib.suppress(OSError, TitanMigrateError):
        for place in places:
            content = contents[changeset.places[place]]
            if (checkout.root / place).read_bytes() != content:
                replace_file(checkout.root / place, content)
                rewritten.append(place)
        # By another size git takes a file for another, and looks no further.
        checkout.git("update-index", "-z", "--stdin", given=as_paths(rewritten))
