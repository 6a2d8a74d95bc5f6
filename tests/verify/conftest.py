"""A report folder of an earlier verify, and no runs that one has kept."""

from __future__ import annotations

import pytest

from migrator.verify.keep import cache
from migrator.verify.show.folder import written_alone


@pytest.fixture(autouse=True)
def nothing_kept(tmp_path, monkeypatch):
    """The user's own cache stays out of it."""
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "cache" / "runs")


@pytest.fixture
def ours(tmp_path):
    """A folder that verify has written into."""
    place = tmp_path / "report"
    place.mkdir()
    with written_alone(place):
        pass
    return place
