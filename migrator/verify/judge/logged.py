"""What the loggers were given: a figure that is right in the training and wrong in its log misleads whoever reads the log.

Loss, norm, tokens and learning rate are what a migration must not change there. Time, memory
and throughput differ from run to run, and of what only a fork logs nobody knows how much it may.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from migrator.verify.judge.compare import MARGIN, RESOLUTION, TOO_NOISY, relative
from migrator.verify.judge.trace import Trace

Limits = dict[tuple[str, int, str], float]
"""("logged", step, metric) -> the relative difference that is let pass; nothing where noise hides too much."""

_JUDGED = re.compile(r"loss|grad_?norm|tokens_seen|(^|/)lr$|learning_rate")


def limits(reference: Trace, nudged: Trace) -> Limits:
    """What rounding alone makes of each metric, up to each step, times the margin. Arguments as of `each.limits`."""
    noise: dict[str, float] = {}
    found: Limits = {}
    for _, step, name, one, other in _pairs(nudged, reference):
        apart = RESOLUTION if one is None else relative(one, other)
        # A norm in float32 depends on how tensors are cut; the gradients are judged by themselves.
        least = TOO_NOISY if "norm" in name else RESOLUTION
        noise[name] = max(noise.get(name, least), apart)
        found["logged", step, name] = MARGIN * noise[name]
    return {key: limit for key, limit in found.items() if limit <= MARGIN * TOO_NOISY}


def sentences(left: Trace, right: Trace, within: Limits) -> list[str]:
    """The first step and rank in which each metric is logged otherwise than in the reference.

    Args:
        left: the run on trial.
        right: the reference.
        within: of `limits`; what is not in there is not judged.
    """
    found: dict[str, str] = {}
    # One rank has seen a part of the tokens that several have.
    for rank, step, name, mine, theirs in (
        _pairs(left, right) if len(left.ranks) == len(right.ranks) else ()
    ):
        limit = within.get(("logged", step, name))
        if limit is None or name in found:
            continue
        if mine is None:
            found[name] = f"Logged: rank {rank} logs no {name} in step {step}."
        elif relative(mine, theirs) > limit:
            found[name] = (
                f"Logged: {name} is {mine:.7g} on rank {rank} in step {step}, and {theirs:.7g} in the reference"
                f" ({relative(mine, theirs):.1e} apart, {limit:.1e} are accepted)."
            )
    return list(found.values())


def _pairs(
    left: Trace, right: Trace
) -> Iterator[tuple[int, int, str, float | None, float]]:
    """(rank, step, metric, left, right) of each metric that is judged, by step."""
    mine, theirs = (
        {(s.step, rank.rank): s.logged for rank in run.ranks for s in rank.steps}
        for run in (left, right)
    )
    for step, rank in sorted(mine.keys() & theirs.keys()):
        one, other = mine[step, rank], theirs[step, rank]
        for name in filter(_JUDGED.search, other):
            yield rank, step, name, one.get(name), other[name]
