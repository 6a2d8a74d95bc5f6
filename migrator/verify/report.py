"""Shows a verdict: a table and sentences on the terminal, `report.json` for everything else."""

from __future__ import annotations

import json
import math
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .judge import Comparison, Verdict
from .trace import Trace

_PARTIES = ("baseline", "migrated", "reference")
_WRAPPERS = {"baseline": "DDP", "migrated": "replicate", "reference": "FSDP"}


def show(verdict: Verdict, console: Console) -> None:
    """Prints loss and grad_norm of the three parties by step, then how they agree, then the verdict."""
    traces = [verdict.traces[name] for name in _PARTIES if name in verdict.traces]
    if any(trace.steps for trace in traces):
        for quantity in ("loss", "grad_norm"):
            console.print(_by_step(quantity, traces))
    if verdict.comparisons:
        console.print(_agreement(verdict))
        for quantity in dict.fromkeys(c.quantity for c in verdict.comparisons):
            found = next(c for c in verdict.comparisons if c.quantity == quantity)
            console.print(f"tolerance of {quantity}: {found.tolerance.source}.", style="dim")
        model = verdict.environment.get("model", "llama3")
        console.print(
            f"Trained: {model}. The call sites of other models were parsed and fit; none was run.",
            style="dim",
        )
    for note in verdict.notes:
        console.print(Text(f"Note: {note}"))
    for failure in verdict.failures:
        console.print(Text(f"Failed: {failure}", style="red"))
    if verdict.details:
        console.print(Text(verdict.details.rstrip()), soft_wrap=True)
    console.print(conclusion(verdict))


def _by_step(quantity: str, traces: list[Trace]) -> Table:
    """One quantity of every party by step, every digit of it."""
    table = Table(title=f"{quantity}, fp32", title_justify="left")
    table.add_column("step", justify="right")
    for trace in traces:
        head = f"{trace.party}\n({_WRAPPERS[trace.party]})"
        table.add_column(head, justify="right", no_wrap=True)
    by_step = [{step.step: step for step in trace.steps} for trace in traces]
    for number in sorted({number for steps in by_step for number in steps}):
        cells = [
            _number(getattr(steps[number], quantity)) if number in steps else "-"
            for steps in by_step
        ]
        table.add_row(str(number), *cells)
    return table


def _agreement(verdict: Verdict) -> Table:
    """How each pair of runs agrees in each quantity; differences are relative."""
    table = Table(title="how the runs agree (largest relative difference)", title_justify="left")
    table.add_column("quantity")
    pairs = list(dict.fromkeys((c.left, c.right) for c in verdict.comparisons))
    for left, right in pairs:
        table.add_column(f"{left}\nand {right}")
    table.add_column("tolerance", justify="right")
    for quantity in dict.fromkeys(c.quantity for c in verdict.comparisons):
        row = {(c.left, c.right): c for c in verdict.comparisons if c.quantity == quantity}
        tolerance = f"{next(iter(row.values())).tolerance.relative:g}"
        table.add_row(quantity, *(_agreement_cell(row[pair]) for pair in pairs), tolerance)
    return table


def _agreement_cell(comparison: Comparison) -> Text:
    if comparison.verdict == "bitwise":
        return Text("bitwise")
    if comparison.verdict == "within":
        return Text(f"within ({comparison.largest:.1e})")
    first = comparison.first_different
    since = f" beyond it from step {first} on" if isinstance(first, int) else ""
    return Text(f"different{since} ({comparison.largest:.1e})", style="yellow")


def conclusion(verdict: Verdict) -> Text:
    """The verdict in one line."""
    if not verdict.passed:
        count = len(verdict.failures)
        return Text(
            f"FAILED, for {count} reason{'s' if count > 1 else ''}: do not merge this migration yet.",
            style="bold red",
        )
    equal = _equal_to_baseline(verdict)
    if equal is None:
        return Text(
            "PASSED: the migrated tree trains as FSDP of the same revision does.",
            style="bold green",
        )
    how = "bitwise as" if equal else "within tolerance as"
    return Text(
        f"PASSED: the migrated tree trains {how} DDP did, and as FSDP does.", style="bold green"
    )


def _equal_to_baseline(verdict: Verdict) -> bool | None:
    """True: bitwise equal to the baseline; False: within tolerance; None: the baseline is no measure."""
    mine = [c for c in verdict.comparisons if (c.left, c.right) == ("migrated", "baseline")]
    if not mine or not all(c.agrees for c in mine):
        return None
    return all(c.verdict == "bitwise" for c in mine)


def _number(value: float | None) -> str:
    # Nine digits tell any two float32 numbers apart.
    return "-" if value is None else f"{value:.9g}"


def write_json(verdict: Verdict, folder: Path) -> Path:
    """Writes `report.json` into `folder` and returns its path."""
    path = folder / "report.json"
    path.write_text(
        json.dumps(_plain(verdict.to_dict()), indent=1, allow_nan=False) + "\n", encoding="utf-8"
    )
    return path


def _plain(value: object) -> object:
    """Numbers that JSON has no word for become strings."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
