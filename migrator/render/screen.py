"""What was found, on a terminal: what matters first, then file by file, in colour and within its width."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from rich.console import RenderableType
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from codemods.findings import Finding, rank
from migrator.changeset import Changeset
from migrator.render.text import besides, inert, remarks, totals

_WORDS = {
    "left": ("left", "bold red"),
    "silent": ("silent", "red"),
    "loud": ("loud", "yellow"),
    "note": ("note", "cyan"),
    "rewrite": ("rewrite", "green"),
    "done": ("done", "dim"),
    "opted-out": ("ignored", "dim"),
}
"""What becomes of a place -> the word for it and its colour, the most urgent first."""

_LABEL = 9
"""Columns of that word."""

_FIRST = 7
"""Places that are named before the details; with the head that is about ten lines."""


def whole(changeset: Changeset, verbose: bool = False) -> Iterator[RenderableType]:
    """Every place, for whoever sits before it.

    Args:
        changeset: what was found.
        verbose: with the message of each rewrite, and what is done or opted out.
    """
    shown = [f for f in changeset.findings if verbose or not _is_quiet(f)]
    yield from _first([f for f in shown if _kind(f) != "rewrite" and not _is_quiet(f)])
    by_file = [
        (path, list(places)) for path, places in groupby(shown, key=lambda f: f.path)
    ]
    for path, places in sorted(by_file, key=lambda each: min(map(_rank, each[1]))):
        yield Text("")
        yield Text(inert(path), style="bold")
        yield from _places(places, verbose)
    for line in (*remarks(changeset), *besides(changeset)):
        yield Text(line)
    yield Text("")
    for line in totals(changeset.findings):
        yield Text(line, style="bold")
    yield Text(_further(shown, verbose), style="dim")


def to_look_at(changeset: Changeset) -> Iterator[RenderableType]:
    """The hazards alone, the worst first: what `apply` has not changed."""
    found = [f for f in changeset.findings if f.status == "hazard"]
    if found:
        yield Text("")
        yield Text("Not changed, and yours to look at:", style="bold")
    for finding in sorted(found, key=_rank):
        yield Text(f"{inert(finding.path)}:{finding.line}")
        yield from _place(finding, line=False)


def _kind(finding: Finding) -> str:
    return str(finding.severity) if finding.status == "hazard" else finding.status


def _is_quiet(finding: Finding) -> bool:
    return finding.status in ("done", "opted-out")


def _rank(finding: Finding) -> int:
    return 0 if finding.status == "left" else rank(finding.severity) or len(_WORDS)


def _first(findings: Sequence[Finding]) -> Iterator[RenderableType]:
    """The places that a person has to see to, a line each."""
    if not findings:
        return
    yield Text("")
    yield Text("Yours to look at, the worst first:", style="bold")
    ordered = sorted(findings, key=_rank)
    for finding in ordered[:_FIRST]:
        yield _row(_kind(finding), finding.code, f"{finding.path}:{finding.line}")
    if ordered[_FIRST:]:
        kinds = sorted({_WORDS[_kind(finding)][0] for finding in ordered[_FIRST:]})
        yield Text(f"  and {len(ordered) - _FIRST} more below ({', '.join(kinds)})")


def _places(findings: Iterable[Finding], verbose: bool) -> Iterator[RenderableType]:
    """One file's, the worst first; rewrites of one rule in a line, unless each is asked for."""
    ordered = sorted(findings, key=lambda finding: (_rank(finding), finding.line))
    rewrites: dict[str, list[int]] = {}
    for finding in ordered:
        if finding.status == "rewrite" and not verbose:
            rewrites.setdefault(finding.code, []).append(finding.line)
        else:
            yield from _place(finding)
    if rewrites:
        told = (f"{code} {_lines(rewrites[code])}" for code in sorted(rewrites))
        yield Text.assemble(_label("rewrite"), " ", "; ".join(told))


def _lines(numbers: Sequence[int]) -> str:
    return f"line{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _place(finding: Finding, line: bool = True) -> Iterator[RenderableType]:
    """What is there, and the code to write."""
    where = f"line {finding.line}: " if line else ""
    yield _row(_kind(finding), finding.code, where + finding.message)
    if finding.suggestion:
        yield from map(_Code, finding.suggestion.split("\n"))


@dataclass(frozen=True)
class _Code:
    """A line of code: copied from a terminal of any width, it is the line that it is."""

    line: str

    def __rich_console__(self, *_: object) -> Iterator[Segment]:
        yield Segment("    ")
        yield Segment("│ ", Style(dim=True))
        yield Segment(inert(self.line, keep="\t"))
        yield Segment.line()


def _row(kind: str, code: str, text: str) -> RenderableType:
    """A kind, a code and a text that stays in its column, however narrow."""
    row = Table.grid(padding=(0, 1))
    row.add_column(width=_LABEL)
    row.add_column(width=5)
    row.add_column(overflow="fold")
    row.add_row(_label(kind), code, inert(text))
    return row


def _label(kind: str) -> Text:
    word, colour = _WORDS[kind]
    return Text(f"  {word}".ljust(_LABEL), style=colour)


def _further(findings: Sequence[Finding], verbose: bool) -> str:
    """Where to read more."""
    said = [] if verbose else ["-v says what becomes of each place"]
    codes = [finding.code for finding in sorted(findings, key=_rank)]
    if codes:
        said.append(f"`titan-migrate explain {codes[0]}` explains a rule")
    if any(finding.status == "hazard" for finding in findings):
        said.append("`# titan-migrate: ignore[CODE]` ends a line that is fine as it is")
    return "; ".join(said) + "." if said else ""
