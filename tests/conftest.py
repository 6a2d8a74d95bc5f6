"""Makes the helpers of the tests importable: each from its folder and those below; says what runs beside what."""

import sys
from pathlib import Path

import pytest

for _folder in (".", "codemods", "review", "verify", "verify/trained"):
    sys.path.insert(0, str(Path(__file__).parent / _folder))


@pytest.hookimpl(optionalhook=True)  # there may be no xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Where tests run side by side (``-n 2``), one trains at a time, from the beginning on.

    Not by ``--dist loadgroup``: xdist 3.8 writes the groups where pytest 9.2 no
    longer reads them (pytest-xdist issue 1386).
    """
    if config.getvalue("dist") not in ("load", "loadgroup"):
        return None
    from xdist.scheduler import LoadScopeScheduling

    class TrainingApart(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            trains = nodeid.startswith("tests/verify/trained/")
            return "training" if trains else nodeid

    return TrainingApart(config, log)
