"""A plan as a list of nodes, between being read and being written."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Node:
    """What all nodes have: the comments above, and whether a blank line is."""

    comments: list[str]
    blank: bool


@dataclass
class Wrap(Node):
    """A call of ``fully_shard``, of ``replicate`` from now on.

    Args:
        modules: the expressions of the modules that form one group.
        is_list: they are written as a list.
        arguments: what else is passed, as it will be written.
        variable: what holds the modules, where they are put together before.
    """

    modules: list[str]
    is_list: bool
    arguments: list[str]
    variable: str | None = None


@dataclass
class Plain(Node):
    """A statement that is taken over as it is.

    Args:
        text: of the statement.
        target: the local variable that it sets or fills.
        effect: it stays whether something reads the target or not.
        undivides: it switches off the division of gradients.
    """

    text: str
    target: str | None = None
    effect: bool = False
    undivides: bool = False


@dataclass
class Dict(Node):
    """A dict that is assigned to a local variable, item by item."""

    head: str
    target: str
    items: list[str]
    tail: str


@dataclass
class Block(Node):
    """A statement that holds others.

    Args:
        keyword: ``if``, or the whole head of a loop or a ``with``.
        terms: what an ``if`` asks, joined by ``and``.
        body: what it holds.
        orelse: what its ``else`` holds; one further ``if`` is an ``elif``.
    """

    keyword: str
    terms: list[str]
    body: list["AnyNode"] = field(default_factory=list)
    orelse: list["AnyNode"] = field(default_factory=list)


AnyNode = Wrap | Plain | Dict | Block


def walk(nodes: Iterable[AnyNode]) -> Iterable[AnyNode]:
    """Every node and those inside it, in the order of the text."""
    for node in nodes:
        yield node
        if isinstance(node, Block):
            yield from walk(node.body)
            yield from walk(node.orelse)


def all_wraps(nodes: Iterable[AnyNode]) -> Iterable[Wrap]:
    return (node for node in walk(nodes) if isinstance(node, Wrap))
