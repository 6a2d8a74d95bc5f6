"""Makes ``releases`` and ``support`` importable from every folder of tests."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Where tests run side by side (``-n 2 --dist loadgroup``), one trains at a time."""
    for item in items:
        if item.get_closest_marker("torchrun"):
            item.add_marker(pytest.mark.xdist_group("torchrun"))
