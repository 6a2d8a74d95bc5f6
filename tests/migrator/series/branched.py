"""Commits on a branch, and all of a checkout that they could have changed, for the tests of a series."""

from pathlib import Path

from commands import run
from releases import git

PLAN = "torchtitan/models/llama3/infra/parallelize.py"
SUBJECTS = [
    "Replace DDP by replicate",
    "Accept Replicate placements in the MoE state-dict adapter",
]


def commit(tree: Path, name: str = "m", *more: object):
    return run("apply", tree, "--branch", name, "--commit", *more)


def checkout_of(tree: Path) -> Path:
    git(tree, "init", "-q", "-b", "main")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "base")
    return tree


def content(tree: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(tree)): (path.read_bytes(), path.lstat().st_mode)
        for path in tree.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }


def state(tree: Path) -> object:
    """All of a checkout that an interrupted command could have changed."""
    return (
        content(tree),
        git(tree, "for-each-ref"),
        (tree / ".git/HEAD").read_text(),
        git(tree, "ls-files", "-s", "-z"),
        git(tree, "worktree", "list"),
        sorted(path.name for path in (tree / ".git").iterdir()),
    )


def tree_of(tree: Path, revision: str = "HEAD") -> str:
    return git(tree, "rev-parse", f"{revision}^{{tree}}").strip()


def objects(tree: Path) -> set[str]:
    return {str(path) for path in (tree / ".git").rglob("*")}


INTERRUPTED = """
import os, signal, sys
from migrator.checkout import Checkout
signal.signal(signal.SIGINT, signal.default_int_handler)
word, when, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
real = Checkout._run
def run(self, *command, **rest):
    here = word in command
    if here and when == "before": os.kill(os.getpid(), number)
    try:
        return real(self, *command, **rest)
    finally:
        if here and when == "after": os.kill(os.getpid(), number)
Checkout._run = run
from migrator.cli import main
main(sys.argv[4:])
"""
