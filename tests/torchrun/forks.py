"""Checkouts of real releases, migrated and broken at will."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from migrator.apply import apply_checkout

from releases import release


def git(tree: Path, *arguments: str) -> str:
    """Runs git in `tree` and returns what it prints."""
    command = [
        "git",
        "-C",
        str(tree),
        "-c",
        "user.name=test",
        "-c",
        "user.email=test@example.invalid",
        *arguments,
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def checkout(version: str, tree: Path) -> Path:
    """A release in a git repository of its own, one commit, nothing migrated."""
    shutil.copytree(
        release(version) / "torchtitan",
        tree / "torchtitan",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    (tree / ".gitignore").write_text("__pycache__/\n")
    git(tree, "init", "--quiet")
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message", f"torchtitan {version}")
    return tree


def migrated_checkout(version: str, tree: Path) -> Path:
    """A release with the migration in its working tree, not committed."""
    checkout(version, tree)
    apply_checkout(tree, target="1d")
    return tree


def edit(path: Path, before: str, after: str) -> None:
    """Plants a defect: replaces the one place where `before` stands."""
    text = path.read_text()
    assert (
        text.count(before) == 1
    ), f"{before!r} occurs {text.count(before)} times in {path}"
    path.write_text(text.replace(before, after))
