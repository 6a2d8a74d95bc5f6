"""Shows a verdict: a table and sentences on the terminal, `report.json` for everything else."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from .judge import Comparison, Verdict, Verification
from .scenarios import Cell, CELLS
from .trace import Trace

_WRAPPERS = {
    "baseline": "DDP",
    "migrated": "replicate",
    "control": "FSDP, base",
    "reference": "FSDP",
    "resumed": "replicate from DDP's",
    "resumed-reference": "FSDP from DDP's",
    "returned": "DDP from replicate's",
    "reloaded": "replicate",
}


def show_cell(model: str, cell: Cell, verdict: Verdict, console: Console) -> None:
    """Prints one cell: loss and grad_norm of the parties by step, how they agree, the verdict."""
    if verdict.not_run:
        console.print(
            Text(f"{model}, {cell.name}: not run, because {verdict.not_run}"),
            soft_wrap=True,
        )
        return
    traces = [
        verdict.traces[name]
        for name in _WRAPPERS
        if name in verdict.traces and verdict.traces[name].steps
    ]
    console.print(Text(f"\n{model}, {cell.name}: {cell.what}", style="bold"))
    if any(trace.steps for trace in traces):
        for quantity in ("loss", "grad_norm"):
            console.print(_by_step(quantity, traces))
    if verdict.comparisons:
        console.print(_agreement(verdict))
    for note in verdict.notes:
        console.print(Text(f"Note: {note}"))
    for failure in verdict.failures:
        console.print(Text(f"Failed: {failure}", style="red"))
    if verdict.details:
        console.print(Text(verdict.details.rstrip()), soft_wrap=True)
    console.print(conclusion(cell, verdict))


def show_summary(verification: Verification, console: Console) -> None:
    """Prints the table of cells, the source of every tolerance, and what the verdict covers."""
    table = Table(title="verdict", title_justify="left")
    for head in ("model", "cell", "what", "verdict", "loss", "grad_norm"):
        table.add_column(head)
    for model, cells in verification.models.items():
        for name, verdict in cells.items():
            table.add_row(model, name, *_summary(name, verdict))
    console.print(table)
    console.print(
        "loss, grad_norm: largest relative difference from the reference.", style="dim"
    )
    failed = [
        f"{model} {name}"
        for model, cells in verification.models.items()
        for name, verdict in cells.items()
        if verdict.word == "failed"
    ]
    if verification.passed:
        console.print(Text("PASSED in every cell that ran.", style="bold green"))
    elif failed:
        text = f"FAILED in {', '.join(failed)}: do not merge this migration yet."
        console.print(Text(text, style="bold red"))
    else:
        console.print(Text("No cell ran, so there is no verdict.", style="bold red"))
    console.print(
        "The call sites of models that were not trained were parsed; none was run.",
        style="dim",
    )


def _summary(name: str, verdict: Verdict) -> list[str | Text]:
    """One cell's row of the verdict table, without its name."""
    colour = {"passed": "green", "failed": "bold red", "not run": "yellow"}
    worst = {
        c.quantity: "bitwise" if c.verdict == "bitwise" else f"{c.largest:.1e}"
        for c in reversed(verdict.comparisons)
        if c.left in ("migrated", "reference", "resumed")
    }
    return [
        CELLS[name].what,
        Text(verdict.word, style=colour[verdict.word]),
        worst.get("loss", "-"),
        worst.get("grad_norm", "-"),
    ]


def _by_step(quantity: str, traces: list[Trace]) -> Table:
    """One quantity of every party by step, every digit of it."""
    table = Table(title=quantity, title_justify="left")
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
    table = Table(
        title="how the runs agree (largest relative difference)", title_justify="left"
    )
    table.add_column("quantity")
    pairs = list(dict.fromkeys((c.left, c.right) for c in verdict.comparisons))
    for left, right in pairs:
        table.add_column(f"{left}\nand {right}")
    table.add_column("tolerance", justify="right")
    for quantity in dict.fromkeys(c.quantity for c in verdict.comparisons):
        row = {
            (c.left, c.right): c for c in verdict.comparisons if c.quantity == quantity
        }
        tolerance = f"{next(iter(row.values())).tolerance.relative:g}"
        table.add_row(
            quantity, *(_agreement_cell(row[pair]) for pair in pairs), tolerance
        )
    return table


def _agreement_cell(comparison: Comparison) -> Text:
    if comparison.verdict == "bitwise":
        return Text("bitwise")
    if comparison.verdict == "within":
        return Text(f"within ({comparison.largest:.1e})")
    first = comparison.first_different
    since = f" beyond it from step {first} on" if isinstance(first, int) else ""
    return Text(f"different{since} ({comparison.largest:.1e})", style="yellow")


def conclusion(cell: Cell, verdict: Verdict) -> Text:
    """The verdict of a cell in one line."""
    if not verdict.passed:
        count = len(verdict.failures)
        text = f"{cell.name}: FAILED, for {count} reason{'s' if count > 1 else ''}."
        return Text(text, style="bold red")
    if cell.kind in _PASSED:
        text = f"{cell.name}: PASSED: {_PASSED[cell.kind]}"
        return Text(text, style="bold green")
    equal = _equal_to_baseline(verdict)
    if equal is None:
        text = f"{cell.name}: PASSED: the migrated tree trains as FSDP of the same revision does."
        return Text(text, style="bold green")
    how = "bitwise as" if equal else "within tolerance as"
    text = f"{cell.name}: PASSED: the migrated tree trains {how} DDP did, and as FSDP does."
    return Text(text, style="bold green")


_PASSED = {
    "unchanged": "the same bits before and after.",
    "resumed": "each side goes on from what the other wrote.",
    "exported": "what was exported loads as it was trained.",
}


def _equal_to_baseline(verdict: Verdict) -> bool | None:
    """True: bitwise equal to the baseline; False: within tolerance; None: the baseline is no measure."""
    mine = [
        c for c in verdict.comparisons if (c.left, c.right) == ("migrated", "baseline")
    ]
    if not mine or not all(c.agrees for c in mine):
        return None
    return all(c.verdict == "bitwise" for c in mine)


def _number(value: float | None) -> str:
    # Nine digits tell any two float32 numbers apart.
    return "-" if value is None else f"{value:.9g}"


def write(verification: Verification, folder: Path) -> None:
    """Writes `report.json` into `folder`: all of it, or none where it cannot be written (OSError)."""
    text = json.dumps(_plain(verification.to_dict()), indent=1, allow_nan=False) + "\n"
    staged = folder / "report.json.new"
    try:
        staged.write_text(text, encoding="utf-8")
        os.replace(staged, folder / "report.json")
    finally:
        staged.unlink(missing_ok=True)


def _plain(value: object) -> object:
    """Numbers that JSON has no word for become strings."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
