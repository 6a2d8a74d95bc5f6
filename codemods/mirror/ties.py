"""One group for two modules that may share their weight."""

import re
from collections.abc import Sequence
from dataclasses import replace

from codemods import layout
from codemods.mirror.nodes import AnyNode, Block, Plain, Wrap, all_wraps
from codemods.mirror.words import is_pragma
from codemods.mirror.write import emit

_UNKNOWN = "# pyrefly: ignore [missing-attribute]"
_IGNORES = re.compile(r"# pyrefly: ignore ?\[[^]]*missing-attribute")


def in_one_group(
    nodes: list[AnyNode], pair: Sequence[str], model: str
) -> list[AnyNode]:
    """The nodes with a tied pair of modules in one group, where the pair is tied.

    Apart, torch from 2.12 on raises at the first forward and earlier versions
    silently untie them.

    Args:
        nodes: of the whole function.
        pair: the expressions of two modules.
        model: that of the root, whose group has what no other has.
    """
    places = [
        (index, wrap)
        for index, node in enumerate(nodes)
        for wrap in all_wraps([node])
        if set(wrap.modules) & set(pair) and wrap.variable is None
    ]
    if len(places) == 1:
        return _in_the_root(nodes, pair, model, *places[0])
    if len(places) != 2 or places[0][0] == places[1][0]:
        return nodes
    (early, first), (late, last) = places
    if not _holds(nodes[early], first) or not _holds(nodes[late], last):
        return nodes
    one = next(module for module in pair if module in first.modules)
    other = next(module for module in pair if module in last.modules)
    flag = _flag(nodes, one, other, nodes[early].blank)
    return [
        *nodes[:early],
        flag,
        _unless_tied(nodes[early]),
        *nodes[early + 1 : late],
        *_joined_by(nodes[late], first, last),
        *nodes[late + 1 :],
    ]


def _holds(node: AnyNode, wrap: Wrap) -> bool:
    """Whether ``node`` is the wrap or an ``if`` that holds it directly."""
    if node is wrap:
        return True
    return isinstance(node, Block) and node.keyword == "if" and wrap in node.body


def _in_the_root(
    nodes: list[AnyNode], pair: Sequence[str], model: str, index: int, wrap: Wrap
) -> list[AnyNode]:
    """The nodes where only one of a pair has a group, and the root's has the other."""
    root = any(
        w.modules == [model] for node in nodes[index + 1 :] for w in all_wraps([node])
    )
    if set(pair) <= set(wrap.modules) or not root or not _holds(nodes[index], wrap):
        return nodes
    one = next(module for module in pair if module in wrap.modules)
    other = next(module for module in pair if module != one)
    flag = _flag(nodes, one, other, nodes[index].blank)
    return [*nodes[:index], flag, _unless_tied(nodes[index]), *nodes[index + 1 :]]


def _flag(nodes: list[AnyNode], one: str, other: str, blank: bool) -> Plain:
    """The statement that finds out whether a pair is tied in this model.

    What is asked of a module is an attribute that pyrefly does not know. Where lines
    beside it say so, this one does.
    """
    guarded = "\n".join(emit(nodes, 0))
    terms = [f"{m} is not None" for m in (one, other)]
    if terms[0] not in guarded and terms[1] not in guarded:
        terms = []  # no model is in stages here
    tied = f"{other}.weight is {one}.weight"
    ignored = [_UNKNOWN] if _IGNORES.search(guarded) else []
    comments = ["# Tied weights are one parameter, so their modules form one group"]
    text = layout.joined([*terms, tied])
    if terms and ignored:
        above = layout.indented("\nand ".join(terms), 1)
        text = f"(\n{above}\n    {_UNKNOWN}\n    and {tied}\n)"
    else:
        comments += ignored
    return Plain(comments, blank, f"weights_tied = {text}", target="weights_tied")


def _unless_tied(node: AnyNode) -> Block:
    """The first of the two wraps, with what guards it, for models that are not tied."""
    if isinstance(node, Block) and node.keyword == "if" and not node.orelse:
        node.terms = [*node.terms, "not weights_tied"]
        node.blank = False
        return node
    said, node.comments = _parted(node.comments)
    node.blank = False
    return Block(said, False, "if", ["not weights_tied"], [node])


def _parted(comments: list[str]) -> tuple[list[str], list[str]]:
    """What is said to people, and what to a checker, which reads it above the call."""
    to_checkers = [comment for comment in comments if is_pragma(comment)]
    return [c for c in comments if c not in to_checkers], to_checkers


def _joined_by(holder: AnyNode, first: Wrap, last: Wrap) -> list[AnyNode]:
    """The last of the two wraps, with what holds it, joined by the modules of the first."""
    modules = ", ".join(last.modules)
    both = f"{', '.join(first.modules)}, *modules"
    joining = Plain([], False, f"modules = [{both}]", "modules")
    said, to_checkers = _parted(last.comments)
    group: list[AnyNode] = [
        Plain(said, last.blank, f"modules = [{modules}]", "modules"),
        Block([], False, "if", ["weights_tied"], [joining]),
        replace(last, variable="modules", blank=False, comments=to_checkers),
    ]
    if isinstance(holder, Block):
        at = holder.body.index(last)
        holder.body[at : at + 1] = group
        return [holder]
    return group
