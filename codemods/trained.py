"""Which expressions stand for the model that is trained, in the code around it."""

import ast
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

from codemods.bindings import Checkout
from codemods.modules import Function, is_model, methods
from codemods.names import Definition
from codemods.nodes import nodes, of_kind, spelled
from codemods.once import once
from codemods.order import Order, text
from codemods.source import SourceFile

_PARTS = re.compile(r"(^|\.)model_parts$")
_BEGIN = ("model_parts", "parallelize_", "apply_ddp", "parallel_dims")
_SPEAKING = ("model_parts", "parallelize", "apply_", "parallel_dims")
"""What a function has to speak of, for the model to have a name in it that it is not given."""

_WRAPS = re.compile(
    r"(^|[._])(parallelize(_(?!module$)\w+)?|apply_ddp|apply_replicate)$"
)
_UNWRAPS = re.compile(r"(^|[._])(unwrap\w*|bare\w*|getattr|cast|strip\w*)$")
_INNER = ("module", "_orig_mod")
_SAME = ("list", "tuple", "reversed", "enumerate", "zip", "iter")


@dataclass
class Place:
    """A function or method that has to do with the trained model.

    Args:
        file: that it is in.
        function: it.
        owner: the class that it is a method of.
        models: expression -> the line from which on it stands for the model or a part.
        lists: the same of expressions for a list of its parts.
    """

    file: SourceFile
    function: Function
    owner: ast.ClassDef | None = None
    models: dict[str, int] = field(default_factory=dict)
    lists: dict[str, int] = field(default_factory=dict)

    def is_model(self, node: ast.expr) -> bool:
        """Whether an expression stands for the model, or for it without a wrapper."""
        if isinstance(node, ast.Attribute) and node.attr in _INNER:
            return self.is_model(node.value)
        if isinstance(node, ast.Call):
            unwraps = _UNWRAPS.search(spelled(node.func))
            return bool(unwraps) and any(map(self.is_model, node.args))
        if isinstance(node, ast.Subscript):
            return self.are_parts(node.value)
        return node.lineno > self.models.get(spelled(node), node.lineno)

    def is_in_model(self, node: ast.expr) -> bool:
        """Whether it stands for the model or for something in it: ``model.output.weight``."""
        while not self.is_model(node):
            if isinstance(node, ast.Attribute | ast.Subscript):
                node = node.value
            else:
                return False
        return True

    def are_parts(self, node: ast.expr) -> bool:
        """Whether it stands for a list of the parts."""
        if isinstance(node, ast.Call):
            return spelled(node.func) in _SAME and any(map(self.are_parts, node.args))
        shown = spelled(node)
        begins = self.lists.get(shown, 0 if _PARTS.search(shown) else node.lineno)
        return node.lineno > begins and node.lineno > self.wrapped

    @cached_property
    def wrapped(self) -> int:
        """The line of the last call that wraps parts here, 0 without one."""
        lines = [call.lineno for call in _calls(self.function) if _wraps(call)]
        return max(lines, default=0)


@dataclass(frozen=True)
class Given:
    """The names under which a place is given the model, and lists of its parts."""

    models: set[str]
    lists: set[str] = field(default_factory=set)


def trained(checkout: Checkout, order: Order) -> list[Place]:
    """Every function that names the trained model, by whatever name it goes there.

    It begins with ``model_parts``, and with what a plan gives back, and is followed
    through variables, attributes of classes, and arguments.

    Args:
        checkout: all files.
        order: of those that train; finds what a call may lead to.
    """
    begin = {file.path for file in checkout.mentioning(*_BEGIN)}
    found = _Finder(checkout, order)
    for path in sorted(begin & order.paths):
        for place in _places(checkout.files[path], _beginning):
            found.read(place)
    found.follow()
    return list(found.places.values())


class _Finder:
    """Follows the model from place to place."""

    def __init__(self, checkout: Checkout, order: Order) -> None:
        self.checkout, self.order = checkout, order
        self.places: dict[int, Place] = {}
        self._attributes: dict[str, set[str]] = {}
        self._waiting: list[Place] = []

    def read(self, place: Place, given: Given | None = None) -> None:
        """Find the names in a place, which is given the model under some."""
        known = self.places.get(id(place.function), place)
        before = len(known.models) + len(known.lists)
        if given is not None:
            known.models.update(dict.fromkeys(given.models, 0))
            known.lists.update(dict.fromkeys(given.lists, 0))
        _read(known)
        grows = len(known.models) + len(known.lists) > before
        if grows or (known is place and _speaks_of_parts(place)):
            self.places[id(place.function)] = known
            self._waiting.append(known)

    def follow(self) -> None:
        while self._waiting:
            place = self._waiting.pop()
            self._share(place)
            for call in _calls(place.function):
                for at in self._called(place, call):
                    given = _given(place, call, at.function)
                    if given.models or given.lists:
                        self.read(at, given)

    def _share(self, place: Place) -> None:
        """What one method puts on self, the others have, and those of subclasses."""
        if place.owner is None:
            return
        own = {name for name in place.models if name.startswith("self.")}
        known = self._attributes.setdefault(place.owner.name, set())
        if own <= known:
            return
        known |= own
        for file in self.checkout.mentioning(place.owner.name):
            if file.path in self.order.paths:
                for other in _places(file, _Of(place.owner.name)):
                    if other.function is not place.function and self._is_a(
                        other, place
                    ):
                        self.read(other, Given(own))

    def _is_a(self, other: Place, place: Place) -> bool:
        """Whether a place is of the same class as another, or of one with it as a base."""
        assert place.owner is not None
        if other.owner is None or other.owner is place.owner:
            return other.owner is not None
        home = Definition(place.file.path, place.owner.name)
        return any(
            spelled(base).endswith(home.name)
            and self.checkout.resolve(other.file.path, "", spelled(base)) == home
            for base in other.owner.bases
        )

    def _called(self, place: Place, call: ast.Call) -> Iterator[Place]:
        if not any(place.is_model(a) or place.are_parts(a) for a in _arguments(call)):
            return
        for file, function in self.order.called(place.file, call):
            named = _places(file, _Named(function.name))
            yield from (p for p in named if p.function is function)
        at = self.checkout.resolve(place.file.path, "", spelled(call.func))
        if at is not None and at.path in self.order.paths:
            for other in _places(self.checkout.files[at.path], _Named("__init__")):
                if other.owner is not None and other.owner.name == at.name:
                    yield other


_Member = tuple[Function, ast.ClassDef | None]
"""A function, and the class that it is a method of."""


def _places(
    file: SourceFile, of: Callable[[SourceFile], tuple[_Member, ...]]
) -> Iterator[Place]:
    """Some of the functions of a file, each as a place of its own."""
    return (Place(file, function, owner) for function, owner in file.all(of))


def _beginning(file: SourceFile) -> tuple[_Member, ...]:
    """The functions that name the model, or its parts, by themselves."""
    return tuple(
        (function, owner)
        for function, owner in _functions(file)
        if any(word in text(file, function) for word in _SPEAKING)
        if _begins(Place(file, function, owner))
    )


def _begins(place: Place) -> bool:
    _read(place)
    return bool(place.models or place.lists) or _speaks_of_parts(place)


@dataclass(frozen=True)
class _Named:
    """Finds the functions of one name."""

    name: str

    def __call__(self, file: SourceFile) -> tuple[_Member, ...]:
        return tuple(one for one in _functions(file) if one[0].name == self.name)


@dataclass(frozen=True)
class _Of:
    """Finds the methods of classes of one name, or with one of that name as a base."""

    name: str

    def __call__(self, file: SourceFile) -> tuple[_Member, ...]:
        return tuple(
            (function, owner)
            for function, owner in _functions(file)
            if owner is not None
            and (
                owner.name == self.name
                or any(spelled(base).endswith(self.name) for base in owner.bases)
            )
        )


@once
def _functions(file: SourceFile) -> tuple[_Member, ...]:
    """Every function of a module, and every method of its classes that are no models."""
    found: list[tuple[Function, ast.ClassDef | None]] = []
    for node in file.syntax.body:
        if isinstance(node, Function):
            found.append((node, None))
        elif isinstance(node, ast.ClassDef) and "forward" not in methods(node):
            found += [(method, node) for method in methods(node).values()]
    return tuple(found)


def _read(place: Place) -> None:
    """Find the names that stand for the model, until there are no more."""
    while True:
        before = len(place.models) + len(place.lists)
        for node in _binding(place.function):
            if isinstance(node, ast.Assign):
                _assigned(place, node.targets[0], node.value)
            elif isinstance(node, ast.Expr):
                _wrapped_in_place(place, node.value)
            else:
                _iterated(place, node.target, node.iter)
        if len(place.models) + len(place.lists) == before:
            return


@once
def _binding(
    function: Function,
) -> tuple[ast.Assign | ast.Expr | ast.For | ast.comprehension, ...]:
    """What may give the model a name, or wraps it."""
    return tuple(
        node
        for node in of_kind(function, ast.Assign, ast.Expr, ast.For, ast.comprehension)
        if isinstance(node, ast.For | ast.comprehension)
        or (isinstance(node, ast.Assign) and len(node.targets) == 1)
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
    )


def _wrapped_in_place(place: Place, call: ast.expr) -> None:
    """``apply_ddp(self.model, ...)``, but where a plan goes on with what it wraps."""
    if isinstance(call, ast.Call) and _wraps(call) and call.args:
        if not _WRAPS.search(place.function.name):
            place.models.setdefault(spelled(call.args[0]), call.end_lineno or 0)


def _assigned(place: Place, target: ast.expr, value: ast.expr) -> None:
    if isinstance(value, ast.Call) and _wraps(value) and is_model(target):
        place.models.setdefault(spelled(target), value.end_lineno or value.lineno)
    elif place.is_model(value):
        place.models.setdefault(spelled(target), value.lineno)
    elif isinstance(target, ast.Tuple) and place.are_parts(value):
        for one in target.elts:
            place.models.setdefault(spelled(one), value.lineno)
    elif place.are_parts(value) and not _PARTS.search(spelled(target)):
        place.lists.setdefault(spelled(target), value.lineno)


def _iterated(place: Place, target: ast.expr, source: ast.expr) -> None:
    """What a loop or comprehension calls one part; the latter before it says so."""
    if place.are_parts(source):
        named = [n for n in nodes(target) if isinstance(n, ast.Name)]
        if isinstance(source, ast.Call) and spelled(source.func) == "enumerate":
            named = named[1:]
        for name in named:
            place.models.setdefault(name.id, place.wrapped)


def _speaks_of_parts(place: Place) -> bool:
    return any(
        _PARTS.search(spelled(node))
        for node in of_kind(place.function, ast.Name, ast.Attribute)
    )


@once
def _calls(function: Function) -> tuple[ast.Call, ...]:
    return tuple(of_kind(function, ast.Call))


def _wraps(call: ast.Call) -> bool:
    """Whether a call is of a plan, by its name or by what it is given."""
    if _WRAPS.search(spelled(call.func)):
        return True
    given = (spelled(argument) for argument in _arguments(call))
    return (
        bool(call.args)
        and is_model(call.args[0])
        and any(text.endswith("parallel_dims") for text in given)
    )


def _arguments(call: ast.Call) -> list[ast.expr]:
    return [*call.args, *(word.value for word in call.keywords)]


def _given(place: Place, call: ast.Call, function: Function) -> Given:
    """The parameters of a function by which a call gives it the model."""
    names = [arg.arg for arg in (*function.args.posonlyargs, *function.args.args)]
    if names[:1] == ["self"]:
        names = names[1:]
    passed = [*zip(names, call.args)]
    passed += [(word.arg, word.value) for word in call.keywords if word.arg]
    return Given(
        {name for name, argument in passed if place.is_model(argument)},
        {name for name, argument in passed if place.are_parts(argument)},
    )
