"""Runs in the cache: the same comes back, anything else is missed, and deleting it hurts nobody."""

from __future__ import annotations

import os
import shutil
import threading
import time

import pytest

from migrator.verify.keep.cache import Cache
from migrator.verify.train.launch import Outcome

from verifiable import fill, listed

WELL = Outcome(0, 1.5, False)
FACTS = {"torch": "2.13.0", "the machine": "M", "digest": "d"}


@pytest.fixture
def run(tmp_path):
    """Traces and weights of a run."""
    fill(tmp_path / "run", "traces/rank0.jsonl", text="{}\n")
    fill(tmp_path / "run", "weights/rank0.npz", "weights/deep/a", text="w" * 1000)
    return tmp_path / "run"


def put(kept, run, what="told"):
    return kept.put(what, WELL, run / "traces", {"weights": run / "weights"})


def get(kept, place, what="told"):
    """What is laid out of a kept run; None where there is none."""
    shutil.rmtree(place, ignore_errors=True)
    (place / "traces").mkdir(parents=True)
    outcome = kept.get(what, place / "traces", {"weights": place / "weights"})
    if outcome is None:
        assert listed(place) == ["traces"]
        return None
    assert outcome == WELL
    return listed(place)


WHOLE = ["traces", "traces/rank0.jsonl", "weights", "weights/deep", "weights/deep/a"]
WHOLE += ["weights/rank0.npz"]


def entries(kept):
    return sorted(kept.root.iterdir())


def test_a_run_comes_back(run, tmp_path):
    assert get(Cache(tmp_path / "c", FACTS), tmp_path / "a") is None
    assert put(Cache(tmp_path / "c", FACTS), run) == ""
    kept = Cache(tmp_path / "c", dict(reversed(FACTS.items())))
    assert get(kept, tmp_path / "a") == WHOLE
    assert (tmp_path / "a/weights/rank0.npz").read_text() == "w" * 1000


@pytest.mark.parametrize("name", [*FACTS, "one more"])
def test_another_fact_misses(run, tmp_path, name):
    put(Cache(tmp_path / "c", FACTS), run)
    other = Cache(tmp_path / "c", {**FACTS, name: "other"})
    assert get(other, tmp_path / "a") is None


def test_another_setting_misses(run, tmp_path):
    kept = Cache(tmp_path / "c", FACTS)
    put(kept, run)
    assert get(kept, tmp_path / "a", "told otherwise") is None


def test_a_run_in_the_place_of_another_is_not_taken_for_it(run, tmp_path):
    kept = Cache(tmp_path / "c", FACTS)
    put(kept, run)
    kept._entry("told").rename(kept._entry("else"))
    assert get(kept, tmp_path / "a", "else") is None and entries(kept) == []


@pytest.mark.parametrize(
    "damage",
    [
        lambda entry: (entry / "weights/rank0.npz").write_text("v" * 1000),
        lambda entry: (entry / "weights/deep/a").unlink(),
        lambda entry: fill(entry, "weights/more"),
        lambda entry: (entry / "run.json.gz").write_bytes(b"x"),
    ],
)
def test_what_is_damaged_is_made_again(run, tmp_path, damage):
    kept = Cache(tmp_path / "c", FACTS)
    put(kept, run)
    (entry,) = entries(kept)
    damage(entry)
    assert get(kept, tmp_path / "a") is None and entries(kept) == []
    put(kept, run)
    assert get(kept, tmp_path / "a") == WHOLE


@pytest.mark.parametrize("gone", ["", "run.json.gz", "weights"])
def test_it_may_be_deleted_at_any_time(run, tmp_path, gone):
    kept = Cache(tmp_path / "c", FACTS)
    put(kept, run)
    (entry,) = entries(kept)
    place = entry / gone
    place.unlink() if place.is_file() else shutil.rmtree(place)
    assert get(kept, tmp_path / "a") is None


def test_two_verifies_at_once_keep_one_run(run, tmp_path):
    kept = Cache(tmp_path / "c", FACTS)
    said = []

    def work(n):
        for _ in range(20):
            said.append(put(kept, run))
            said.append(get(kept, tmp_path / str(n)) or WHOLE)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(said) == 160 and all(one in ("", WHOLE) for one in said)
    assert len(entries(kept)) == 1


def test_what_nobody_has_asked_for_longest_goes_first(run, tmp_path):
    kept = Cache(tmp_path / "c", FACTS, largest=5000)
    for age, what in ((300, "a"), (200, "b")):
        put(kept, run, what)
        os.utime(kept._entry(what), (time.time() - age,) * 2)
    assert get(kept, tmp_path / "x", "a") == WHOLE  # which is asked for now
    put(kept, run, "c")
    found = [what for what in "abc" if kept._entry(what).is_dir()]
    assert found == ["a", "c"]


def test_what_a_killed_verify_left_half_written_goes(run, tmp_path):
    kept = Cache(tmp_path / "c", FACTS)
    old, new = kept.root / ".new-old", kept.root / ".new-new"
    for place in (old, new):
        fill(place, "weights/a")
    os.utime(old, (time.time() - 7200,) * 2)
    put(kept, run)
    assert not old.exists() and new.exists()


def test_a_folder_that_cannot_be_written_to_is_said(run, tmp_path):
    (tmp_path / "file").write_text("")
    kept = Cache(tmp_path / "file" / "c", FACTS)
    assert "cannot be written to (Not a directory)" in put(kept, run)
    assert get(kept, tmp_path / "a") is None


def test_words_beside_a_run_go_with_it(run, tmp_path):
    kept = Cache(tmp_path / "c", FACTS)
    kept.mark("told", "bitwise")
    assert not kept.marked("told", "bitwise")
    put(kept, run)
    assert not kept.marked("told", "bitwise")
    kept.mark("told", "bitwise")
    assert kept.marked("told", "bitwise") and not kept.marked("else", "bitwise")
    assert get(kept, tmp_path / "a") == WHOLE
