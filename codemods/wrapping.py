"""Whether a function comes to wrap a model, itself or by what it calls; most do not.

It is followed no further than a reader of models may go, and models are not told apart.
"""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from codemods.bindings import Checkout
from codemods.modules import Defining, Function, functions, methods
from codemods.nodes import children, dotted, of_kind
from codemods.once import once
from codemods.source import SourceFile

Class = tuple[SourceFile, ast.ClassDef]
Body = tuple[SourceFile, list[ast.stmt]]
Wrapped = Callable[[SourceFile, ast.Call], ast.expr | None]
"""The model that a call wraps, None where it does not."""

DEFINES = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda


_PLAN = "parallelize_"
"""What torchtitan's plans are called, and what a trainer calls them by."""


def calling_plans(checkout: Checkout) -> Iterator[SourceFile]:
    """The files that call a plan, and give it a model."""
    for file in checkout.mentioning(_PLAN):
        if any(_is_plan(checkout, file, spelling) for spelling in file.all(_plans)):
            yield file


def is_plan(checkout: Checkout, file: SourceFile, call: ast.Call) -> bool:
    """Whether a call is of a plan, which parallelizes a model, by its name."""
    return _is_plan(checkout, file, dotted(call.func) or "")


def model_of(call: ast.Call) -> ast.expr | None:
    """What a call of a plan is given to wrap."""
    named = {word.arg: word.value for word in call.keywords}
    return call.args[0] if call.args else named.get("model")


def _plans(file: SourceFile) -> tuple[str, ...]:
    """What is called in a file that is a plan by its name, and is given a model."""
    calls = of_kind(file.syntax, ast.Call)
    spelt = (dotted(call.func) or "" for call in calls if model_of(call) is not None)
    return tuple(dict.fromkeys(s for s in spelt if _PLAN in s))


def _is_plan(checkout: Checkout, file: SourceFile, spelling: str) -> bool:
    if not spelling.rpartition(".")[2].startswith(_PLAN):
        return False
    origin = checkout.external(file.path, "", spelling) or ""
    return not origin.startswith("torch.") and not spelling.endswith("_module")


@once
def defined(
    checkout: Checkout, file: SourceFile, node: ast.expr
) -> tuple[SourceFile, ast.stmt | None]:
    """The class or function of the checkout that an expression names, and its file."""
    spelling = dotted(node)
    at = checkout.resolve(file.path, "", spelling) if spelling else None
    if at is None or at.path not in checkout.files:
        return file, None
    home = checkout.files[at.path]
    return home, home.all(Defining(at.name))


@once
def lineage(checkout: Checkout, of: Class) -> tuple[Class, ...]:
    """A class and those of the checkout that it derives from."""
    line = [of]
    for file, class_ in line:  # grows
        for base in class_.bases:
            home, found = defined(checkout, file, base)
            if isinstance(found, ast.ClassDef) and len(line) < 8:
                line.append((home, found))
    return tuple(line)


@once
def every_method(
    checkout: Checkout, of: Class
) -> dict[str, tuple[SourceFile, Function]]:
    """The methods of a class, those that it inherits from classes of the checkout as well."""
    found: dict[str, tuple[SourceFile, Function]] = {}
    for file, class_ in lineage(checkout, of):
        for name, method in methods(class_).items():
            found.setdefault(name, (file, method))
    return found


def worth(file: SourceFile) -> bool:
    """Whether a file may take parameters or wrap a model."""
    return any(
        map(file.mentions, (b"parameters(", b"parallelize_", b"apply_", b"ptimizer"))
    )


@dataclass
class _Led:
    """What the calls in a body may lead to.

    Args:
        wraps: whether one of them wraps.
        bodies: those of functions and constructors.
        classes: of which objects are made, and what these derive from.
        names: of methods, whatever their class.
    """

    wraps: bool = False
    bodies: list[Body] = field(default_factory=list)
    classes: set[Class] = field(default_factory=set)
    names: set[str] = field(default_factory=set)


@dataclass
class Search:
    """Looks for what wraps.

    Args:
        checkout: all files.
        wrapped: tells which calls do.
    """

    checkout: Checkout
    wrapped: Wrapped
    _led: dict[int, _Led] = field(default_factory=dict)
    _nested: dict[int, dict[str, Function]] = field(default_factory=dict)

    def wraps(self, body: Body, of: Class | None) -> bool:
        """Whether something is wrapped in a body, of a class or not, or where that may lead."""
        classes = {*lineage(self.checkout, of)} if of else set[Class]()
        names, begun, waiting = set[str](), set[int](), [body]
        while waiting:
            led = [self._led_from(one) for one in waiting]
            if any(one.wraps for one in led):
                return True
            begun |= {id(inner) for _, inner in waiting}
            classes = classes.union(*(one.classes for one in led))
            names = names.union(*(one.names for one in led))
            known = [every_method(self.checkout, one) for one in classes]
            called = [every[n] for every in known for n in names & every.keys()]
            reached = [inner for one in led for inner in one.bodies]
            reached += [(home, method.body) for home, method in called]
            waiting = [one for one in reached if id(one[1]) not in begun]
        return False

    def _led_from(self, body: Body) -> _Led:
        if id(body[1]) not in self._led:
            self._led[id(body[1])] = found = _Led()
            for call in _calls(body[1]):
                self._add(found, body, call)
        return self._led[id(body[1])]

    def _add(self, led: _Led, body: Body, call: ast.Call) -> None:
        file, inner = body
        led.wraps = led.wraps or self.wrapped(file, call) is not None
        home, found = defined(self.checkout, file, call.func)
        if isinstance(found, ast.ClassDef):
            made = every_method(self.checkout, (home, found)).get("__init__")
            led.classes |= {*lineage(self.checkout, (home, found))}
            led.bodies += [(made[0], made[1].body)] if made else []
        elif isinstance(found, Function):
            led.bodies += [(home, found.body)] if worth(home) else []
        elif isinstance(call.func, ast.Attribute):
            led.names.add(call.func.attr)
        elif isinstance(call.func, ast.Name):
            local = self.nested(file, inner, call.func.id)
            led.bodies += [(file, local.body)] if local else []

    def nested(
        self, file: SourceFile, body: list[ast.stmt], name: str
    ) -> Function | None:
        """The first function of a name within a body."""
        if not file.all(_Naming(name)):
            return None
        if id(body) not in self._nested:
            inner = [function for part in body for function in functions(part)]
            self._nested[id(body)] = {f.name: f for f in reversed(inner)}
        return self._nested[id(body)].get(name)


@dataclass(frozen=True)
class _Naming:
    """Whether a function in a file, or a method, has a name."""

    name: str

    def __call__(self, file: SourceFile) -> bool:
        return self.name in _named(file)


@once
def _named(file: SourceFile) -> frozenset[str]:
    return frozenset(function.name for function in functions(file.syntax))


def _calls(body: list[ast.stmt]) -> Iterator[ast.Call]:
    """The calls that a body makes itself, not the functions and classes in it."""
    found: list[ast.AST] = [*body]
    for node in found:  # grows
        if not isinstance(node, DEFINES):
            found += children(node)
            if isinstance(node, ast.Call):
                yield node
