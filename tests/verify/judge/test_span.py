"""How many steps of a cell are judged, and what is said where it is fewer than were asked for."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import pytest

from migrator.verify.judge.compare import Tolerance
from migrator.verify.judge.span import span
from migrator.verify.judge.trace import Trace

from parties import BASELINE, CONTROL, MIGRATED, REFERENCE, STEPS, trace

TRACES = {
    run.party: run
    for run in (BASELINE, MIGRATED, CONTROL, REFERENCE, trace("nudged", "fsdp"))
}


def noise(first_noisy: int):
    """FSDP and the same, whose losses part in one step and are the same before."""
    nudged = trace("nudged", "fsdp", loss=0.0)
    ranks = tuple(
        replace(
            rank,
            steps=tuple(
                replace(s, loss=s.loss * (1.1 if s.step >= first_noisy else 1))
                for s in rank.steps
            ),
        )
        for rank in nudged.ranks
    )
    return (CONTROL, Trace("nudged", ranks)), {}


def ended_after(run: Trace, last: int, *, ended: bool = True) -> Trace:
    ranks = (replace(rank, steps=rank.steps[:last], ended=ended) for rank in run.ranks)
    return Trace(run.party, tuple(ranks))


def test_all_steps_where_rounding_hides_none():
    found = span(TRACES, noise(STEPS + 1), STEPS)
    assert found.steps == STEPS and not found.notes and not found.hidden
    assert "parameters" in found.tolerances


def test_the_steps_before_those_that_rounding_hides():
    found = span(TRACES, noise(3), STEPS)
    assert found.steps == 2 and not found.hidden
    assert found.notes == (
        f"Rounding alone moves FSDP's loss by 1e-01 in {STEPS} steps, too much to tell a wrong migration from a"
        " right one: steps 1 to 2 are judged, each gradient and each weight in it.",
    )
    # Those after the last step are no longer of what is judged.
    assert "parameters" not in found.tolerances and "loss" in found.tolerances


@pytest.mark.parametrize("size, judged", [(1e-4, True), (1e-2, False), (nan, False)])
def test_a_quantity_that_rounding_hides_alone_is_not_judged_and_that_is_said(
    size, judged
):
    nudged = trace("nudged", "fsdp")
    steps = tuple(
        replace(s, grad_norm=s.grad_norm * (1 + size)) for s in nudged.ranks[0].steps
    )
    ranks = tuple(replace(rank, steps=steps) for rank in nudged.ranks)
    found = span(TRACES, ((CONTROL, Trace("nudged", ranks)), {}), STEPS)
    assert found.steps == STEPS and not found.hidden
    assert ("grad_norm" in found.tolerances) == judged == (not found.notes)
    assert "loss" in found.tolerances
    if not judged:
        assert "moves FSDP's grad_norm by" in found.notes[0]


def test_the_noise_of_golden_runs_has_the_same_limit():
    pair, _ = noise(STEPS + 1)
    known = {"parameters": Tolerance(1e9, "changed by hand")}
    found = span(TRACES, (pair, known), STEPS)
    assert "parameters" not in found.tolerances
    assert "moves FSDP's parameters by 1e+08" in found.notes[0]


def test_where_rounding_hides_the_first_step_it_hides_all():
    found = span(TRACES, noise(1), STEPS)
    assert found.hidden.startswith("rounding alone moves FSDP's loss")


def test_a_trainer_that_ends_by_itself_is_judged_as_far_as_it_goes():
    short = {name: ended_after(run, 2) for name, run in TRACES.items()}
    found = span(short, None, STEPS)
    assert found.steps == 2
    assert f"ends by itself after step 2 of {STEPS}" in found.notes[0]


def test_only_the_base_revision_may_end_early():
    migrated = {**TRACES, "migrated": ended_after(MIGRATED, 2)}
    assert span(migrated, None, STEPS).steps == STEPS
    killed = {n: ended_after(run, 2, ended=False) for n, run in TRACES.items()}
    assert span(killed, None, STEPS).steps == STEPS
    apart = {**TRACES, "baseline": ended_after(BASELINE, 2)}
    assert span(apart, None, STEPS).steps == STEPS


def test_runs_that_go_on_from_a_checkpoint_are_judged_whole_or_not_at_all():
    going_on = {**TRACES, "resumed": trace("resumed", "replicate")}
    short = {name: ended_after(run, 2) for name, run in going_on.items()}
    assert span(short, None, STEPS).steps == STEPS
    found = span(going_on, noise(3), STEPS)
    assert found.steps == STEPS and found.hidden


def test_tolerances_that_were_measured_with_the_weights_are_taken_as_they_are():
    pair, _ = noise(STEPS + 1)
    known = {"parameters": Tolerance(5e-3, "measured elsewhere")}
    found = span(TRACES, (pair, known), STEPS)
    assert found.tolerances["parameters"] == known["parameters"]
