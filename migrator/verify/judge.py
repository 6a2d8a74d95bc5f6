"""Judges three runs: baseline (DDP), migrated (replicate), reference (FSDP). Pure functions over traces; no torch.

The reference says what is right; the baseline says what was. A migrated tree
passes when it does what the reference does, and what the baseline did as well
unless the baseline itself departs from the reference.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Callable

from .trace import RankTrace, Step, Trace


@dataclass(frozen=True)
class Tolerance:
    """A limit on a relative difference, and where it comes from."""

    relative: float
    source: str


# Each is 10 to 100 times what torchtitan 0.1.0 to 0.2.2 shows on CPU in fp32
# over 5 steps on 2 ranks, and far below what a wrong gradient scale makes
# (0.5 in the gradients, 3e-4 in the loss, 1e-2 in the parameters).
TOLERANCES = {
    "loss": Tolerance(
        1e-5,
        "fp32; releases 0.1.0 to 0.2.2 show 1e-7 between replicate and FSDP after 5 steps",
    ),
    "gradients": Tolerance(
        1e-5,
        "summed in float64; the releases show 1e-7 between replicate and FSDP after 5 steps",
    ),
    "grad_norm": Tolerance(
        1e-3,
        "torchtitan sums squares in fp32, shard by shard under FSDP; the releases show 1e-4",
    ),
    "parameters": Tolerance(
        1e-4,
        "norm and sum of each final parameter; the releases show 6e-6 after 5 steps",
    ),
}

# bf16 keeps 8 bits, so that the order of two additions shows much earlier. Each is 5 to
# 10 times what replicate and FSDP of 0.2.1 differ by after 5 steps, and below what autocast
# left on makes of the same run (3.5e-4 in the loss, 1.4e-3 in the gradients).
TOLERANCES_BF16 = {
    "loss": Tolerance(
        1e-4, "bf16; 0.2.1 shows 1.3e-5 between replicate and FSDP after 5 steps"
    ),
    "gradients": Tolerance(2e-4, "bf16; 0.2.1 shows 1.9e-5 between replicate and FSDP"),
    "grad_norm": Tolerance(1e-3, "bf16; 0.2.1 shows 1.1e-4 between replicate and FSDP"),
    "parameters": Tolerance(
        4e-3, "bf16; 0.2.1 shows 7.4e-4 between replicate and FSDP"
    ),
}

Tolerances = dict[str, Tolerance]

QUANTITIES: dict[str, Callable[[Step], float | None]] = {
    "loss": lambda step: step.loss,
    "grad_norm": lambda step: step.grad_norm,
    "gradients": lambda step: step.gradients,
}


@dataclass(frozen=True)
class Comparison:
    """How two runs agree in one quantity.

    verdict: "bitwise", "within" (the tolerance) or "different".
    largest: the largest relative difference, at step `at` (for parameters:
    in parameter `at`). first_different: first step beyond the tolerance.
    """

    quantity: str
    left: str
    right: str
    verdict: str
    largest: float
    at: int | str | None
    first_different: int | str | None
    tolerance: Tolerance

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


@dataclass(frozen=True)
class Verdict:
    """The outcome of one cell.

    not_run: why it did not run, empty where it did. failures: one sentence for each reason why it failed; notes: what else a
    reader should know. traces: by party. details: a failing rank's traceback.
    """

    passed: bool
    failures: tuple[str, ...]
    notes: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    traces: dict[str, Trace] = field(default_factory=dict)
    details: str = ""
    not_run: str = ""

    @property
    def word(self) -> str:
        """``passed``, ``failed`` or ``not run``."""
        return "not run" if self.not_run else "passed" if self.passed else "failed"


@dataclass(frozen=True)
class Verification:
    """All cells of one `verify`.

    cells: verdict by name of the cell. environment: what ran where.
    """

    cells: dict[str, Verdict]
    environment: dict[str, object] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """No cell failed, and one at least ran."""
        ran = [verdict for verdict in self.cells.values() if not verdict.not_run]
        return bool(ran) and all(verdict.passed for verdict in ran)

    def to_dict(self) -> dict:
        """Everything, as plain values for JSON."""
        cells = {
            name: {"verdict": verdict.word, **asdict(verdict)}
            for name, verdict in self.cells.items()
        }
        return {"passed": self.passed, "environment": self.environment, "cells": cells}


def relative(left: float, right: float) -> float:
    """|left - right| in units of |right|; infinite where either is not finite."""
    if left == right:
        return 0.0
    if not (math.isfinite(left) and math.isfinite(right)):
        return math.inf
    return abs(left - right) / max(abs(right), 1e-30)


def compare_steps(
    quantity: str, left: Trace, right: Trace, tolerances: Tolerances = TOLERANCES
) -> Comparison:
    """Compares one per-step quantity of two runs over the steps that both have; a value missing on one side differs."""
    read = QUANTITIES[quantity]
    tolerance = tolerances[quantity]
    other = {step.step: read(step) for step in right.steps}
    largest, at, first, shared = 0.0, None, None, 0
    for step in left.steps:
        if step.step not in other:
            continue
        shared += 1
        a, b = read(step), other[step.step]
        difference = (
            (0.0 if a is b is None else math.inf)
            if a is None or b is None
            else relative(a, b)
        )
        if difference > largest:
            largest, at = difference, step.step
        if difference > tolerance.relative and first is None:
            first = step.step
    if not shared:
        largest, at, first = math.inf, 1, 1
    return Comparison(
        quantity,
        left.party,
        right.party,
        _verdict(largest, first),
        largest,
        at,
        first,
        tolerance,
    )


def compare_parameters(
    left: Trace, right: Trace, tolerances: Tolerances = TOLERANCES
) -> Comparison:
    """Compares the final parameters: digests for bitwise, else norms and sums, in units of the parameter's norm."""
    tolerance = tolerances["parameters"]
    largest, at, first = 0.0, None, None
    a, b = left.parameters, right.parameters
    for name in sorted(a.keys() | b.keys()):
        if name not in a or name not in b:
            difference = math.inf
        elif a[name]["digest"] == b[name]["digest"]:
            continue
        else:
            scale = abs(b[name]["norm"]) or 1e-30
            apart = (abs(a[name][key] - b[name][key]) for key in ("norm", "sum"))
            # Equal norm and sum do not make equal parameters.
            difference = max(*(d / scale for d in apart), 1e-16)
        difference = math.inf if math.isnan(difference) else difference
        if difference > largest:
            largest, at = difference, name
        if difference > tolerance.relative and first is None:
            first = name
    if not a or not b:
        largest, at, first = math.inf, "every parameter", "every parameter"
    return Comparison(
        "parameters",
        left.party,
        right.party,
        _verdict(largest, first),
        largest,
        at,
        first,
        tolerance,
    )


def _verdict(largest: float, first_different: object) -> str:
    if first_different is not None:
        return "different"
    return "bitwise" if largest == 0.0 else "within"


def compare(
    left: Trace, right: Trace, tolerances: Tolerances = TOLERANCES
) -> tuple[Comparison, ...]:
    """All quantities of two runs."""
    return (
        *(compare_steps(quantity, left, right, tolerances) for quantity in QUANTITIES),
        compare_parameters(left, right, tolerances),
    )


def constant_ratio(left: Trace, right: Trace) -> float | None:
    """The ratio of the gradients' norms, left over right, where one ratio holds in every step; else None.

    At step 1 both runs have the same weights, so the ratio is taken there;
    later the runs drift apart, and 5 % is let pass.
    """
    other = {step.step: step.gradients for step in right.steps}
    ratios = [
        step.gradients / other[step.step]
        for step in left.steps
        if step.gradients and other.get(step.step)
    ]
    if not ratios or not all(
        math.isfinite(ratio) and abs(ratio / ratios[0] - 1) < 0.05 for ratio in ratios
    ):
        return None
    return ratios[0]


def wrapping(trace: Trace) -> str:
    """How the root module is wrapped: "replicate", "fsdp", "ddp" or "none"."""
    kinds = trace.model.get("wrapped", {}).get("", trace.model.get("root", []))
    if "ReplicateModule" in kinds:
        return "replicate"
    if "FSDPModule" in kinds:
        return (
            "replicate"
            if trace.model["parameters"]
            and all(
                _replicated(parameter)
                for parameter in trace.model["parameters"].values()
            )
            else "fsdp"
        )
    if "DDP" in kinds or "DistributedDataParallel" in kinds:
        return "ddp"
    return "none"


def _replicated(parameter: dict) -> bool:
    """Whether a parameter is replicated over every mesh dimension larger than 1 (torch 2.9 keeps a shard dimension of 1)."""
    placements, mesh = parameter.get("placements"), parameter.get("mesh", [])
    dims = parameter.get("mesh_dims") or [""] * len(mesh)
    return bool(placements) and all(
        placement.startswith("R")
        for placement, size, dim in zip(placements, mesh, dims)
        if size > 1 and dim not in ("tp", "ep", "etp")
    )


def departs(comparisons: tuple[Comparison, ...]) -> bool:
    return not all(comparison.agrees for comparison in comparisons)


# --- the verdict --------------------------------------------------------------


def judge(
    baseline: Trace,
    migrated: Trace,
    reference: Trace,
    control: Trace,
    *,
    steps: int,
    dp: int,
    broken: tuple[str, ...] = (),
) -> Verdict:
    """Judges the three runs of `steps` steps over `dp` ranks.

    broken: sentences about call sites that can be seen to be wrong without
    running them. control: FSDP of the base revision, which the migration must
    not have changed; no rank in it where an earlier run crashed.
    """
    failures: list[str] = list(broken)
    notes: list[str] = []
    details = ""
    traces = {trace.party: trace for trace in (baseline, migrated, reference, control)}
    for trace in (migrated, reference):
        error = trace.first_error
        if error is not None:
            rank, event = error
            message = event["message"].strip().splitlines()
            first = f": {message[0]}" if message else ""
            failures.append(
                f"{_title(trace)}: rank {rank} failed with {event['type']}{first}"
            )
            details = details or event["traceback"] or failures[-1]
    if details:
        return Verdict(False, tuple(failures), tuple(notes), (), traces, details)
    for trace in traces.values():
        failures += _incomplete(trace, steps, dp)
    if not all(trace.steps and trace.model for trace in traces.values()):
        return Verdict(False, tuple(failures), tuple(notes), (), traces, details)

    failures += _wrapped_wrongly(baseline, migrated, reference)
    to_reference = compare(migrated, reference)
    to_baseline = compare(migrated, baseline)
    baseline_to_reference = compare(baseline, reference)
    comparisons = (*to_reference, *to_baseline, *baseline_to_reference)

    changed = [c for c in compare(reference, control) if not c.agrees]
    if changed:
        failures.append(
            "The migration changed what FSDP does, which it must not touch: "
            + " ".join(comparison.sentence() for comparison in changed)
        )
    if departs(to_reference):
        failures += [
            comparison.sentence()
            for comparison in to_reference
            if not comparison.agrees
        ]
        failures += _cause_of_departure(migrated, reference, baseline, dp)
    if not departs(baseline_to_reference):
        if departs(to_baseline):
            failures += [
                comparison.sentence()
                for comparison in to_baseline
                if not comparison.agrees
            ]
    else:
        notes += _baseline_departs(baseline, reference, baseline_to_reference, dp)
    return Verdict(
        not failures, tuple(failures), tuple(notes), comparisons, traces, details
    )


def _title(trace: Trace) -> str:
    return {
        "baseline": "Baseline (DDP of the base revision)",
        "migrated": "Migrated tree (replicate)",
        "reference": "Reference (FSDP of the migrated tree)",
        "control": "Control (FSDP of the base revision)",
    }.get(trace.party, trace.party)


def _incomplete(trace: Trace, steps: int, dp: int) -> list[str]:
    """What a run lacks: ranks, steps, finite numbers, equal replicas."""
    found: list[str] = []
    title = _title(trace)
    if len(trace.ranks) != dp:
        found.append(f"{title}: {len(trace.ranks)} of {dp} ranks left a trace.")
    for rank in trace.ranks:
        missing = sorted(set(range(1, steps + 1)) - {step.step for step in rank.steps})
        if missing:
            found.append(
                f"{title}: rank {rank.rank} recorded no step {missing[0]} (of {steps})."
            )
            continue
        if not rank.model:
            found.append(
                f"{title}: rank {rank.rank} recorded no model: its trainer does not call clip_grad_norm_."
            )
            continue
        if not rank.error and not rank.ended:
            found.append(
                f"{title}: rank {rank.rank} ended before its training was over."
            )
        found += _not_finite(title, rank)
    found += _ranks_apart(title, trace)
    return found


def _not_finite(title: str, rank: RankTrace) -> list[str]:
    for step in rank.steps:
        for quantity, read in QUANTITIES.items():
            value = read(step)
            if value is None:
                return [
                    f"{title}: rank {rank.rank} recorded no {quantity} at step {step.step}."
                ]
            if not math.isfinite(value):
                return [
                    f"{title}: {quantity} is {value} on rank {rank.rank} at step {step.step}."
                ]
    return []


def _ranks_apart(title: str, trace: Trace) -> list[str]:
    """Replicas that are not replicas: the gathered parameters must be the same on all ranks."""
    if not trace.ranks:
        return []
    first = trace.ranks[0]
    for rank in trace.ranks[1:]:
        for name, value in first.parameters.items():
            other = rank.parameters.get(name)
            if other and other["digest"] != value["digest"]:
                return [
                    f"{title}: after the last step {name} is not the same on ranks {first.rank} and {rank.rank}:"
                    " its gradients are not reduced over the data-parallel ranks, or the ranks started apart."
                ]
    return []


def _wrapped_wrongly(baseline: Trace, migrated: Trace, reference: Trace) -> list[str]:
    """Whether the migrated run really ran replicate, over the groups and dtypes that FSDP has."""
    kind = wrapping(migrated)
    if kind == "ddp":
        return [
            "The migrated tree still trains under DDP: its model was not wrapped by replicate."
        ]
    if kind != "replicate":
        what = "FSDP, which shards its parameters" if kind == "fsdp" else "nothing"
        return [f"The migrated tree's model is wrapped by {what}, not by replicate."]
    found: list[str] = []
    groups = set(migrated.model["wrapped"])
    apart = sorted(set(reference.model.get("wrapped", {})) - groups)
    if apart:
        shown = ", ".join(apart[:4]) + (", …" if len(apart) > 4 else "")
        found.append(
            f"replicate has no group of its own for {shown}, which apply_fsdp wraps:"
            " their all-reduce cannot overlap with the backward pass."
        )
    found += _precision_apart(migrated.model, reference.model)
    mine, theirs = migrated.model["parameters"], reference.model.get("parameters", {})
    for name in sorted(mine.keys() | theirs.keys()):
        if (name in mine) != (name in theirs):
            side = "FSDP" if name in theirs else "replicate"
            found.append(f"Only the {side} run has a parameter {name}.")
            break
        if mine[name]["dtype"] != theirs[name]["dtype"]:
            found.append(
                f"{name} is {mine[name]['dtype']} under replicate and {theirs[name]['dtype']} under FSDP."
            )
            break
    for name, parameter in mine.items():
        if not _replicated(parameter):
            found.append(
                f"{name} is not replicated over the mesh (placements {parameter.get('placements')})."
            )
            break
    return found


def _precision_apart(mine: dict, theirs: dict) -> list[str]:
    """Where the migrated tree computes or reduces in other dtypes than the reference."""
    found: list[str] = []
    if mine.get("autocast") and not theirs.get("autocast"):
        found.append(
            "The migrated tree runs under autocast, and FSDP does not: maybe_enable_amp has to leave mixed"
            " precision to replicate."
        )
    policies = theirs.get("policies", {})
    for name, policy in mine.get("policies", {}).items():
        other = policies.get(name, policy)
        apart = [key for key in policy if policy[key] != other.get(key)]
        if apart:
            key = apart[0]
            found.append(
                f"{name or 'The root module'} has {key}={policy[key]} in its mixed-precision policy under replicate"
                f" and {other.get(key)} under FSDP."
            )
            break
    return found


def _cause_of_departure(
    migrated: Trace, reference: Trace, baseline: Trace, dp: int
) -> list[str]:
    ratio = constant_ratio(migrated, reference)
    if ratio is None:
        return []
    if abs(ratio * dp - 1) < 1e-3:
        as_before = constant_ratio(baseline, reference)
        also = " (as under DDP)" if as_before and abs(as_before * dp - 1) < 1e-3 else ""
        return [
            f"In every step the migrated tree's gradients are 1/{dp} of the reference's: they are divided by the"
            f" data-parallel degree twice{also}. The loss is already divided by the global token count, so"
            " apply_replicate has to switch gradient division off, as apply_fsdp does."
        ]
    if abs(ratio / dp - 1) < 1e-3:
        return [
            f"In every step the migrated tree's gradients are {dp} times the reference's: they are summed over the"
            " data-parallel ranks where they have to be averaged."
        ]
    if abs(ratio - 1) > 1e-3:
        return [
            f"In every step the migrated tree's gradients are {ratio:.4g} times the reference's."
        ]
    return []


def _baseline_departs(
    baseline: Trace, reference: Trace, comparisons: tuple[Comparison, ...], dp: int
) -> list[str]:
    """What there is to say about a baseline that does not do what the reference does."""
    ratio = constant_ratio(baseline, reference)
    if ratio is not None and abs(ratio * dp - 1) < 1e-3:
        return [
            f"DDP divided the gradients twice: in every step the baseline's grad_norm is 1/{dp} of the reference's."
            " The loss is a local sum over global tokens, and DDP's all-reduce averages once more. replicate and FSDP"
            " do it once, so the baseline is not what the migrated tree has to equal, and clipping acts differently."
        ]
    worst = max((c for c in comparisons if not c.agrees), key=lambda c: c.largest)
    return [
        "The baseline departs from FSDP of its own revision, so the migrated tree does not have to equal it. "
        + worst.sentence()
    ]


def judge_combination(
    baseline: Trace,
    migrated: Trace,
    reference: Trace,
    *,
    steps: int,
    ranks: int,
    dp: int,
    tolerances: Tolerances = TOLERANCES,
) -> Verdict:
    """Judges a cell that DDP never did, or never did alike: the migrated tree against FSDP.

    The baseline is shown as what it is: it refuses, or it trains something else.
    """
    traces = {trace.party: trace for trace in (baseline, migrated, reference)}
    failures: list[str] = []
    notes: list[str] = []
    if reference.first_error:
        rank, event = reference.first_error
        why = f"FSDP, the reference, does not train here: {_first_line(event)}"
        return Verdict(False, (), (), (), traces, event["traceback"], not_run=why)
    if migrated.first_error:
        rank, event = migrated.first_error
        failures.append(
            f"{_title(migrated)}: rank {rank} failed with {_first_line(event)}"
        )
        return Verdict(False, tuple(failures), (), (), traces, event["traceback"])
    for trace in (migrated, reference):
        failures += _incomplete(trace, steps, ranks)
    if not (migrated.steps and migrated.model and reference.steps):
        return Verdict(False, tuple(failures), (), (), traces)
    failures += _wrapped_wrongly(baseline, migrated, reference)
    comparisons = compare(migrated, reference, tolerances)
    if departs(comparisons):
        failures += [c.sentence() for c in comparisons if not c.agrees]
        failures += _cause_of_departure(migrated, reference, baseline, dp)
    if baseline.first_error:
        notes.append(f"DDP refuses: {_first_line(baseline.first_error[1])}")
    elif baseline.steps:
        against = compare(baseline, reference, tolerances)
        comparisons = (*comparisons, *against)
        notes += _mistrains(baseline, reference, against, dp)
    return Verdict(not failures, tuple(failures), tuple(notes), comparisons, traces)


def judge_unchanged(before: Trace, after: Trace, *, steps: int, ranks: int) -> Verdict:
    """Judges a path that the migration must not change: the same bits before and after."""
    traces = {trace.party: trace for trace in (before, after)}
    if before.first_error:
        rank, event = before.first_error
        why = f"the base revision does not train here: {_first_line(event)}"
        return Verdict(False, (), (), (), traces, event["traceback"], not_run=why)
    if after.first_error:
        rank, event = after.first_error
        failure = f"{_title(after)}: rank {rank} failed with {_first_line(event)}"
        return Verdict(False, (failure,), (), (), traces, event["traceback"])
    failures = [*_incomplete(before, steps, ranks), *_incomplete(after, steps, ranks)]
    comparisons = compare(after, before)
    failures += [c.sentence() for c in comparisons if c.verdict != "bitwise"]
    return Verdict(not failures, tuple(failures), (), comparisons, traces)


def _first_line(event: dict) -> str:
    message = event["message"].strip().splitlines()
    return f"{event['type']}: {message[0]}" if message else event["type"]


def _mistrains(
    baseline: Trace, reference: Trace, against: tuple[Comparison, ...], dp: int
) -> list[str]:
    """What DDP does where it was never meant to go, as far as the figures show it."""
    if not departs(against):
        return ["DDP agrees with FSDP here."]
    frozen = [
        name
        for name, value in baseline.parameters.items()
        if value["digest"] == baseline.initial.get(name, {}).get("digest")
        and value["digest"] != reference.parameters.get(name, {}).get("digest")
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
    ratio = constant_ratio(baseline, reference)
    if ratio is not None and abs(ratio - 1) > 1e-3:
        return [
            f"DDP's gradients are {ratio:.4g} times FSDP's in every step (dp is {dp})."
        ]
    worst = max((c for c in against if not c.agrees), key=lambda c: c.largest)
    return [f"DDP trains something else: {worst.sentence()}"]
