"""What is done where a question for a class is answered with yes."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from codemods.classes import Question
from codemods.modules import Function
from codemods.nodes import children, nodes, spelled
from codemods.once import once

_SAME = ("any", "all", "bool")
_LISTS = ("list", "tuple", "set", "filter", "reversed", "sorted", "enumerate")
_IDLE = {
    *("print", "len", "range", "enumerate", "zip", "isinstance", "hasattr", "list"),
    *("getattr", "modules", "named_modules", "children", "reversed", "filter"),
}
_LEAVES = ast.Continue | ast.Return | ast.Raise | ast.Break


@dataclass(frozen=True)
class Answer:
    """What hangs on a question.

    Args:
        whole: the expression that it is part of, a test for example.
        called: the functions and methods that are called where it is true, by their
            last names.
        is_all: whether that is all that hangs on it. Not where its value goes elsewhere.
        function: the function that does nothing but ask it.
    """

    whole: ast.AST
    called: tuple[str, ...] = ()
    is_all: bool = False
    function: str | None = None

    @property
    def known(self) -> tuple[str, ...]:
        """What is called; ``?`` stands for what else may be done."""
        return self.called if self.is_all and self.called else (*self.called, "?")


def answered(tree: ast.AST, question: Question) -> Answer:
    """What hangs on a question that a tree asks."""
    above = _above(tree)
    node: ast.AST = question.node
    negated, beside = question.negated, list[ast.AST]()
    while True:
        parent = above[id(node)]
        if isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.Not):
            negated = not negated
        elif isinstance(parent, ast.BoolOp):
            if isinstance(parent.op, ast.And):
                beside += parent.values[parent.values.index(node) + 1 :]  # type: ignore[arg-type]  # it is one of them
        elif not (_is_same(parent, node) or isinstance(parent, ast.pattern)):
            break
        node = parent
    return replace(_of(tree, node, parent, negated, beside), whole=_shown(node, parent))


def _is_same(parent: ast.AST, node: ast.AST) -> bool:
    """Whether an expression says of many what its part says of one: ``any(... for m in ...)``."""
    if isinstance(parent, ast.GeneratorExp | ast.ListComp):
        return parent.elt is node
    return isinstance(parent, ast.Call) and spelled(parent.func) in _SAME


def _shown(node: ast.AST, parent: ast.AST) -> ast.AST:
    return parent if isinstance(parent, ast.IfExp | ast.Lambda) else node


def _of(
    tree: ast.AST, node: ast.AST, parent: ast.AST, negated: bool, beside: list[ast.AST]
) -> Answer:
    above = _above(tree)
    if isinstance(parent, ast.If | ast.While) and parent.test is node:
        block = _where_true(tree, parent, negated)
        return Answer(node, _calls(block), bool(block))
    if isinstance(parent, ast.match_case):
        return Answer(node, _calls(parent.body), True)
    if isinstance(parent, ast.Expr):
        return Answer(node, _calls(beside), True)
    if isinstance(parent, ast.Assert):
        block = _block(tree, parent)
        return Answer(node, _calls(block[block.index(parent) + 1 :]), True)
    if isinstance(parent, ast.comprehension) and not negated:
        return _chosen(tree, above[id(parent)])
    if isinstance(parent, ast.Lambda) and not negated:
        return _chosen(tree, above[id(parent)])
    if isinstance(parent, ast.Return):
        function = above[id(parent)]
        if isinstance(function, Function) and len(_without_text(function)) == 1:
            return Answer(node, function=function.name)
    return Answer(node)


def _where_true(
    tree: ast.AST, node: ast.If | ast.While, negated: bool
) -> Sequence[ast.stmt]:
    """The statements that follow where a test, or its opposite, is true."""
    if not negated:
        return node.body
    if node.orelse or not isinstance(node.body[-1], _LEAVES):
        return node.orelse
    block = _block(tree, node)
    return block[block.index(node) + 1 :]


def _chosen(tree: ast.AST, chooser: ast.AST) -> Answer:
    """What is done with those that a comprehension or ``filter`` chooses."""
    if not isinstance(chooser, ast.Call):
        made = [n for n in children(chooser) if not isinstance(n, ast.comprehension)]
        called = _calls(made)
        if called:
            is_all = isinstance(_above(tree)[id(chooser)], ast.Expr)
            return Answer(chooser, called, is_all)
    node = chooser
    parent = _above(tree)[id(node)]
    while isinstance(parent, ast.Call) and spelled(parent.func) in _LISTS:
        node, parent = parent, _above(tree)[id(parent)]
    if isinstance(parent, ast.For) and parent.iter is node:
        return Answer(chooser, _calls(parent.body), True)
    if isinstance(parent, ast.Assign) and len(parent.targets) == 1:
        name = spelled(parent.targets[0])
        loops = [
            loop
            for loop in nodes(tree)
            if isinstance(loop, ast.For) and _is_over(loop.iter, name)
        ]
        read = [
            n
            for n in nodes(tree)
            if isinstance(n, ast.Name | ast.Attribute)
            if isinstance(n.ctx, ast.Load) and spelled(n) == name
        ]
        called = tuple(word for loop in loops for word in _calls(loop.body))
        return Answer(chooser, called, len(read) == len(loops) > 0)
    return Answer(chooser)


def _is_over(iterated: ast.expr, name: str) -> bool:
    """Whether a loop goes over what has a name, in whatever order."""
    while isinstance(iterated, ast.Call) and spelled(iterated.func) in _LISTS:
        iterated = iterated.args[0]
    return spelled(iterated) == name


def _calls(trees: Sequence[ast.AST]) -> tuple[str, ...]:
    """What is called in some trees, by last names, without what only looks or logs."""
    return tuple(
        name
        for tree in trees
        for node in nodes(tree)
        if isinstance(node, ast.Call)
        for whole in [spelled(node.func)]
        for name in [whole.rpartition(".")[2]]
        if name not in _IDLE and not whole.startswith(("logger.", "logging."))
    )


def _without_text(function: Function) -> list[ast.stmt]:
    """The statements of a function, without its docstring."""
    return [
        node
        for node in function.body
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
    ]


def _block(tree: ast.AST, statement: ast.stmt) -> list[ast.stmt]:
    """The statements that one is among."""
    return next(_blocks_with(_above(tree)[id(statement)], statement))


def _blocks_with(parent: ast.AST, statement: ast.stmt) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        block = getattr(parent, name, [])
        if isinstance(block, list) and statement in block:
            yield block


@once
def _above(tree: ast.AST) -> dict[int, ast.AST]:
    """The id of each node -> the node that it is right below."""
    return {id(child): node for node in nodes(tree) for child in children(node)}
