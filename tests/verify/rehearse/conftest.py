"""Trees that are rehearsed once for all tests, and the process that does it."""

from __future__ import annotations

import shutil

import pytest

from migrator.verify.rehearse.run import Asked, rehearse

from rehearsing import Repertory, make_base, make_migrated, trees


@pytest.fixture(scope="session")
def right(tmp_path_factory):
    """The small torchtitan, before and after its migration."""
    top = tmp_path_factory.mktemp("right")
    make_base(top / "base")
    make_migrated(top / "base", top / "migrated")
    return trees(top / "base", top / "migrated")


@pytest.fixture(scope="session")
def theatre(tmp_path_factory, right):
    with Repertory(tmp_path_factory.mktemp("scratch")) as theatre:
        theatre.keep(right.base)
        theatre.keep(right.migrated)
        yield theatre


@pytest.fixture
def planted(right, theatre, tmp_path):
    """Rehearses the migrated tree with something done to it; all the sentences that are said of it."""

    def rehearsed(plant, model, *layouts, **asked):
        wrong = trees(right.base, tmp_path / "wrong")
        shutil.copytree(right.migrated, wrong.migrated)
        plant(wrong.migrated)
        return rehearse(wrong, [(model, layouts)], theatre, Asked(**asked))

    return rehearsed
