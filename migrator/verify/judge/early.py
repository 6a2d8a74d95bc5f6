"""Verdicts that are clear before a figure is compared: a run failed, or there is nothing to compare with."""

from __future__ import annotations

from migrator.verify.choose.scenarios import PARTIES
from migrator.verify.judge.checks import in_words, incomplete, wrapping
from migrator.verify.judge.trace import Trace, first_line
from migrator.verify.judge.verdict import Terms, Traces, Verdict


def not_run(why: str, failed: Trace, traces: Traces) -> Verdict:
    """The verdict of a cell in which a run failed that is not on trial."""
    assert failed.first_error
    _, event = failed.first_error
    return Verdict(
        traces=traces,
        details=event["traceback"],
        not_run=f"{why}: {first_line(event)}",
    )


def crashed(trace: Trace, traces: Traces) -> Verdict:
    """The verdict of a cell in which a run failed that is on trial."""
    assert trace.first_error
    rank, event = trace.first_error
    failure = f"{in_words(trace)}: rank {rank} failed with {first_line(event)}"
    return Verdict((failure,), traces=traces, details=event["traceback"])


def without_fsdp(traces: Traces) -> bool:
    """Whether the base revision has no FSDP that trains here, and the migrated tree trains all the same."""
    control, migrated = traces.get("control"), traces.get("migrated")
    if control is None or migrated is None or not control.first_error:
        return False
    return bool(migrated.steps) and not migrated.first_error


def unable(traces: Traces, terms: Terms) -> Verdict | None:
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
            return crashed(migrated, traces)
        return not_run("neither DDP nor FSDP trains here", others[-1], traces)
    reference = traces["reference"]
    if control and control.first_error:
        what = "FSDP, the reference," if baseline.steps else "the base revision"
        return not_run(f"{what} does not train here", control, traces)
    if control:
        flaws = incomplete(control, range(1, terms.steps + 1), terms.ranks)
        if flaws:
            return Verdict(traces=traces, not_run=f"there is no reference: {flaws[0]}")
    if reference.first_error and control:
        return crashed(reference, traces)
    if reference.first_error:
        return not_run("FSDP, the reference, does not train here", reference, traces)
    return unmeasured(traces)


def unable_to_resume(traces: Traces) -> Verdict | None:
    """The verdict of a cell in which a checkpoint was not written, or could not be gone on from."""
    baseline = traces["baseline"]
    if baseline.first_error:
        why = "DDP of the base revision does not train here"
        return not_run(why, baseline, traces)
    early = migrated_before(traces)
    if early:
        return early
    for name in ("migrated", "resumed", "returned"):
        if name in traces and traces[name].first_error:
            return crashed(traces[name], traces)
    reference = traces["resumed-reference"]
    if reference.first_error:
        why = "FSDP, the reference, does not resume here"
        return not_run(why, reference, traces)
    return unmeasured(traces)


def migrated_before(traces: Traces) -> Verdict | None:
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


def unmeasured(traces: Traces) -> Verdict | None:
    """The verdict of a cell whose noise is not known, because the run that shows it crashed."""
    for name, trace in traces.items():
        if PARTIES[name].nudged and trace.first_error:
            return not_run("its noise could not be measured", trace, traces)
    return None
