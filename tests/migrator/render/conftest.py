"""Every fixture, as it stands there."""

import pytest

from places import FORKS, TOP


@pytest.fixture(params=FORKS)
def fixture(request):
    return TOP / "fixtures" / request.param
