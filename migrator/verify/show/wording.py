"""What the terminal, the Markdown report and the curves say alike: names of runs, figures, agreement. No output here."""

from __future__ import annotations

import math
import re
import statistics
from collections.abc import Mapping
from typing import Any

from migrator.verify.choose.scenarios import Cell
from migrator.verify.judge.compare import Comparison
from migrator.verify.judge.trace import Trace
from migrator.verify.judge.verdict import Verdict, Verification
from migrator.verify.keep.shelf import CACHE, GOLDEN

TITLES = {
    "baseline": "DDP",
    "migrated": "replicate",
    "control": "FSDP, base",
    "reference": "FSDP",
    "resumed": "replicate from DDP's",
    "resumed-reference": "FSDP from DDP's",
    "returned": "DDP from replicate's",
    "reloaded": "replicate, reloaded",
    "single": "one rank",
    "alike-migrated": "replicate, one rank's data",
}
"""How the model of each party is wrapped, in the order in which the parties are shown.

What only measures the noise (`nudged`) is not shown: its figures are in the tolerances.
"""

Pair = tuple[str, str]

GLOSSARY = {
    "reference": "FSDP of the migrated tree, which says what is right",
    "control": "FSDP of the base revision, which the migration must not have changed",
    "noise": "by how much FSDP differs from itself once it is rounded otherwise; up to ten times that is accepted",
}
"""What the words of a verdict mean, in a line each."""


def failed_first(verification: Verification) -> list[tuple[str, str, Verdict]]:
    """(model, cell, verdict) of all, those that failed before the others."""
    found = [
        (model, name, verdict)
        for model, cells in verification.models.items()
        for name, verdict in cells.items()
    ]
    return sorted(found, key=lambda one: one[2].word != "failed")


def reasons(verification: Verification) -> dict[str, list[str]]:
    """Why cells were not run -> which, as "llama3, dp and dp+tp" for each model."""
    found: dict[str, list[str]] = {}
    for model, cells in verification.models.items():
        by_reason: dict[str, list[str]] = {}
        for name, verdict in cells.items():
            if verdict.not_run:
                by_reason.setdefault(verdict.not_run, []).append(name)
        for why, names in by_reason.items():
            found.setdefault(why, []).append(f"{model}, {' and '.join(names)}")
    return found


def shown(verdict: Verdict) -> list[Trace]:
    """The runs of a cell that are shown and recorded a step, in the order of `TITLES`."""
    traces = verdict.traces
    return [traces[name] for name in TITLES if name in traces and traces[name].steps]


def pairs(verdict: Verdict) -> list[Pair]:
    """The pairs of runs that were compared, the deciding one first."""
    return list(dict.fromkeys((c.left, c.right) for c in verdict.comparisons))


def deciding(verdict: Verdict) -> dict[str, Comparison]:
    """By quantity, how the run in question agrees with the one that says what is right."""
    on_trial = ("migrated", "reference", "resumed", "alike-migrated")
    found = [c for c in verdict.comparisons if c.left in on_trial]
    if not found:
        return {}
    first = (found[0].left, found[0].right)
    return {c.quantity: c for c in found if (c.left, c.right) == first}


def as_before(verdict: Verdict) -> str:
    """How the migrated tree stands to DDP: bitwise, within, different, "DDP fails", "DDP differs", or a dash."""
    baseline = verdict.traces.get("baseline")
    if baseline is None:
        return "-"
    if baseline.first_error:
        return "DDP fails"
    mine = [
        c for c in verdict.comparisons if (c.left, c.right) == ("migrated", "baseline")
    ]
    theirs = [
        c for c in verdict.comparisons if (c.left, c.right) == ("baseline", "reference")
    ]
    if theirs and not all(c.agrees for c in theirs):
        return "DDP differs"
    if not mine:
        return "within" if theirs else "-"
    words = {c.verdict for c in mine}
    return next(
        word
        for word in ("different", "within", "bitwise")
        if word in words | {"bitwise"}
    )


def conclusion(cell: Cell, verdict: Verdict) -> tuple[str, str]:
    """The verdict of a cell that ran: PASSED or FAILED, and what that says."""
    if not verdict.passed:
        count = len(verdict.failures)
        return "FAILED", f"for {count} reason{'s' if count > 1 else ''}."
    if "single" in verdict.traces:
        said = "the migrated tree trains as one rank does, within tolerance"
        return "PASSED", f"{said}{_precision(verdict)}."
    if cell.kind in _PASSED:
        return "PASSED", _PASSED[cell.kind]
    if not any(c.right == "reference" for c in verdict.comparisons):
        return "PASSED", _PASSED["unchanged"]
    alike = {"bitwise": "bitwise as", "within": "within tolerance as"}
    if cell.kind == "parity" and as_before(verdict) in alike:
        how = alike[as_before(verdict)]
        fsdp = {c.verdict for c in deciding(verdict).values()}
        also = "bitwise as FSDP" if fsdp == {"bitwise"} else "within tolerance of FSDP"
        said = f"the migrated tree trains {how} DDP did, and {also}"
        return "PASSED", f"{said}{_precision(verdict)}."
    return (
        "PASSED",
        "the migrated tree trains as FSDP of the same revision does, within tolerance"
        f"{_precision(verdict)}.",
    )


def _precision(verdict: Verdict) -> str:
    """`, in float32`, or nothing."""
    dtype = computed_in(verdict)
    return f", in {dtype}" if dtype else ""


def computed_in(verdict: Verdict) -> str:
    """In which dtype the migrated tree computed, by its policy: `float32`; empty where none says so."""
    migrated = verdict.traces.get("migrated")
    policies = migrated.model.get("policies", {}) if migrated else {}
    dtype = str(policies.get("", {}).get("param_dtype", "")).removeprefix("torch.")
    return "" if dtype == "None" else dtype


_PASSED = {
    "unchanged": "the same bits before and after.",
    "fresh": "the ranks start alike, as DDP made them.",
    "resumed": "each side goes on from what the other wrote.",
    "exported": "what was exported loads as it was trained.",
}


def number(value: float | None) -> str:
    """A figure with nine digits, which tell any two float32 numbers apart."""
    return "-" if value is None else f"{value:.9g}"


def size(difference: float) -> str:
    """A relative difference in two digits."""
    return f"{difference:.1e}" if math.isfinite(difference) else "not finite"


def times(verdict: Verdict) -> str:
    """The ratios migrated/baseline in words; empty where there are none."""
    return ", ".join(f"{name} {ratio:.2f}" for name, ratio in verdict.ratios.items())


def step_seconds(trace: Trace) -> float | None:
    """Median seconds of a step, without the first two, which allocate and compile."""
    later = [step.seconds for step in trace.steps[2:]]
    return statistics.median(later) if later else None


def one_line(text: object) -> str:
    """Text in one line, without terminal control sequences and other characters that cannot be seen."""
    without_colours = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", str(text))
    return _visible(" ".join(without_colours.split()))


def lines(text: object) -> list[str]:
    """Text line by line, each without what cannot be seen, with its indentation."""
    without_colours = re.sub(r"\x1b\[[0-9;?]*[ -/]*[@-~]", "", str(text))
    return [
        _visible(line.expandtabs(4).rstrip()) for line in without_colours.splitlines()
    ]


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def took(environment: Mapping[str, Any]) -> str:
    """How long a verification took, how much of that was training, and what was not trained for it; empty where it is not known."""
    total, runs = environment.get("total_seconds"), environment.get("seconds")
    if not isinstance(total, (int, float)) or not isinstance(runs, dict):
        return ""
    training = sum(runs.values())
    said = f"Took {total:.0f} s, of which {training:.0f} s were training runs ({len(runs)})."
    return f"{said} {taken(environment)}".rstrip()


def taken(environment: Mapping[str, Any]) -> str:
    """How many runs of the base revision came from where; empty where all were trained."""
    places = environment.get("taken")
    if not isinstance(places, dict):
        return ""
    told = []
    for place in (CACHE, GOLDEN):
        count = list(places.values()).count(place)
        how = " (--no-cache trains them)" if place == CACHE else ""
        runs = "runs" if count > 1 else "run"
        if count:
            told.append(f"{count} {runs} of the base revision came from {place}{how}.")
    return " ".join(told)


def _unreached(environment: Mapping[str, Any]) -> str:
    """That later steps and other worlds were not seen, and where the migration does something in them alone."""
    steps, places = environment.get("steps"), environment.get("unreached") or []
    if not steps:
        return ""
    other = f" Steps after {steps} were not seen, nor other numbers of ranks (--nproc)"
    if not places:
        return f"{other}."
    return (
        f"{other}, and the migration compares steps that may be later: {'; '.join(places)}."
        " Train past them with --steps."
    )


def untrained(environment: Mapping[str, Any]) -> str:
    """What the migration changes and nobody has seen train, with the reason of each: models, and later steps."""
    left = environment.get("not_trained") or {}
    parsed = "The call sites of models that were not trained were parsed; none was run."
    if environment.get("trainer"):
        parsed = f"{environment['trainer']} {parsed}"
    if environment.get("rehearsed") is False:
        parsed += " Nothing was rehearsed (--no-rehearse): no model was wrapped at its real size."
    parsed += _unreached(environment)
    if not left:
        return parsed
    alike: dict[str, list[str]] = {}
    for title, why in left.items():
        alike.setdefault(why, []).append(title)
    named = "; ".join(f"{', '.join(titles)} ({why})" for why, titles in alike.items())
    return f"Changed and not trained: {named}. {parsed}"
