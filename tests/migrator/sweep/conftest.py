"""Repositories that are swept."""

from collections.abc import Callable
from pathlib import Path

import pytest

from migrator.sweep.objects import Repository
from migrator.sweep.row import Planned, Row
from migrator.sweep.shared import Shared
from migrator.sweep.tree import Tree, TreeCheckout, Trees

from organisation import Files, git_import


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No result of another test, and those of its own are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TITAN_MIGRATE_NO_CACHE")


@pytest.fixture
def tree_of(tmp_path) -> Callable[[Files], Tree]:
    """A tree of some files, in a repository made for it."""

    def make(files: Files) -> Tree:
        place = tmp_path / f"{len(list(tmp_path.iterdir()))}.git"
        git_import(place, {"refs/heads/main": (None, files)})
        repository = Repository(place)
        return Tree(
            Trees(repository), repository.git("rev-parse", "main^{tree}").strip()
        )

    return make


@pytest.fixture
def checkout_of(tree_of) -> Callable[[Files], TreeCheckout]:
    """The same as a checkout."""

    def make(files: Files) -> TreeCheckout:
        tree = tree_of(files)
        root = tree.trees.repository.git_dir
        return TreeCheckout(root, is_git=True, tree=tree, shared=Shared())

    return make


@pytest.fixture
def row() -> Callable[..., Row]:
    """A row, of which some is given."""

    def make(ref: str = "main", state: str = "ready", **planned: object) -> Row:
        known = Planned(state, "0.2.2", "1d", **planned)
        return Row("forks/a.git", f"refs/heads/{ref}", "c" * 40, 0, "e" * 40, known)

    return make


@pytest.fixture
def bare(tmp_path) -> Path:
    """A repository with one branch and one file."""
    git_import(tmp_path / "a.git", {"refs/heads/main": (None, {"a.py": b"x = 1\n"})})
    return tmp_path / "a.git"
