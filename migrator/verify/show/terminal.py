"""Shows verdicts briefly on the terminal: one cell after the other, then all of them in a table."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from migrator.verify.choose.scenarios import Cell
from migrator.verify.judge.compare import Comparison
from migrator.verify.judge.trace import Trace
from migrator.verify.judge.verdict import Verdict, Verification
from migrator.verify.show.wording import (
    GLOSSARY,
    TITLES,
    conclusion,
    deciding,
    failed_first,
    lines,
    number,
    one_line,
    pairs,
    shown,
    size,
    times,
    took,
    untrained,
)

_COLOURS = {"passed": "green", "failed": "bold red", "not run": "yellow"}


def show_cell(
    model: str, cell: Cell, verdict: Verdict, console: Console, by_step: bool = False
) -> None:
    """Prints one cell: how its runs agree, what is to be said of it, the verdict; figures by step where it failed or `by_step`."""
    if verdict.not_run:
        _say(console, f"{model}, {cell.name}: not run, because {verdict.not_run}")
        return
    console.print()
    _say(console, f"{model}, {cell.name}: {cell.what}", "bold")
    runs = shown(verdict)
    if (by_step or verdict.failures) and len(runs) > 1:
        for quantity in ("loss", "grad_norm"):
            _say(console, f"{quantity} by step:")
            console.print(_by_step(quantity, runs))
    if verdict.comparisons:
        _say(
            console,
            "how the runs agree (relative; ! beyond the tolerance, from that step on):",
        )
        console.print(_agreement(verdict))
    if verdict.ratios:
        _say(console, f"migrated / baseline: {times(verdict)}", "dim")
    for note in verdict.notes:
        _say(console, f"Note: {note}")
    for failure in verdict.failures:
        _say(console, f"Failed: {failure}", "red")
    for line in lines(verdict.details.rstrip()):
        console.print(Text(line), soft_wrap=True)
    word, sentence = conclusion(cell, verdict)
    style = "bold green" if verdict.passed else "bold red"
    _say(console, f"{cell.name}: {word}: {sentence}", style)


def show_summary(verification: Verification, console: Console) -> None:
    """Prints the table of cells, the verdict, how long it took, and what it does not cover."""
    table = _table()
    for head in ("model", "cell", "verdict"):
        table.add_column(head)
    for head in ("loss", "grad_norm", "speed", "memory"):
        table.add_column(head, justify="right")
    ordered = failed_first(verification)
    for model, name, verdict in ordered:
        table.add_row(one_line(model), name, *_summary(verdict))
    console.print()
    for model, name, verdict in ordered:
        for failure in verdict.failures[:1]:
            _say(console, f"{model}, {name} failed: {failure}", "red")
    console.print(table)
    _say(
        console,
        "loss, grad_norm: relative to the reference, ! beyond the tolerance."
        " speed, memory: migrated / baseline, no part of the verdict.",
        "dim",
    )
    if any(verdict.comparisons for verdict in verification.verdicts):
        for word, meaning in GLOSSARY.items():
            _say(console, f"{word}: {meaning}.", "dim")
    failed = [
        f"{model} {name}"
        for model, name, verdict in ordered
        if verdict.word == "failed"
    ]
    if verification.passed:
        _say(console, "PASSED in every cell that ran.", "bold green")
    elif verification.rehearsal and verification.rehearsal.failed:
        text = "FAILED in rehearsal, before anything trained: do not merge this migration yet."
        _say(console, text, "bold red")
    elif verification.rehearsal and verification.rehearsal.broken and not failed:
        text = "The rehearsal itself broke, so there is no verdict of it: --no-rehearse goes without."
        _say(console, text, "bold red")
    elif failed:
        text = f"FAILED in {', '.join(failed)}: do not merge this migration yet."
        _say(console, text, "bold red")
    else:
        _say(console, "No cell ran, so there is no verdict.", "bold red")
    if took(verification.environment):
        _say(console, took(verification.environment))
    _say(console, untrained(verification.environment), "dim")


def _say(console: Console, text: str, style: str = "") -> None:
    """Prints a sentence as it is: no markup, no control characters, wrapped at words."""
    console.print(Text(one_line(text), style=style))


def _table() -> Table:
    return Table(box=box.SIMPLE_HEAD, show_edge=False)


def _summary(verdict: Verdict) -> list[str | Text]:
    """One cell's row of the verdict table, without its name."""
    found = deciding(verdict)
    ratios = (verdict.ratios.get(name) for name in ("throughput", "peak memory"))
    return [
        Text(verdict.word, style=_COLOURS[verdict.word]),
        *(_figure(found.get(quantity)) for quantity in ("loss", "grad_norm")),
        *("-" if ratio is None else f"{ratio:.2f}" for ratio in ratios),
    ]


def _figure(comparison: Comparison | None) -> str | Text:
    """A comparison in one word or figure."""
    if comparison is None:
        return "-"
    if comparison.verdict == "bitwise":
        return "bitwise"
    if comparison.agrees:
        return size(comparison.largest)
    return Text(f"! {size(comparison.largest)}", style="red")


def _by_step(quantity: str, traces: list[Trace]) -> Table:
    """One quantity of every run by step, every digit of it."""
    table = _table()
    table.add_column("step", justify="right")
    for trace in traces:
        # Long names break, figures must not.
        head = f"{trace.party}\n({TITLES[trace.party]})".replace("-ref", "-\nref")
        table.add_column(head.replace(" ", "\n"), justify="right", vertical="bottom")
    by_step = [{step.step: step for step in trace.steps} for trace in traces]
    for n in sorted({n for steps in by_step for n in steps}):
        cells = (
            number(getattr(steps[n], quantity)) if n in steps else "-"
            for steps in by_step
        )
        table.add_row(str(n), *(Text(cell, no_wrap=True) for cell in cells))
    return table


def _agreement(verdict: Verdict) -> Table:
    """How each pair of runs agrees in each quantity; differences are relative."""
    table = _table()
    table.add_column("quantity")
    for left, right in pairs(verdict):
        table.add_column(f"{left}\nand {right}")
    table.add_column("tolerance", justify="right")
    for quantity in dict.fromkeys(c.quantity for c in verdict.comparisons):
        row = {
            (c.left, c.right): c for c in verdict.comparisons if c.quantity == quantity
        }
        tolerance = next(iter(row.values())).tolerance.relative
        table.add_row(
            quantity,
            # A pair may be compared in fewer quantities than another.
            *(_agreement_cell(row.get(pair)) for pair in pairs(verdict)),
            f"{tolerance:.1e}" if tolerance else "0",
        )
    return table


def _agreement_cell(comparison: Comparison | None) -> str | Text:
    if comparison is None or comparison.verdict == "bitwise":
        return _figure(comparison)
    if comparison.verdict == "within":
        return f"within {size(comparison.largest)}"
    first = comparison.first_different
    since = f" from {first}" if isinstance(first, int) else ""
    return Text(f"! {size(comparison.largest)}{since}", style="yellow")
