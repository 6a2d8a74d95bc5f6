"""Checkouts that commands are run on; makes the helpers of the tests below importable."""

import shutil
import sys
from pathlib import Path

import pytest

from hostile import hostile_checkout
from places import FIXTURES
from releases import as_checkout, git

sys.path.insert(0, str(Path(__file__).parent / "series"))


@pytest.fixture
def fork(tmp_path):
    """A clean git checkout of a fixture with every kind of place in it."""
    return as_checkout(FIXTURES / "v0_2_1", tmp_path / "fork")


@pytest.fixture
def tree(tmp_path):
    """What forks do to torchtitan, without git."""
    shutil.copytree(FIXTURES / "fork_quirks", tmp_path / "fork")
    return tmp_path / "fork"


@pytest.fixture
def repo(tree):
    """The same in git."""
    git(tree, "init", "-q")
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", "base")
    return tree


@pytest.fixture
def hostile(tmp_path):
    """A checkout with a file of a hostile name and hostile comments in every file."""
    return hostile_checkout(tmp_path)
