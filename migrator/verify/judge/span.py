"""Which steps of a cell can be judged, and by what tolerances: fewer than were asked for where a trainer ends by itself, or rounding hides the rest."""

from __future__ import annotations

from dataclasses import dataclass, field

from migrator.verify.choose.scenarios import PARTIES
from migrator.verify.judge import each
from migrator.verify.judge.compare import (
    MARGIN,
    TOO_NOISY,
    Tolerances,
    measured_tolerances,
    only,
    too_noisy,
)
from migrator.verify.judge.trace import Trace
from migrator.verify.judge.verdict import Traces

Pair = tuple[Trace, Trace]
"""A run of FSDP and the same once more, rounded otherwise."""


@dataclass(frozen=True)
class Span:
    """What of a cell is judged.

    Args:
        steps: the last step that is.
        tolerances: of each quantity; without the final parameters where `steps` is not the last one.
        limits: of each parameter.
        notes: why it is fewer steps than were asked for.
        hidden: why nothing can be judged; empty where something can.
    """

    steps: int
    tolerances: Tolerances = field(default_factory=dict)
    limits: each.Limits = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    hidden: str = ""


def span(traces: Traces, noise: tuple[Pair, Tolerances] | None, steps: int) -> Span:
    """The longest run of steps of a cell that can be judged.

    Args:
        traces: the runs, by party.
        noise: what shows the noise, and tolerances that are known to be others, of golden
            runs; None where it was not measured.
        steps: as many as were asked for.
    """
    # Of runs that go on from a checkpoint, where it was written is part of what is judged.
    whole = any(PARTIES[name].starts_from for name in traces)
    end = steps if whole else _common_end(traces, steps)
    notes: tuple[str, ...] = ()
    if end < steps:
        notes = (
            f"The base revision's trainer ends by itself after step {end} of {steps}: these are judged.",
        )
    if noise is None:
        return Span(end, notes=notes)
    pair, known = noise
    tolerances = measured_tolerances(*pair) | known
    noisy = too_noisy(tolerances)
    if noisy is None:
        tolerances, said = _capped(tolerances)
        return Span(end, tolerances, each.limits(*pair), (*notes, *said))
    size = tolerances[noisy].relative / MARGIN
    why = f"rounding alone moves FSDP's {noisy} by {size:.0e} in {end} steps, too much to tell a wrong migration from a right one"
    for last in () if whole else range(end - 1, 0, -1):
        plain, nudged = (only(run, range(1, last + 1)) for run in pair)
        tolerances = measured_tolerances(plain, nudged)
        if too_noisy(tolerances) is None:
            # The parameters that are kept are those behind the last step.
            del tolerances["parameters"]
            which = "step 1 is" if last == 1 else f"steps 1 to {last} are"
            note = f"{why[0].upper()}{why[1:]}: {which} judged, each gradient and each weight in it."
            tolerances, said = _capped(tolerances)
            limits = each.limits(plain, nudged)
            return Span(last, tolerances, limits, (*notes, note, *said))
    return Span(end, tolerances, each.limits(*pair), notes, why)


def _capped(tolerances: Tolerances) -> tuple[Tolerances, tuple[str, ...]]:
    """Tolerances without those that would let wrong migrations pass, and a note of each that is left out."""
    largest = MARGIN * TOO_NOISY
    judged = {k: one for k, one in tolerances.items() if one.relative <= largest}
    said = (
        f"Rounding alone moves FSDP's {name} by {one.relative / MARGIN:.0e}: not judged, but for each gradient and each"
        " weight by itself."
        for name, one in tolerances.items()
        if name not in judged
    )
    return judged, tuple(said)


def _common_end(traces: Traces, steps: int) -> int:
    """The step behind which all runs of the base revision ended well, where that is one and before the last."""
    runs = [
        trace
        for name, trace in traces.items()
        if PARTIES[name].tree == "base" and not PARTIES[name].alike
    ]
    well = [run for run in runs if run.steps and not run.first_error]
    ends = {run.steps[-1].step for run in well}
    ended = all(rank.ended for run in well for rank in run.ranks)
    return min(ends.pop(), steps) if len(ends) == 1 and ended else steps
