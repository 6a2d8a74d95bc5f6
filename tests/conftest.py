"""Makes the helpers of the tests importable: each from its folder and those below."""

import sys
from pathlib import Path

import pytest

for _folder in (".", "codemods", "review", "verify", "verify/trained"):
    sys.path.insert(0, str(Path(__file__).parent / _folder))


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run side by side (``-n 2 --dist loadgroup``), one trains at a time."""
    for item in items:
        if item.get_closest_marker("torchrun"):
            item.add_marker(pytest.mark.xdist_group("torchrun"))
