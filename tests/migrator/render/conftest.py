"""Every fixture, as it stands there."""

import pytest

from places import TOP

FIXTURES = sorted(path.name for path in (TOP / "fixtures").iterdir() if path.is_dir())


@pytest.fixture(params=FIXTURES)
def fixture(request):
    return TOP / "fixtures" / request.param
