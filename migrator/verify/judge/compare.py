"""How two runs agree, quantity by quantity, and how far rounding alone takes a run from itself. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

from migrator.verify.judge.trace import Step, Trace


@dataclass(frozen=True)
class Tolerance:
    """A limit on a relative difference, and where it comes from."""

    relative: float
    source: str


Tolerances = dict[str, Tolerance]
Differences = dict[int | str, float]
"""Relative difference by step or parameter, in order."""

QUANTITIES: dict[str, Callable[[Step], float | None]] = {
    "loss": lambda step: step.loss,
    "grad_norm": lambda step: step.grad_norm,
    "gradients": lambda step: step.gradients,
    "validation": lambda step: step.validation,
    "tokens": lambda step: step.tokens,
}

# Relative spacing of float32 numbers: no difference below it can be seen in a loss.
RESOLUTION = 2.0**-23
# How many times the measured noise is let pass.
MARGIN = 10
# Noise above which a tolerance would let wrong migrations pass.
TOO_NOISY = 1e-3


def measured_tolerances(reference: Trace, nudged: Trace) -> Tolerances:
    """Tolerances from the noise of the reference against itself.

    `nudged` is the reference once more, with each gradient moved by one unit in
    its last place in every step, and clipped by a norm summed over whole tensors
    instead of shards: as right as the reference, and rounded otherwise. By how
    much the two differ is what rounding makes of this model in these steps, on
    this machine.
    """
    exact = dict.fromkeys((*QUANTITIES, "parameters"), Tolerance(0.0, ""))
    tolerances = {}
    for found in compare(nudged, reference, exact):
        noise = max(found.largest, RESOLUTION)
        tolerances[found.quantity] = Tolerance(
            MARGIN * noise,
            f"{MARGIN} times the {noise:.1e} by which FSDP differs from itself once each gradient is moved by one unit"
            " in its last place and the norm is summed over whole tensors instead of shards",
        )
    # Not every cell validates in the runs that show its noise.
    tolerances.setdefault("validation", tolerances["loss"])
    return tolerances | {"tokens": Tolerance(0.0, "counted")}


def too_noisy(tolerances: Tolerances) -> str | None:
    """The quantity whose noise hides what a wrong migration would do; None where there is none.

    Loss and gradients show each kind of it. Parameters that begin at zero, biases
    of a router say, are all noise after a few steps, in bf16 above all.
    """
    for quantity in ("loss", "gradients"):
        if quantity in tolerances:
            if not tolerances[quantity].relative <= MARGIN * TOO_NOISY:
                return quantity
    return None


@dataclass(frozen=True)
class Comparison:
    """How two runs agree in one quantity.

    verdict: "bitwise", "within" (the tolerance) or "different".
    largest: the largest relative difference, at step `at` (for parameters:
    in parameter `at`). first_different: first step beyond the tolerance.
    element: for parameters, the largest difference of one element, in words.
    """

    quantity: str
    left: str
    right: str
    verdict: str
    largest: float
    at: int | str | None
    first_different: int | str | None
    tolerance: Tolerance
    element: str = ""

    @property
    def agrees(self) -> bool:
        return self.verdict != "different"

    def sentence(self) -> str:
        """The comparison in words."""
        what = (
            "parameters after the last step"
            if self.quantity == "parameters"
            else self.quantity
        )
        if self.verdict == "bitwise":
            return f"{what}: {self.left} and {self.right} are bitwise equal."
        place = f"in {self.at}" if isinstance(self.at, str) else f"at step {self.at}"
        limit = f"{self.tolerance.relative:g}"
        if self.verdict == "within":
            return (
                f"{what}: {self.left} and {self.right} differ by at most {self.largest:.1e} (relative, {place}),"
                f" within the tolerance of {limit}."
            )
        first = (
            f"in {self.first_different}"
            if isinstance(self.first_different, str)
            else f"from step {self.first_different} on"
        )
        return (
            f"{what}: {self.left} and {self.right} differ {first}, by up to {self.largest:.1e}"
            f" (relative, {place}; tolerance {limit})."
        )


def relative(left: float, right: float) -> float:
    """|left - right| in units of |right|; infinite where either is not finite."""
    if left == right:
        return 0.0
    if not (math.isfinite(left) and math.isfinite(right)):
        return math.inf
    return abs(left - right) / max(abs(right), 1e-30)


def compare_steps(
    quantity: str, left: Trace, right: Trace, tolerances: Tolerances
) -> Comparison:
    """Compares one per-step quantity of two runs over the steps that both have; a value missing on one side differs."""
    read = QUANTITIES[quantity]
    other = {step.step: read(step) for step in right.steps}
    differences: Differences = {}
    for step in left.steps:
        if step.step in other:
            a, b = read(step), other[step.step]
            if a is None or b is None:
                differences[step.step] = 0.0 if a is b else math.inf
            else:
                differences[step.step] = relative(a, b)
    return _summed_up(
        quantity, left, right, differences or {1: math.inf}, tolerances[quantity]
    )


def compare_parameters(left: Trace, right: Trace, tolerances: Tolerances) -> Comparison:
    """Compares the final parameters: by digest, and where that differs by the norm of the difference, in units of the parameter's norm.

    A trace without weights (read from a report) is compared by norms and sums.
    """
    differences: Differences = {}
    element, where = 0.0, ""
    a, b = left.parameters, right.parameters
    for name in sorted(a.keys() | b.keys()):
        if name not in a or name not in b:
            difference = math.inf
        elif a[name]["digest"] == b[name]["digest"]:
            continue
        elif name in left.weights and name in right.weights:
            one, other = left.weights[name], right.weights[name]
            apart = one.astype("float64") - other
            scale = abs(b[name]["norm"]) or 1e-30
            difference = float((apart**2).sum()) ** 0.5 / scale
            if abs(apart).max() > element:
                element, where = float(abs(apart).max()), name
        else:
            scale = abs(b[name]["norm"]) or 1e-30
            steps = (abs(a[name][key] - b[name][key]) for key in ("norm", "sum"))
            # Equal norm and sum do not make equal parameters.
            difference = max(*(step / scale for step in steps), 1e-16)
        differences[name] = math.inf if math.isnan(difference) else difference
    if not a or not b:
        differences = {"every parameter": math.inf}
    largest = f"{element:.1e} in {where}" if where else ""
    return _summed_up(
        "parameters", left, right, differences, tolerances["parameters"], largest
    )


def _summed_up(
    quantity: str,
    left: Trace,
    right: Trace,
    differences: Differences,
    tolerance: Tolerance,
    element: str = "",
) -> Comparison:
    apart = {place: size for place, size in differences.items() if size}
    at = max(apart, key=apart.__getitem__, default=None)
    beyond = (place for place, size in apart.items() if size > tolerance.relative)
    first = next(beyond, None)
    word = "different" if first is not None else "within" if apart else "bitwise"
    largest = 0.0 if at is None else apart[at]
    return Comparison(
        quantity, left.party, right.party, word, largest, at, first, tolerance, element
    )


def compare(
    left: Trace, right: Trace, tolerances: Tolerances, steps: range | None = None
) -> tuple[Comparison, ...]:
    """All quantities that either run has and there is a tolerance for, over `steps` where given; parameters last."""
    if steps is not None:
        left, right = (only(trace, steps) for trace in (left, right))
    recorded = [
        quantity
        for quantity, read in QUANTITIES.items()
        if quantity in tolerances
        and any(read(step) is not None for step in (*left.steps, *right.steps))
    ]
    found = [compare_steps(name, left, right, tolerances) for name in recorded]
    if "parameters" in tolerances:
        found.append(compare_parameters(left, right, tolerances))
    return tuple(found)


def only(trace: Trace, steps: range) -> Trace:
    """A run as it were if it had these steps alone."""
    ranks = (
        replace(rank, steps=tuple(step for step in rank.steps if step.step in steps))
        for rank in trace.ranks
    )
    return replace(trace, ranks=tuple(ranks))


def constant_ratio(left: Trace, right: Trace) -> float | None:
    """The ratio of the gradients' norms, left over right, where one ratio holds in every step; else None.

    At step 1 both runs have the same weights, so the ratio is taken there;
    later they clip differently and drift apart, and a quarter is let pass.
    """
    other = {step.step: step.gradients for step in right.steps}
    ratios = [
        step.gradients / theirs
        for step in left.steps
        if step.gradients and (theirs := other.get(step.step))
    ]
    if not ratios or not all(
        math.isfinite(ratio) and abs(ratio / ratios[0] - 1) < 0.25 for ratio in ratios
    ):
        return None
    return ratios[0]


def first_ratio(left: Trace, right: Trace) -> tuple[float | None, list[str]]:
    """How the gradients of step 1 relate, when both runs still have the same weights.

    Returns:
        The ratio of norms, left over right, that nine in ten parameters have alike, None
        where there is none; and the parameters that have another.
    """
    if not left.steps or not right.steps:
        return None, []
    mine, theirs = left.steps[0].each_gradient, right.steps[0].each_gradient
    ratios = {
        name: mine[name][0] / theirs[name][0]
        for name in theirs
        if name in mine and theirs[name][0] and math.isfinite(mine[name][0])
    }
    if not ratios:
        return None, []
    common = sorted(ratios.values())[len(ratios) // 2]
    others = [name for name, one in ratios.items() if abs(one - common) > 1e-2 * common]
    if not common or len(others) * 10 > len(ratios):
        return None, []
    return common, others


def departs(comparisons: tuple[Comparison, ...]) -> bool:
    return not all(comparison.agrees for comparison in comparisons)
