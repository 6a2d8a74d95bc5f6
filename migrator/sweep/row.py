"""What a sweep says of a ref: one row of the table."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

State = Literal["done", "ready", "person", "other", "failed"]
"""What becomes of a ref.

``done``: nothing has to change, any more or at all. ``ready``: it can be migrated now.
``person``: a person has to see to something first. ``other``: no torchtitan is in it.
``failed``: it could not be read, or not be planned.
"""

MANY: Mapping[State, str] = {"person": "need a person"}
"""What several refs are said to do where one does otherwise."""

WORDS: Mapping[State, str] = {
    "done": "done",
    "ready": "can be migrated now",
    "person": "needs a person",
    "other": "no torchtitan",
    "failed": "failed",
}
"""What a state is called where people read it."""


@dataclass(frozen=True)
class Planned:
    """What is true of a tree, whichever refs have it.

    Args:
        state: what becomes of it.
        generation: the row of torchtitan's history that it looks like, "" where that is not known.
        target: the mesh of the API that is written for, "" where none could be chosen.
        files: the paths that a migration changes.
        findings: code of a rule -> how many places it found.
        hazards: severity -> how many hazards there are of it.
        reasons: why a person has to see to it, or why it failed, or what makes it done.
        codes: the rule of each reason, "" where it is of none.
        exit_code: what ``diff`` would exit with.
    """

    state: State
    generation: str = ""
    target: str = ""
    files: tuple[str, ...] = ()
    findings: Mapping[str, int] = field(default_factory=dict)
    hazards: Mapping[str, int] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    exit_code: int = 0

    def as_data(self) -> dict[str, Any]:
        """The same for programs."""
        return asdict(self)

    @staticmethod
    def of_data(data: Mapping[str, Any]) -> "Planned":
        """What ``as_data`` gave.

        Raises:
            TypeError, KeyError: it is something else.
        """
        known = dict(data)
        for name in ("files", "reasons", "codes"):
            known[name] = tuple(_texts(known[name]))
        for name in ("findings", "hazards"):
            if not isinstance(known[name], dict):
                raise TypeError(f"{name} is no count of anything")
            _texts(list(known[name]))
            if not all(isinstance(count, int) for count in known[name].values()):
                raise TypeError(f"{name} has what is no number")
        _texts([known["generation"], known["target"]])
        if not isinstance(known["exit_code"], int):
            raise TypeError("the exit code is no number")
        if known["state"] not in WORDS:
            raise TypeError(f"{known['state']!r} is no state")
        return Planned(**known)


def _texts(values: Any) -> list[str]:
    """The same; raises TypeError where it is no list of texts."""
    if not isinstance(values, list | tuple):
        raise TypeError("a list is none")
    if not all(isinstance(one, str) for one in values):
        raise TypeError("a list has what is no text")
    return list(values)


@dataclass(frozen=True)
class Row:
    """One ref.

    Args:
        repository: as it was named.
        ref: its full name.
        commit: what it leads to, "" where that could not be read.
        date: when that was committed, in seconds since 1970.
        tree: the tree of that.
        planned: what is true of that tree.
        patches: the folder in which its patches are, or why none are there; "" where none
            were asked for.
    """

    repository: str
    ref: str
    commit: str
    date: int
    tree: str
    planned: Planned
    patches: str = ""

    def as_data(self) -> dict[str, Any]:
        """The same for programs, with all of it on one level."""
        data = asdict(self)
        planned = data.pop("planned")
        return {**data, **planned}

    @staticmethod
    def of_data(data: Mapping[str, Any]) -> "Row":
        """What ``as_data`` gave.

        Raises:
            TypeError, KeyError: it is something else.
        """
        texts = ("repository", "ref", "commit", "tree", "patches")
        own = {key: data[key] for key in (*texts, "date")}
        _texts([own[key] for key in texts])
        if not isinstance(own["date"], int):
            raise TypeError("the date is no number")
        planned = {key: value for key, value in data.items() if key not in own}
        return Row(planned=Planned.of_data(planned), **own)


def failed(reason: str, exit_code: int = 3) -> Planned:
    """What is said of a ref that could not be read or planned."""
    return Planned("failed", reasons=(reason,), codes=("",), exit_code=exit_code)
