"""Makes the helpers of the tests importable: each from its folder and those below; says what runs beside what."""

import hashlib
import re
import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import pytest

from codemods.engine import Outcome, migrate
from codemods.selection import Selection
from codemods.texts import none
from migrator import apply
from migrator.review import compare

for _folder in (".", "codemods", "generated", "review", "verify", "verify/trained"):
    sys.path.insert(0, str(Path(__file__).parent / _folder))


def unit(nodeid: str) -> str:
    """What one worker runs as a whole, where tests run side by side (``-n 3``).

    Tests that train take both cores at times, so they are not strewn over the run: most
    are the first unit, beside all others, and some the last, so that no core is left
    idle. Not by ``--dist loadgroup``: xdist 3.8 writes the groups where pytest 9.2 no
    longer reads them (pytest-xdist issue 1386). The toys train once for all that ask,
    and a release is migrated once for all that look at its commits. A small torchtitan
    is rehearsed once for all that plant something in it.
    """
    if nodeid.startswith("tests/hazards/"):
        return "tests/hazards"
    if re.match(r"tests/verify/rehearse/test_(planted|run)\.py::", nodeid):
        return "tests/verify/rehearse"
    if released := re.search(r"^tests/migrator/series/.*(\[released\d+\])$", nodeid):
        return released[1]
    if not nodeid.startswith("tests/verify/trained/"):
        return nodeid
    return "last" if "/test_verify.py::" in nodeid else "first"


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Brings the units into their order, in each worker alike."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: {"first": 0, "last": 2}.get(unit(item.nodeid), 1))


@pytest.hookimpl(optionalhook=True)  # there may be no xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Hands out whole units, in the order of the tests."""
    if config.getvalue("dist") not in ("load", "loadgroup"):
        return None
    from xdist.scheduler import LoadScopeScheduling

    class UnitScheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit(nodeid)

    config.option.loadscopereorder = False
    return UnitScheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def migrated_once() -> Iterator[None]:
    """What the commands plan for a tree is a function of its files, so it is worked out once for the same files."""
    known: OrderedDict[tuple, Outcome] = OrderedDict()

    def remembered(files, target, selection=Selection(), texts=none) -> Outcome:
        content = hashlib.sha256()
        for path, file in (*files.items(), *texts().items()):
            content.update(
                f"{path}\0{len(file.raw)}\0".encode("utf-8", "surrogateescape")
            )
            content.update(file.raw)
        key = content.digest(), target, selection
        if key not in known:
            known[key] = migrate(files, target, selection, texts)
        known.move_to_end(key)
        if len(known) > 64:  # with their syntax trees, some 50 MB for a release
            known.popitem(last=False)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apply, "migrate", remembered)
        patch.setattr(compare, "migrate", remembered)
        yield
