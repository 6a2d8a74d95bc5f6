"""Of which classes the module is that an expression stands for."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from codemods.autocast import of_a_test
from codemods.bindings import Checkout
from codemods.callers import Caller, Holder, callers, holder
from codemods.modules import PLAN_OF_A_SPEC, Function
from codemods.names import Definition
from codemods.nodes import dotted, nodes, spelled, taken
from codemods.source import SourceFile

_SAME = frozenset(
    {
        *("to", "cuda", "cpu", "train", "eval", "requires_grad_", "to_empty", "apply"),
        *("bfloat16", "float", "half", "double", "share_memory", "type"),
    }
)
"""Methods that give the module itself."""

_ALIKE = frozenset({"copy", "deepcopy", "compile"})
"""Functions that give one of the same attributes as their argument."""

_ELEMENTS = frozenset(
    {*("list", "tuple", "reversed", "sorted", "iter", "set", "enumerate"), *("values",)}
    | {"ModuleList", "ModuleDict", "items"}
)
_SPECIFIED = ("model_cls", "cls")
"""What a model's specification calls its class, beside its plan."""

_DEPTH = 7
"""Through how many steps the making of a module is followed."""


@dataclass(frozen=True)
class Made:
    """What a module is made from.

    Args:
        file: of a class of the checkout, that; else None.
        node: that class.
        external: of a class or function outside, its dotted name.
        declared: an annotation says so: it may be of a class derived from that.
    """

    file: SourceFile | None = None
    node: ast.ClassDef | None = None
    external: str = ""
    declared: bool = False

    @property
    def is_known(self) -> bool:
        """Whether anything is known of it."""
        return self.node is not None or bool(self.external)

    @property
    def name(self) -> str:
        if self.node is not None:
            return self.node.name
        return self.external.partition(".from_")[0]


UNKNOWN = Made()


@dataclass(frozen=True)
class _Place:
    """Where an expression stands."""

    file: SourceFile
    holder: Holder


def made(checkout: Checkout, file: SourceFile, node: ast.expr) -> list[Made]:
    """What an expression may be made from, ``UNKNOWN`` among it where that cannot be told.

    Args:
        checkout: all files.
        file: in which the expression stands.
        node: it.
    """
    place = _Place(file, holder(file, node.lineno))
    found = _Tracing(checkout).of(node, place, _DEPTH)
    kinds = {(id(one.node), one.external, one.declared): one for one in found}
    return list(kinds.values()) or [UNKNOWN]


@dataclass
class _Tracing:
    """Follows how a module came about: assignments, loops, calls, parameters."""

    checkout: Checkout
    following: set[int] = field(default_factory=set)

    def of(self, node: ast.expr, place: _Place, depth: int) -> list[Made]:
        if not depth:
            return [UNKNOWN]
        if id(node) in self.following:
            return []  # it is made from itself, and from what else there is
        self.following.add(id(node))
        found = list(self._of(node, place, depth - 1))
        self.following.discard(id(node))
        return found

    def _of(self, node: ast.expr, place: _Place, depth: int) -> Iterator[Made]:
        if isinstance(node, ast.IfExp):
            parts = [node.body, node.orelse]
        elif isinstance(node, ast.BoolOp):
            parts = node.values
        elif isinstance(node, ast.NamedExpr | ast.Await):
            parts = [node.value]
        elif isinstance(node, ast.Constant) and node.value is None:
            parts = []
        else:
            yield from self._simple(node, place, depth)
            return
        for part in parts:
            yield from self.of(part, place, depth)

    def _simple(self, node: ast.expr, place: _Place, depth: int) -> Iterator[Made]:
        if isinstance(node, ast.Call):
            yield from self._call(node, place, depth)
        elif isinstance(node, ast.Name):
            yield from self._name(node, place, depth)
        elif isinstance(node, ast.Attribute):
            yield from self._attribute(node, place, depth)
        elif isinstance(node, ast.Subscript):
            yield from self._elements(node.value, place, depth)
        else:
            yield UNKNOWN

    # What is called

    def _call(self, node: ast.Call, place: _Place, depth: int) -> Iterator[Made]:
        last = spelled(node.func).rpartition(".")[2]
        if isinstance(node.func, ast.Attribute) and last in _SAME:
            yield from self.of(node.func.value, place, depth)
        elif last in _ALIKE and node.args:
            yield from self.of(node.args[0], place, depth)
        else:
            yield from self._called(node.func, place, depth)

    def _called(self, func: ast.expr, place: _Place, depth: int) -> Iterator[Made]:
        spelling = dotted(func)
        if spelling is None:
            yield UNKNOWN
            return
        own = self._own_method(spelling, place)
        if own is not None:
            yield from self._returned(own, place.file, depth)
            return
        found, rest = next(self._defined(spelling, place), (None, ""))
        if found is not None and isinstance(found.node, ast.ClassDef):
            is_one = not rest or _is_constructor(found.node, rest)
            yield Made(found.file, found.node) if is_one else UNKNOWN
            return
        if found is not None and isinstance(found.node, Function):
            yield from (
                [UNKNOWN] if rest else self._returned(found.node, found.file, depth)
            )
            return
        external = self.checkout.external(place.file.path, self._scope(place), spelling)
        yield Made(external=external) if external else UNKNOWN

    def _scope(self, place: _Place) -> str:
        return place.holder.scope

    def _own_method(self, spelling: str, place: _Place) -> Function | None:
        base, _, name = spelling.rpartition(".")
        if base != "self" or place.holder.cls is None:
            return None
        return next(
            (
                n
                for n in place.holder.cls.body
                if isinstance(n, Function) and n.name == name
            ),
            None,
        )

    def _defined(
        self, spelling: str, place: _Place
    ) -> "Iterator[tuple[_Defined | None, str]]":
        """The class or function that a name, or what it begins with, stands for, and the rest."""
        head, rest = spelling, ""
        while head:
            found = self._definition(head, place)
            if found is not None:
                yield found, rest
            head, _, last = head.rpartition(".")
            rest = f"{last}.{rest}".rstrip(".")

    def _definition(self, name: str, place: _Place) -> "_Defined | None":
        local = place.holder.function
        for node in local.body if local is not None and "." not in name else ():
            if isinstance(node, ast.ClassDef | Function) and node.name == name:
                return _Defined(place.file, node)
        at = self.checkout.resolve(place.file.path, self._scope(place), name)
        return self._at(at) if at is not None else None

    def _at(self, at: Definition) -> "_Defined | None":
        home = self.checkout.files.get(at.path)
        for node in home.syntax.body if home is not None else ():
            if isinstance(node, ast.ClassDef | Function) and node.name == at.name:
                assert home is not None
                return _Defined(home, node)
        return None

    def _returned(
        self, function: Function, file: SourceFile, depth: int
    ) -> Iterator[Made]:
        values = [
            node.value
            for node in nodes(function)
            if isinstance(node, ast.Return) and node.value is not None
        ]
        for value in values:
            yield from self.of(value, _Place(file, holder(file, value.lineno)), depth)
        if not values:
            yield UNKNOWN

    # What has a name

    def _name(self, node: ast.Name, place: _Place, depth: int) -> Iterator[Made]:
        function = place.holder.function
        around: ast.AST = function if function is not None else place.file.syntax
        bound = list(_bindings(around, node.id, node))
        yield from self._bound(bound, place, depth)
        if function is not None and node.id in _parameters(function):
            always = {id(s.value) for s in function.body if isinstance(s, ast.Assign)}
            if not any(id(value) in always for value, _ in bound):
                yield from self._parameter(node.id, place, depth)
        elif not bound:
            yield from self._of_module(node.id, place, depth)

    def _of_module(self, name: str, place: _Place, depth: int) -> Iterator[Made]:
        names = self.checkout.names(place.file.path)
        bound = [] if place.holder.function is None else _top(place.file, name)
        if not bound or not isinstance(
            names.lookup(name, place.holder.scope), Definition
        ):
            yield UNKNOWN
        else:
            yield from self._bound(bound, _Place(place.file, Holder()), depth)

    def _bound(
        self, bound: list[tuple[ast.expr, bool]], place: _Place, depth: int
    ) -> Iterator[Made]:
        for value, elements in bound:
            follow = self._elements if elements else self.of
            yield from follow(value, place, depth)

    def _parameter(self, name: str, place: _Place, depth: int) -> list[Made]:
        function = place.holder.function
        assert function is not None
        declared = self._annotated(_parameters(function)[name], place)
        found = self._specified(place) if name == _first(place.holder) else []
        for caller in callers(self.checkout, place.file, place.holder):
            if of_a_test(caller.file.path) and not of_a_test(place.file.path):
                continue
            argument = _passed(function, name, caller, place.holder)
            there = _Place(caller.file, caller.holder)
            found += self.of(argument, there, depth) if argument else [UNKNOWN]
        return [one if one.is_known else declared for one in found] or [declared]

    def _annotated(self, annotation: ast.expr | None, place: _Place) -> Made:
        spelling = dotted(annotation) if annotation is not None else None
        if spelling is None:
            return UNKNOWN
        found = self._definition(spelling, place)
        if found is not None and isinstance(found.node, ast.ClassDef):
            return Made(found.file, found.node, declared=True)
        external = self.checkout.external(place.file.path, self._scope(place), spelling)
        if not external or external.endswith(".Module"):
            return UNKNOWN
        return Made(external=external, declared=True)

    def _specified(self, place: _Place) -> list[Made]:
        """The classes of the models whose plan a function is."""
        sought = Definition(place.file.path, place.holder.scope)
        found = []
        for file in self.checkout.mentioning(PLAN_OF_A_SPEC):
            for call in nodes(file.syntax):
                if not isinstance(call, ast.Call):
                    continue
                given = {k.arg: dotted(k.value) or "" for k in call.keywords}
                plan = given.get(PLAN_OF_A_SPEC)
                if not plan or self.checkout.resolve(file.path, "", plan) != sought:
                    continue
                names = [given[word] for word in _SPECIFIED if given.get(word)]
                found += [self._class(name, file) for name in names] or [UNKNOWN]
        return found

    def _class(self, name: str, file: SourceFile) -> Made:
        found = self._definition(name, _Place(file, Holder()))
        if found is not None and isinstance(found.node, ast.ClassDef):
            return Made(found.file, found.node)
        return UNKNOWN

    def _attribute(
        self, node: ast.Attribute, place: _Place, depth: int
    ) -> Iterator[Made]:
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            if place.holder.cls is None:
                yield UNKNOWN
                return
            owners = [Made(place.file, place.holder.cls)]
        else:
            owners = list(self.of(node.value, place, depth))
        for owner in owners:
            yield from self._set_in(owner, node.attr, depth)

    def _set_in(self, owner: Made, name: str, depth: int) -> Iterator[Made]:
        """What the methods of a class set an attribute to."""
        if owner.node is None or owner.file is None:
            yield UNKNOWN
            return
        bound = list(_bindings(owner.node, f"self.{name}"))
        for value, elements in bound:
            there = _Place(owner.file, holder(owner.file, value.lineno))
            yield from self._bound([(value, elements)], there, depth)
        if bound:
            return
        bases = [
            self._annotated(base, _Place(owner.file, Holder()))
            for base in owner.node.bases
        ]
        known = [
            base
            for base in bases
            if base.node is not None and base.node is not owner.node
        ]
        for base in known if depth else ():
            yield from self._set_in(base, name, depth - 1)
        if not known or not depth:
            yield UNKNOWN

    # What goes through several

    def _elements(self, node: ast.expr, place: _Place, depth: int) -> Iterator[Made]:
        parts: list[ast.expr | None]
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            parts = [*node.elts]
        elif isinstance(node, ast.Dict):
            parts = [*node.values]
        elif isinstance(node, ast.ListComp | ast.GeneratorExp):
            parts = [node.elt]
        elif isinstance(node, ast.Call):
            yield from self._elements_of_call(node, place, depth)
            return
        else:
            yield from self._elements_of_name(node, place, depth)
            return
        for part in parts:
            if part is None or isinstance(part, ast.Starred):
                yield UNKNOWN
            else:
                yield from self.of(part, place, depth)

    def _elements_of_call(
        self, node: ast.Call, place: _Place, depth: int
    ) -> Iterator[Made]:
        last = spelled(node.func).rpartition(".")[2]
        of = node.args[0] if node.args else None
        if of is None and isinstance(node.func, ast.Attribute):
            of = node.func.value
        if last in _ELEMENTS and of is not None and depth:
            yield from self._elements(of, place, depth - 1)
        else:
            yield UNKNOWN

    def _elements_of_name(
        self, node: ast.expr, place: _Place, depth: int
    ) -> Iterator[Made]:
        around: ast.AST = place.holder.function or place.file.syntax
        name = dotted(node)
        if name is not None and name.startswith("self.") and place.holder.cls:
            around = place.holder.cls
        values = [v for v, inner in _bindings(around, name or "") if not inner]
        if not values or not depth:
            yield UNKNOWN
        for value in values if depth else ():
            there = _Place(place.file, holder(place.file, value.lineno))
            yield from self._elements(value, there, depth - 1)


@dataclass(frozen=True)
class _Defined:
    file: SourceFile
    node: ast.ClassDef | Function


def _is_constructor(cls: ast.ClassDef, name: str) -> bool:
    """Whether a method of a class makes one: ``Model.from_config``."""
    for node in cls.body:
        if isinstance(node, Function) and node.name == name:
            return any(spelled(d) == "classmethod" for d in node.decorator_list)
    return name.startswith("from_")


def _bindings(
    around: ast.AST, name: str, at: ast.expr | None = None
) -> Iterator[tuple[ast.expr, bool]]:
    """What a name or attribute is set to, and whether it is each of several in turn.

    Args:
        around: where to look.
        name: as it is written.
        at: where it is read; what comes later in a function is not meant.
    """
    for node in nodes(around):
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr):
            if node.value is None or _is_later(node, at):
                continue
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                yield from _matched(target, node.value, name, False)
        elif isinstance(node, ast.For | ast.comprehension):
            yield from _matched(node.target, node.iter, name, True)


def _top(file: SourceFile, name: str) -> list[tuple[ast.expr, bool]]:
    """What a module itself sets a name to."""
    return [
        bound
        for node in file.syntax.body
        if not isinstance(node, Function | ast.ClassDef)
        for bound in _bindings(node, name)
    ]


def _is_later(
    node: ast.Assign | ast.AnnAssign | ast.NamedExpr, at: ast.expr | None
) -> bool:
    """Whether a name is set after it is read, or by what is made of it there."""
    if at is None or node.value is None:
        return False
    return node.lineno > at.lineno or any(inner is at for inner in nodes(node.value))


def _matched(
    target: ast.expr, value: ast.expr, name: str, elements: bool
) -> Iterator[tuple[ast.expr, bool]]:
    if not isinstance(target, ast.Tuple):
        if spelled(target) == name:
            yield value, elements
        return
    called = spelled(value.func) if isinstance(value, ast.Call) else ""
    for index, part in enumerate(target.elts):
        if not elements and isinstance(value, ast.Tuple):
            if len(value.elts) == len(target.elts):
                yield from _matched(part, value.elts[index], name, False)
        elif elements and called == "zip":
            assert isinstance(value, ast.Call)
            if len(value.args) == len(target.elts):
                yield from _matched(part, value.args[index], name, True)
        elif elements and index == 1:  # of enumerate() and items()
            yield from _matched(part, value, name, True)
        elif spelled(part) == name:
            yield ast.Constant(..., lineno=value.lineno, col_offset=0), False


def _parameters(function: Function) -> dict[str, ast.expr | None]:
    """Name -> annotation."""
    given = function.args
    every = taken(given)
    return {arg.arg: arg.annotation for arg in every}


def _first(around: Holder) -> str | None:
    names = list(_parameters(around.function)) if around.function else []
    return names[0] if names else None


def _passed(
    function: Function, name: str, caller: Caller, called: Holder
) -> ast.expr | None:
    """What a call gives for a parameter, None where that cannot be told."""
    for keyword in caller.call.keywords:
        if keyword.arg == name:
            return keyword.value
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
    if called.cls is not None:
        names = names[1:]
    if name not in names or any(isinstance(a, ast.Starred) for a in caller.call.args):
        return None
    position = names.index(name)
    given = caller.call.args
    return given[position] if position < len(given) else None
