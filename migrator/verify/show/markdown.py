"""A verification as one Markdown document, as a reviewer pastes it into a pull request. Text in, text out.

What comes from the checkout (messages, names of parameters and files) goes
through `text`, `code` or `fenced`, and then says nothing to Markdown or HTML.
"""

from __future__ import annotations

import json
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from migrator.verify.choose.scenarios import CELLS, PARTIES
from migrator.verify.judge.checks import wrapping
from migrator.verify.judge.compare import Comparison
from migrator.verify.judge.trace import Trace
from migrator.verify.judge.verdict import Verdict, Verification
from migrator.verify.show.plots import Plot
from migrator.verify.show.wording import (
    GLOSSARY,
    TITLES,
    as_before,
    conclusion,
    deciding,
    failed_first,
    lines,
    number,
    one_line,
    pairs,
    reasons,
    shown,
    size,
    step_seconds,
    times,
    took,
    untrained,
)

Plots = dict[tuple[str, str], Plot]

_EXIT = {
    0: "every cell that ran passed",
    1: "a cell failed: do not merge this migration yet",
    2: "no cell ran, so there is no verdict",
    4: "the rehearsal broke by itself, so there is no verdict of it",
}
_MARKS = {"passed": "✅ passed", "failed": "❌ **failed**", "not run": "⚪ not run"}
_QUANTITIES = ("loss", "grad_norm", "gradients", "parameters")
# Of a traceback or log, as a pull request's text may have 65536 characters in all.
_LAST_LINES = 40
# What says something to Markdown, HTML or GitHub where it stands: markup, emphasis
# beside a word, links, mentions, and the beginnings of lists.
_SPEAKING = re.compile(
    r"[&<|`*~\[\]\\$^{}]|(?<!\s)>|>(?!\s)|^>|(?<!\w)_|_(?!\w)|[@#](?=\w)"
    r"|(?<=\bwww)\.|:(?=//)|^[-+=#](?!\w)|(?<=^\d)[.)](?=\s|$)"
)


# --- text that is safe to put anywhere --------------------------------------------


def text(value: object) -> str:
    """Text as Markdown that shows just that, in one line: no markup, HTML, table cell, link or mention.

    What stands between two backticks is code, as whoever wrote it meant.
    """
    plain, *rest = re.split(r"`([^`]+)`", one_line(value))
    spoken = [_silent(plain)]
    for name, following in zip(rest[::2], rest[1::2]):
        spoken += [code(name), _silent(following)]
    return "".join(spoken)


def _silent(plain: str) -> str:
    return _SPEAKING.sub(
        # GitHub looks for mentions and issues behind entities too, but not behind this.
        lambda match: _entity(match[0]) + "&#8203;" * (match[0] in "@#"),
        plain,
    )


def code(value: object) -> str:
    """A name as inline code; may stand in a table."""
    name = one_line(value)
    if re.fullmatch(r"[\w./+:=,()\[\]<>!*'\"% -]*[\w)\]'\"]", name):
        return f"`{name}`"
    return f"<code>{re.sub(r'[^A-Za-z0-9 ]', lambda m: _entity(m[0]), name)}</code>"


def fenced(value: str, last: int | None = None, language: str = "text") -> list[str]:
    """Text as a block of code, its `last` lines where given, in a fence that it cannot close."""
    found = lines(value)[-last:] if last else lines(value)
    longest = max((len(run) for run in re.findall("`+", "\n".join(found))), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", *found, fence, ""]


def _entity(character: str) -> str:
    return f"&#{ord(character)};"


def table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table; heads and cells are Markdown already, without line breaks and bars."""
    return [
        f"| {' | '.join(heads)} |",
        f"|{' --- |' * len(heads)}",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
    ]


def folded(title: str, content: list[str]) -> list[str]:
    """Content that a reader opens when needed."""
    return [f"<details><summary>{title}</summary>", "", *content, "</details>", ""]


# --- the document -------------------------------------------------------------------


def render(
    verification: Verification,
    plots: Plots,
    missing: str = "",
    rehearsed: Sequence[str] = (),
) -> str:
    """The report of a verification.

    plots: the figures, by model and cell. missing: why there are none, in a
    sentence. rehearsed: the section on what came before, in lines.
    """
    parts = [*_head(verification), *rehearsed]
    if missing:
        parts += [text(missing), ""]
    for model, name, verdict in failed_first(verification):
        if verdict.traces or verdict.notes or not verdict.not_run:
            parts += _cell(model, name, verdict, plots.get((model, name)))
    parts += _environment(verification.environment)
    return "\n".join(parts).rstrip() + "\n"


def _meaning(verification: Verification) -> str:
    """The exit status in words."""
    if verification.rehearsal and verification.rehearsal.failed:
        return "the rehearsal failed, before anything trained: do not merge this migration yet"
    return _EXIT[verification.exit_code]


def _head(verification: Verification) -> list[str]:
    words = Counter(verdict.word for verdict in verification.verdicts)
    status = verification.exit_code
    title = {0: "PASSED", 1: "FAILED"}.get(status, "NO VERDICT")
    counted = ", ".join(
        f"{words[w]} {w}" for w in ("passed", "failed", "not run") if words[w]
    )
    ordered = failed_first(verification)
    rows = [_row(*one) for one in ordered]
    heads = ("model", "cell", "verdict", *_QUANTITIES, "as DDP did")
    failed = [_first_reason(*one) for one in ordered if one[2].word == "failed"]
    left = [
        f"- Not run: {text('; '.join(cells))}: {text(why)}"
        for why, cells in reasons(verification).items()
    ]
    words_meant = [f"- {word}: {meaning}." for word, meaning in GLOSSARY.items()]
    return [
        f"# titan-migrate verify: {title}",
        "",
        f"Exit status {status}: {_meaning(verification)} (cells: {counted}). {took(verification.environment)}".rstrip(),
        "",
        *failed,
        *[""] * bool(failed),
        *table(heads, rows),
        f"{text(untrained(verification.environment))}",
        "",
        "Largest relative differences of the migrated tree from the reference, FSDP of the same tree; where a path"
        " must not change, of FSDP after the migration from FSDP before it. Every cell has its own tolerances, below.",
        "",
        *words_meant,
        "",
        *left,
        *[""] * bool(left),
    ]


def _first_reason(model: str, name: str, verdict: Verdict) -> str:
    more = len(verdict.failures) - 1
    also = f" ({more} more below)" if more else ""
    return f"- **{text(model)}, {name} failed:** {text(verdict.failures[0])}{also}"


def _row(model: str, name: str, verdict: Verdict) -> list[str]:
    found = deciding(verdict)
    figures = (
        _agreement(found[quantity]) if quantity in found else "-"
        for quantity in _QUANTITIES
    )
    before = as_before(verdict)
    return [text(model), code(name), _MARKS[verdict.word], *figures, before]


def _agreement(comparison: Comparison, tolerance: bool = True) -> str:
    """How two runs agree in one quantity, for a table."""
    if comparison.verdict == "bitwise":
        return "bitwise"
    limit = f" (tolerance {comparison.tolerance.relative:.1e})" if tolerance else ""
    if comparison.verdict == "within":
        return f"within {size(comparison.largest)}{limit}"
    first = comparison.first_different
    place = f" from step {first} on" if isinstance(first, int) else ""
    return f"**different**{place}, by up to {size(comparison.largest)}{limit}"


# --- one cell -------------------------------------------------------------------------


def _cell(model: str, name: str, verdict: Verdict, plot: Plot | None) -> list[str]:
    cell = CELLS[name]
    parts = [f"## {text(model)}, {name}: {text(cell.what)}", ""]
    if verdict.not_run:
        parts += [f"Not run: {text(verdict.not_run)}", ""]
    else:
        word, sentence = conclusion(cell, verdict)
        parts += [f"**{word}**: {text(sentence)}", ""]
    parts += [f"- **Failed:** {text(failure)}" for failure in verdict.failures]
    parts += [f"- {text(note)}" for note in verdict.notes]
    parts += [""] * bool(verdict.failures or verdict.notes)
    if verdict.comparisons:
        parts += _comparisons(verdict)
    if plot:
        what = f"Loss and grad_norm of {text(model)}, {name}, and their differences"
        parts += [f"![{what}]({plot.png})", "", f"[The same as SVG]({plot.svg})", ""]
    runs = shown(verdict)
    if runs:
        parts += _runs(verdict, runs)
        parts += _collectives(runs, cell.compiled)
        for quantity in ("loss", "grad_norm", "validation"):
            if quantity == "validation" and not _validated(runs):
                continue
            parts += folded(f"{quantity} by step", _by_step(quantity, runs))
    if verdict.details.strip():
        parts += folded(
            "What the failing rank said", fenced(verdict.details, _LAST_LINES)
        )
    return parts


def _comparisons(verdict: Verdict) -> list[str]:
    """All quantities of all pairs, with the tolerance of each and where it comes from."""
    compared = pairs(verdict)
    rows = []
    for quantity in dict.fromkeys(c.quantity for c in verdict.comparisons):
        found = {
            (c.left, c.right): c for c in verdict.comparisons if c.quantity == quantity
        }
        tolerance = next(iter(found.values())).tolerance
        limit = f"{tolerance.relative:.1e}" if tolerance.relative else "0"
        cells = (_agreement(found[p], False) if p in found else "-" for p in compared)
        rows.append([quantity, *cells, limit, text(tolerance.source)])
    heads = [f"{left} and {right}" for left, right in compared]
    parts = table(["quantity", *heads, "tolerance", "where it comes from"], rows)
    apart = [
        _parameters(comparison)
        for comparison in verdict.comparisons
        if comparison.quantity == "parameters" and comparison.verdict != "bitwise"
    ]
    return [*parts, *apart, *[""] * bool(apart)]


def _parameters(comparison: Comparison) -> str:
    """Where the parameters of two runs are furthest apart."""
    sentence = (
        f"- Parameters of {comparison.left} and {comparison.right} are furthest apart in {code(comparison.at)}"
        f" (relative norm of the difference {size(comparison.largest)})"
    )
    if not comparison.element:
        return f"{sentence}."
    by, _, name = comparison.element.partition(" in ")
    return f"{sentence}; the largest difference of one element is {text(by)}, in {code(name)}."


def _runs(verdict: Verdict, runs: list[Trace]) -> list[str]:
    """What each run was: wrapping, placements, dtypes, time and memory; one column a run."""
    properties: dict[str, Callable[[Trace], str]] = {
        "run": lambda t: text(PARTIES[t.party].who),
        "wrapped by": _wrapped,
        "ranks": lambda t: str(len(t.ranks)),
        "placements over the mesh": lambda t: _counted(
            map(_placement, _parameters_of(t))
        ),
        "parameters": lambda t: _counted(
            p.get("dtype", "?") for p in _parameters_of(t)
        ),
        "gradients": lambda t: _counted(t.model.get("gradients", {}).values()),
        "block outputs": lambda t: _counted(t.model.get("outputs", {}).values()),
        "mixed precision": _precision,
        "tokens a step": _tokens,
        "comes from": lambda t: text(t.source or "this verify"),
        "median step": lambda t: _unit(step_seconds(t), "s"),
        "steps a second": lambda t: _unit(_each(step_seconds(t)), ""),
        "peak memory of a rank": lambda t: _unit(t.peak_bytes / 1e6 or None, "MB"),
    }
    rows = [[name, *(read(run) for run in runs)] for name, read in properties.items()]
    parts = table(["", *(run.party for run in runs)], rows)
    if verdict.ratios:
        parts += [
            f"Migrated / baseline (no part of the verdict): {times(verdict)}.",
            "",
        ]
    return parts


def _parameters_of(trace: Trace) -> list[dict[str, Any]]:
    return list(trace.model.get("parameters", {}).values())


def _wrapped(trace: Trace) -> str:
    groups = len(trace.model.get("wrapped", {}))
    return f"{wrapping(trace)}, {groups} module{'s' if groups != 1 else ''}"


def _placement(parameter: dict[str, Any]) -> str:
    """Placements of one parameter and its mesh, as "R over dp_replicate=2 (1-D)"."""
    placements, mesh = parameter.get("placements"), parameter.get("mesh") or []
    if not placements:
        return "plain tensor"
    names = parameter.get("mesh_dims") or ["?"] * len(mesh)
    dims = " × ".join(f"{name}={size}" for name, size in zip(names, mesh))
    return f"{', '.join(placements)} over {dims} ({len(mesh)}-D)"


def _counted(values: Iterable[str]) -> str:
    """Each distinct value with how often it occurs."""
    counts = Counter(values).most_common()
    return "<br>".join(f"{text(value)}: {count}" for value, count in counts) or "-"


def _precision(trace: Trace) -> str:
    policies = {
        f"{_dtype(policy, 'param')}, reduced in {_dtype(policy, 'reduce')}"
        for policy in trace.model.get("policies", {}).values()
    }
    found = [text(policy) for policy in sorted(policies)]
    if trace.model.get("autocast"):
        found.append("autocast")
    return "<br>".join(found) or "none"


def _dtype(policy: dict[str, Any], which: str) -> str:
    return str(policy.get(f"{which}_dtype")).removeprefix("torch.")


def _tokens(trace: Trace) -> str:
    counts = {step.tokens for step in trace.steps}
    return " to ".join(str(n) for n in sorted({min(counts), max(counts)}))


def _unit(value: float | None, unit: str) -> str:
    shown = "-" if value is None else f"{value:.3g}" if value < 100 else f"{value:.0f}"
    return shown if value is None else f"{shown} {unit}".rstrip()


def _each(seconds: float | None) -> float | None:
    """How many there are in a second of what takes some."""
    return 1 / seconds if seconds else None


def _collectives(runs: list[Trace], compiled: bool) -> list[str]:
    kinds = sorted({kind for run in runs for kind in run.collectives})
    if not kinds:
        why = " under torch.compile" if compiled else ""
        return [f"Collectives were not recorded{why}.", ""]
    rows = []
    for kind in kinds:
        found = (run.collectives.get(kind) for run in runs)
        rows.append(
            [
                text(kind),
                *(f"{c[0]} calls, {c[1]:,} bytes" if c else "-" for c in found),
            ]
        )
    heads = ["collectives of rank 0 in its second step", *(run.party for run in runs)]
    return table(heads, rows)


def _validated(runs: list[Trace]) -> bool:
    return any(step.validation is not None for run in runs for step in run.steps)


def _by_step(quantity: str, runs: list[Trace]) -> list[str]:
    by_step = [{step.step: step for step in run.steps} for run in runs]
    rows = [
        [
            str(n),
            *(
                number(getattr(steps[n], quantity)) if n in steps else "-"
                for steps in by_step
            ),
        ]
        for n in sorted({n for steps in by_step for n in steps})
    ]
    heads = (f"{run.party} ({TITLES[run.party]})" for run in runs)
    return table(["step", *heads], rows)


# --- where it ran -----------------------------------------------------------------------


def _environment(environment: dict[str, Any]) -> list[str]:
    """Where and on what it ran, and how to run it again."""
    known = {
        "torch": "torch",
        "python": "Python",
        "platform": "platform",
        "cpus": "CPUs",
        "gpus": "GPUs",
        "base_revision": "base revision",
        "migrated_revision": "migrated tree",
        "migrated_digest": "digest of the Python files of its package",
        "steps": "steps of a run",
        "precision": "precision",
        "nproc": "data-parallel ranks",
    }
    apart = (
        "packages",
        "changed_files",
        "seconds",
        "total_seconds",
        "command",
        "taken",
    )
    environment = {**environment, **_revisions(environment)}
    rows = [
        [title, _value(environment[key])]
        for key, title in known.items()
        if key in environment
    ]
    rows += [
        [text(key), _value(value)]
        for key, value in environment.items()
        if key not in known and key not in apart
    ]
    packages = environment.get("packages") or {}
    if packages:
        versions = ", ".join(f"{name} {version}" for name, version in packages.items())
        rows.append(["packages", text(versions)])
    parts = ["## Environment", "", *table(["what", "value"], rows)] if rows else []
    changed = environment.get("changed_files") or []
    if changed:
        files = [*(f"- {code(name)}" for name in changed), ""]
        parts += folded(f"Changed files ({len(changed)})", files)
    seconds = environment.get("seconds") or {}
    if seconds:
        rows = [[code(name), f"{value:.1f}"] for name, value in seconds.items()]
        parts += folded("Seconds of every run", table(["run", "seconds"], rows))
    places = environment.get("taken") or {}
    if places:
        rows = [[code(name), text(place)] for name, place in places.items()]
        title = "Runs that were not trained for this"
        parts += folded(title, table(["run", "comes from"], rows))
    return [*parts, *_again(environment.get("command"))]


def _revisions(environment: dict[str, Any]) -> dict[str, str]:
    """The migrated revision, where the migration is not committed there."""
    base, migrated = (
        environment.get(f"{which}_revision") for which in ("base", "migrated")
    )
    if not migrated or base != migrated:
        return {}
    return {"migrated_revision": f"{migrated} and the changes in the working tree"}


def _value(value: object) -> str:
    if value is None or value in ([], (), {}, ""):
        return "-"
    if isinstance(value, (list, tuple)):
        counts = Counter(map(str, value))
        return ", ".join(
            f"{count} × {text(item)}" if count > 1 else text(item)
            for item, count in counts.items()
        )
    if isinstance(value, dict):
        return code(json.dumps(value, ensure_ascii=False, default=str))
    return text(value)


def _again(command: Any) -> list[str]:
    if not command:
        return []
    line = command if isinstance(command, str) else shlex.join(map(str, command))
    return ["## Run it again, in the checkout", "", *fenced(line)]
