"""Why a run departs from the reference, as far as the figures show it, in sentences."""

from __future__ import annotations

import math

from migrator.verify.choose.scenarios import ON_ONE_RANK
from migrator.verify.judge.compare import (
    Comparison,
    constant_ratio,
    departs,
    first_ratio,
)
from migrator.verify.judge.culprit import as_the_loss
from migrator.verify.judge.ranks import digests, first_apart, replicas
from migrator.verify.judge.trace import Trace, digest, first_line
from migrator.verify.judge.verdict import Traces


def departures(
    comparisons: tuple[Comparison, ...],
    migrated: Trace,
    reference: Trace,
    baseline: Trace,
    dp: int,
) -> list[str]:
    """Where the migrated tree departs from FSDP, and why, as far as the figures show it."""
    found = [c.sentence() for c in comparisons if not c.agrees]
    ratio = constant_ratio(migrated, reference) if found else None
    if ratio is None:
        return found
    if as_the_loss(ratio, migrated, reference):
        found.append(
            f"In every step the migrated tree's loss and gradients are {ratio:.4g} times the reference's: the loss is"
            " scaled otherwise."
        )
    elif abs(ratio * dp - 1) < 1e-3:
        as_before = constant_ratio(baseline, reference)
        also = " (as under DDP)" if as_before and abs(as_before * dp - 1) < 1e-3 else ""
        found.append(
            f"In every step the migrated tree's gradients are 1/{dp} of the reference's: they are divided by the"
            f" data-parallel degree twice{also}. The loss is already divided by the global token count, so"
            " apply_replicate has to switch gradient division off, as apply_fsdp does."
        )
    elif abs(ratio / dp - 1) < 1e-3:
        found.append(
            f"In every step the migrated tree's gradients are {dp} times the reference's: they are summed over the"
            " data-parallel ranks where they have to be averaged."
        )
    elif abs(ratio - 1) > 1e-3:
        found.append(
            f"In every step the migrated tree's gradients are {ratio:.4g} times the reference's."
        )
    return found


def by_a_factor(traces: Traces) -> bool:
    """Whether DDP's gradients are those of FSDP times one number in every step, and that is not 1."""
    sides = [traces.get(name) for name in ("baseline", "control")]
    if not all(one and one.steps and not one.first_error for one in sides):
        return False
    ratio = constant_ratio(traces["baseline"], traces["control"])
    return ratio is not None and abs(ratio - 1) > 1e-3


def who_is_right(traces: Traces, dp: int) -> tuple[list[str], list[str]]:
    """(failures, notes) of where DDP's and FSDP's gradients differ by a factor: what one rank has with the same data says who is right.

    Args:
        traces: with those of ``ON_ONE_RANK``, where they were needed.
        dp: data-parallel ranks.
    """
    if "alone" not in traces:
        return [], []
    runs = [traces[name] for name in ON_ONE_RANK]
    bad = next((run for run in runs if run.first_error or not run.steps), None)
    if bad is not None:
        why = f": {first_line(bad.first_error[1])}" if bad.first_error else ""
        return [], [f"One rank could not say whether DDP or FSDP is right{why}."]
    truth, ddp, fsdp = (run.steps[0].gradients or math.nan for run in runs)
    of_ddp, of_fsdp = ddp / truth, fsdp / truth
    right = [abs(ratio - 1) < 1e-2 for ratio in (of_ddp, of_fsdp)]
    if right == [False, True]:
        return [], [
            "Where all ranks read the same data, FSDP's gradients are those of one rank, and DDP's are"
            f" {of_ddp:.4g} times those: FSDP is right."
        ]
    if right == [True, False]:
        return [
            "Where all ranks read the same data, DDP's gradients are those of one rank, and FSDP's are"
            f" {of_fsdp:.4g} times those ({dp} data-parallel ranks): DDP was right, and apply_fsdp, which the migrated"
            " tree follows, is wrong. Mend the gradient division of apply_fsdp first."
        ], []
    return [], [
        f"Where all ranks read the same data, DDP's gradients are {of_ddp:.4g} times those of one rank, and FSDP's"
        f" {of_fsdp:.4g} times: one rank cannot say which of them is right."
    ]


def baseline_departs(
    baseline: Trace, reference: Trace, comparisons: tuple[Comparison, ...], dp: int
) -> list[str]:
    """What there is to say about a baseline that does not do what the reference does."""
    return [
        *_departs(baseline, reference, comparisons, dp),
        *acted_on(baseline, reference),
    ]


def acted_on(baseline: Trace, reference: Trace) -> list[str]:
    """That under DDP something acts on the gradients of a few parameters alone, as a hook does."""
    ratio, others = first_ratio(baseline, reference)
    if ratio is None or not others:
        return []
    mine, theirs = (
        run.steps[0].each_gradient[others[0]][0] for run in (baseline, reference)
    )
    count = f"{len(others)} parameters, {others[0]} first" if others[1:] else others[0]
    return [
        f"Look at this: under DDP something acts on {count}, whose gradient in step 1 is"
        f" {mine / theirs:.4g} times that of FSDP, where it is {ratio:.4g} times for the others. replicate"
        " does what FSDP does. A hook on the parameter is one such thing (TM222)."
    ]


def _departs(
    baseline: Trace, reference: Trace, comparisons: tuple[Comparison, ...], dp: int
) -> list[str]:
    ratio = constant_ratio(baseline, reference)
    if ratio is not None and abs(ratio * dp - 1) < 1e-3:
        return [
            f"DDP divided the gradients twice: in every step the baseline's grad_norm is 1/{dp} of the reference's."
            " The loss is a local sum over global tokens, and DDP's all-reduce averages once more. replicate and FSDP"
            " do it once, so the baseline is not what the migrated tree has to equal, and clipping acts differently."
        ]
    alone = sorted(baseline.parameters.keys() - reference.parameters.keys())
    if alone:
        return [
            f"DDP trains {alone[0]} by itself, which FSDP shares with another parameter: under DDP the tie is lost, so"
            " it trains another model, and the migrated tree does not have to equal it."
        ]
    why = ""
    if baseline.model.get("autocast"):
        why = " DDP computes under autocast, which keeps norms in fp32."
    worst = max((c for c in comparisons if not c.agrees), key=lambda c: c.largest)
    return [
        "The baseline departs from FSDP of its own revision, so the migrated tree does not have to equal it."
        f"{why} {worst.sentence()}"
    ]


def scaled_otherwise(dp: Trace | None, reference: Trace | None) -> list[str]:
    """That FSDP itself has gradients of quite another size in a cell than in ``dp``.

    As torchtitan 0.2.2 under pipelining, which divides the loss by the tokens behind the
    backward pass.
    """
    runs = [one for one in (dp, reference) if one is not None and one.steps]
    if len(runs) < 2:
        return []
    usual, here = (run.steps[0].gradients for run in runs)
    if not usual or not here or 0.1 < here / usual < 10:
        return []
    return [
        f"FSDP's gradients are {here / usual:.4g} times those of dp in step 1, before and after the migration: so this"
        " checkout scales them in this layout. replicate does what FSDP does; whether both are right is not said."
    ]


def mistrains(
    baseline: Trace, reference: Trace, against: tuple[Comparison, ...], dp: int
) -> list[str]:
    """What DDP does where it was never meant to go, as far as the figures show it."""
    if not departs(against):
        return ["DDP agrees with FSDP here."]
    for ranks in replicas(baseline):
        apart = first_apart(ranks, lambda rank: digests(rank.parameters))
        if apart:
            name, one, other = apart
            return [
                f"DDP mistrains: its replicas part, {name} is not the same on ranks {one} and {other} after the last"
                " step. FSDP says what is right."
            ]
    frozen = [
        name
        for name, value in baseline.parameters.items()
        if value["digest"] == digest(baseline.initial, name)
        and value["digest"] != digest(reference.parameters, name)
    ]
    missing = sorted(reference.parameters.keys() - baseline.parameters.keys())
    if missing:
        return [
            f"DDP mistrains: {len(missing)} parameters, {missing[0]} first, are not its any more."
        ]
    if frozen:
        return [
            f"DDP mistrains: {len(frozen)} parameters, {frozen[0]} first, never move."
        ]
    if baseline.model.get("autocast") and not reference.model.get("autocast"):
        return ["DDP computes under autocast and is not expected to equal FSDP."]
    ratio = constant_ratio(baseline, reference)
    if ratio is not None and abs(ratio - 1) > 1e-3:
        return [
            f"DDP's gradients are {ratio:.4g} times FSDP's in every step (dp is {dp})."
        ]
    worst = max((c for c in against if not c.agrees), key=lambda c: c.largest)
    return [f"DDP trains something else: {worst.sentence()}"]
