"""Judges a cell from the traces of its parties. Pure functions over traces; no torch.

The reference (FSDP) says what is right; the baseline (DDP) says what was. A
migrated tree passes when it does what the reference does, and what the baseline
did as well unless the baseline itself departs from the reference.
"""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field

from migrator.verify.choose.scenarios import PARTIES, halfway
from migrator.verify.judge.checks import (
    in_words,
    incomplete,
    rewrapped,
    tensor_ranks_apart,
    wrapped_wrongly,
    wrapping,
)
from migrator.verify.judge.compare import (
    Comparison,
    Tolerance,
    Tolerances,
    compare,
    constant_ratio,
    departs,
)
from migrator.verify.judge.trace import Trace, first_line

Traces = dict[str, Trace]

# Where nothing may change, and where a checkpoint has to come back as it was.
EXACTLY = dict.fromkeys(
    ("loss", "grad_norm", "gradients", "validation", "tokens", "parameters"),
    Tolerance(0.0, "has to be bitwise"),
)


@dataclass(frozen=True)
class Terms:
    """What a cell is judged by.

    steps: the last optimizer step. dp: data-parallel ranks. ranks: all ranks.
    tolerances: of each quantity, as measured.
    """

    steps: int
    dp: int
    ranks: int
    tolerances: Tolerances = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """The outcome of one cell.

    failures: one sentence for each reason why it failed. notes: what else a
    reader should know. traces: by party. details: a failing rank's traceback.
    not_run: why it was not judged, empty where it was. device: where it ran.
    """

    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    traces: Traces = field(default_factory=dict)
    details: str = ""
    not_run: str = ""
    device: str = "cpu"

    @property
    def passed(self) -> bool:
        return not self.failures and not self.not_run

    @property
    def word(self) -> str:
        """``passed``, ``failed`` or ``not run``."""
        return "not run" if self.not_run else "passed" if self.passed else "failed"

    @property
    def ratios(self) -> dict[str, float]:
        """Tokens a second and peak memory of the migrated tree, in units of the baseline's."""
        return ratios(self.traces)

    def to_dict(self) -> dict:
        """Plain values for JSON."""
        return {
            "verdict": self.word,
            "not_run": self.not_run,
            "failures": list(self.failures),
            "notes": list(self.notes),
            "device": self.device,
            "comparisons": [
                {**asdict(comparison), "sentence": comparison.sentence()}
                for comparison in self.comparisons
            ],
            "ratios": self.ratios,
            "collectives": {
                name: trace.collectives
                for name, trace in self.traces.items()
                if trace.collectives
            },
            "details": self.details,
            "traces": {name: trace.to_dict() for name, trace in self.traces.items()},
        }


@dataclass(frozen=True)
class Verification:
    """All that one `verify` found.

    models: verdict by name of the cell, by name of the model. environment: what
    ran where.
    """

    models: dict[str, dict[str, Verdict]]
    environment: dict[str, object] = field(default_factory=dict)

    @property
    def cells(self) -> dict[str, Verdict]:
        """The verdicts of the first model, which mostly is the only one."""
        return next(iter(self.models.values()))

    @property
    def verdicts(self) -> list[Verdict]:
        return [v for cells in self.models.values() for v in cells.values()]

    @property
    def passed(self) -> bool:
        """No cell failed, and one at least ran."""
        return self.exit_code == 0

    @property
    def exit_code(self) -> int:
        """0 where all cells that ran passed, 1 where one failed, 2 where none could run."""
        words = {verdict.word for verdict in self.verdicts}
        return 1 if "failed" in words else 0 if "passed" in words else 2

    def to_dict(self) -> dict:
        """Everything, as plain values for JSON."""
        models = {
            model: {name: verdict.to_dict() for name, verdict in cells.items()}
            for model, cells in self.models.items()
        }
        return {
            "passed": self.passed,
            "exit_code": self.exit_code,
            "environment": self.environment,
            "models": models,
        }


def ratios(traces: Traces) -> dict[str, float]:
    """Throughput and peak memory of the migrated tree over the baseline's, where both trained.

    The first two steps are left out: they allocate, compile and are looked into.
    """
    sides = [traces.get(name) for name in ("migrated", "baseline")]
    if not all(trace and not trace.first_error and trace.steps for trace in sides):
        return {}
    found = {}
    seconds = [
        statistics.median(step.seconds / step.tokens for step in trace.steps[2:])
        for trace in sides
        if len(trace.steps) > 2 and all(step.tokens > 0 for step in trace.steps)
    ]
    if len(seconds) == 2 and all(seconds):
        found["throughput"] = seconds[1] / seconds[0]
    if all(trace.peak_bytes for trace in sides):
        found["peak memory"] = sides[0].peak_bytes / sides[1].peak_bytes
    return found


# --- one function for each kind of cell ----------------------------------------


def judge_parity(traces: Traces, terms: Terms) -> Verdict:
    """Judges pure data parallelism: the migrated tree as FSDP, and as DDP where DDP does what FSDP does.

    control: FSDP of the base revision, which the migration must not have changed.
    """
    early = _unable(traces, terms) or _untouched(traces, terms)
    early = early or _migrated_before(traces)
    if early:
        return early
    baseline, migrated, reference, control = (
        traces[name] for name in ("baseline", "migrated", "reference", "control")
    )
    failures = _sound(traces, terms)
    if not all(trace.steps and trace.model for trace in (migrated, reference)):
        return Verdict(tuple(failures), traces=traces)
    notes: list[str] = []
    comparisons = compare(migrated, reference, terms.tolerances)
    changed = [c for c in compare(reference, control, terms.tolerances) if not c.agrees]
    if changed:
        failures.append(
            "The migration changed what FSDP does, which it must not touch: "
            + " ".join(comparison.sentence() for comparison in changed)
        )
    failures += rewrapped(reference, control)
    failures += _departures(comparisons, migrated, reference, baseline, terms.dp)
    if baseline.first_error:
        notes.append(f"DDP does not train here: {first_line(baseline.first_error[1])}")
        return Verdict(tuple(failures), tuple(notes), comparisons, traces)
    flaws = incomplete(baseline, range(1, terms.steps + 1), terms.ranks)
    if flaws:
        return Verdict(tuple(failures), (flaws[0],), comparisons, traces)
    before = compare(baseline, reference, terms.tolerances)
    to_baseline = compare(migrated, baseline, terms.tolerances)
    if departs(before):
        notes += _baseline_departs(baseline, reference, before, terms.dp)
    elif baseline.model.get("autocast") and not reference.model.get("autocast"):
        notes.append("DDP computes under autocast and is not expected to equal FSDP.")
    else:
        failures += [c.sentence() for c in to_baseline if not c.agrees]
    comparisons = (*comparisons, *to_baseline, *before)
    return Verdict(tuple(failures), tuple(notes), comparisons, traces)


def judge_combination(traces: Traces, terms: Terms) -> Verdict:
    """Judges a cell that DDP never did, or never did alike: the migrated tree against FSDP.

    The baseline is shown as what it is: it refuses, or it trains something else.
    """
    early = _unable(traces, terms) or _untouched(traces, terms)
    early = early or _migrated_before(traces)
    if early:
        return early
    baseline, migrated, reference = (
        traces[name] for name in ("baseline", "migrated", "reference")
    )
    failures = _sound(traces, terms)
    if not all(trace.steps and trace.model for trace in (migrated, reference)):
        return Verdict(tuple(failures), traces=traces)
    comparisons = compare(migrated, reference, terms.tolerances)
    failures += _departures(comparisons, migrated, reference, baseline, terms.dp)
    notes = []
    if baseline.first_error:
        notes.append(f"DDP refuses: {first_line(baseline.first_error[1])}")
    else:
        against = compare(baseline, reference, terms.tolerances)
        comparisons = (*comparisons, *against)
        notes += _mistrains(baseline, reference, against, terms.dp)
    return Verdict(tuple(failures), tuple(notes), comparisons, traces)


def judge_unchanged(traces: Traces, terms: Terms) -> Verdict:
    """Judges a path that the migration must not change: the same bits before and after."""
    before, after = traces["control"], traces["reference"]
    if before.first_error:
        why = f"the base revision does not train here: {first_line(before.first_error[1])}"
        return _not_run(why, traces, before)
    if after.first_error:
        return _crashed(after, traces)
    return _same_bits(after, before, traces, terms)


def judge_resumed(traces: Traces, terms: Terms) -> Verdict:
    """Judges checkpoints across the migration: each side goes on from what the other wrote halfway.

    What is loaded has to be what was written, bit for bit. The rest of the curve
    has to be the writer's own, where both sides train alike; where they do not
    (DDP divided twice), it has to be that of FSDP going on from the same checkpoint.
    """
    baseline, migrated = traces["baseline"], traces["migrated"]
    if baseline.first_error:
        why = f"DDP of the base revision does not train here: {first_line(baseline.first_error[1])}"
        return _not_run(why, traces, baseline)
    early = _migrated_before(traces)
    if early:
        return early
    for name in ("migrated", "resumed", "returned"):
        if name in traces and traces[name].first_error:
            return _crashed(traces[name], traces)
    resumed, reference, returned = (
        traces[name] for name in ("resumed", "resumed-reference", "returned")
    )
    if reference.first_error:
        why = f"FSDP, the reference, does not resume here: {first_line(reference.first_error[1])}"
        return _not_run(why, traces, reference)
    unmeasured = _unmeasured(traces)
    if unmeasured:
        return unmeasured
    whole = range(1, terms.steps + 1)
    rest = whole[halfway(terms.steps) :]
    failures = []
    for trace in traces.values():
        steps = rest if PARTIES[trace.party].starts_from else whole
        failures += incomplete(trace, steps, terms.ranks)
    if failures:
        return Verdict(tuple(failures), traces=traces)
    for reader, writer in ((resumed, baseline), (returned, migrated)):
        apart = [
            name
            for name, value in writer.halfway.items()
            if reader.initial.get(name, {}).get("digest") != value["digest"]
        ]
        if apart or not writer.halfway:
            failures.append(
                f"{in_words(reader)}: {apart[0] if apart else 'no parameter'} is not what was written."
            )
    tolerances = terms.tolerances
    comparisons = compare(resumed, reference, tolerances, rest)
    notes = []
    if departs(compare(migrated, baseline, tolerances)):
        notes.append(
            "DDP and replicate do not train alike here (see dp), so the curves part behind the checkpoint, and"
            " replicate's rest is measured by that of FSDP from the same checkpoint."
        )
        first = compare(returned, migrated, tolerances, rest[:1])
        comparisons += tuple(c for c in first if c.quantity == "loss")
    else:
        comparisons += compare(resumed, baseline, tolerances, rest)
        comparisons += compare(returned, migrated, tolerances, rest)
    failures += [c.sentence() for c in comparisons if not c.agrees]
    return Verdict(tuple(failures), tuple(notes), comparisons, traces)


def judge_exported(traces: Traces, terms: Terms) -> Verdict:
    """Judges the Hugging Face export: what is loaded from it has to be what was trained, bit for bit."""
    baseline, migrated = traces["baseline"], traces["migrated"]
    if migrated.first_error and baseline.first_error:
        why = f"the base revision does not export here either: {first_line(baseline.first_error[1])}"
        return _not_run(why, traces, baseline)
    if migrated.first_error:
        return _crashed(migrated, traces)
    reloaded = traces["reloaded"]
    if reloaded.first_error:
        return _crashed(reloaded, traces)
    failures = incomplete(migrated, range(1, terms.steps + 1), terms.ranks)
    failures += incomplete(reloaded, range(1, 2), terms.ranks)
    trained, loaded = migrated.parameters, reloaded.initial
    apart = [
        name
        for name in sorted(trained.keys() | loaded.keys())
        if trained.get(name, {}).get("digest") != loaded.get(name, {}).get("digest")
    ]
    if apart or not trained:
        failures.append(
            f"{len(apart)} of {len(trained)} parameters do not come back from the export as they were trained,"
            f" {apart[0] if apart else 'for there are none'} first."
        )
    notes = []
    if baseline.first_error:
        notes.append(f"DDP does not export: {first_line(baseline.first_error[1])}")
    if not failures:
        notes.append(f"All {len(trained)} parameters come back bitwise.")
    return Verdict(tuple(failures), tuple(notes), traces=traces)


JUDGES = {
    "parity": judge_parity,
    "combination": judge_combination,
    "unchanged": judge_unchanged,
    "resumed": judge_resumed,
    "exported": judge_exported,
}
"""The judge of each kind of cell."""


# --- what they share -------------------------------------------------------------


def _not_run(why: str, traces: Traces, failed: Trace) -> Verdict:
    _, event = failed.first_error
    return Verdict(traces=traces, details=event["traceback"], not_run=why)


def _crashed(trace: Trace, traces: Traces) -> Verdict:
    rank, event = trace.first_error
    failure = f"{in_words(trace)}: rank {rank} failed with {first_line(event)}"
    return Verdict((failure,), traces=traces, details=event["traceback"])


def _unable(traces: Traces, terms: Terms) -> Verdict | None:
    """The verdict of a cell in which a run failed that has to be there.

    A migrated tree that crashes has failed if DDP or FSDP trains there, and so
    has its FSDP if that of the base revision trains. control is there always
    in pure data parallelism, elsewhere if the reference has failed.
    """
    migrated, baseline = traces["migrated"], traces["baseline"]
    control = traces.get("control")
    if migrated.first_error:
        names = ("baseline", "reference", "control")
        others = [traces[name] for name in names if name in traces]
        if not all(trace.first_error for trace in others):
            return _crashed(migrated, traces)
        why = (
            f"neither DDP nor FSDP trains here: {first_line(others[-1].first_error[1])}"
        )
        return _not_run(why, traces, others[-1])
    reference = traces["reference"]
    if control and control.first_error:
        what = "FSDP, the reference," if baseline.steps else "the base revision"
        why = f"{what} does not train here: {first_line(control.first_error[1])}"
        return _not_run(why, traces, control)
    if control:
        flaws = incomplete(control, range(1, terms.steps + 1), terms.ranks)
        if flaws:
            return Verdict(traces=traces, not_run=f"there is no reference: {flaws[0]}")
    if reference.first_error and control:
        return _crashed(reference, traces)
    if reference.first_error:
        why = f"FSDP, the reference, does not train here: {first_line(reference.first_error[1])}"
        return _not_run(why, traces, reference)
    return _unmeasured(traces)


def _migrated_before(traces: Traces) -> Verdict | None:
    """The verdict of a cell whose baseline is no baseline."""
    baseline = traces["baseline"]
    if baseline.first_error or not baseline.model or wrapping(baseline) == "ddp":
        return None
    kind = wrapping(baseline)
    why = (
        f"the base revision is wrapped by {'nothing' if kind == 'none' else kind}, not by DDP, so it is not what the"
        " migration started from: name the unmigrated revision with --base"
    )
    return Verdict(traces=traces, not_run=why)


def _unmeasured(traces: Traces) -> Verdict | None:
    """The verdict of a cell whose noise is not known, because the run that shows it crashed."""
    for name, trace in traces.items():
        if PARTIES[name].nudged and trace.first_error:
            why = f"its noise could not be measured: {first_line(trace.first_error[1])}"
            return _not_run(why, traces, trace)
    return None


def _untouched(traces: Traces, terms: Terms) -> Verdict | None:
    """The verdict on a model that replicates by means of its own: neither DDP before nor replicate after, the same bits."""
    baseline, migrated = traces["baseline"], traces["migrated"]
    if baseline.first_error or {wrapping(baseline), wrapping(migrated)} != {"none"}:
        return None
    note = "This model is wrapped neither by DDP before nor by replicate after, so nothing may change."
    return _same_bits(migrated, baseline, traces, terms, (note,))


def _same_bits(
    after: Trace,
    before: Trace,
    traces: Traces,
    terms: Terms,
    notes: tuple[str, ...] = (),
) -> Verdict:
    """The verdict on what the migration must not change at all."""
    steps = range(1, terms.steps + 1)
    failures = [
        reason
        for trace in (before, after)
        for reason in incomplete(trace, steps, terms.ranks)
    ]
    comparisons = compare(after, before, EXACTLY)
    failures += [c.sentence() for c in comparisons if c.verdict != "bitwise"]
    return Verdict(tuple(failures), notes, comparisons, traces)


def _sound(traces: Traces, terms: Terms) -> list[str]:
    """What is wrong with the runs themselves: incomplete, or wrapped otherwise than FSDP wraps."""
    migrated, reference = traces["migrated"], traces["reference"]
    failures = []
    for name, trace in traces.items():
        # What DDP did is not on trial.
        if not trace.first_error and name != "baseline":
            failures += incomplete(trace, range(1, terms.steps + 1), terms.ranks)
    drifting = tensor_ranks_apart(migrated)
    if drifting and not failures and not tensor_ranks_apart(reference):
        failures.append(
            f"{in_words(migrated)}: tensor-parallel ranks part in {drifting}, and under FSDP they do not."
        )
    if migrated.steps and migrated.model and reference.model:
        failures += wrapped_wrongly(migrated, reference)
    return failures


def _departures(
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
    if abs(ratio * dp - 1) < 1e-3:
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
    alone = sorted(baseline.parameters.keys() - reference.parameters.keys())
    if alone:
        return [
            f"DDP trains {alone[0]} by itself, which FSDP shares with another parameter: under DDP the tie is lost, so"
            " it trains another model, and the migrated tree does not have to equal it."
        ]
    why = ""
    if baseline.model.get("autocast"):
        why = " DDP computes under autocast, which keeps norms and the loss in fp32."
    worst = max((c for c in comparisons if not c.agrees), key=lambda c: c.largest)
    return [
        "The baseline departs from FSDP of its own revision, so the migrated tree does not have to equal it."
        f"{why} {worst.sentence()}"
    ]


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
    if baseline.model.get("autocast") and not reference.model.get("autocast"):
        return ["DDP computes under autocast and is not expected to equal FSDP."]
    ratio = constant_ratio(baseline, reference)
    if ratio is not None and abs(ratio - 1) > 1e-3:
        return [
            f"DDP's gradients are {ratio:.4g} times FSDP's in every step (dp is {dp})."
        ]
    worst = max((c for c in against if not c.agrees), key=lambda c: c.largest)
    return [f"DDP trains something else: {worst.sentence()}"]
