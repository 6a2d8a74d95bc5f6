"""What an expression can be worth while a checkout's code is evaluated."""

import ast
import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

from codemods.names import Definition


class CannotFollow(Exception):
    """The code does something that is not evaluated; says what."""


class Raised(Exception):
    """The evaluated code raised an exception of its own.

    Args:
        kind: the name of its class.
        message: what it says, as far as that is known.
        path: the file that raises, "" where it is no statement that does.
        line: of the statement, from 1.
    """

    def __init__(self, kind: str, message: str, path: str = "", line: int = 0) -> None:
        self.kind, self.message = kind, message
        self.path, self.line = path, line
        super().__init__(f"{kind}: {message}")


@dataclass(frozen=True)
class Unknown:
    """A value that is not known: what is done with it gives another.

    To branch on it, or to walk over it, cannot be followed, unless who evaluates has an
    answer. Two of the same text are the same value.

    Args:
        text: how it came about, in the words of the code: ``model.output.weight``.
        owner: what it is an attribute of.
        name: as which attribute.
    """

    text: str = "?"
    owner: "Unknown | None" = field(default=None, compare=False, repr=False)
    name: str = ""

    def __repr__(self) -> str:
        return self.text


UNKNOWN = Unknown()


@dataclass(frozen=True)
class External:
    """A thing from outside the checkout, by its dotted name."""

    name: str


@dataclass(frozen=True)
class Class:
    """A class of the checkout."""

    definition: Definition
    node: ast.ClassDef


class Member(str):
    """A member of an enumeration of strings: its value, which knows that it is one."""


@dataclass(frozen=True)
class Frame:
    """Where code stands: its file, its variables, and the frame around it."""

    path: str
    scope: str
    variables: dict[str, object] = field(default_factory=dict)
    outer: "Frame | None" = None


@dataclass(frozen=True)
class Function:
    """A function of the checkout, or a lambda, with the frame it was made in."""

    node: ast.FunctionDef | ast.Lambda
    frame: Frame
    bound: tuple[object, ...] = ()


@dataclass(eq=False)
class Instance:
    """An object of a class of the checkout, or one that only has attributes."""

    attributes: dict[str, object] = field(default_factory=dict)
    of: Class | None = None


@dataclass
class Mesh:
    """A device mesh: its dimensions, by name and size.

    Args:
        names: of the dimensions.
        sizes: in ranks, in the same order.
        root: the mesh it was sliced from.
        flattened: names made by ``_flatten`` on this mesh or a slice of it.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    root: "Mesh | None" = field(default=None, compare=False)
    flattened: dict[str, "Mesh"] = field(default_factory=dict, compare=False)

    def __repr__(self) -> str:
        sizes = (f"{name}={size}" for name, size in zip(self.names, self.sizes))
        return f"Mesh({', '.join(sizes)})"

    def sliced(self, names: tuple[str, ...]) -> "Mesh":
        """The dimensions of these names, as ``mesh["dp", "tp"]``.

        Raises:
            Raised: KeyError where there is no such dimension, as torch does.
        """
        root = self.root or self
        if len(names) == 1 and names[0] not in self.names:
            if names[0] in root.flattened:
                return root.flattened[names[0]]
        sizes = dict(zip(self.names, self.sizes))
        for name, flat in root.flattened.items():
            sizes.setdefault(name, flat.sizes[0])
        if not set(names) <= set(sizes):
            raise Raised("KeyError", f"{names} of a mesh with {self.names}")
        return Mesh(names, tuple(sizes[name] for name in names), root)

    def flatten(self, name: str) -> "Mesh":
        """All dimensions as one, which the root knows by its name from now on."""
        root = self.root or self
        root.flattened[name] = Mesh((name,), (math.prod(self.sizes),), root)
        return root.flattened[name]

    def unflatten(
        self, at: int, sizes: tuple[int, ...], names: tuple[str, ...]
    ) -> "Mesh":
        """One dimension as several."""
        if math.prod(sizes) != self.sizes[at]:
            raise Raised("ValueError", f"{sizes} do not make up {self.sizes[at]} ranks")
        return Mesh(
            (*self.names[:at], *names, *self.names[at + 1 :]),
            (*self.sizes[:at], *sizes, *self.sizes[at + 1 :]),
        )


_LONGEST_TEXT = 400
_MOST_PARTS = 5_000


def derived(*parts: object) -> Unknown:
    """What comes of values that are not known, named after how it came about.

    Args:
        parts: strings as they are, ``Unknown`` and everything else by what it shows.
    """
    text = "".join(part if type(part) is str else show(part) for part in parts)
    if len(text) > _LONGEST_TEXT:
        digest = hashlib.sha1(text.encode()).hexdigest()
        text = f"{text[:_LONGEST_TEXT]}...{digest}"
    return Unknown(text)


def show(value: object) -> str:
    """The text of a value: equal for values that the same code gives.

    Raises:
        CannotFollow: it is too large.
    """
    return _shown(value, itertools.count())


def _shown(value: object, parts: Iterator[int]) -> str:
    if next(parts) > _MOST_PARTS:
        raise CannotFollow("a value is too large to be shown")
    if isinstance(value, External):
        return value.name
    if isinstance(value, dict):
        items = (f"{_shown(k, parts)}: {_shown(v, parts)}" for k, v in value.items())
        return "{" + ", ".join(items) + "}"
    if isinstance(value, (list, tuple)):
        start, end = "[]" if isinstance(value, list) else "()"
        return start + ", ".join(_shown(item, parts) for item in value) + end
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(sorted(_shown(item, parts) for item in value)) + "}"
    if isinstance(value, Function):
        node = value.node
        return node.name if isinstance(node, ast.FunctionDef) else ast.unparse(node)
    if isinstance(value, Class):
        return value.definition.name
    if isinstance(value, Instance):
        return f"<{value.of.definition.name if value.of else 'object'}>"
    return repr(value)


def holds_unknown(value: object) -> bool:
    """Whether a value is not known, or is a list or the like of which a part is not."""
    if isinstance(value, dict):
        return any(isinstance(key, (Unknown, External)) for key in value)
    if isinstance(value, (list, tuple, set, frozenset)):
        return any(isinstance(item, (Unknown, External)) for item in value)
    return isinstance(value, (Unknown, External))


def refuse(what: str, node: ast.AST) -> NoReturn:
    line = getattr(node, "lineno", 0)
    raise CannotFollow(f"line {line}: {what}")


Arguments = tuple[list[object], Mapping[str, object]]
"""Positional and keyword arguments of a call."""
