"""Checkouts that commands are run on; makes the helpers of the tests below importable."""

import sys
from pathlib import Path

import pytest

from places import FIXTURES
from releases import as_checkout

sys.path.insert(0, str(Path(__file__).parent / "series"))


@pytest.fixture
def fork(tmp_path):
    """A clean git checkout of a fixture with every kind of place in it."""
    return as_checkout(FIXTURES / "v0_2_1", tmp_path / "fork")
