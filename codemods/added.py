"""What puts new modules or parameters into a model, in some statements of a function."""

import ast
import re
from collections.abc import Iterable, Iterator

from codemods.bindings import Checkout
from codemods.modules import Function
from codemods.nodes import of_kind, spelled
from codemods.source import SourceFile
from codemods.wrapping import defined, lineage

_MAKES = re.compile(
    r"\bnn\.(?!init\b|functional\b|utils\b|Module\b|\w*Loss\b|Identity\b|Dropout|\w*ELU\b|SiLU\b|Softmax|Sigmoid|Tanh|Flatten)[A-Z]\w*(\.from_\w+)?\(|\bParameter\("
)
_PUTS = re.compile(r"\b(setattr|add_module|register_module|register_parameter)\(")
_METHODS = ("add_module", "register_module", "register_parameter")


def additions(
    checkout: Checkout,
    file: SourceFile,
    statements: Iterable[ast.stmt],
    models: set[str],
) -> Iterator[ast.stmt]:
    """The statements that put something new with parameters into a model.

    Args:
        checkout: all files.
        file: in which they are.
        statements: in the order they run in.
        models: what the model is called, as it is written; a list of it, and an element
            or a part of it by another name, are followed.
    """
    within = _Within(set(models))
    for statement in statements:
        if _adds(checkout, file, statement, within):
            yield statement
        within.follow(statement)


class _Within:
    """What stands for the model, or for a part of it."""

    def __init__(self, names: set[str]) -> None:
        self._names = names

    def has(self, node: ast.expr, *, itself: bool = False) -> bool:
        """Whether an expression is a part of the model, or the model too."""
        code = spelled(node)
        return any(
            code.startswith((f"{name}.", f"{name}[")) or (itself and code == name)
            for name in self._names
        )

    def follow(self, statement: ast.stmt) -> None:
        """Take in what a statement calls the model, or parts of it."""
        if isinstance(statement, ast.Assign):
            held = statement.value
            if isinstance(held, ast.List | ast.Tuple) and len(held.elts) == 1:
                held = held.elts[0]
            if isinstance(held, ast.Name | ast.Attribute | ast.Subscript):
                if self.has(held, itself=True):
                    self._names |= {spelled(target) for target in statement.targets}
                    return
            if not isinstance(statement.value, ast.Call) or not any(
                self.has(given, itself=True) for given in statement.value.args
            ):
                self._names -= {spelled(target) for target in statement.targets}
        elif isinstance(statement, ast.For) and self.has(statement.iter, itself=True):
            self._names |= {n.id for n in of_kind(statement.target, ast.Name)}


def _adds(
    checkout: Checkout, file: SourceFile, statement: ast.stmt, within: _Within
) -> bool:
    if isinstance(statement, ast.Assign):
        parts = [
            t for t in statement.targets if isinstance(t, ast.Attribute | ast.Subscript)
        ]
        if any(map(within.has, parts)) and _makes(checkout, file, statement.value):
            return True
    if not isinstance(statement, ast.Expr | ast.Assign):
        return False
    call = statement.value
    if not isinstance(call, ast.Call):
        return False
    given = [*call.args, *(word.value for word in call.keywords)]
    if isinstance(call.func, ast.Attribute) and call.func.attr in _METHODS:
        on = call.func.value
        return within.has(on, itself=True) and _makes(checkout, file, call)
    if spelled(call.func) == "setattr" and given:
        return within.has(given[0], itself=True) and _makes(checkout, file, call)
    if not any(within.has(value, itself=True) for value in given):
        return False
    home, function = defined(checkout, file, call.func)
    return isinstance(function, Function) and _injects(checkout, home, function)


def _injects(checkout: Checkout, file: SourceFile, function: Function) -> bool:
    """Whether a function puts new modules or parameters into what it is given."""
    if not _makes(checkout, file, function):
        return False
    return bool(_PUTS.search(spelled(function))) or any(
        _makes(checkout, file, node.value)
        and any(isinstance(t, ast.Attribute | ast.Subscript) for t in node.targets)
        for node in of_kind(function, ast.Assign)
    )


def _makes(checkout: Checkout, file: SourceFile, node: ast.AST) -> bool:
    """Whether a module or a parameter is made in some code: torch's, or of a class of the checkout."""
    if _MAKES.search(spelled(node)):
        return True
    return any(
        isinstance(made, ast.ClassDef)
        and any(
            re.search(r"\bnn\.[A-Z]|\bModule\b", spelled(base))
            for _, above in lineage(checkout, (home, made))
            for base in above.bases
        )
        for call in of_kind(node, ast.Call)
        for home, made in [defined(checkout, file, call.func)]
    )
