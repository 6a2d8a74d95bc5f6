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
        1e-5, "fp32; releases 0.1.0 to 0.2.2 show 1e-7 between replicate and FSDP after 5 steps"
    ),
    "gradients": Tolerance(
        1e-5, "summed in float64; the releases show 1e-7 between replicate and FSDP after 5 steps"
    ),
    "grad_norm": Tolerance(
        1e-3, "torchtitan sums squares in fp32, shard by shard under FSDP; the releases show 1e-4"
    ),
    "parameters": Tolerance(
        1e-4, "norm and sum of each final parameter; the releases show 6e-6 after 5 steps"
    ),
}

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
        what = "parameters after the last step" if self.quantity == "parameters" else self.quantity
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
    """The outcome of `verify`.

    failures: one sentence for each reason why it failed; notes: what else a
    reader should know. traces: by party. details: a failing rank's traceback.
    """

    passed: bool
    failures: tuple[str, ...]
    notes: tuple[str, ...]
    comparisons: tuple[Comparison, ...]
    traces: dict[str, Trace] = field(default_factory=dict)
    details: str = ""
    environment: dict[str, object] = field(default_factory=dict)

    def to_dict(self) -> dict:
        """Everything, as plain values for JSON."""
        return asdict(self)


def relative(left: float, right: float) -> float:
    """|left - right| in units of |right|; infinite where either is not finite."""
    if left == right:
        return 0.0
    if not (math.isfinite(left) and math.isfinite(right)):
        return math.inf
    return abs(left - right) / max(abs(right), 1e-30)


def compare_steps(quantity: str, left: Trace, right: Trace) -> Comparison:
    """Compares one per-step quantity of two runs over the steps that both have; a value missing on one side differs."""
    read = QUANTITIES[quantity]
    tolerance = TOLERANCES[quantity]
    other = {step.step: read(step) for step in right.steps}
    largest, at, first, shared = 0.0, None, None, 0
    for step in left.steps:
        if step.step not in other:
            continue
        shared += 1
        a, b = read(step), other[step.step]
        difference = (
            (0.0 if a is b is None else math.inf) if a is None or b is None else relative(a, b)
        )
        if difference > largest:
            largest, at = difference, step.step
        if difference > tolerance.relative and first is None:
            first = step.step
    if not shared:
        largest, at, first = math.inf, 1, 1
    return Comparison(
        quantity, left.party, right.party, _verdict(largest, first), largest, at, first, tolerance
    )


def compare_parameters(left: Trace, right: Trace) -> Comparison:
    """Compares the final parameters: digests for bitwise, else norms and sums, in units of the parameter's norm."""
    tolerance = TOLERANCES["parameters"]
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


def compare(left: Trace, right: Trace) -> tuple[Comparison, ...]:
    """All quantities of two runs."""
    return (
        *(compare_steps(quantity, left, right) for quantity in QUANTITIES),
        compare_parameters(left, right),
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
            and all(_replicated(parameter) for parameter in trace.model["parameters"].values())
            else "fsdp"
        )
    if "DDP" in kinds or "DistributedDataParallel" in kinds:
        return "ddp"
    return "none"


def _replicated(parameter: dict) -> bool:
    """Whether a parameter is replicated over every mesh dimension larger than 1 (torch 2.9 keeps a shard dimension of 1)."""
    placements, mesh = parameter.get("placements"), parameter.get("mesh", [])
    return bool(placements) and all(
        placement.startswith("R") for placement, size in zip(placements, mesh) if size > 1
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
            failures.append(f"{_title(trace)}: rank {rank} failed with {event['type']}{first}")
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
        failures += [comparison.sentence() for comparison in to_reference if not comparison.agrees]
        failures += _cause_of_departure(migrated, reference, baseline, dp)
    if not departs(baseline_to_reference):
        if departs(to_baseline):
            failures += [
                comparison.sentence() for comparison in to_baseline if not comparison.agrees
            ]
    else:
        notes += _baseline_departs(baseline, reference, baseline_to_reference, dp)
    return Verdict(not failures, tuple(failures), tuple(notes), comparisons, traces, details)


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
            found.append(f"{title}: rank {rank.rank} recorded no step {missing[0]} (of {steps}).")
            continue
        if not rank.model:
            found.append(
                f"{title}: rank {rank.rank} recorded no model: its trainer does not call clip_grad_norm_."
            )
            continue
        if not rank.error and not rank.ended:
            found.append(f"{title}: rank {rank.rank} ended before its training was over.")
        found += _not_finite(title, rank)
    found += _ranks_apart(title, trace)
    return found


def _not_finite(title: str, rank: RankTrace) -> list[str]:
    for step in rank.steps:
        for quantity, read in QUANTITIES.items():
            value = read(step)
            if value is None:
                return [f"{title}: rank {rank.rank} recorded no {quantity} at step {step.step}."]
            if not math.isfinite(value):
                return [f"{title}: {quantity} is {value} on rank {rank.rank} at step {step.step}."]
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
        return ["The migrated tree still trains under DDP: its model was not wrapped by replicate."]
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


def _cause_of_departure(migrated: Trace, reference: Trace, baseline: Trace, dp: int) -> list[str]:
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
