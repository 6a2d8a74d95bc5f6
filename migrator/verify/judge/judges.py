"""Judges a cell from the traces of its parties: one function for each kind of cell. Pure functions over traces; no torch.

The reference (FSDP) says what is right; the baseline (DDP) says what was. A
migrated tree passes when it does what the reference does, and what the baseline
did as well unless the baseline itself departs from the reference.
"""

from __future__ import annotations

from migrator.verify.choose.scenarios import ON_ONE_RANK, PARTIES, halfway
from migrator.verify.judge import each
from migrator.verify.judge.causes import (
    baseline_departs,
    departures,
    mistrains,
    who_is_right,
)
from migrator.verify.judge.checks import (
    in_words,
    incomplete,
    left_to_the_root,
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
    departs,
    first_ratio,
)
from migrator.verify.judge.early import (
    crashed,
    migrated_before,
    not_run,
    unable,
    unable_to_resume,
    unmeasured,
)
from migrator.verify.judge.ranks import unlike, weights_apart
from migrator.verify.judge.trace import Trace, digest, first_line
from migrator.verify.judge.verdict import Terms, Traces, Verdict

# Where nothing may change, and where a checkpoint has to come back as it was.
EXACTLY = dict.fromkeys(
    ("loss", "grad_norm", "gradients", "validation", "tokens", "parameters"),
    Tolerance(0.0, "has to be bitwise"),
)


# --- one function for each kind of cell ----------------------------------------


def judge_parity(traces: Traces, terms: Terms) -> Verdict:
    """Judges pure data parallelism: the migrated tree as FSDP, and as DDP where DDP does what FSDP does.

    control: FSDP of the base revision, which the migration must not have changed.
    """
    early = unable(traces, terms) or _untouched(traces, terms)
    early = early or migrated_before(traces)
    if early:
        return early
    baseline, migrated, reference = (
        traces[name] for name in ("baseline", "migrated", "reference")
    )
    failures = _sound(traces, terms)
    if not all(trace.steps and trace.model for trace in (migrated, reference)):
        return Verdict(tuple(failures), traces=traces)
    notes = left_to_the_root(migrated, reference)
    comparisons = compare(migrated, reference, terms.tolerances)
    failures += _changed(traces, terms)
    failures += unlike(migrated, (reference, baseline), terms.dp)
    failures += each.sentences(migrated, reference, terms.each, terms.dp)
    failures += departures(comparisons, migrated, reference, baseline, terms.dp)
    if baseline.first_error:
        notes.append(f"DDP does not train here: {first_line(baseline.first_error[1])}")
        return Verdict(tuple(failures), tuple(notes), comparisons, traces)
    flaws = incomplete(baseline, range(1, terms.steps + 1), terms.ranks)
    if flaws:
        return Verdict(tuple(failures), (*notes, flaws[0]), comparisons, traces)
    before = compare(baseline, reference, terms.tolerances)
    to_baseline = compare(migrated, baseline, terms.tolerances)
    if departs(before):
        wrong, told = who_is_right(traces, terms.dp)
        if not wrong:
            notes += baseline_departs(baseline, reference, before, terms.dp)
        failures, notes = failures + wrong, notes + told
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
    early = unable(traces, terms) or _untouched(traces, terms)
    early = early or migrated_before(traces)
    if early:
        return early
    baseline, migrated, reference = (
        traces[name] for name in ("baseline", "migrated", "reference")
    )
    failures = _sound(traces, terms)
    if not all(trace.steps and trace.model for trace in (migrated, reference)):
        return Verdict(tuple(failures), traces=traces)
    comparisons = compare(migrated, reference, terms.tolerances)
    failures += _changed(traces, terms)
    failures += unlike(migrated, (reference, baseline), terms.dp)
    failures += each.sentences(migrated, reference, terms.each, terms.dp)
    failures += departures(comparisons, migrated, reference, baseline, terms.dp)
    notes = left_to_the_root(migrated, reference)
    if baseline.first_error:
        notes.append(f"DDP refuses: {first_line(baseline.first_error[1])}")
    else:
        against = compare(baseline, reference, terms.tolerances)
        comparisons = (*comparisons, *against)
        notes += mistrains(baseline, reference, against, terms.dp)
    return Verdict(tuple(failures), tuple(notes), comparisons, traces)


def judge_alone(traces: Traces, terms: Terms) -> Verdict:
    """Judges a cell of a fork that has no FSDP which trains: by one rank.

    Where every rank reads the same data, replicate has to train as one rank of the
    base revision does. On the data of their own its ranks have to stay alike, and to
    train as DDP did where DDP does what one rank does.
    """
    baseline, migrated = traces["baseline"], traces["migrated"]
    single, alike = traces["single"], traces["alike-migrated"]
    early = migrated_before(traces) or unmeasured(traces)
    if early:
        return early
    if single.first_error:
        return not_run("neither FSDP nor one rank trains here", single, traces)
    if alike.first_error:
        return crashed(alike, traces)
    steps = range(1, terms.steps + 1)
    failures = incomplete(migrated, steps, terms.ranks)
    failures += incomplete(alike, steps, terms.ranks)
    if not migrated.model or not alike.model:
        return Verdict(tuple(failures), traces=traces)
    failures += wrapped_wrongly(migrated, single)
    # One rank has read a part of the tokens.
    tolerances = {k: v for k, v in terms.tolerances.items() if k != "tokens"}
    comparisons = compare(alike, single, tolerances)
    failures += each.sentences(alike, single, terms.each, terms.dp)
    failures += [c.sentence() for c in comparisons if not c.agrees]
    notes = [
        f"{in_words(traces['control'])} does not train here, so the reference is one rank of the base revision:"
        " the migrated tree trained as well with the data of one rank on every rank."
    ]
    if baseline.first_error:
        notes.append(f"DDP refuses: {first_line(baseline.first_error[1])}")
        return Verdict(tuple(failures), tuple(notes), comparisons, traces)
    failures += unlike(migrated, (baseline,), terms.dp)
    before = compare(migrated, baseline, tolerances)
    ratio, others = first_ratio(baseline, migrated)
    if not others and departs(before) and ratio is not None and abs(ratio - 1) > 1e-3:
        notes.append(
            f"DDP's gradients are {ratio:.4g} times the migrated tree's in step 1, and the migrated tree's are those"
            " of one rank."
        )
    elif not failures:
        failures += each.sentences(migrated, baseline, terms.each, terms.dp)
        failures += [c.sentence() for c in before if not c.agrees]
    return Verdict(tuple(failures), tuple(notes), (*comparisons, *before), traces)


def judge_fresh(traces: Traces, terms: Terms) -> Verdict:
    """Judges how a training begins that starts from no checkpoint: alike on all data-parallel ranks, as under DDP."""
    baseline, migrated = traces["baseline"], traces["migrated"]
    if migrated.first_error and baseline.first_error:
        return not_run("the base revision does not start here either", baseline, traces)
    if migrated.first_error:
        return crashed(migrated, traces)
    failures = unlike(migrated, (baseline,), terms.dp)
    if weights_apart(migrated, terms.dp) and failures:
        failures.append(
            "DDP sends the weights of rank 0 to all ranks when it begins, and replicate does not: seed all"
            " data-parallel ranks alike before the weights are made, or start from a checkpoint."
        )
    failures += incomplete(migrated, range(1, 2), terms.ranks)
    count = len(migrated.initial)
    notes = () if failures else (f"All {count} parameters start alike on all ranks.",)
    return Verdict(tuple(failures), notes, traces=traces)


def judge_unchanged(traces: Traces, terms: Terms) -> Verdict:
    """Judges a path that the migration must not change: the same bits before and after."""
    before, after = traces["control"], traces["reference"]
    if before.first_error:
        return not_run("the base revision does not train here", before, traces)
    if after.first_error:
        return crashed(after, traces)
    return _same_bits(after, before, traces, terms)


def judge_resumed(traces: Traces, terms: Terms) -> Verdict:
    """Judges checkpoints across the migration: each side goes on from what the other wrote halfway.

    What is loaded has to be what was written, bit for bit. The rest of the curve
    has to be the writer's own, where both sides train alike; where they do not
    (DDP divided twice), it has to be that of FSDP going on from the same checkpoint.
    """
    early = unable_to_resume(traces)
    if early:
        return early
    whole = range(1, terms.steps + 1)
    rest = whole[halfway(terms.steps) :]
    failures = []
    for trace in traces.values():
        steps = rest if PARTIES[trace.party].starts_from else whole
        failures += incomplete(trace, steps, terms.ranks)
    if failures:
        return Verdict(tuple(failures), traces=traces)
    failures = _not_as_written(traces["resumed"], traces["baseline"])
    failures += _not_as_written(traces["returned"], traces["migrated"])
    resumed, reference = traces["resumed"], traces["resumed-reference"]
    failures += each.sentences(resumed, reference, terms.each, terms.dp)
    comparisons, notes = _curves_resumed(traces, terms.tolerances, rest)
    failures += [c.sentence() for c in comparisons if not c.agrees]
    return Verdict(tuple(failures), notes, comparisons, traces)


def _not_as_written(reader: Trace, writer: Trace) -> list[str]:
    """Whether a run began with other parameters, or another state of its optimizers, than the checkpoint that it resumes was written from."""
    apart = [
        name
        for written, loaded in (
            (writer.halfway, reader.initial),
            (writer.state("halfway"), reader.state("initial")),
        )
        for name, value in written.items()
        if digest(loaded, name) != value["digest"]
    ]
    if writer.halfway and not apart:
        return []
    what = apart[0] if apart else "no parameter"
    return [f"{in_words(reader)}: {what} is not what was written."]


def _curves_resumed(
    traces: Traces, tolerances: Tolerances, rest: range
) -> tuple[tuple[Comparison, ...], tuple[str, ...]]:
    """How the steps behind the checkpoint agree with what they have to equal, and what a reader should know of it."""
    baseline, migrated, resumed, reference, returned = (
        traces[name]
        for name in (
            "baseline",
            "migrated",
            "resumed",
            "resumed-reference",
            "returned",
        )
    )
    comparisons = compare(resumed, reference, tolerances, rest)
    if departs(compare(migrated, baseline, tolerances)):
        note = (
            "DDP and replicate do not train alike here (see dp), so the curves part behind the checkpoint, and"
            " replicate's rest is measured by that of FSDP from the same checkpoint."
        )
        first = compare(returned, migrated, tolerances, rest[:1])
        return (*comparisons, *(c for c in first if c.quantity == "loss")), (note,)
    to_writers = (
        *compare(resumed, baseline, tolerances, rest),
        *compare(returned, migrated, tolerances, rest),
    )
    return (*comparisons, *to_writers), ()


def judge_exported(traces: Traces, terms: Terms) -> Verdict:
    """Judges the Hugging Face export: what is loaded from it has to be what was trained, bit for bit."""
    baseline, migrated = traces["baseline"], traces["migrated"]
    if migrated.first_error and baseline.first_error:
        why = "the base revision does not export here either"
        return not_run(why, baseline, traces)
    if migrated.first_error:
        return crashed(migrated, traces)
    reloaded = traces["reloaded"]
    if reloaded.first_error:
        return crashed(reloaded, traces)
    failures = incomplete(migrated, range(1, terms.steps + 1), terms.ranks)
    failures += incomplete(reloaded, range(1, 2), terms.ranks)
    trained, loaded = migrated.parameters, reloaded.initial
    apart = [
        name
        for name in sorted(trained.keys() | loaded.keys())
        if digest(trained, name) != digest(loaded, name)
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
    "fresh": judge_fresh,
    "unchanged": judge_unchanged,
    "resumed": judge_resumed,
    "exported": judge_exported,
}
"""The judge of each kind of cell."""


# --- what they share -------------------------------------------------------------


def _untouched(traces: Traces, terms: Terms) -> Verdict | None:
    """The verdict on a model that replicates by means of its own: neither DDP before nor replicate after, the same bits."""
    baseline, migrated = traces["baseline"], traces["migrated"]
    if baseline.first_error or {wrapping(baseline), wrapping(migrated)} != {"none"}:
        return None
    note = "This model is wrapped neither by DDP before nor by replicate after, so nothing may change."
    return _same_bits(migrated, baseline, traces, terms, (note,))


def _changed(traces: Traces, terms: Terms) -> list[str]:
    """What the migration changed of FSDP, by which it is judged, and which it must not touch."""
    reference, control = traces["reference"], traces.get("control")
    if control is None or control.first_error:
        return []
    apart = [c for c in compare(reference, control, terms.tolerances) if not c.agrees]
    told = [comparison.sentence() for comparison in apart]
    told += each.sentences(reference, control, terms.each, terms.dp)
    said = "The migration changed what FSDP does, which it must not touch: "
    meant = " Where you changed that by hand and mean it, commit it before the migration, and name that commit with --base."
    found = [said + " ".join(told) + meant] if told else []
    return [
        *found,
        *rewrapped(reference, control),
        *unlike(reference, (control,), terms.dp),
    ]


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
        if not trace.first_error and name not in ("baseline", *ON_ONE_RANK):
            failures += incomplete(trace, range(1, terms.steps + 1), terms.ranks)
    drifting = tensor_ranks_apart(migrated)
    if drifting and not failures and not tensor_ranks_apart(reference):
        failures.append(
            f"{in_words(migrated)}: tensor-parallel ranks part in {drifting}, and under FSDP they do not."
        )
    if migrated.steps and migrated.model and reference.model:
        failures += wrapped_wrongly(migrated, reference)
    return failures
