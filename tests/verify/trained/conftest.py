"""Tests here train: they need the `verify` extra, and a minute or more each."""

from __future__ import annotations

import pytest

from forks import migrated_checkout


@pytest.fixture
def migrated(tmp_path):
    """Makes a migrated checkout of a release: `migrated("0.2.1")` is its path."""
    return lambda version: migrated_checkout(version, tmp_path / "fork")
