"""Every parameter by itself, step by step: where two runs part first, and by how much.

A sum over a whole model hides one parameter that is wrong. Here each gradient and each
weight is held against the reference's, within what rounding makes of that one in the
run whose rounding is changed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from migrator.verify.judge import logged
from migrator.verify.judge.compare import (
    MARGIN,
    RESOLUTION,
    TOO_NOISY,
    Tolerance,
    compare_steps,
    relative,
)
from migrator.verify.judge.culprit import KINDS, Departure, cause, figures_of
from migrator.verify.judge.trace import Figures, Trace

Limits = dict[tuple[str, int, str], float]
"""(kind, step, name) -> the distance that is let pass; nothing where noise hides too much.

Kinds are those of `culprit`, of parameters; "output", of all modules (under no name, in
step 1); and "logged", of metrics.
"""


def limits(reference: Trace, nudged: Trace) -> Limits:
    """What rounding alone makes of each parameter, and of what is logged, up to each step, times the margin.

    Args:
        reference: FSDP.
        nudged: the same, rounded otherwise in every step.
    """
    found: Limits = {}
    other = {step.step: step for step in nudged.steps}
    for kind in KINDS:
        noise = {
            step.step: _distances(
                figures_of(other[step.step], kind), figures_of(step, kind)
            )
            for step in reference.steps
            if step.step in other
        }
        common = {n: _ninth_tenth(here.values()) for n, here in noise.items()}
        cancels = _cancellation(reference, noise, common)
        so_far: dict[str, float] = {}
        for number, here in noise.items():
            for name, own in here.items():
                # One sample may be small by chance: what others have counts, and what was before.
                least = common[number] * cancels.get(name, 1.0)
                so_far[name] = max(so_far.get(name, 0.0), own, least)
                if so_far[name] <= TOO_NOISY:
                    found[kind, number, name] = MARGIN * so_far[name]
    outputs = max(
        RESOLUTION,
        *_forward_apart(nudged, reference).values(),
        # The loss is made of what the modules give.
        compare_steps("loss", nudged, reference, {"loss": Tolerance(0.0, "")}).largest,
    )
    if outputs <= TOO_NOISY:
        found["output", 1, ""] = MARGIN * outputs
    return found | logged.limits(reference, nudged)


def _distances(left: Figures, right: Figures) -> dict[str, float]:
    return {k: distance(left[k], right[k]) for k in left.keys() & right.keys()}


def _ninth_tenth(values: Iterable[float]) -> float:
    """What nine in ten do not exceed, and not less than can be seen."""
    ordered = sorted(values)
    return max(RESOLUTION, ordered[len(ordered) * 9 // 10] if ordered else 0.0)


# Of a tensor with fewer elements chance alone says how far it is from itself in a step.
_FEW = 4


def _cancellation(
    reference: Trace, noise: dict[int, dict[str, float]], common: dict[int, float]
) -> dict[str, float]:
    """How much larger the terms of a gradient of few elements are than their sum: by its noise, in units of that of others.

    The error of a sum is bound by its terms, of which the sum tells nothing: a
    parameter that does not matter to the loss has a gradient of rounding alone. It is
    so in one step as in another, so the largest of all steps is taken.
    """
    shapes = {
        name: (entry or {}).get("shape")
        for name, entry in reference.model.get("parameters", {}).items()
    }
    few = [n for n, s in shapes.items() if s is not None and math.prod(s) < _FEW]
    return {
        name: max(1.0, *(noise[n].get(name, 0.0) / common[n] for n in noise))
        for name in few
        if noise
    }


def distance(left: Sequence[float], right: Sequence[float]) -> float:
    """How far two tensors are from each other by their figures, in units of the right one's norm."""
    one, two = list(left), list(right)
    if one == two:
        return 0.0
    if not all(map(math.isfinite, (*one, *two))):
        return math.inf
    return max(abs(a - b) for a, b in zip(one, two)) / (abs(two[0]) or 1e-30)


def first_departure(left: Trace, right: Trace, within: Limits) -> Departure | None:
    """The first step in which a parameter of two runs departs; None where none does.

    Args:
        left: the run on trial.
        right: the reference.
        within: of ``limits``; what is not in there is not judged.
    """
    other = {step.step: step for step in right.steps}
    # The last module comes first in a backward pass.
    order = {name: -n for n, name in enumerate(right.model.get("parameters", {}))}
    for step in left.steps:
        if step.step not in other:
            continue
        for kind in KINDS:
            mine, theirs = figures_of(step, kind), figures_of(other[step.step], kind)
            apart = {
                name: size
                for name, size, limit in _sizes(mine, theirs, kind, step.step, within)
                if size > limit
            }
            if apart:
                name = min(apart, key=lambda name: order.get(name, 0))
                norm = theirs.get(name, (0.0,))[0]
                ratio = mine.get(name, (0.0,))[0] / norm if norm else math.inf
                limit = within.get((kind, step.step, name), 0.0)
                return Departure(
                    kind,
                    step.step,
                    name,
                    ratio,
                    apart[name],
                    limit,
                    len(apart),
                    len(theirs),
                )
    return None


def _sizes(
    mine: Figures, theirs: Figures, kind: str, step: int, within: Limits
) -> Iterator[tuple[str, float, float]]:
    """(parameter, distance, limit) of each that is judged."""
    if not mine or not theirs:
        return
    for name in mine.keys() | theirs.keys():
        if name not in mine or name not in theirs:
            # One of no use, a router's say, may have none on one side and zeros on the other.
            norm = (mine.get(name) or theirs.get(name) or (0.0,))[0]
            yield name, math.inf if norm else 0.0, 0.0
        elif (limit := within.get((kind, step, name))) is not None:
            yield name, distance(mine[name], theirs[name]), limit


@dataclass(frozen=True)
class Smallest:
    """The smallest error in the gradient of any one parameter that would have shown, in two digits.

    Args:
        error: in units of the gradient.
        name: the parameter in which it has to be as large as that.
        step: the step in which it would have shown there.
        judged: parameters in which one shows.
        among: of how many.
    """

    error: float
    name: str
    step: int
    judged: int
    among: int

    def sentence(self) -> str:
        """What it says of a verdict that found none."""
        less = self.among - self.judged
        but = f", but for {less} of {self.among}, which rounding hides" if less else ""
        return f"An error of {self.error:.1e} in the gradient of any one parameter would have shown{but}."


def smallest(left: Trace, right: Trace, within: Limits) -> Smallest | None:
    """What two runs that agree could not have hidden; None where no gradient is judged.

    An error may hide behind how far the runs are apart already, so that comes on top
    of what is let pass.

    Args:
        left: the run on trial.
        right: the reference.
        within: of ``limits``.
    """
    names: set[str] = set()
    least: dict[str, tuple[float, int]] = {}
    other = {step.step: step for step in right.steps}
    for step in left.steps:
        if step.step not in other:
            continue
        theirs = other[step.step].each_gradient
        for name in step.each_gradient.keys() & theirs.keys():
            names.add(name)
            limit = within.get(("gradient", step.step, name))
            if limit is not None and theirs[name][0]:
                error = limit + distance(step.each_gradient[name], theirs[name])
                least[name] = min(least.get(name, (math.inf, 0)), (error, step.step))
    if not least:
        return None
    name = max(least, key=lambda name: least[name])
    error, at = least[name]
    return Smallest(_rounded_up(_SLACK * error), name, at, len(least), len(names))


# A gradient in float32 is not scaled quite as much as it is to be.
_SLACK = 1.05


def _rounded_up(value: float) -> float:
    """A number to two digits, and no smaller than it was."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.1e}")


def first_module(
    left: Trace, right: Trace, within: Limits
) -> tuple[str, float, float] | None:
    """The first module in the first forward whose output departs: (name, norm, norm on the right).

    Both began with the same weights and read the same data. `within` is of ``limits``.
    """
    limit = within.get(("output", 1, ""), math.inf)
    for name, apart in _forward_apart(left, right).items():
        if apart > limit:
            return name, left.forward[name], right.forward[name]
    return None


def _forward_apart(left: Trace, right: Trace) -> dict[str, float]:
    """Module -> relative difference of the norms of its output in the first step, in the order of the forward."""
    mine, theirs = left.forward, right.forward
    return {
        name: relative(mine[name], theirs[name])
        for name in mine
        # A pipeline finds out shapes by whatever is in memory.
        if name in theirs and math.isfinite(mine[name]) and math.isfinite(theirs[name])
    }


def sentences(left: Trace, right: Trace, within: Limits, dp: int) -> list[str]:
    """Where the run on trial departs first, forward and backward, and what such a ratio comes from.

    Args:
        left: the run on trial.
        right: the reference.
        within: of ``limits``.
        dp: data-parallel ranks.
    """
    found = []
    module = first_module(left, right, within)
    if module is not None:
        name, mine, theirs = module
        found.append(
            f"First module that departs: the output of {name or 'the model'} in step 1 has a norm of {mine:.6g}, and"
            f" {theirs:.6g} in the reference, with the same weights."
        )
    first = first_departure(left, right, within)
    if first is not None:
        many = "alone" if first.count == 1 else f"first of {first.count}"
        found.append(
            f"First parameter that departs: the {first.kind} of {first.name} in step {first.step} is"
            f" {first.ratio:.6g} times the reference's in norm ({first.size:.1e} apart, {first.limit:.1e} are let"
            f" pass), {many} of {first.among}{cause(first, left, right, dp)}."
        )
    return found + logged.sentences(left, right, within)
