"""What a plan did when it was executed."""

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["shard", "replicate", "ddp", "call", "set", "log"]


Place = tuple[str, str]
"""A path, and the qualified name of a function in it."""


@dataclass(frozen=True)
class Event:
    """One thing that a plan did.

    Args:
        kind: ``shard``, ``replicate`` and ``ddp`` make a group; ``log`` is said; ``call``
            and ``set`` are of anything else that the checkout does not define.
        name: what is called or set, ``model.norm.set_gradient_divide_factor``.
        modules: of a group, in order.
        arguments: (keyword or position, value) in the words of the plan.
        place: path and line of the statement.
    """

    kind: Kind
    name: str
    modules: tuple[str, ...] = ()
    arguments: tuple[tuple[str, str], ...] = ()
    place: tuple[str, int] = field(default=("", 0), compare=False)

    def __str__(self) -> str:
        given = ", ".join(f"{k}={v}" if k else v for k, v in self.arguments)
        if self.modules:
            return f"{self.kind}([{', '.join(self.modules)}], {given})"
        return f"{self.name}({given})"


@dataclass
class Record:
    """One execution.

    Args:
        events: in order.
        asked: every question that had no answer in the plan, with the one it got.
        returned: the value that came back.
        raised: (kind, message) of what it ended with.
        raised_at: path and line of that.
        unclear: why it was not followed to its end, if it was not.
        entered: (path, qualified name) of every function of the checkout that it went into.
    """

    events: list[Event] = field(default_factory=list)
    asked: dict[str, bool] = field(default_factory=dict)
    returned: str = ""
    raised: tuple[str, str] | None = None
    raised_at: tuple[str, int] | None = None
    unclear: str | None = None
    entered: set[tuple[str, str]] = field(default_factory=set)

    def of(self, *kinds: Kind) -> list[Event]:
        return [event for event in self.events if event.kind in kinds]


@dataclass(frozen=True)
class Mismatch:
    """Something that the migrated code does and should not.

    Args:
        path: of the function.
        function: its qualified name.
        line: where it is, from 1.
        world: the degrees and answers under which it shows.
        what: what differs.
    """

    path: str
    function: str
    line: int
    world: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.function} ({self.world}): {self.what}"


@dataclass
class Verdict:
    """What executing the changed functions has shown.

    Args:
        confirmed: those that do what they should.
        mismatches: what is wrong.
        unclear: those that could not be followed, each with the reason.
        runs: how many executions it took.
    """

    confirmed: list[Place] = field(default_factory=list)
    mismatches: list[Mismatch] = field(default_factory=list)
    unclear: dict[Place, str] = field(default_factory=dict)
    runs: int = 0
