"""A report folder of an earlier verify."""

from __future__ import annotations

import pytest

from migrator.verify.show.folder import written_alone


@pytest.fixture
def ours(tmp_path):
    """A folder that verify has written into."""
    place = tmp_path / "report"
    place.mkdir()
    with written_alone(place):
        pass
    return place
