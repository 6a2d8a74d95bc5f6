"""Right migrations made wrong in one place: each has to fail, for the right reason.

The table in the README says which stage and cell catches what.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from migrator.verify.choose import scenarios
from migrator.verify.choose.scenarios import CELLS
from migrator.verify.judge import each

from defects import DEFECTS, PLACE, QUIET, RIGHT, Bench

pytestmark = pytest.mark.torchrun


@pytest.fixture(scope="module")
def bench(tmp_path_factory, launcher) -> Iterator[Callable[[str], Bench]]:
    made: dict[str, Bench] = {}
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        # What is planted shows in a few tokens too.
        patch.setattr(scenarios, "SEQUENCE_LENGTH", 64)

        def get(version: str) -> Bench:
            if version not in made:
                folder = tmp_path_factory.mktemp(version)
                made[version] = Bench(version, folder, stack, launcher)
            return made[version]

        yield get


@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_fails(bench, name):
    version, cell, defect, reason = DEFECTS[name]
    found = bench(version).verdict(cell, defect)
    assert found.word == "failed"
    assert any(reason in failure for failure in found.failures), found.failures


def test_what_no_loss_curve_shows_fails(bench):
    """All at once, as each is found by itself."""

    def plant(tree):
        for defect, _ in QUIET.values():
            defect(tree)

    found = bench("0.2.1").verdict("dp-together", plant)
    for _, reason in QUIET.values():
        assert any(reason in failure for failure in found.failures), reason


def test_0_2_2_says_that_ddp_divided_twice(bench):
    found = bench("0.2.2").verdict("dp")
    assert found.passed
    assert any("DDP divided the gradients twice" in note for note in found.notes)
    assert any("FSDP is right" in note for note in found.notes)
    norms = {name: trace.steps[0].grad_norm for name, trace in found.traces.items()}
    assert norms["migrated"] == pytest.approx(2 * norms["baseline"], rel=1e-6)
    assert norms["migrated"] == pytest.approx(norms["reference"], rel=1e-3)


def test_fsdp_that_is_wrong_is_not_followed(bench):
    """The migrated tree does what FSDP does, and DDP was right."""
    found = bench("0.2.1, sums under FSDP").job.verdict(CELLS["dp"])
    assert found.word == "failed"
    (said,) = [failure for failure in found.failures if "DDP was right" in failure]
    assert "FSDP's are 2 times those" in said


@pytest.mark.parametrize(
    "version, cell",
    sorted(
        {(version, cell) for version, cell, *_ in DEFECTS.values()}
        | {("0.2.1", "dp+pp")}
    ),
)
def test_the_untouched_tree_passes(bench, version, cell):
    found = bench(version).verdict(cell)
    assert found.word == "passed", found.failures


@pytest.mark.parametrize("name", RIGHT)
def test_a_migration_by_hand_passes(bench, name):
    change, note = RIGHT[name]
    found = bench("0.2.1").verdict("dp", change)
    assert found.word == "passed", found.failures
    assert note in " ".join(found.notes)


def test_a_fork_with_ways_of_its_own_is_judged_as_any_other(bench):
    found = bench("0.2.1, ways of its own").verdict("dp")
    migrated = found.traces["migrated"]
    # It ends by itself, and rank 1 logs nothing.
    assert [step.step for step in migrated.steps] == [1, 2]
    assert {step.loss for step in migrated.ranks[1].steps} == {None}
    assert all(step.each_gradient for step in migrated.ranks[1].steps)
    assert any("ends by itself after step 2 of 3" in note for note in found.notes)


def test_a_fork_without_fsdp_is_judged_by_one_rank(bench):
    found = bench("0.2.1, without FSDP").verdict("dp")
    assert "the reference is one rank" in found.notes[0]
    assert {c.verdict for c in found.comparisons if c.quantity != "grad_norm"} == {
        "bitwise"
    }


def test_the_smallest_error_that_a_verdict_claims_to_see_is_seen(bench, monkeypatch):
    at = bench("0.2.1")
    right = at.verdict("dp")
    claim = next(note for note in right.notes if note.startswith("An error of "))
    found = at.job.sensitive(CELLS["dp"], PLACE, right)
    said = found.notes[-1]
    assert found.passed and said.endswith(" was seen.")
    assert claim.split()[3] in said and float(claim.split()[3]) < 1e-5
    # A verdict that claims to see more than it does has failed.
    claimed = each.smallest
    monkeypatch.setattr(each, "smallest", lambda *of: replace(claimed(*of), error=1e-7))
    found = at.job.sensitive(CELLS["dp"], PLACE, right)
    assert "was not seen: this verdict shows less" in found.failures[-1]
