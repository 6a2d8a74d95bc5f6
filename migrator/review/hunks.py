"""The hunks of a file: lines side by side, the words that changed in them, who made them and why."""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from functools import cache, partial
from typing import Any

from pygments import token as tokens
from pygments.lexers.python import PythonLexer

from codemods.attribution import Stage, Touch, attribute, lines
from codemods.findings import Finding
from migrator.review.model import Hunk, Kind, Kinds, Line, Part, Reason, Row, visible

_DEFINITION = re.compile(r"\s*(?:async\s+def|def|class)\s+(\w+)")

_KINDS: tuple[tuple[Any, Kind], ...] = (
    (tokens.Keyword, "keyword"),
    (tokens.Operator.Word, "keyword"),
    (tokens.String, "string"),
    (tokens.Comment, "comment"),
    (tokens.Number, "number"),
    (tokens.Name.Function, "name"),
    (tokens.Name.Class, "name"),
    (tokens.Name.Decorator, "name"),
)

CONTEXT = 3
"""Lines around a change, as in any patch."""

_ALIKE = 0.5
"""How much of two lines has to be the same for one to be shown as the other changed."""

_LONGEST = 2000
_MOST = 2500
"""Characters of a line, and pairs of lines, up to which words are compared."""


def hunks_of(
    before: str, after: str, stages: Sequence[Stage], findings: Sequence[Finding]
) -> tuple[Hunk, ...]:
    """Every hunk between two texts of a file.

    Args:
        before: the text before the first stage.
        after: the text after the last.
        stages: how one became the other.
        findings: of this file, what the rules rewrote, for the reasons.
    """
    old, new = lines(before), lines(after)
    old_kinds, new_kinds = (cache(partial(kinds, text)) for text in (before, after))
    # Where every line ends like this, it says nothing.
    crlf = all(line.endswith("\r\n") for line in [*old, *new] if line.endswith("\n"))
    made = attribute(before, stages)
    found = []
    for group in SequenceMatcher(None, old, new).get_grouped_opcodes(CONTEXT):
        rows: list[Row] = []
        touch = None
        for kind, i, j, k, m in group:
            was = [
                _line(n, old, old_kinds, made.removed.get(n), crlf) for n in range(i, j)
            ]
            now = [_line(n, new, new_kinds, made.added[n], crlf) for n in range(k, m)]
            if kind == "equal":
                rows += [Row(left, right, False) for left, right in zip(was, now)]
                continue
            rows += [Row(left, right, True) for left, right in _aligned(was, now)]
            here = made.of(range(i, j), range(k, m))
            touch = here if touch is None else touch | here
        assert touch is not None
        first = next(k for kind, _, _, k, _ in group if kind != "equal")
        found.append(Hunk(tuple(rows), touch, within=_within(new, first)))
    return _with_reasons(found, findings)


def _within(texts: Sequence[str], number: int) -> str:
    """The functions and classes around a line, from 0, the outermost first."""
    names: list[str] = []
    depth = sys.maxsize
    for text in reversed(texts[: number + 1]):
        found = _DEFINITION.match(text)
        indent = len(text) - len(text.lstrip())
        if found and indent < depth:
            names.append(found[1])
        if text.strip() and not text.lstrip().startswith((")", "#", "@")):
            depth = min(depth, indent)
    return ".".join(reversed(names))


def count(hunks: Sequence[Hunk]) -> tuple[int, int]:
    """The lines that hunks add and remove."""
    rows = [row for hunk in hunks for row in hunk.rows if row.changed]
    return sum(row.new is not None for row in rows), sum(
        row.old is not None for row in rows
    )


def undone(
    before: str, planned: str, after: str, stages: Sequence[Stage]
) -> tuple[list[int], list[str]]:
    """What a person took back of a plan, as far as no hunk shows it.

    Hunks hold the text before against the one after: a line that only the plan had is
    in neither of them, and one that the plan took out and that is back is no change.

    Args:
        before: the text before the first stage.
        planned: the text that the tool makes.
        after: the text that is there.
        stages: how the first became the second.

    Returns:
        Lines of the text before, from 1, at which a planned change is not in the text
        after; and the lines planned that it lacks.
    """
    old, wanted, here = lines(before), lines(planned), lines(after)
    as_before: dict[int, int] = {}
    changed: set[int] = set()
    for kind, i, _, k, m in SequenceMatcher(None, old, here).get_opcodes():
        if kind == "equal":
            as_before |= {n: i + n - k for n in range(k, m)}
        else:
            changed |= set(range(k, m + 1))
    still = set(as_before.values())
    origins = _origins(before, stages)
    back = SequenceMatcher(None, wanted, old).get_opcodes()
    gone, lacking = [], []
    for kind, i, j, k, m in SequenceMatcher(None, wanted, here).get_opcodes():
        if kind == "equal":
            continue
        restored = [as_before[n] for n in range(k, m) if n in as_before]
        if not changed & set(range(k, m + 1)):
            gone += [c + 1 for _, a, b, c, _ in back if a <= i <= b][-1:]
            continue
        gone += [n + 1 for n in restored]
        if len(restored) == m - k > 0:
            continue  # that they are as they were says what is not there
        for n in range(i, j):
            # One of before that is gone stands in a hunk, as taken out by hand.
            if origins[n] is None or origins[n] in still:
                lacking.append(wanted[n])
    return sorted(set(gone)), lacking


def _origins(before: str, stages: Sequence[Stage]) -> list[int | None]:
    """Which line of the text before each planned one is, from 0; None where the tool wrote it."""
    made = attribute(before, stages)
    # Those that stay are in the order that they had.
    kept = (n for n in range(len(lines(before))) if n not in made.removed)
    return [next(kept, None) if by == Touch() else None for by in made.added]


def kinds(text: str) -> list[Kinds]:
    """Of each line of a Python file, how many characters are of which kind."""
    found: list[list[tuple[int, Kind]]] = [[]]
    for token, value in PythonLexer(stripnl=False, ensurenl=False).get_tokens(text):
        kind: Kind = next((kind for base, kind in _KINDS if token in base), "")
        first, *others = value.split("\n")
        found[-1].append((len(first), kind))
        found += [[(len(part), kind)] for part in others]
    return [tuple(line) for line in found]


def _line(
    number: int,
    texts: Sequence[str],
    kinds: Callable[[], Sequence[Kinds]],
    touch: Touch | None,
    crlf: bool,
) -> Line:
    text = texts[number]
    ended = text.endswith("\n")
    text = text.removesuffix("\n")
    shown = visible(text.removesuffix("\r") if crlf else text)
    by_hand = touch is not None and touch.by_hand

    def own() -> Kinds:
        known = kinds()[number : number + 1]
        # Not where it is shown otherwise than it is, or lines end in a way of their own.
        return next((k for k in known if sum(n for n, _ in k) == len(shown)), ())

    return Line(number + 1, ((shown, False),), by_hand, ended, own)


def _aligned(
    old: Sequence[Line], new: Sequence[Line]
) -> Iterator[tuple[Line | None, Line | None]]:
    """Lines of a change side by side: those alike in one row, with their words marked."""
    start_old = start_new = 0
    for i, k in [*_pairs(old, new), (len(old), len(new))]:
        was, now = old[start_old:i], new[start_new:k]
        for n in range(max(len(was), len(now))):
            yield (
                was[n] if n < len(was) else None,
                now[n] if n < len(now) else None,
            )
        if i < len(old):
            yield _marked(old[i], new[k])
        start_old, start_new = i + 1, k + 1


def _pairs(old: Sequence[Line], new: Sequence[Line]) -> list[tuple[int, int]]:
    """Which line before is which after, in order, so that the most is alike."""
    if not old or not new or len(old) * len(new) > _MOST:
        return []
    best = [[0.0] * (len(new) + 1) for _ in range(len(old) + 1)]
    alike = [[_likeness(was.text, now.text) for now in new] for was in old]
    for i in reversed(range(len(old))):
        for k in reversed(range(len(new))):
            best[i][k] = max(
                best[i + 1][k], best[i][k + 1], alike[i][k] + best[i + 1][k + 1]
            )
    found, i, k = [], 0, 0
    while i < len(old) and k < len(new):
        if alike[i][k] and best[i][k] == alike[i][k] + best[i + 1][k + 1]:
            found.append((i, k))
            i, k = i + 1, k + 1
        elif best[i][k] == best[i + 1][k]:
            i += 1
        else:
            k += 1
    return found


def _words(text: str) -> list[str]:
    return re.findall(r"\w+|\s+|[^\w\s]", text)


def _likeness(was: str, now: str) -> float:
    """How much of two lines is the same, in characters that can be seen; 0 where it is too little."""
    if max(len(was), len(now)) > _LONGEST:
        return 0.0
    # Of apply_ddp and apply_replicate, the first half is the same.
    left, right = (re.findall(r"[^\W_]+|[^\w\s]|_", text) for text in (was, now))
    length = sum(map(len, left)) + sum(map(len, right))
    blocks = SequenceMatcher(None, left, right, False).get_matching_blocks()
    same = sum(len(word) for block in blocks for word in left[block.a :][: block.size])
    alike = 2 * same / length if length else 0.0
    return alike if alike >= _ALIKE else 0.0


def _marked(old: Line, new: Line) -> tuple[Line, Line]:
    """Two lines with what differs between them marked."""
    was, now = _words(old.text), _words(new.text)
    sides: tuple[list[Part], list[Part]] = ([], [])
    matcher = SequenceMatcher(None, was, now, False)
    for kind, i, j, k, m in matcher.get_opcodes():
        for side, text in zip(sides, ("".join(was[i:j]), "".join(now[k:m]))):
            if text:
                side.append((text, kind != "equal"))
    left, right = (_joined(side) for side in sides)
    return (
        replace(old, parts=left),
        replace(new, parts=right),
    )


def _joined(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Parts of which no two neighbours are alike; a gap between two marks is marked along."""
    found: list[Part] = []
    for n, (text, mark) in enumerate(parts):
        between = 0 < n < len(parts) - 1 and text.isspace()
        mark = mark or (between and found[-1][1] and parts[n + 1][1])
        if found and found[-1][1] == mark:
            text = found.pop()[0] + text
        found.append((text, mark))
    return tuple(found)


def _with_reasons(
    hunks: Sequence[Hunk], findings: Sequence[Finding]
) -> tuple[Hunk, ...]:
    """The hunks with every finding at the one that its rule made and that is nearest."""
    reasons: list[list[Reason]] = [[] for _ in hunks]
    for finding in findings:
        own = [n for n, hunk in enumerate(hunks) if finding.code in hunk.codes]
        # Or another rule took its line out first: a guard that goes with its apply_ddp.
        own = own or [n for n, hunk in enumerate(hunks) if _removes(hunk, finding.line)]
        if own:
            nearest = min(own, key=lambda n: hunks[n].distance(finding.line, True))
            reasons[nearest].append(
                Reason(finding.line, finding.code, visible(finding.message))
            )
    return tuple(
        replace(hunk, reasons=tuple(found)) for hunk, found in zip(hunks, reasons)
    )


def _removes(hunk: Hunk, line: int) -> bool:
    return any(
        row.changed and row.old is not None and row.old.number == line
        for row in hunk.rows
    )
