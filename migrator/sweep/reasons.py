"""Why refs need a person, or failed: alike reasons together, the most common first."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from migrator.sweep.row import Row, State

_PLACE = re.compile(r"^(?P<path>[^:\n]+?):(?P<line>\d+): (?P<rest>.*)$", re.DOTALL)
_PATH = re.compile(r"^(?P<path>[^\s:]+\.\w+): (?P<rest>.*)$", re.DOTALL)
_NAME = re.compile(r"`[^`]*`|'[^']*'|\"[^\"]*\"|\S*\w[._/=(]+\w\S*|\S*\d\S*")
"""What a message names: code, paths, versions, ids."""


@dataclass(frozen=True)
class Group:
    """One reason, and the refs that have it.

    Args:
        state: what it makes of a ref.
        code: of the rule, "" where it is of none.
        what: the reason without what is another in each ref.
        refs: how many have it.
        example: the first of these.
        said: the reason as it is there.
    """

    state: State
    code: str
    what: str
    refs: int
    example: Row
    said: str


def place_of(reason: str) -> tuple[str, int, str]:
    """The path and the line that a reason begins with, and the rest of it; "" and 0 where it has none."""
    if found := _PLACE.match(reason):
        return found["path"], int(found["line"]), found["rest"]
    if found := _PATH.match(reason):
        return found["path"], 0, found["rest"]
    return "", 0, reason


def groups(rows: Iterable[Row]) -> list[Group]:
    """The reasons of all rows that are to be seen to, the most common first."""
    found: dict[tuple[State, str, str], tuple[int, Row, str]] = {}
    for row in rows:
        planned = row.planned
        if planned.state not in ("person", "failed"):
            continue
        seen = set()
        for code, reason in zip(planned.codes, planned.reasons):
            key = planned.state, code, general(reason)
            if key in seen:
                continue
            seen.add(key)
            count, example, said = found.get(key, (0, row, reason))
            found[key] = count + 1, example, said
    listed = [
        Group(state, code, what, count, example, said)
        for (state, code, what), (count, example, said) in found.items()
    ]
    return sorted(listed, key=lambda group: (-group.refs, group.code, group.what))


def general(reason: str) -> str:
    """A reason without its place and without what it names."""
    return _NAME.sub("…", place_of(reason)[2])
