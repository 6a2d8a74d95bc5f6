"""Makes the helpers of the tests importable: each from its folder and those below; says what runs beside what."""

import gc
import hashlib
import os
import sys
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from codemods import engine
from codemods.dependency import UNKNOWN
from codemods.engine import WorkedOut, migrate
from codemods.selection import Selection
from codemods.texts import none
from migrator.review import compare

_FOLDERS = (
    *(".", "codemods", "generated", "migrator/sweep", "review", "verify"),
    "verify/trained",
)
for _folder in _FOLDERS:
    sys.path.insert(0, str(Path(__file__).parent / _folder))

# What is tested is planned, not taken over from an earlier run.
os.environ["TITAN_MIGRATE_NO_CACHE"] = "1"

# Syntax trees are many objects that stay: looking through them for circles, again and
# again, takes a tenth of the time.
gc.set_threshold(200_000, 50, 1000)


_THERE = [0]
"""Objects that there were when they were last looked through."""


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """Commands that end soon free nothing; here their process goes on."""
    yield
    more = gc.get_freeze_count() - _THERE[0]
    gc.unfreeze()
    gc.enable()
    if more > 8_000_000:
        gc.collect()
        gc.freeze()
        _THERE[0] = gc.get_freeze_count()
        gc.unfreeze()


def unit(nodeid: str) -> str:
    """What one worker runs as a whole, where tests run side by side (``-n 4``): a file.

    So what a file sets up is set up once. Tests that train are three units, which begin
    first: planted defects share what they train, and the others wait for ranks most of
    the time. Not by ``--dist loadgroup``: xdist 3.8 writes the groups where pytest 9.2
    no longer reads them (pytest-xdist issue 1386).
    """
    file = nodeid.partition("::")[0]
    if file in COLD:
        return "cold"
    if file.startswith(("tests/verify/trained/", "tests/hazards/")) and file != PLANTED:
        return "trained"
    return file


PLANTED = "tests/verify/trained/test_planted_defects.py"

COLD = (
    "tests/verify/trained/test_killed.py",
    "tests/verify/trained/test_nodes.py",
    "tests/verify/trained/test_fixture.py",
)
"""Those of the trainings whose ranks or runs begin with an interpreter of their own."""


def turn(nodeid: str) -> int:
    """When a test's unit is handed out: long ones first, so that no core is left idle at the end."""
    units = (PLANTED, "cold", "trained", "tests/test_real_releases.py")
    found = unit(nodeid)
    return units.index(found) if found in units else len(units)


def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    """Brings the units into their order, in each worker alike."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: turn(item.nodeid))


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
    known: OrderedDict[tuple, WorkedOut] = OrderedDict()

    def remembered(
        files,
        target,
        selection=Selection(),
        texts=none,
        *,
        dependency=UNKNOWN,
        write=True,
    ) -> WorkedOut:
        content = hashlib.sha256(f"{replace(dependency, files={})}".encode())
        for path, file in (
            *files.items(),
            *dependency.files.items(),
            *texts().items(),
        ):
            content.update(
                f"{path}\0{len(file.raw)}\0".encode("utf-8", "surrogateescape")
            )
            content.update(file.raw)
        key = content.digest(), target, selection, write
        if key not in known:
            known[key] = migrate(
                files, target, selection, texts, dependency=dependency, write=write
            )
        known.move_to_end(key)
        if len(known) > 64:  # with their syntax trees, some 50 MB for a release
            known.popitem(last=False)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "migrate", remembered)
        patch.setattr(compare, "migrate", remembered)
        yield
