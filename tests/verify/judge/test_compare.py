"""How two planted runs agree, and what noise leaves to be judged."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from migrator.verify.judge.compare import (
    compare_steps,
    constant_ratio,
    measured_tolerances,
    too_noisy,
)
from migrator.verify.judge.judges import judge_unchanged
from migrator.verify.judge.trace import Trace

from parties import HALVED, MIGRATED, REFERENCE, TERMS, TOLERANCES, trace, verdict


def test_last_digits_are_within_tolerance():
    found = verdict(reference=trace("reference", "fsdp", scale=1 + 1e-7, loss=1e-7))
    assert found.passed
    assert {
        c.verdict
        for c in found.comparisons
        if c.left == "migrated" and c.right == "reference"
    } == {"within", "bitwise"}


def test_small_departure_from_step_two_on_is_placed():
    off = trace("migrated", "replicate")
    steps = tuple(
        replace(s, loss=s.loss + (1e-3 if s.step >= 2 else 0)) for s in off.steps
    )
    off = Trace("migrated", tuple(replace(r, steps=steps) for r in off.ranks))
    comparison = compare_steps("loss", off, REFERENCE, TOLERANCES)
    assert comparison.verdict == "different" and comparison.first_different == 2
    assert not verdict(migrated=off).passed


def test_parameters_that_differ_in_a_bit_only_are_not_bitwise():
    found = verdict(migrated=trace("migrated", "replicate", digest="e"))
    parameters = [
        c
        for c in found.comparisons
        if c.quantity == "parameters" and c.left == "migrated"
    ]
    assert [c.verdict for c in parameters] == ["within", "within"]


def test_a_ratio_may_drift_once_clipping_has_parted_the_runs():
    steps = (
        replace(s, gradients=s.gradients * (1 - 0.03 * (s.step - 1)))
        for s in HALVED.steps
    )
    drifted = Trace("baseline", (replace(HALVED.ranks[0], steps=tuple(steps)),))
    assert constant_ratio(drifted, REFERENCE) == pytest.approx(0.5)


def test_constant_ratio_needs_one_ratio_in_every_step():
    assert constant_ratio(HALVED, REFERENCE) == pytest.approx(0.5)
    steps = tuple(replace(s, gradients=s.gradients * s.step) for s in MIGRATED.steps)
    assert (
        constant_ratio(
            Trace("migrated", (replace(MIGRATED.ranks[0], steps=steps),)), REFERENCE
        )
        is None
    )


def test_tolerances_are_ten_times_what_rounding_does_to_the_reference():
    nudged = trace("nudged", "fsdp", loss=8e-5)
    found = measured_tolerances(REFERENCE, nudged)
    step = REFERENCE.steps[-1]
    assert found["loss"].relative == pytest.approx(10 * 8e-5 / step.loss, rel=0.01)
    assert "differs from itself" in found["loss"].source
    # Nothing finer than float32 can be seen, and tokens are counted.
    assert found["gradients"].relative == pytest.approx(10 * 2.0**-23)
    assert found["tokens"].relative == 0


def test_a_validation_that_the_noise_runs_have_not_is_let_pass_what_the_loss_is():
    """Or it would not be compared."""
    found = measured_tolerances(REFERENCE, trace("nudged", "fsdp", loss=8e-5))
    assert found["validation"] == found["loss"]


def test_a_model_that_rounding_takes_apart_cannot_be_judged():
    assert too_noisy(measured_tolerances(REFERENCE, trace("nudged", "fsdp"))) is None
    wild = trace("nudged", "fsdp", loss=0.5)
    assert too_noisy(measured_tolerances(REFERENCE, wild)) == "loss"
    lost = trace("nudged", "fsdp", loss=math.nan)
    assert too_noisy(measured_tolerances(REFERENCE, lost)) == "loss"


def test_the_largest_difference_of_an_element_is_named():
    import numpy

    def run(party: str, weight: float) -> Trace:
        weights = {"layers.0.weight": numpy.array([3.0, weight])}
        return replace(trace(party, "fsdp", digest=str(weight)), weights=weights)

    found = judge_unchanged(
        {"control": run("control", 0.0), "reference": run("reference", 0.25)}, TERMS
    ).comparisons[-1]
    assert found.element == "2.5e-01 in layers.0.weight"
    assert found.largest == pytest.approx(0.25 / 3.0)
