"""Which expressions of a function are parameters or gradients, whole or in part, beside loops over them."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from codemods.modules import Function, functions
from codemods.nodes import children, nodes, of_kind, spelled
from codemods.once import once
from codemods.order import text
from codemods.parameters import PLAIN, are_parameters, bound, derived, loops, mentions
from codemods.source import SourceFile
from codemods.trained import Place

_SPEAKING = ("param", "weight", "bias", "clip_grad_norm_", "get_total_norm")
"""What a function has to speak of, to take tensors from the model."""

_WEIGHT = re.compile(r"(^|_)(weight|bias)$")
_NO_TENSOR = {
    "shape",
    "dtype",
    "device",
    "ndim",
    "requires_grad",
    "is_meta",
    "itemsize",
}
_OF_PYTORCH = re.compile(r"^(torch|F|nn|linalg)\.")
_THROUGH = {
    *("sum", "max", "min", "abs", "list", "tuple", "sorted", "reversed"),
    *("parameters_to_vector", "_flatten_dense_tensors"),
}
"""Functions of a bare name that give a tensor for tensors."""

_OF_ALL = re.compile(
    r"(^|\.)parameters_to_vector$|^(torch\.)?nn\.utils\.(clip_grad_norm_|get_total_norm)$"
)
"""What makes one tensor of all parameters or gradients of a model."""

_MADE = {
    *("randn", "rand", "zeros", "ones", "full", "empty", "eye", "normal"),
    *("from_numpy", "arange", "randint", "bernoulli", "load"),
}
_ANNOTATED = re.compile(r"\bTensor$")


@dataclass
class Tensors:
    """The tensors of one function that come from the trained model.

    Args:
        function: the function.
        place: what it calls the model, where it has to do with that.
        sources: the ids of the expressions that it takes them by.
        names: variables and attributes that hold such a tensor.
        plain: those that hold one that the function or its class made itself.
        given: its parameters that are said to be tensors.
    """

    function: Function
    place: Place | None = None
    names: set[str] = field(default_factory=set)
    plain: set[str] = field(default_factory=set)
    given: set[str] = field(default_factory=set)
    sources: set[int] = field(default_factory=set)

    def holds(self, node: ast.AST) -> bool:
        """Whether the value of an expression is such a tensor, or a list of them.

        Not where it is their shape, a number, or a local or full tensor, nor what an
        unknown function makes of them.
        """
        if id(node) in self.sources:
            return True
        if isinstance(node, ast.Name):
            return node.id in self.names
        if isinstance(node, ast.Attribute):
            if node.attr in _NO_TENSOR:
                return False
            return spelled(node) in self.names or self.holds(node.value)
        if isinstance(node, ast.Call):
            return self._is_made_of(node)
        if isinstance(node, ast.Subscript):
            return self.holds(node.value)
        if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp):
            over = {
                n
                for g in node.generators
                if self.holds(g.iter)
                for n in bound(g.target)
            }
            return mentions(node.elt, over)
        if isinstance(node, ast.expr) and not isinstance(node, ast.Lambda | ast.Dict):
            return any(self.holds(child) for child in children(node))
        return False

    def _is_made_of(self, call: ast.Call) -> bool:
        function = call.func
        if isinstance(function, ast.Name):
            return function.id in _THROUGH and any(map(self.holds, call.args))
        if not isinstance(function, ast.Attribute) or function.attr in PLAIN:
            return False
        if self.holds(function.value):
            return True
        return bool(_OF_PYTORCH.search(spelled(function))) and any(
            map(self.holds, call.args)
        )

    def is_plain(self, node: ast.expr) -> bool:
        """Whether it is a tensor that was made here, which is no DTensor."""
        if self.holds(node):
            return False
        return _is_made(node) or spelled(_first(node)) in self.plain


def tensors(file: SourceFile, function: Function, place: Place | None) -> Tensors:
    """The tensors of a function.

    Args:
        file: that the function is in.
        function: the function.
        place: what it calls the trained model; None where it is not known to.
    """
    found = Tensors(function, place)
    found.sources |= set(_sources(found))
    if not found.sources:
        return found
    found.names |= _names(found)
    own = [(n, v) for n, v in _assigned(function) if not n.startswith("self.")]
    everywhere = file.all(_on_self)
    for name in {name for name, _ in (*own, *everywhere)} - found.names:
        values = [v for n, v in (*own, *everywhere) if n == name]
        if all(map(_is_made, values)):
            found.plain.add(name)
    found.given |= {
        arg.arg
        for arg in (*function.args.args, *function.args.kwonlyargs)
        if arg.annotation and _ANNOTATED.search(spelled(arg.annotation))
    }
    return found


def _names(found: Tensors) -> set[str]:
    """The names that are given such a tensor, but those that are given a local or full one too."""
    whole = set[str]()
    while True:
        before = len(found.names)
        for name, value in _assigned(found.function):
            if any(
                isinstance(n, ast.Attribute) and n.attr in PLAIN for n in nodes(value)
            ):
                whole.add(name)
            elif found.holds(value):
                found.names.add(name)
        for node in of_kind(found.function, ast.For):
            if found.holds(node.iter):
                found.names |= bound(node.target)
        if len(found.names) == before:
            break
    found.names -= whole
    return found.names


def _sources(found: Tensors) -> Iterator[int]:
    """The ids of weights by attribute, of what is made of all, and of comprehensions over them."""
    for loop in loops(found.function):
        if not isinstance(loop.node, ast.For | ast.DictComp):
            if mentions(loop.inner[0], derived(loop)):
                yield id(loop.node)
    for node in of_kind(found.function, ast.Call, ast.Attribute):
        if isinstance(node, ast.Call):
            if _OF_ALL.search(spelled(node.func)) and node.args:
                if are_parameters(node.args[0]):
                    yield id(node)
        elif isinstance(node, ast.Attribute) and _WEIGHT.search(node.attr):
            if found.place is not None and found.place.is_in_model(node.value):
                yield id(node)


def taking(file: SourceFile) -> tuple[Function, ...]:
    """The functions of a file that take such tensors, whatever they call the model."""
    return tuple(
        function
        for function in functions(file.syntax)
        if any(word in text(file, function) for word in _SPEAKING)
        if any(_sources(Tensors(function)))
    )


def _on_self(file: SourceFile) -> tuple[tuple[str, ast.expr], ...]:
    """What is given to attributes of self in a file."""
    return tuple(one for one in _assigned(file.syntax) if one[0].startswith("self."))


@once
def _assigned(tree: ast.AST) -> tuple[tuple[str, ast.expr], ...]:
    """Name or attribute -> a value that it is given, in a function or class."""
    return tuple(
        (spelled(target), node.value)
        for node in of_kind(tree, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name | ast.Attribute)
    )


def _is_made(node: ast.expr) -> bool:
    """Whether an expression makes a tensor of more than one element, by itself or with methods after it."""
    call = _first(node)
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Attribute):
        return False
    name, given = call.func.attr, call.args[0] if call.args else None
    if spelled(call.func.value) != "torch":
        return False
    if name in ("tensor", "as_tensor"):
        return isinstance(given, ast.List | ast.Tuple | ast.ListComp)
    several = len(call.args) > 1 and name != "full"
    empty = isinstance(given, ast.List | ast.Tuple) and not given.elts
    one = isinstance(given, ast.Constant) and not several
    return name in ("load", "from_numpy") or (name in _MADE and not one and not empty)


def _first(node: ast.expr) -> ast.expr:
    """What an expression begins with: ``torch.randn(8)`` of ``torch.randn(8).to(device)[0]``."""
    while True:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            if spelled(node.func.value) == "torch":
                return node
            node = node.func.value
        elif isinstance(node, ast.Subscript):
            node = node.value
        else:
            return node
