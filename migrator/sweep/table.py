"""The table of a sweep: for people, as JSON, as CSV, as SARIF; written row by row where the format allows."""

import csv
import io
import json
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from migrator.render import inert
from migrator.sweep.reasons import groups
from migrator.sweep.row import MANY, WORDS, Row, State
from migrator.version import VERSION

TOOL = f"titan-migrate {VERSION}"

_COLUMNS: tuple[tuple[str, int], ...] = (
    ("ref", 36),
    ("generation", 10),
    ("target", 6),
    ("files", 5),
    ("hazards", 7),
)
"""Name and width of the columns before the last one."""

_REPOSITORY = 18


def as_text(
    rows: Iterable[Row], repositories: Collection[str], width: int | None = None
) -> Iterator[str]:
    """Lines for people, each as soon as its row is there; the totals and the reasons last.

    Args:
        rows: what was found.
        repositories: those that they are of; where there are several, they have a column.
        width: columns that a line may have, None for as many as it takes.
    """
    names = told_apart(repositories) if len(repositories) > 1 else {}
    columns = [("repository", _REPOSITORY)] * bool(names) + list(_COLUMNS)
    yield _cut(" ".join(f"{name:{w}}" for name, w in columns) + " what", width)
    kept = []
    for row in rows:
        kept.append(row)
        yield _cut(_line(row, columns, names), width)
    yield ""
    yield totals(kept)
    yield from _reasons(kept, names)


def told_apart(repositories: Iterable[str]) -> dict[str, str]:
    """Path of a repository -> the end of it that no other one has."""
    parts = {one: one.rstrip("/").split("/") for one in set(repositories)}
    found: dict[str, str] = {}
    for one, own in parts.items():
        others = [other for path, other in parts.items() if path != one]
        size = 1
        while size < len(own) and any(o[-size:] == own[-size:] for o in others):
            size += 1
        found[one] = "/".join(own[-size:])
    return found


def _line(
    row: Row, columns: Sequence[tuple[str, int]], names: Mapping[str, str]
) -> str:
    planned = row.planned
    cells = {
        "repository": names.get(row.repository, ""),
        "ref": short(row.ref),
        "generation": planned.generation,
        "target": planned.target,
        "files": str(len(planned.files) or ""),
        "hazards": str(sum(planned.hazards.values()) or ""),
    }
    told = [f"{inert(cells[name]):{width}}" for name, width in columns]
    return " ".join([*told, inert(what(row))])


def what(row: Row) -> str:
    """What becomes of a ref, and the first reason for that."""
    planned = row.planned
    said = WORDS[planned.state]
    if planned.state == "ready":
        found = [f"{count} {code}" for code, count in planned.findings.items()]
        return f"{said}: {', '.join(found)}" if found else said
    more = len(planned.reasons) - 1
    rest = f" (and {more} more)" if more > 0 else ""
    return f"{said}: {planned.reasons[0]}{rest}" if planned.reasons else said


def short(ref: str) -> str:
    """What git calls a ref for short."""
    for home in ("refs/heads/", "refs/remotes/", "refs/"):
        if ref.startswith(home):
            return ref.removeprefix(home)
    return ref


def _cut(line: str, width: int | None) -> str:
    line = line.rstrip()
    return line if width is None or len(line) <= width else f"{line[: width - 1]}…"


def counts(rows: Iterable[Row]) -> dict[State, int]:
    """How many refs there are of each state."""
    found = Counter(row.planned.state for row in rows)
    return {state: found[state] for state in get_args(State)}


def totals(rows: Sequence[Row]) -> str:
    """How many refs there are, and what becomes of them, in one sentence."""
    trees = len({row.tree for row in rows if row.tree})
    told = [
        f"{n} {WORDS[state] if n == 1 else MANY.get(state, WORDS[state])}"
        for state, n in counts(rows).items()
        if n
    ]
    s = "" if len(rows) == 1 else "s"
    which = f": {', '.join(told)}" if told else ""
    return (
        f"{len(rows)} ref{s}, {trees} distinct tree{'' if trees == 1 else 's'}{which}."
    )


def _reasons(rows: Sequence[Row], names: Mapping[str, str]) -> Iterator[str]:
    found = groups(rows)
    if found:
        yield "Why, the most common first:"
    for group in found:
        code = f"{group.code} " if group.code else ""
        yield inert(f"  {group.refs} × {code}{group.what}")
        repository = names.get(group.example.repository)
        where = " ".join(filter(None, (repository, short(group.example.ref))))
        yield inert(": ".join(filter(None, (f"      {where}", group.shown))))


def as_json(
    rows: Iterable[Row], shard: tuple[int, int] | None = None, asked: str = ""
) -> Iterator[str]:
    """One document, piece by piece.

    Args:
        rows: what was found.
        shard: which part of the refs it is, and of how many.
        asked: the options of the sweep and the torch that it found, by which tables
            that belong together are known.
    """
    part = f"{shard[0]}/{shard[1]}" if shard else None
    head = {"tool": TOOL, "asked": asked, "shard": part}
    yield f'{json.dumps(head)[:-1]}, "rows": ['
    between = "\n"
    for row in rows:
        yield between + json.dumps(row.as_data())
        between = ",\n"
    yield "\n]}\n"


FIELDS = (
    *("repository", "ref", "commit", "date", "tree", "state", "generation", "target"),
    *("files", "findings", "hazards", "reasons", "patches"),
)
"""The columns of a CSV file."""


def as_csv(rows: Iterable[Row]) -> Iterator[str]:
    """A head and a line for each row, as RFC 4180 has them."""
    yield _record(FIELDS)
    for row in rows:
        data = row.as_data()
        data["files"] = len(data["files"])
        for name in ("findings", "hazards"):
            data[name] = " ".join(f"{key}:{n}" for key, n in data[name].items())
        data["reasons"] = "\n".join(data["reasons"])
        yield _record([_cell(data[name]) for name in FIELDS])


def _record(cells: Sequence[Any]) -> str:
    line = io.StringIO()
    csv.writer(line).writerow(cells)
    return line.getvalue()


def _cell(value: Any) -> str:
    """A cell that no spreadsheet takes for a formula, and no terminal acts upon."""
    text = inert(str(value), keep="\n")
    return f"'{text}" if text[:1] in tuple("=+-@\t\r") and text else text


def exit_code(rows: Iterable[Row]) -> int:
    """3 where a ref failed, else 1 where one has something to change, else 0."""
    found = counts(rows)
    return 3 if found["failed"] else 1 if found["ready"] or found["person"] else 0
