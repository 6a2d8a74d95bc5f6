"""Runs of the base revision that are not trained again: the verdict is the same, and a change is never hidden."""

from __future__ import annotations

import contextlib
import json
import shutil
from types import SimpleNamespace

import pytest

from migrator.apply import apply_checkout
from migrator.verify import VerifyError, run
from migrator.verify.choose.scenarios import CELLS, PARTIES
from migrator.verify.job import _can_be_kept
from migrator.verify.keep import cache, facts
from migrator.verify.keep.shelf import CACHE, GOLDEN

from forks import edit, git, small_checkout, verified

pytestmark = pytest.mark.torchrun

PLAN = "torchtitan/models/llama3/infra/parallelize.py"
BASE = {"llama3/dp/baseline", "llama3/dp/control", "llama3/dp/nudged"}
OPTIONS = {"cells": ("dp",), "steps": 2, "cached": True}


def verify(tree, **options):
    """The verdict of dp, what was printed, and what the report says of where runs came from."""
    found, printed = verified(tree, **{**OPTIONS, **options})
    report = json.loads((tree.parent / "report" / "report.json").read_text())
    return found["dp"], " ".join(printed.split()), report["environment"]


@pytest.fixture(scope="module")
def first(tmp_path_factory, launcher):
    """A verify that finds nothing kept, and keeps all: its folder and what it found."""
    folder = tmp_path_factory.mktemp("first")
    tree = small_checkout(folder / "fork")
    apply_checkout(tree, target="1d")
    with pytest.MonkeyPatch.context() as patch:
        started = contextlib.nullcontext(launcher)
        patch.setattr(run, "Launcher", lambda caches: started)
        patch.setattr(cache, "folder", lambda: folder / "cache")
        return folder, verify(tree, export=folder / "runs.gz")


@pytest.fixture
def tree(first, tmp_path, monkeypatch, warm_ranks):
    """The same checkout, with what was kept of the first verify."""
    shutil.copytree(first[0] / "cache", tmp_path / "kept")
    monkeypatch.setattr(cache, "folder", lambda: tmp_path / "kept")
    return shutil.copytree(first[0] / "fork", tmp_path / "fork")


@pytest.fixture
def asked(tree, monkeypatch):
    """The first run that is asked for: `asked(steps=1)` is "dp/baseline"."""

    def refuse(tree, *, traces, **_):
        raise VerifyError(f"asked: {traces.relative_to(traces.parents[-1])}")

    none = contextlib.nullcontext(SimpleNamespace(run_job=refuse))
    monkeypatch.setattr(run, "Launcher", lambda caches: none)

    def first_of(**options):
        with pytest.raises(VerifyError, match="asked: ") as said:
            verify(tree, **options)
        return str(said.value).partition("/llama3/")[2]

    return first_of


def plain(verdict):
    """A verdict in full, but for times and memory."""
    found = json.loads(json.dumps(verdict.to_dict()))
    for trace in found["traces"].values():
        del trace["peak_bytes"]
        for rank in trace["ranks"]:
            del rank["peak_bytes"]
            for step in rank["steps"]:
                del step["seconds"]
    del found["ratios"]
    return found


def test_the_verdict_is_the_same_from_the_cache(first, tree):
    _, (before, _, trained) = first
    assert before.passed and trained["taken"] == {}
    found, printed, environment = verify(tree)
    assert environment["taken"] == dict.fromkeys(BASE | {"llama3/seed"}, CACHE)
    assert set(environment["seconds"]) == {"llama3/dp/migrated", "llama3/dp/reference"}
    assert plain(found) == plain(before)
    assert all(len(trace.weights) for trace in found.traces.values())
    assert "4 runs of the base revision came from the cache (--no-cache" in printed


def test_a_defect_shows_against_the_cache_and_against_a_file(first, tree):
    edit(
        tree / PLAN,
        '    logger.info("Applied replicate to the model")',
        "    from torch.distributed.fsdp import FSDPModule\n\n"
        "    for module in model.modules():\n"
        "        if isinstance(module, FSDPModule):\n"
        "            module.set_gradient_divide_factor(1.0)\n",
    )
    cached, _, environment = verify(tree)
    assert environment["taken"].keys() >= BASE
    golden, printed, environment = verify(tree, against=first[0] / "runs.gz")
    assert {k: environment["taken"][k] for k in BASE} == dict.fromkeys(BASE, GOLDEN)
    assert "3 runs of the base revision came from the golden file." in printed
    assert "2 times the reference's" in " ".join(cached.failures)
    assert any("bitwise as DDP here in an earlier" in note for note in cached.notes)
    assert golden.notes == cached.notes
    # The file has no weights: that pair's are held against each other by norms and sums.
    for one, other in zip(golden.failures, cached.failures, strict=True):
        assert one.partition(", by up to")[0] == other.partition(", by up to")[0]


def test_a_right_tree_passes_against_a_file(first, tree):
    found, _, environment = verify(tree, against=first[0] / "runs.gz", cached=False)
    assert found.word == "passed" and environment["taken"].keys() == BASE
    mine = [c for c in found.comparisons if c.left == "migrated"]
    before = [c for c in first[1][0].comparisons if c.left == "migrated"]
    assert mine == before


@pytest.mark.parametrize(
    ("options", "run"),
    [
        ({"steps": 1}, "seed"),
        ({"precision": "bfloat16"}, "seed"),
        ({"nproc": 3}, "dp/baseline"),
    ],
)
def test_another_setting_is_trained(asked, options, run):
    assert asked() == "dp/migrated"
    assert asked(**options) == run
    assert asked(cached=False) == "seed"


@pytest.mark.parametrize("path", ["torchtitan/train.py", "torchtitan/notes.txt"])
def test_one_byte_of_the_base_revision_is_trained(asked, tree, path):
    git(tree, "stash", "-q")
    with open(tree / path, "a") as file:
        file.write("\n")
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", "one byte")
    git(tree, "stash", "pop", "-q")
    assert asked() == "seed"


def test_another_torch_is_trained(asked, monkeypatch):
    known = facts.facts
    monkeypatch.setattr(
        facts,
        "facts",
        lambda base, gpus, packages: known(base, gpus, {**packages, "torch": "2.99"}),
    )
    assert asked() == "seed"


def test_a_changed_migration_is_always_trained(asked, tree):
    with open(tree / PLAN, "a") as file:
        file.write("# changed\n")
    assert asked() == "dp/migrated"


def test_what_depends_on_the_migrated_tree_or_leaves_a_checkpoint_is_not_kept():
    kept = {
        (cell.name, party)
        for cell in CELLS.values()
        for party in cell.parties
        if _can_be_kept(cell, PARTIES[party])
    }
    assert {party for _, party in kept} == {"baseline", "control", "nudged"}
    assert ("dp-checkpoint", "baseline") not in kept
    assert {("dp", "baseline"), ("export", "baseline"), ("fsdp", "control")} <= kept
