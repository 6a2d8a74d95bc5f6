"""Commits as the user's own git makes them: with hooks, signing and filters."""

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from migrator.changeset import replace_file
from migrator.checkout import ELSEWHERE, Checkout
from migrator.errors import LeftToDo
from migrator.render import inert
from migrator.series.commits import AS_CONFIGURED, Commit, Part, as_paths


def build(
    checkout: Checkout, base: str, series: tuple[Part, ...]
) -> tuple[tuple[Commit, ...], tuple[str, ...]]:
    """Make the commits with `git commit`; no branch leads to them yet.

    Args:
        checkout: whose files they change.
        base: full hash of the revision that they begin on.
        series: what to commit.

    Returns:
        The commits, and the files that a hook changed.

    Raises:
        LeftToDo: a hook or the signing refused; with what git printed.
    """
    made: list[Commit] = []
    changed: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="titan-migrate-") as folder:
        tree = _worktree(checkout, base, Path(folder).resolve())
        # A relative core.hooksPath may be a folder that git does not track.
        place = run_git(checkout, "rev-parse", "--git-path", "hooks").rstrip("\n")
        with_hooks = ("-c", f"core.hooksPath={(checkout.root / place).resolve()}")
        for part in series:
            for path, raw in part.files.items():
                replace_file(tree.root / path, raw)
            run_git(tree, "update-index", "-z", "--stdin", given=as_paths(part.files))
            as_is = ("--quiet", "--cleanup=verbatim", "--file=-")
            try:
                run_git(
                    tree, *with_hooks, "commit", *as_is, given=part.message.encode()
                )
            except LeftToDo as error:
                # A hook may name files where it runs, which nobody finds there later.
                said = str(error).replace(str(tree.root), str(checkout.root))
                raise LeftToDo(said) from None
            listed = tree.git("diff-tree", "-r", "-z", "--name-only", "HEAD^", "HEAD")
            committed = set(listed.split("\0")) - {""}
            changed |= committed ^ set(part.files)
            changed |= {
                path
                for path, raw in part.files.items()
                if (tree.root / path).read_bytes() != raw
            }
            log = tree.git("log", "-1", "--format=%H%n%s").splitlines()
            made.append(Commit(log[0], log[1]))
    return tuple(made), tuple(sorted(changed))


def _worktree(checkout: Checkout, base: str, folder: Path) -> Checkout:
    """A working tree of the checkout's repository, in a folder that the repository does not know.

    A linked worktree in every other way. One that `git worktree add` made would stay
    in the repository's list if this process were killed.
    """
    common = checkout.git("rev-parse", "--git-common-dir").rstrip("\n")
    own, tree = folder / "git", folder / "tree"
    own.mkdir()
    tree.mkdir()
    (own / "HEAD").write_text(f"{base}\n")
    (own / "commondir").write_text(f"{(checkout.root / common).resolve()}\n")
    (own / "gitdir").write_text(f"{tree / '.git'}\n")
    (tree / ".git").write_text(f"gitdir: {own}\n")
    made = Checkout(tree, is_git=True)
    run_git(made, "reset", "--quiet", "--hard")
    return made


def run_git(
    checkout: Checkout, *arguments: str, given: bytes = b"", **process: Any
) -> str:
    """Run git as the user would, with all that is configured for it.

    Args:
        checkout: where.
        arguments: the command and its arguments, perhaps after options of git.
        given: what it reads from stdin.
        process: more for `subprocess.Popen`.

    Returns:
        All that it printed.

    Raises:
        LeftToDo: git failed; with all that it printed.
    """
    done = subprocess.run(
        ["git", *AS_CONFIGURED, *arguments],
        cwd=checkout.root,
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={
            **{k: v for k, v in os.environ.items() if k not in ELSEWHERE},
            # pre-commit's list: our own hook would refuse all commits but the last.
            "SKIP": ",".join(filter(None, (os.environ.get("SKIP"), "titan-migrate"))),
        },
        **process,
    )
    said: str = done.stdout.decode("utf-8", "surrogateescape")
    if done.returncode:
        command = next(
            word for word in arguments if not word.startswith("-") and "=" not in word
        )
        printed = ["  | " + inert(line, keep="\t") for line in said.strip().split("\n")]
        head = (
            f"`git {command}` was refused, and nothing was left behind. Mend what it says, or "
            "leave out --hooks:"
        )
        raise LeftToDo("\n".join([head, *printed]))
    return said
