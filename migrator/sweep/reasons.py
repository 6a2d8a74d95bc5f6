"""Why refs need a person, or failed: alike reasons together, the most common first."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from migrator.sweep.row import Row, State

_PLACE = re.compile(r"^(?P<path>[^:\n]+?):(?P<line>\d+): (?P<rest>.*)$", re.DOTALL)
_PATH = re.compile(r"^(?P<path>[^\s:]+\.\w+): (?P<rest>.*)$", re.DOTALL)
_ONE = r"""(?:`[^`]*`|'[^']*'|"[^"]*"|\S*\w[._/=(]+\w\S*|\S*\d\S*)"""
_NAMES = re.compile(rf"{_ONE}(?: {_ONE})*")
"""What a message names, one after another: code, paths, versions, ids."""


@dataclass(frozen=True)
class Group:
    """One reason, and the refs that have it.

    Args:
        state: what it makes of a ref.
        code: of the rule, "" where it is of none.
        what: the reason; what is not the same in each ref is ``…``.
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

    @property
    def shown(self) -> str:
        """What ``what`` does not say of the example: the place, or all of it where others differ."""
        if "…" in self.what:
            return self.said
        path, line, _ = place_of(self.said)
        return f"{path}:{line}" if line else path


def place_of(reason: str) -> tuple[str, int, str]:
    """The path and the line that a reason begins with, and the rest of it; "" and 0 where it has none."""
    if found := _PLACE.match(reason):
        return found["path"], int(found["line"]), found["rest"]
    if found := _PATH.match(reason):
        return found["path"], 0, found["rest"]
    return "", 0, reason


def groups(rows: Iterable[Row]) -> list[Group]:
    """The reasons of all rows that are to be seen to, the most common first."""
    found: dict[tuple[State, str, tuple[str, ...]], _Alike] = {}
    for row in rows:
        planned = row.planned
        if planned.state not in ("person", "failed"):
            continue
        seen = set()
        for code, reason in zip(planned.codes, planned.reasons):
            told = place_of(reason)[2]
            key = planned.state, code, tuple(_NAMES.split(told))
            names = _NAMES.findall(told)
            alike = found.setdefault(key, _Alike(row, reason, names))
            alike.names = [a if a == b else "…" for a, b in zip(alike.names, names)]
            if key not in seen:
                alike.refs += 1
            seen.add(key)
    listed = [
        Group(state, code, alike.what, alike.refs, alike.example, alike.said)
        for (state, code, _), alike in found.items()
    ]
    return sorted(listed, key=lambda group: (-group.refs, group.code, group.what))


@dataclass
class _Alike:
    """A reason with the names that are the same wherever it is given; the fields are those of ``Group``."""

    example: Row
    said: str
    names: list[str]
    refs: int = 0

    @property
    def what(self) -> str:
        names = iter(self.names)
        return _NAMES.sub(lambda _: next(names), place_of(self.said)[2])
