"""Take out what nothing depends on any more."""

from dataclasses import replace

from codemods.mirror.names import names_in, negated
from codemods.mirror.nodes import AnyNode, Block, Dict, Plain, Wrap, walk


def live(nodes: list[AnyNode]) -> list[AnyNode]:
    """What wrapping, and everything with an effect, depends on."""
    used: set[str] = set()
    while True:
        before = set(used)
        for node in walk(nodes):
            used |= _needs(node, used)
        if used == before:
            return _kept(nodes, used)


def _needs(node: AnyNode, used: set[str]) -> set[str]:
    """The names that a node needs, itself and not what it holds, if it is needed."""
    texts: list[str] = []
    if isinstance(node, Wrap):
        texts = [f"f({text})" for text in (*node.modules, *node.arguments)]
    elif isinstance(node, Plain) and (node.effect or node.target in used):
        texts = [node.text]
    elif isinstance(node, Dict) and node.target in used:
        texts = [f"{node.head}{', '.join(node.items)}{node.tail}"]
    elif isinstance(node, Block) and _kept([node], used):
        head = [] if node.keyword == "if" else [f"{node.keyword}: pass"]
        texts = [*node.terms, *head]
    return {name for text in texts for name in names_in(text)}


def _kept(nodes: list[AnyNode], used: set[str]) -> list[AnyNode]:
    kept: list[AnyNode] = []
    for node in nodes:
        if isinstance(node, Block):
            body, orelse = _kept(node.body, used), _kept(node.orelse, used)
            if body or orelse:
                fresh = replace(node, body=body, orelse=orelse)
                kept.append(fresh if body else _turned(fresh))
        elif (
            isinstance(node, Wrap)
            or (isinstance(node, Plain) and node.effect)
            or node.target in used
        ):
            kept.append(node)
    return kept


def _turned(node: Block) -> Block:
    """An ``if`` with nothing but an ``else``, asking the opposite instead."""
    if node.keyword != "if":
        return node
    terms, body = [negated(node.terms)], node.orelse
    only = body[0]
    if len(body) == 1 and isinstance(only, Block) and only.keyword == "if":
        if not only.orelse and not only.comments:
            terms, body = [*terms, *only.terms], only.body
    return replace(node, terms=terms, body=body, orelse=[])
