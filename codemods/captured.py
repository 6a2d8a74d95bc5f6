"""What takes a model's parameters in a trainer, and whether the model is wrapped only after.

Functions are read in the order of their text. Calls are followed into methods of ``self`` and
of objects made in sight, and into functions that are given what they work on. A model is told
by where it is kept: ``self.model``, an element of ``models``, the argument of a caller.
"""

import ast
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from codemods.bindings import Checkout
from codemods.modules import Function, functions
from codemods.names import Import
from codemods.nodes import children, last, nodes, of_kind, spelled
from codemods.once import once
from codemods.source import SourceFile
from codemods.wrapping import (
    DEFINES,
    Body,
    Class,
    Search,
    Wrapped,
    defined,
    every_method,
    lineage,
    worth,
)

Place = tuple[str, ...]
"""Where something is kept: ``("self", "model")``; ``"*"`` is an element that is not told."""

Places = frozenset[Place]
Ways = frozenset[tuple[str, bool]]
"""Conditions that hold where something happens."""

_TAKES = {"parameters", "named_parameters"}
_COUNTS = {
    *("sum", "any", "all", "len", "next", "max", "min", "print", "isinstance", "str"),
    *("clip_grad_norm_", "get_total_norm", "numel", "size", "dim", "type", "range"),
    *("element_size", "is_contiguous", "id", "get_device", "nelement", "format"),
}
"""Calls whose results keep no parameter."""

_NO_TENSOR = {
    "device",
    "dtype",
    "shape",
    "requires_grad",
    "ndim",
    "is_meta",
    "itemsize",
}
_STAYS = {"requires_grad", "grad", "data"}
"""Attributes of a parameter that are the new one's too; all others are gone."""

_KEEPS = {"append", "extend", "add", "insert", "update", "setdefault", "setattr"}
_KEEPS |= {"add_param_group", "appendleft"}
_ITSELF = {
    *("to", "to_empty", "cuda", "cpu", "train", "eval", "float", "half", "bfloat16"),
    *("requires_grad_", "values", "items", "modules", "children", "list", "tuple"),
    *("enumerate", "reversed", "iter", "compile", "compiled", "zip", "keys", "chain"),
}
"""Calls that give what they are called on, its elements, or their arguments."""

_OPTIMIZERS = re.compile(r"optimi[sz]er|(^|_)ema(_|$)|EMA$|Ema$")
"""What keeps a model's parameters by its name, where what it does is not in sight."""

_DEPTH, _MANY = 6, 300
_ENDS = ast.Return | ast.Raise | ast.Continue | ast.Break
_COMPREHENSIONS = ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp


_MADE, _SET = "is made from", "is set on"


@dataclass(frozen=True)
class Capture:
    """Something that holds parameters which are replaced later.

    Args:
        path, line: where, in the function that does both, itself or by calls.
        subject: what it is, or does.
        verb: what it does to the parameters: it is made from them, or set on them.
        model: whose parameters.
        before: line of the wrapping, in the same function.
        statement: what is to be done after that.
    """

    path: str
    line: int
    subject: str
    verb: str
    model: str
    before: int
    statement: str


@dataclass(frozen=True)
class _Event:
    wraps: bool
    places: Places
    statement: ast.stmt
    line: int
    subject: str
    model: str
    ways: Ways
    verb: str = _MADE


@dataclass
class _Frame:
    """One call of a function."""

    file: SourceFile
    body: list[ast.stmt]
    of: Class | None
    depth: int
    names: dict[str, Places]
    words: dict[str, list[str]] = field(default_factory=dict)
    ways: Ways = frozenset()
    events: list[_Event] = field(default_factory=list)
    returned: set[Place] = field(default_factory=set)
    statement: ast.stmt = field(default_factory=ast.Pass)


def captures(
    checkout: Checkout,
    wrapped: Wrapped,
    files: Iterable[SourceFile],
) -> Iterator[Capture]:
    """What holds parameters of a model that is wrapped after; each once.

    Args:
        checkout: all files.
        wrapped: the model that a call wraps, None where it does not.
        files: those in which something is wrapped.
    """
    found: dict[tuple[str, int], Capture] = {}
    search = Search(checkout, wrapped)
    for (file, body), of in _entries(search, files):
        reader = _Reader(checkout, wrapped, search.nested, found)
        names: dict[str, Places] = {"self": frozenset([("self",)])}
        reader.read(_Frame(file, body, of, 0, names))
    yield from (found[place] for place in sorted(found))


def _entries(
    search: Search, files: Iterable[SourceFile]
) -> Iterator[tuple[Body, Class | None]]:
    """Functions, methods and modules that come to wrap; methods of subclasses with these as well."""
    holding = [*files]
    paths = {file.path for file in holding}
    names = {name for file in holding for name in file.all(_names)}
    words = [f"{name}(" for name in names if len(name) > 4 and name != "__init__"]
    for file in holding:
        yield from _that_wrap(search, file)
    for file in search.checkout.mentioning(*words):
        if file.path not in paths and _imports_one_of(search.checkout, file, paths):
            yield from _that_wrap(search, file)


def _names(file: SourceFile) -> frozenset[str]:
    """The names of the functions, methods and classes of a file."""
    found = (*functions(file.syntax), *_classes(file))
    return frozenset(one.name for one in found)


def _that_wrap(search: Search, file: SourceFile) -> Iterator[tuple[Body, Class | None]]:
    bodies, classes = file.all(_calling)
    for body in bodies:
        if search.wraps((file, body), None):
            yield (file, body), None
    for class_ in classes:
        of = file, class_
        for home, method in every_method(search.checkout, of).values():
            if search.wraps((home, method.body), of):
                yield (home, method.body), of


def _imports_one_of(checkout: Checkout, file: SourceFile, paths: set[str]) -> bool:
    """Whether a file has a name that one of others defines."""
    found = (checkout.resolve(file.path, *used) for used in file.all(_used))
    return any(one is not None and one.path in paths for one in found)


def _used(file: SourceFile) -> frozenset[tuple[str, str]]:
    """Scope and spelling of every name that a file uses and may have from another."""
    names = file.names
    return frozenset(
        (use.scope, use.spelling)
        for use in names.uses
        if names.top.stars or isinstance(names.lookup(use.spelling, use.scope), Import)
    )


@once
def _calling(
    file: SourceFile,
) -> tuple[tuple[list[ast.stmt], ...], tuple[ast.ClassDef, ...]]:
    """Of a module: its own body and those of its functions, and its classes, that call something."""
    own = [node for node in file.syntax.body if not isinstance(node, DEFINES)]
    bodies = [own, *(n.body for n in file.syntax.body if isinstance(n, Function))]
    calling = tuple(b for b in bodies if any(of_kind(n, ast.Call) for n in b))
    return calling, tuple(c for c in _classes(file) if of_kind(c, ast.Call))


def _classes(file: SourceFile) -> list[ast.ClassDef]:
    return [node for node in file.syntax.body if isinstance(node, ast.ClassDef)]


@dataclass
class _Reader:
    checkout: Checkout
    wrapped: Wrapped
    nested: Callable[[SourceFile, list[ast.stmt], str], Function | None]
    found: dict[tuple[str, int], Capture]
    kept: dict[Place, Places] = field(default_factory=dict)
    kinds: dict[Place, Class] = field(default_factory=dict)
    open: list[int] = field(default_factory=list)
    count: int = 0

    def read(self, frame: _Frame) -> None:
        """Goes through a function, and notes what comes before a wrapping in it."""
        self.count += 1
        self.open.append(id(frame.body))
        self.block(frame, frame.body)
        self.open.pop()
        for at, wrap in enumerate(frame.events):
            if wrap.wraps:
                for event in frame.events[:at]:
                    self.note(frame, event, wrap)

    def note(self, frame: _Frame, event: _Event, wrap: _Event) -> None:
        if event.wraps or event.statement is wrap.statement:
            return
        if frame.file.dependency or not _meets(event, wrap):
            return
        earlier = frame.events[: frame.events.index(event)]
        if any(e.wraps and _meets(e, event) for e in earlier):
            return  # they were replaced already
        self.found.setdefault(
            (frame.file.path, event.line),
            Capture(
                frame.file.path,
                event.line,
                event.subject,
                event.verb,
                event.model,
                wrap.line,
                spelled(event.statement),
            ),
        )

    # statements

    def block(self, frame: _Frame, body: list[ast.stmt]) -> None:
        for statement in body:
            if not isinstance(statement, DEFINES):
                frame.statement = statement
                self.statement(frame, statement)

    def statement(self, frame: _Frame, node: ast.stmt) -> None:
        if isinstance(node, ast.If):
            self.choice(frame, node)
        elif isinstance(node, ast.For | ast.AsyncFor):
            self.loop(frame, node)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            if node.value is not None:
                self.assign(frame, node, node.value)
        elif isinstance(node, ast.Return):
            if node.value is not None:
                self.keep(frame, node.value, f"what {spelled(node)} gives")
                frame.returned |= self.value(frame, node.value)
        elif isinstance(node, ast.Expr):
            call = node.value
            if isinstance(call, ast.Call) and _last(call.func) in _KEEPS:
                for given in call.args:
                    self.keep(frame, given, spelled(call.func))
            self.value(frame, call)
        else:
            for child in children(node):
                if isinstance(child, ast.stmt):
                    self.block(frame, [child])
                else:
                    self.inside(frame, child)

    def inside(self, frame: _Frame, node: ast.AST) -> None:
        """What is neither a statement nor an expression: an item of with, a case, a handler."""
        if isinstance(node, ast.expr):
            self.value(frame, node)
            return
        if isinstance(node, ast.withitem) and node.optional_vars is not None:
            self.bind(frame, node.optional_vars, self.value(frame, node.context_expr))
            return
        for child in children(node):
            if isinstance(child, ast.stmt):
                self.block(frame, [child])
            else:
                self.inside(frame, child)

    def choice(self, frame: _Frame, node: ast.If) -> None:
        self.value(frame, node.test)
        test, yes, ways = node.test, True, frame.ways
        while isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            test, yes = test.operand, not yes
        told = spelled(test)
        frame.ways = ways | {(told, yes)}
        self.block(frame, node.body)
        frame.ways = ways | {(told, not yes)}
        self.block(frame, node.orelse)
        left = isinstance(node.body[-1], _ENDS)
        frame.ways = ways | {(told, not yes)} if left else ways

    def loop(self, frame: _Frame, node: ast.For | ast.AsyncFor) -> None:
        self.bind_element(frame, node.target, node.iter)
        source, names = _parameters_of(node.target, node.iter)
        inner = [n for part in node.body for n in nodes(part)]
        kept = [n for n in inner if _stores(n, names)]
        noted = [n for n in inner if _noted(n, names)]
        if source is not None and kept:
            held = spelled(kept[0]).partition("\n")[0]
            self.keep(frame, node.iter, f"what {held} keeps")
        elif source is not None and noted:
            self.keep(frame, node.iter, spelled(noted[0]), _SET)
        ways = frame.ways
        self.block(frame, node.body)
        frame.ways = ways
        self.block(frame, node.orelse)

    def assign(
        self,
        frame: _Frame,
        node: ast.Assign | ast.AnnAssign | ast.AugAssign,
        value: ast.expr,
    ) -> None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        self.keep(frame, value, spelled(targets[0]))
        one = targets[0]
        if isinstance(one, ast.Tuple) and isinstance(value, ast.Tuple):
            if len(one.elts) == len(value.elts):
                for target, part in zip(one.elts, value.elts, strict=True):
                    self.bind(frame, target, self.value(frame, part))
                return
        places = self.value(frame, value)
        for target in targets:
            self.bind(frame, target, places)
            of = _weight_noted(target)
            if of is not None:
                on, subject = self.value(frame, of), spelled(target)
                self.event(frame, False, on, target, subject, spelled(of), verb=_SET)

    def bind(self, frame: _Frame, target: ast.expr, places: Places) -> None:
        if isinstance(target, ast.Name):
            frame.names[target.id] = places
            if len(places) == 1:
                frame.words.pop(target.id, None)
        elif isinstance(target, ast.Attribute):
            for base in self.value(frame, target.value):
                place: Place = (*base, target.attr)
                self.kept[place] = places
        elif isinstance(target, ast.Tuple | ast.List):
            for at, part in enumerate(target.elts):
                self.bind(frame, part, frozenset((*p, f"[{at}]") for p in places))

    def bind_element(self, frame: _Frame, target: ast.expr, source: ast.expr) -> None:
        """``for m in (actor, critic)``, ``for name in ("image", "text")``, ``for m in models``."""
        if isinstance(source, ast.Tuple | ast.List):
            words = [e.value for e in source.elts if isinstance(e, ast.Constant)]
            if isinstance(target, ast.Name) and words:
                frame.words[target.id] = [str(word) for word in words]
            elements = [self.value(frame, e) for e in source.elts]
            places = frozenset().union(*elements) if elements else frozenset()
        else:
            places = frozenset((*p, "*") for p in self.value(frame, source))
        for name in (n for n in nodes(target) if isinstance(n, ast.Name)):
            frame.names[name.id] = places

    # values

    def value(self, frame: _Frame, node: ast.expr) -> Places:
        """Where what an expression gives is kept; what is called in it is followed."""
        if isinstance(node, ast.Name):
            return frame.names.get(node.id) or frozenset([(node.id, str(frame.depth))])
        if isinstance(node, ast.Attribute):
            return self.part(self.value(frame, node.value), node.attr)
        if isinstance(node, ast.Subscript):
            key = node.slice
            self.value(frame, key)
            told = spelled(key) if isinstance(key, ast.Constant) else ""
            return self.part(
                self.value(frame, node.value), f"[{told}]" if told else "*"
            )
        if isinstance(node, ast.Call):
            return self.call(frame, node)
        if isinstance(node, _COMPREHENSIONS):
            return self.comprehension(frame, node)
        if isinstance(node, ast.Lambda | ast.Constant):
            return frozenset()
        found: set[Place] = set()
        for child in children(node):
            if isinstance(child, ast.expr):
                found |= self.value(frame, child)
        return frozenset(found)

    def comprehension(self, frame: _Frame, node: ast.expr) -> Places:
        assert isinstance(node, _COMPREHENSIONS)
        self.bind_comprehension(frame, node)
        if isinstance(node, ast.DictComp):
            return self.value(frame, node.value)
        return self.value(frame, node.elt)

    def bind_comprehension(self, frame: _Frame, node: ast.expr) -> None:
        assert isinstance(node, _COMPREHENSIONS)
        for generator in node.generators:
            self.bind_element(frame, generator.target, generator.iter)

    def part(self, of: Places, name: str) -> Places:
        found: set[Place] = set()
        for place in of:
            found |= self.kept.get((*place, name), {(*place, name)})
        return frozenset(found)

    def call(self, frame: _Frame, node: ast.Call) -> Places:
        model = self.wrapped(frame.file, node)
        given = [*node.args, *(k.value for k in node.keywords)]
        values = [self.value(frame, g) for g in given]
        if model is not None:
            places = self.value(frame, model)
            self.event(frame, True, places, node, "", spelled(model))
            return places
        name = _last(node.func)
        if name == "getattr" and len(node.args) > 1:
            return self.attribute(frame, node.args[0], node.args[1])
        if name == "setattr" and len(node.args) > 2:
            for place in self.attribute(frame, node.args[0], node.args[1]):
                self.kept.pop(place, None)  # it is what it was, wrapped
            return frozenset()
        fresh = frozenset([(f"{frame.file.path}:{node.lineno}:{node.col_offset}",)])
        followed = self.follow(frame, node, fresh)
        if followed is not None:
            return followed
        self.by_name(frame, node, given, values)
        if name in _ITSELF:
            on = node.func.value if isinstance(node.func, ast.Attribute) else None
            if on is not None and spelled(on) not in ("torch", "itertools"):
                return self.value(frame, on)
            return frozenset().union(*values) if values else fresh
        return fresh

    def attribute(self, frame: _Frame, of: ast.expr, name: ast.expr) -> Places:
        """What ``getattr(self, name)`` gives."""
        words = ["*"]
        if isinstance(name, ast.Constant):
            words = [str(name.value)]
        elif isinstance(name, ast.Name):
            words = frame.words.get(name.id, words)
        bases = self.value(frame, of)
        return frozenset().union(*(self.part(bases, word) for word in words))

    def by_name(
        self,
        frame: _Frame,
        node: ast.Call,
        given: list[ast.expr],
        values: list[Places],
    ) -> None:
        """``build_optimizers(self.model_parts)``, of which only the name is known."""
        if not _OPTIMIZERS.search(_last(node.func)):
            return
        for one, places in zip(given, values, strict=True):
            if isinstance(one, ast.Name | ast.Attribute | ast.Subscript | ast.List):
                if spelled(one) != "self":
                    subject = _subject(frame.statement, node)
                    self.event(frame, False, places, node, subject, spelled(one))

    # calls

    def follow(self, frame: _Frame, node: ast.Call, fresh: Places) -> Places | None:
        """What a call that can be followed gives; None where it cannot."""
        home, function, of, own = self.called(frame, node, fresh)
        if function is None:
            return None
        if (
            frame.depth >= _DEPTH
            or self.count > _MANY
            or id(function.body) in self.open
        ):
            return fresh
        names = self.given(frame, node, function, own)
        inner = _Frame(home, function.body, of, frame.depth + 1, names)
        self.read(inner)
        for event in inner.events:
            subject = _subject(frame.statement, node) if not event.wraps else ""
            self.event(
                frame, event.wraps, event.places, node, subject, event.model, event.ways
            )
        if own is fresh:
            return fresh
        return frozenset(inner.returned) or fresh

    def called(
        self, frame: _Frame, node: ast.Call, fresh: Places
    ) -> tuple[SourceFile, Function | None, Class | None, Places | None]:
        """File, function, class of ``self``, and ``self`` of a call."""
        home, found = defined(self.checkout, frame.file, node.func)
        if isinstance(found, ast.ClassDef):
            for place in fresh:
                self.kinds[place] = home, found
            made = every_method(self.checkout, (home, found)).get("__init__")
            return (
                (made[0], made[1], (home, found), fresh)
                if made
                else (home, None, None, None)
            )
        if isinstance(found, Function):
            return home, found if worth(home) else None, None, None
        function = node.func
        if isinstance(function, ast.Name):
            local = self.nested(frame.file, frame.body, function.id)
            return frame.file, local, frame.of, frame.names.get("self")
        if isinstance(function, ast.Attribute):
            return self.method(frame, function)
        return frame.file, None, None, None

    def method(
        self, frame: _Frame, function: ast.Attribute
    ) -> tuple[SourceFile, Function | None, Class | None, Places | None]:
        nothing = frame.file, None, None, None
        on = function.value
        of, own = frame.of, frame.names.get("self")
        if spelled(on) == "super()":
            above = lineage(self.checkout, of)[1:] if of else []
            known = (
                every_method(self.checkout, one).get(function.attr) for one in above
            )
            found = next(filter(None, known), None)
        else:
            if spelled(on) != "self":
                own = self.value(frame, on)
                of = next((self.kinds[p] for p in own if p in self.kinds), None)
            found = every_method(self.checkout, of).get(function.attr) if of else None
        return (found[0], found[1], of, own) if found else nothing

    def given(
        self, frame: _Frame, node: ast.Call, function: Function, own: Places | None
    ) -> dict[str, Places]:
        """Parameter -> what a call gives for it."""
        arguments = function.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
        found: dict[str, Places] = {}
        if own is not None:
            found["self"] = own
            names = names[1:] if names[:1] == ["self"] else names
        for name, value in zip(names, node.args, strict=False):
            found[name] = self.value_again(frame, value)
        for word in node.keywords:
            if word.arg is not None:
                found[word.arg] = self.value_again(frame, word.value)
        return found

    def value_again(self, frame: _Frame, node: ast.expr) -> Places:
        """The value of an argument, whose calls are not followed another time."""
        events, count = list(frame.events), self.count
        places = self.value(frame, node)
        frame.events[:], self.count = events, count
        return places

    # captures

    def keep(
        self, frame: _Frame, node: ast.expr, subject: str, verb: str = _MADE
    ) -> None:
        """Notes the parameters that what an expression gives keeps."""
        for call in self.taken(frame, node):
            assert isinstance(call.func, ast.Attribute)
            on = call.func.value
            places = self.value(frame, on)
            self.event(frame, False, places, call, subject, spelled(on), verb=verb)

    def taken(self, frame: _Frame, node: ast.expr) -> list[ast.Call]:
        """The calls of ``parameters()`` whose parameters are kept in what it gives."""
        if isinstance(node, _COMPREHENSIONS):
            return self.taken_in_comprehension(frame, node)
        if isinstance(node, ast.Lambda | ast.Compare | ast.JoinedStr | ast.Constant):
            return []
        if isinstance(node, ast.Attribute):
            return [] if node.attr in _NO_TENSOR else self.taken(frame, node.value)
        if isinstance(node, ast.Call):
            name = _last(node.func)
            if name in _COUNTS:
                return []
            if name in _TAKES and isinstance(node.func, ast.Attribute):
                return [node]
        parts = [c.value if isinstance(c, ast.keyword) else c for c in children(node)]
        return [
            call
            for part in parts
            if isinstance(part, ast.expr)
            for call in self.taken(frame, part)
        ]

    def taken_in_comprehension(self, frame: _Frame, node: ast.expr) -> list[ast.Call]:
        assert isinstance(node, _COMPREHENSIONS)
        self.bind_comprehension(frame, node)
        made = node.value if isinstance(node, ast.DictComp) else node.elt
        found = self.taken(frame, made)
        for generator in node.generators:
            source, names = _parameters_of(generator.target, generator.iter)
            told = getattr(node, "key", made)
            if source is not None and (_holds(made, names) or _is_id(told, names)):
                found += self.taken(frame, generator.iter)
        return found

    def event(
        self,
        frame: _Frame,
        wraps: bool,
        places: Places,
        node: ast.expr,
        subject: str,
        model: str,
        ways: Ways = frozenset(),
        verb: str = _MADE,
    ) -> None:
        ways |= frame.ways
        at = frame.statement
        frame.events.append(
            _Event(wraps, places, at, node.lineno, subject, model, ways, verb)
        )


def _subject(statement: ast.stmt, call: ast.Call) -> str:
    """What holds the parameters that a call takes."""
    if isinstance(statement, ast.Assign):
        return spelled(statement.targets[0])
    return f"what {spelled(call)} keeps"


def _last(function: ast.expr) -> str:
    return last(function) or spelled(function).rpartition(".")[2]


def _meets(one: _Event, other: _Event) -> bool:
    """Whether both may happen in one run, to the same model."""
    if any((told, not yes) in other.ways for told, yes in one.ways):
        return False
    return any(
        all(a == b or "*" in (a, b) for a, b in zip(mine, yours, strict=False))
        for mine in one.places
        for yours in other.places
    )


def _parameters_of(
    target: ast.expr, source: ast.expr
) -> tuple[ast.Call | None, set[str]]:
    """The call that gives parameters in ``for target in source``, and their names."""
    call = next(
        (
            n
            for n in nodes(source)
            if isinstance(n, ast.Call)
            and isinstance(n.func, ast.Attribute)
            and n.func.attr in _TAKES
        ),
        None,
    )
    if isinstance(target, ast.Tuple) and target.elts:
        target = target.elts[-1]
    names = {n.id for n in nodes(target) if isinstance(n, ast.Name)}
    return call, names


def _holds(node: ast.AST, names: set[str]) -> bool:
    """Whether what an expression gives holds one of these, not just a number of it."""
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.Compare | ast.JoinedStr | ast.Lambda):
        return False
    if isinstance(node, ast.Attribute) and node.attr in _NO_TENSOR:
        return False
    if isinstance(node, ast.Call) and _last(node.func) in _COUNTS:
        return False
    if isinstance(node, ast.IfExp):
        return _holds(node.body, names) or _holds(node.orelse, names)
    return any(_holds(child, names) for child in children(node))


def _is_id(node: ast.AST, names: set[str]) -> bool:
    """``id(p)``, by which a parameter is known again."""
    return (
        isinstance(node, ast.Call)
        and _last(node.func) == "id"
        and any(isinstance(a, ast.Name) and a.id in names for a in node.args)
    )


def _noted(node: ast.AST, names: set[str]) -> bool:
    """``p.lr_scale``, which is set."""
    return (
        isinstance(node, ast.Attribute)
        and not isinstance(node.ctx, ast.Load)
        and isinstance(node.value, ast.Name)
        and node.value.id in names
        and node.attr not in _STAYS
    )


def _weight_noted(target: ast.expr) -> ast.expr | None:
    """``norm`` of ``norm.weight.no_decay``, which is set; None of anything else."""
    of = target.value if isinstance(target, ast.Attribute) else None
    if not isinstance(of, ast.Attribute) or of.attr not in ("weight", "bias"):
        return None
    assert isinstance(target, ast.Attribute)
    return None if target.attr in _STAYS else of.value


def _stores(node: ast.AST, names: set[str]) -> bool:
    """``decay.append(p)``, ``shadow[n] = p.clone()``."""
    if isinstance(node, ast.Call) and _last(node.func) in _KEEPS:
        return any(_holds(given, names) for given in node.args)
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Subscript):
        return _holds(node.value, names)
    return False
