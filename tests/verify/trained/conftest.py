"""Tests here train: they need the `verify` extra, and many seconds each."""

from __future__ import annotations

import pytest

from migrator.apply import apply_checkout
from migrator.verify.train import launch

import warm
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
def warm_ranks(monkeypatch):
    """Ranks that find torch imported, where how ranks are started is not what is tested."""
    monkeypatch.setattr(launch, "run_job", warm.run_job)


@pytest.fixture
def warm_base(monkeypatch):
    """The same for runs of the base revision alone."""
    cold = launch.run_job

    def run_job(tree, **rest):
        return (cold if tree.name == "migrated" else warm.run_job)(tree, **rest)

    monkeypatch.setattr(launch, "run_job", run_job)
