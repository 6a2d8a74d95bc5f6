"""What a planted departure is said to come from."""

from __future__ import annotations

from dataclasses import replace

import pytest

from migrator.verify.judge.culprit import Departure, cause
from migrator.verify.judge.trace import RankTrace, Step, Trace

NAMES = ("a.weight", "b.weight", "c.weight")
GRADIENTS = {
    1: {name: [2.0 + n, 1.0 + n] for n, name in enumerate(NAMES)},
    2: {name: [3.0 + n, 5.0 - n] for n, name in enumerate(NAMES)},
}
WEIGHTS = {
    step: {name: [9.0 + n + step, 1.0] for n, name in enumerate(NAMES)}
    for step in (1, 2)
}
INITIAL = {
    name: {"norm": 9.0 + n, "sum": 0.0, "digest": ""} for n, name in enumerate(NAMES)
}


def run(gradients=GRADIENTS, weights=WEIGHTS, loss=8.0, **model) -> Trace:
    steps = tuple(
        Step(n, loss, 1.0, each_gradient=gradients[n], each_weight=weights[n])
        for n in (1, 2)
    )
    return Trace("a", (RankTrace(0, steps, model, initial=INITIAL),))


RIGHT = run()


def departure(kind="gradient", step=1, ratio=1.5, count=1) -> Departure:
    return Departure(kind, step, NAMES[1], ratio, 0.5, 1e-6, count, len(NAMES))


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (departure(ratio=0.0), "no gradient reaches it"),
        (departure(ratio=0.25), "averaged over the data-parallel ranks twice"),
        (departure(ratio=4.0), "summed over the data-parallel ranks"),
        (departure(ratio=1.0), "reduced over too few ranks"),
        (departure(count=3), ""),
    ],
)
def test_by_the_ratio_alone(first, said):
    assert said in cause(first, RIGHT, RIGHT, 4)
    assert bool(cause(first, RIGHT, RIGHT, 4)) == bool(said)


def test_a_loss_that_is_scaled_as_well_is_the_cause():
    scaled = run(loss=32.0)
    assert "so is the loss" in cause(departure(ratio=4.0), scaled, RIGHT, 4)
    # Its own loss says nothing of a gradient that agrees in norm.
    assert "too few ranks" in cause(departure(ratio=1.0), RIGHT, RIGHT, 4)


def test_recomputation_is_a_cause_where_there_is_any():
    left = run(checkpointed={"layers.0": "within a group"})
    assert "another input" in cause(departure(ratio=1.0), left, RIGHT, 4)
    assert "another input" not in cause(departure(ratio=1.0), RIGHT, RIGHT, 4)


def test_a_weight_that_no_optimizer_stepped():
    still = {1: {**WEIGHTS[1], NAMES[1]: [10.0, 1.0]}, 2: WEIGHTS[2]}
    said = cause(departure("weight"), run(weights=still), RIGHT, 2)
    assert said == ": its gradient agrees, and no optimizer stepped it"
    assert cause(departure("weight"), RIGHT, RIGHT, 2) == ""
    later = {1: WEIGHTS[1], 2: {**WEIGHTS[2], NAMES[1]: WEIGHTS[1][NAMES[1]]}}
    assert "stepped it" in cause(departure("weight", 2), run(weights=later), RIGHT, 2)


def test_gradients_that_nobody_zeroed():
    clipped = 0.8
    both = {
        name: [7.0, GRADIENTS[2][name][1] + clipped * GRADIENTS[1][name][1]]
        for name in NAMES
    }
    left = run(gradients={1: GRADIENTS[1], 2: both})
    assert "step before are still in it" in cause(departure(step=2), left, RIGHT, 2)
    other = {name: [7.0, 3.0 * n * n] for n, name in enumerate(NAMES)}
    left = run(gradients={1: GRADIENTS[1], 2: other})
    assert cause(departure(step=2), left, RIGHT, 2) == ""


def test_a_run_without_a_loss_has_none_that_is_scaled():
    ranks = tuple(
        replace(r, steps=tuple(replace(s, loss=None) for s in r.steps))
        for r in RIGHT.ranks
    )
    silent = Trace("a", ranks)
    assert "averaged" in cause(departure(ratio=0.5), silent, RIGHT, 2)
