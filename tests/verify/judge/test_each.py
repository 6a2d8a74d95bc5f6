"""One parameter that is wrong among many, as planted: which one, from which step on, and what it is said to come from."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from migrator.verify.judge.each import (
    distance,
    first_departure,
    first_module,
    limits,
    sentences,
    smallest,
)
from migrator.verify.judge.trace import RankTrace, Step, Trace
from migrator.verify.judge.verdict import Terms

from parties import DP, STEPS, TOLERANCES, combination, trace
from parties import model as a_model

NAMES = ("tok_embeddings.weight", "layers.0.norm.weight", "output.weight")
MODEL = {"parameters": dict.fromkeys(NAMES)}


def run(party: str, change=lambda kind, step, name, pair: pair, forward=None) -> Trace:
    """A run of one rank; ``change`` gives other figures for what it is asked about."""
    steps = []
    for step in range(1, STEPS + 1):
        pairs = {
            kind: {
                name: change(kind, step, name, [2.0 + n, 0.5 * n - step])
                for n, name in enumerate(NAMES)
            }
            for kind in ("gradient", "weight")
        }
        steps.append(
            Step(
                step,
                8.0,
                1.0,
                each_gradient={k: v for k, v in pairs["gradient"].items() if v},
                each_weight=pairs["weight"],
            )
        )
    rank = RankTrace(0, tuple(steps), MODEL, forward=forward or {})
    return Trace(party, (rank,))


def scaled(kind, step, name, factor):
    """A change of one parameter's figures from one step on."""

    def change(a_kind, a_step, a_name, pair):
        hit = (a_kind, a_name) == (kind, name) and a_step >= step
        return [factor * x for x in pair] if hit else pair

    return change


RIGHT = run("reference")
QUIET = limits(RIGHT, RIGHT)


def test_runs_that_agree_have_no_departure():
    assert first_departure(run("migrated"), RIGHT, QUIET) is None
    assert sentences(run("migrated"), RIGHT, QUIET, DP) == []


@pytest.mark.parametrize("error", [2e-6, 1e-5, 1e-4])
def test_a_small_error_in_one_gradient_is_seen(error):
    wrong = run("migrated", scaled("gradient", 2, NAMES[1], 1 + error))
    found = first_departure(wrong, RIGHT, QUIET)
    assert (found.kind, found.step, found.name) == ("gradient", 2, NAMES[1])
    assert (found.count, found.among) == (1, 3)


def test_what_rounding_makes_is_let_pass_and_ten_times_as_much_is_not():
    noise = limits(RIGHT, run("nudged", scaled("gradient", 1, NAMES[1], 1 + 1e-5)))
    near = run("migrated", scaled("gradient", 1, NAMES[1], 1 + 5e-5))
    far = run("migrated", scaled("gradient", 1, NAMES[1], 1 + 5e-4))
    assert first_departure(near, RIGHT, noise) is None
    assert first_departure(far, RIGHT, noise).name == NAMES[1]


def test_a_step_in_which_noise_hides_too_much_is_not_judged_and_those_before_are():
    noise = limits(RIGHT, run("nudged", scaled("gradient", 3, NAMES[0], 1.5)))
    late = run("migrated", scaled("gradient", 3, NAMES[0], 2.0))
    early = run("migrated", scaled("gradient", 2, NAMES[0], 2.0))
    assert first_departure(late, RIGHT, noise) is None
    assert first_departure(early, RIGHT, noise).step == 2


def test_the_last_of_the_model_is_the_first_of_its_backward_pass():
    wrong = run("migrated", lambda kind, step, name, pair: [3.0 * x for x in pair])
    found = first_departure(wrong, RIGHT, QUIET)
    assert (found.name, found.count) == (NAMES[2], 3)


def test_a_sign_and_a_swap_are_seen_though_the_norm_is_the_same():
    assert distance([2.0, -0.5], [2.0, 0.5]) == 0.5
    assert distance([2.0, float("nan")], [2.0, 0.5]) == float("inf")


def test_a_weight_that_was_stepped_otherwise_is_seen_behind_the_step():
    wrong = run("migrated", scaled("weight", 1, NAMES[0], 1.001))
    found = first_departure(wrong, RIGHT, QUIET)
    assert (found.kind, found.step) == ("weight", 1)


def test_a_gradient_that_is_missing_departs():
    wrong = run("migrated", scaled("gradient", 1, NAMES[1], 0))
    assert "no gradient reaches it" in sentences(wrong, RIGHT, QUIET, DP)[0]
    gone = run(
        "migrated",
        lambda kind, step, name, pair: [] if name == NAMES[1] else pair,
    )
    assert first_departure(gone, RIGHT, QUIET).name == NAMES[1]


@pytest.mark.parametrize(
    "factor, cause",
    [
        (1 / DP, "averaged"),
        (DP, "summed"),
        (0.9, "too few ranks"),
        (5.0, "too few ranks"),
    ],
)
def test_the_cause_by_the_ratio(factor, cause):
    wrong = run("migrated", scaled("gradient", 1, NAMES[1], factor))
    (said,) = sentences(wrong, RIGHT, QUIET, DP)
    assert f"the gradient of {NAMES[1]} in step 1 is {factor:.6g} times" in said
    assert cause in said


def test_the_first_module_that_departs_comes_before_the_parameters():
    mine = {"tok_embeddings": 4.0, "layers.0": 5.5, "": 9.0}
    theirs = {"tok_embeddings": 4.0, "layers.0": 5.0, "": 8.0}
    left, right = run("migrated", forward=mine), run("reference", forward=theirs)
    assert first_module(left, right, QUIET) == ("layers.0", 5.5, 5.0)
    assert "layers.0" in sentences(left, right, QUIET, DP)[0]
    assert first_module(right, right, QUIET) is None


def test_what_a_module_may_depart_by_follows_the_noise_of_the_loss():
    def noisy(by):
        nudged = run("nudged")
        steps = tuple(replace(s, loss=s.loss * (1 + by)) for s in nudged.ranks[0].steps)
        return limits(RIGHT, Trace("nudged", (replace(nudged.ranks[0], steps=steps),)))

    left = run("migrated", forward={"layers.0": 5.0002, "layers.1": math.nan})
    right = run("reference", forward={"layers.0": 5.0, "layers.1": math.nan})
    assert first_module(left, right, noisy(1e-6)) == ("layers.0", 5.0002, 5.0)
    assert first_module(left, right, noisy(1e-5)) is None
    far = run("migrated", forward={"layers.0": 6.0})
    assert first_module(far, right, noisy(1e-5)) and not first_module(
        far, right, noisy(1e-2)
    )


# a parameter of one element, whose gradient is what is left of terms that cancel


def among_others(run: Trace, shape: list[int]) -> Trace:
    """With a shape for one parameter, and so many others without noise that they say what is common."""
    model = {"parameters": {**MODEL["parameters"], NAMES[1]: {"shape": shape}}}
    more = {f"layers.{n}.weight": [1.0, 0.5] for n in range(30)}
    steps = tuple(
        replace(
            step,
            each_gradient={**more, **step.each_gradient},
            each_weight={**more, **step.each_weight},
        )
        for step in run.ranks[0].steps
    )
    return Trace(run.party, (replace(run.ranks[0], model=model, steps=steps),))


def cancelling(by_step):
    """Its figures are off by so much of it, by step."""
    return lambda kind, step, name, pair: (
        [x * (1 + by_step[step]) for x in pair]
        if (kind, name) == ("gradient", NAMES[1])
        else pair
    )


NOISE = cancelling({1: 0.0, 2: 1e-7, 3: 4e-6, 4: 2e-6})
ONE, SEVERAL = ([1], [2, 2])


def within(shape):
    reference, nudged = (
        among_others(one, shape) for one in (RIGHT, run("nudged", NOISE))
    )
    return limits(reference, nudged)


def test_the_noise_of_one_element_is_that_of_the_step_in_which_it_is_largest():
    """One number may be near itself by chance, whatever it is made of."""
    trial = run("migrated", cancelling({1: 2.3e-6, 2: 2.3e-6, 3: 0.0, 4: 0.0}))
    assert first_departure(trial, RIGHT, within(SEVERAL)).step == 1
    assert first_departure(trial, RIGHT, within(ONE)) is None
    # As far as it is noise.
    wrong = run("migrated", cancelling(dict.fromkeys(range(1, 5), 1e-4)))
    assert first_departure(wrong, RIGHT, within(ONE)).name == NAMES[1]


def test_the_noise_of_one_element_lets_nothing_else_pass():
    one, several = within(ONE), within(SEVERAL)
    assert {k for k in one if one[k] != several[k]} == {
        ("gradient", step, NAMES[1]) for step in (1, 2)
    }


def test_the_judge_fails_a_cell_for_one_parameter():
    """All that is summed over the model agrees."""
    within = {("gradient", 1, "layers.0.weight"): 1e-6}

    def with_gradient(party, kind, norm):
        one = trace(party, kind)
        steps = [
            replace(s, each_gradient={"layers.0.weight": [norm, 0.0]})
            for s in one.ranks[0].steps
        ]
        return trace(party, kind, steps=tuple(steps), model=a_model(kind))

    terms = Terms(STEPS, DP, DP, TOLERANCES, within)
    from migrator.verify.judge import judges

    def judged(norm):
        runs = {
            "baseline": trace("baseline", "ddp"),
            "migrated": with_gradient("migrated", "replicate", norm),
            "reference": with_gradient("reference", "fsdp", 1.0),
            "control": with_gradient("control", "fsdp", 1.0),
        }
        return judges.judge_combination(runs, terms)

    assert judged(1.0).passed
    failed = judged(1.00001)
    assert failed.word == "failed"
    assert (
        "First parameter that departs: the gradient of layers.0.weight"
        in failed.failures[0]
    )
    assert combination().passed


# the smallest error that would have shown


def test_an_error_as_small_as_is_claimed_is_seen_and_a_smaller_one_is_not():
    found = smallest(run("migrated"), RIGHT, QUIET)
    assert (found.judged, found.among) == (3, 3) and 1.2e-6 < found.error < 1.4e-6
    assert found.sentence().startswith("An error of 1.3e-06 in the gradient of any one")
    assert "hides" not in found.sentence()
    for factor, seen in ((1.0, True), (0.4, False)):
        change = scaled("gradient", found.step, found.name, 1 + factor * found.error)
        departure = first_departure(run("migrated", change), RIGHT, QUIET)
        assert (departure is not None) == seen


def test_it_is_as_large_as_the_noisiest_parameter_needs():
    noise = {k: 1e-4 if k[2] == NAMES[1] else limit for k, limit in QUIET.items()}
    found = smallest(run("migrated"), RIGHT, noise)
    assert found.name == NAMES[1] and found.error == pytest.approx(1e-4, rel=0.1)


def test_how_far_the_runs_are_apart_already_comes_on_top():
    near = run("migrated", scaled("gradient", 1, NAMES[2], 1 - 1e-6))
    found = smallest(near, RIGHT, QUIET)
    assert found.name == NAMES[2] and found.error == pytest.approx(2.3e-6, rel=0.05)


def test_parameters_that_rounding_hides_are_counted():
    noise = {key: limit for key, limit in QUIET.items() if key[2] != NAMES[0]}
    found = smallest(run("migrated"), RIGHT, noise)
    assert (found.judged, found.among) == (2, 3) and found.name != NAMES[0]
    assert "but for 1 of 3, which rounding hides" in found.sentence()
    assert smallest(run("migrated"), RIGHT, {}) is None
