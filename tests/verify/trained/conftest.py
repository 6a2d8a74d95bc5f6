"""Tests here train: they need the `verify` extra, and many seconds each."""

from __future__ import annotations

import contextlib

import pytest

from migrator.apply import apply_checkout
from migrator.verify import run
from migrator.verify.choose import scenarios
from migrator.verify.train import launch

from forks import migrated_checkout, small_checkout


@pytest.fixture
def migrated(tmp_path):
    """Makes a migrated checkout of a release: `migrated("0.2.1")` is its path."""
    return lambda version: migrated_checkout(version, tmp_path / "fork")


@pytest.fixture
def small(tmp_path):
    """A small checkout, migrated, the migration not committed."""
    tree = small_checkout(tmp_path / "fork")
    apply_checkout(tree, target="1d")
    return tree


@pytest.fixture
def warm_ranks(monkeypatch, launcher):
    """One process that forks ranks serves all tests, where how it comes and goes is not what is tested."""
    monkeypatch.setattr(
        run, "Launcher", lambda caches: contextlib.nullcontext(launcher)
    )


@pytest.fixture
def short(monkeypatch):
    """Sequences of 64 tokens: forward and backward are most of what a warm run costs."""
    monkeypatch.setattr(scenarios, "SEQUENCE_LENGTH", 64)


@pytest.fixture(scope="session")
def launcher(tmp_path_factory):
    with launch.Launcher(tmp_path_factory.mktemp("caches")) as started:
        yield started
