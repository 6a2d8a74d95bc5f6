"""What a first departure comes from, as far as the figures of two runs show it, in words."""

from __future__ import annotations

from dataclasses import dataclass

from migrator.verify.judge.compare import relative
from migrator.verify.judge.trace import Figures, Step, Trace

KINDS = ("gradient", "weight")

# How close figures have to be to what a cause makes of them.
_CLOSE = 1e-3


@dataclass(frozen=True)
class Departure:
    """Where two runs part first.

    Args:
        kind: ``gradient`` or ``weight``.
        step: the step.
        name: the first such parameter, in the order of the backward pass.
        ratio: its norm, in units of the reference's.
        size: the distance, in units of the reference's norm.
        limit: what was let pass.
        count: how many part in that step and kind.
        among: of how many.
    """

    kind: str
    step: int
    name: str
    ratio: float
    size: float
    limit: float
    count: int
    among: int


def figures_of(step: Step, kind: str) -> Figures:
    """The figures of a kind in a step."""
    return step.each_gradient if kind == "gradient" else step.each_weight


def cause(first: Departure, left: Trace, right: Trace, dp: int) -> str:
    """What makes such a departure, after a colon; nothing where no cause is known for it.

    Args:
        first: where the run on trial departs.
        left: the run on trial.
        right: the reference.
        dp: data-parallel ranks.
    """
    if first.kind == "weight":
        still = _was_before(first, left)
        return ": its gradient agrees, and no optimizer stepped it" if still else ""
    if first.step > 1:
        lingers = _lingers(first, left, right)
        return ": the gradients of the step before are still in it" if lingers else ""
    if first.ratio < 1e-12:
        return ": no gradient reaches it"
    if as_the_loss(first.ratio, left, right):
        return ": so is the loss, which is scaled otherwise"
    if _is(first.ratio * dp, 1):
        return ": it is averaged over the data-parallel ranks twice, or scaled by their number elsewhere"
    if _is(first.ratio / dp, 1):
        return ": it is summed over the data-parallel ranks where it has to be averaged, or reduced once more by a sum"
    if first.count == first.among:
        return ""
    again = (
        ", or recomputed from another input" if left.model.get("checkpointed") else ""
    )
    return f": it is reduced over too few ranks, in another dtype, or changed after it is reduced{again}"


def _is(ratio: float, other: float) -> bool:
    return abs(ratio / other - 1) < _CLOSE if other else False


def as_the_loss(ratio: float, left: Trace, right: Trace) -> bool:
    """Whether the losses of the first step differ by a ratio that is not 1."""
    mine, theirs = left.steps[0].loss, right.steps[0].loss
    if not mine or not theirs or _is(ratio, 1):
        return False
    return _is(ratio, mine / theirs)


def _was_before(first: Departure, trace: Trace) -> bool:
    """Whether a weight is behind a step what it was before."""
    steps = {step.step: step for step in trace.steps}
    now = steps[first.step].each_weight.get(first.name)
    if now is None:
        return False
    if first.step - 1 in steps:
        return now == steps[first.step - 1].each_weight.get(first.name)
    initial = trace.initial.get(first.name)
    # Two sums of the same squares, in another order.
    return initial is not None and relative(now[0], initial["norm"]) < 1e-13


def _lingers(first: Departure, left: Trace, right: Trace) -> bool:
    """Whether each gradient is the reference's and one and the same part of that of the step before.

    Sums are linear, so the sums of the gradients show it; a part, since the gradients of
    the step before were clipped.
    """
    mine, theirs = (
        {step.step: step.each_gradient for step in run.steps} for run in (left, right)
    )
    before = theirs.get(first.step - 1, {})
    parts = [
        (figures[1] - theirs[first.step][name][1]) / before[name][1]
        for name, figures in mine[first.step].items()
        if name in theirs[first.step] and name in before and before[name][1]
    ]
    if len(parts) < 2:
        return False
    middle = sorted(parts)[len(parts) // 2]
    near = [part for part in parts if abs(part - middle) < 0.01 * abs(middle)]
    return middle > 0.01 and len(near) > len(parts) / 2
