"""Where a run comes from: golden before cached, and no golden one where more than its traces is needed."""

from __future__ import annotations

import pytest

from migrator.verify.keep.cache import Cache
from migrator.verify.keep.golden import Exported, Golden
from migrator.verify.keep.shelf import CACHE, GOLDEN, Shelf
from migrator.verify.train.launch import Outcome

from verifiable import fill

OLD, NEW = Outcome(0, 1.0, False), Outcome(0, 2.0, False)


@pytest.fixture
def traces(tmp_path):
    fill(tmp_path / "traces", "rank0.jsonl", text="{}\n")
    return tmp_path / "traces"


@pytest.fixture
def golden(traces, tmp_path):
    made = Exported(tmp_path / "runs.gz", {}, "")
    Shelf(exported=made).export("m/dp/a", "told", OLD, traces)
    Shelf(exported=made).is_bitwise("m/dp", "told")
    made.write()
    return Golden(made.path)


@pytest.fixture
def cache(traces, tmp_path):
    made = Cache(tmp_path / "c", {})
    Shelf(cache=made).put("told", NEW, traces, {})
    return made


def test_nothing_comes_from_an_empty_shelf(traces):
    shelf = Shelf()
    shelf.put("told", NEW, traces, {})
    shelf.export("m/dp/a", "told", NEW, traces)
    assert shelf.get("m/dp/a", "told", traces, {}, alone=True) is None
    assert not shelf.was_bitwise("m/dp", "told") and not shelf.taken


def test_golden_comes_first_where_traces_are_enough(cache, golden, traces):
    shelf = Shelf(cache, golden)
    assert shelf.get("m/dp/a", "told", traces, {}, alone=True) == OLD
    assert shelf.taken == {"m/dp/a": GOLDEN}
    assert shelf.get("m/seed", "told", traces, {}, alone=False) == NEW
    assert shelf.taken["m/seed"] == CACHE


def test_what_golden_lacks_comes_from_the_cache(cache, golden, traces):
    shelf = Shelf(cache, golden)
    shelf.put("more", NEW, traces, {})
    assert shelf.get("m/dp/b", "more", traces, {}, alone=True) == NEW
    assert shelf.get("m/dp/c", "nowhere", traces, {}, alone=True) is None


def test_bitwise_is_known_again(cache, golden, traces):
    assert Shelf(golden=golden).was_bitwise("m/dp", "anything")
    assert not Shelf(golden=golden).was_bitwise("n/dp", "anything")
    assert not Shelf(cache).was_bitwise("m/dp", "told")
    Shelf(cache).is_bitwise("m/dp", "told")
    assert Shelf(cache).was_bitwise("m/dp", "told")


def test_why_nothing_is_kept_is_found_once(traces, tmp_path):
    (tmp_path / "file").write_text("")
    shelf = Shelf(Cache(tmp_path / "file" / "c", {}))
    shelf.put("told", NEW, traces, {})
    assert "cannot be written to" in shelf.problem
    shelf.cache = Cache(tmp_path / "other", {})
    shelf.put("told", NEW, traces, {})
    assert not (tmp_path / "other").exists()
