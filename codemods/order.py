"""What a trainer does in which order, as far as it matters to weights that stay gathered.

After a forward under ``no_grad`` replicate leaves parameters as they were computed with,
until the next backward. So what counts is what comes between an evaluation and that.
Calls are followed into functions of the checkout, and a loop is gone through twice.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from codemods.bindings import Checkout
from codemods.modules import Function, Named, functions, is_model
from codemods.nodes import children, dotted, last, nodes, spelled
from codemods.once import once
from codemods.parameters import loops
from codemods.source import SourceFile

Kind = Literal["evaluate", "settle", "weights", "optimizer", "yield"]
"""``settle``: a backward or a ``reshard()``, after which parameters are as they should be."""

_NO_GRAD = ("no_grad", "inference_mode", "set_grad_enabled(False)")
_ALIKE = 4
"""As many methods of one name may stand for what is called; of more none is taken."""

_EVERYDAY = frozenset(
    name for kind in (dict, list, set, str, bytes) for name in dir(kind)
) | {
    *("step", "zero_grad", "forward", "backward", "train", "eval", "to", "apply"),
    *("state_dict", "load_state_dict", "parameters", "close", "write", "log", "build"),
    *("load", "save", "get_mesh", "restore", "record", "info", "register", "run"),
}
"""Methods that too many things have to be followed by their name."""

_TELLING = ("param", "no_grad", "backward", "model")
"""What such a method has to speak of, to be worth a look."""

_QUIET = (
    *(ast.Name, ast.Constant, ast.operator, ast.cmpop),
    *(ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda),
)
"""What nothing happens in, or not yet."""

_SIMPLE = ast.Expr | ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Return

_HARMLESS = {
    *("grad", "requires_grad", "requires_grad_", "numel", "nelement", "shape", "size"),
    *(
        "dtype",
        "device",
        "ndim",
        "dim",
        "is_meta",
        "is_leaf",
        "register_hook",
        "stride",
    ),
    *("register_post_accumulate_grad_hook", "element_size", "itemsize", "placements"),
    *("device_mesh", "is_contiguous", "storage_offset", "is_cuda"),
}
_NO_READER = {
    "isinstance",
    "len",
    "id",
    "type",
    "hasattr",
    "getattr",
    "append",
    "extend",
}
_OF_ALL = {
    *(
        "parameters_to_vector",
        "vector_to_parameters",
        "update_parameters",
        "swap_swa_sgd",
    ),
    *("get_total_norm", "copy_to", "deepcopy"),
}
_OPTIMIZERS = (
    "AdamW",
    "Adam",
    "SGD",
    "Adafactor",
    "Muon",
    "RMSprop",
    "build_optimizers",
)


@dataclass(frozen=True)
class Event:
    """Something that a trainer does.

    Args:
        kind: what.
        path, line: where.
        code: as it is written.
    """

    kind: Kind
    path: str
    line: int
    code: str


@dataclass
class Order:
    """The events of the functions of some files.

    Args:
        checkout: all files.
        paths: those that have to do with training.
    """

    checkout: Checkout
    paths: frozenset[str]
    _known: dict[tuple[int, bool], list[Event]] = field(default_factory=dict)
    _kinds: dict[tuple[str, str], bool] = field(default_factory=dict)
    _named: dict[str, list[tuple[SourceFile, str]]] = field(default_factory=dict)

    def _holders(self, name: str) -> list[tuple[SourceFile, str]]:
        """(file, class) of every class with a method of that name."""
        if name not in self._named:
            self._named[name] = [
                (file, owner)
                for file in self.checkout.defining(name)
                if file.path in self.paths
                for owner in file.all(_Owners(name))
            ]
        return self._named[name]

    def after_evaluations(self, kind: Kind) -> Iterator[tuple[Event, Event]]:
        """Every event of a kind that comes after an evaluation, with that; each once.

        Args:
            kind: ``weights`` or ``optimizer``.
        """
        found: dict[tuple[str, int], tuple[Event, Event]] = {}
        for file, function in self._entries:
            evaluated: Event | None = None
            for event in self.events(file, function):
                if event.kind == "settle":
                    evaluated = None
                elif event.kind == "evaluate":
                    evaluated = event
                elif event.kind == kind and evaluated is not None:
                    found.setdefault((event.path, event.line), (event, evaluated))
        yield from (found[place] for place in sorted(found))

    @cached_property
    def _entries(self) -> list[tuple[SourceFile, Function]]:
        """The functions that evaluate, and those that call them, by their names."""
        found: dict[int, tuple[SourceFile, Function]] = {}
        sought: set[str] = set()
        new = set(_NO_GRAD)
        while new:
            words = {f"{name}(" for name in new} if sought else new
            names = set()
            for file in self.checkout.mentioning(*words):
                if file.path not in self.paths:
                    continue
                for function in file.all(_Saying(frozenset(words))):
                    if id(function) not in found:
                        found[id(function)] = file, function
                        names.add(function.name)
            sought |= new
            new = names - sought - _EVERYDAY
        return list(found.values())

    def events(
        self, file: SourceFile, function: Function, no_grad: bool = False
    ) -> list[Event]:
        """What a function does, in the order of its text, what it calls included."""
        off = no_grad or any(_is_no_grad(d) for d in function.decorator_list)
        key = id(function), off
        if key not in self._known:
            self._known[key] = []  # what calls itself does nothing more
            reader = _Reader(self, file, function, off)
            self._known[key] = _short(reader.block(function.body))
        return self._known[key]

    def called(
        self, file: SourceFile, call: ast.Call
    ) -> list[tuple[SourceFile, Function]]:
        """The functions that a call may lead into."""
        spelling = dotted(call.func)
        if spelling is not None:
            at = self.checkout.resolve(file.path, "", spelling)
            if at is not None and at.path in self.paths:
                home = self.checkout.files[at.path]
                members = home.all(Named(at.name))
                return [(home, node) for owner, node in members if not owner]
        if not isinstance(call.func, ast.Attribute):
            return []
        name, receiver = call.func.attr, call.func.value
        if isinstance(receiver, ast.Name) and receiver.id == "self":
            mine = file.all(Named(name)) if file.path in self.paths else ()
            return [(file, method) for owner, method in mine if owner][:_ALIKE]
        alike = self._by_name(name, receiver)
        return alike if len(alike) <= _ALIKE else []

    def _by_name(
        self, name: str, receiver: ast.expr
    ) -> list[tuple[SourceFile, Function]]:
        """The methods that a call of a name on something may lead into; none where too many have it."""
        holders = self._holders(name)
        everyday = name in _EVERYDAY
        if everyday:
            holders = [one for one in holders if self._is_a(receiver, one[1])]
        elif len(holders) > _ALIKE:
            return []
        return [
            (home, method)
            for home, kind in holders
            for owner, method in home.all(Named(name))
            if owner == kind
            if not everyday or any(word in text(home, method) for word in _TELLING)
        ]

    def _is_a(self, receiver: ast.expr, kind: str) -> bool:
        """Whether something of that name is made from the class, or said to be one."""
        name = spelled(receiver).rpartition(".")[2]
        if (name, kind) not in self._kinds:
            words = f"{name} = {kind}(", f"{name}: {kind}"
            self._kinds[name, kind] = any(self.checkout.mentioning(*words))
        return self._kinds[name, kind]


@dataclass
class _Reader:
    """Reads one function."""

    order: Order
    file: SourceFile
    function: Function
    no_grad: bool

    @cached_property
    def _weights(self) -> dict[int, ast.AST]:
        """The id of each loop over parameters -> where it first uses the value of one."""
        found: dict[int, ast.AST] = {}
        if "param" not in text(self.file, self.function):
            return found
        for loop in loops(self.function):
            for statement in loop.inner:
                use = _use(statement, set(loop.names))
                if use is not None:
                    found.setdefault(id(loop.node), use)
        return found

    def block(self, statements: list[ast.stmt]) -> list[Event]:
        return [event for one in statements for event in self.node(one)]

    def node(self, node: ast.AST) -> list[Event]:
        """The events of a statement or expression, in the order they happen in."""
        if isinstance(node, _QUIET):
            return []
        if isinstance(node, ast.expr) and not self._weights:
            return [event for call in _calls(node) for event in self._call(call)]
        if isinstance(node, ast.With | ast.AsyncWith):
            return self._with(node)
        if isinstance(node, ast.If):
            ways = [self.block(node.body), self.block(node.orelse)]
            return [*self.node(node.test), *self._either(node, ways)]
        found: list[Event] = []
        if id(node) in self._weights:
            use = self._weights[id(node)]
            found.append(self._event("weights", use))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Yield):
            return [self._event("yield", node)]
        inner = [event for part in _parts(node) for event in self.node(part)]
        if isinstance(node, ast.For | ast.While):
            inner = _short(inner + inner)
        found += inner
        if isinstance(node, ast.Call):
            found += self._call(node)
        return found

    def _with(self, node: ast.With | ast.AsyncWith) -> list[Event]:
        before: list[Event] = []
        after: list[Event] = []
        was, self.no_grad = (
            self.no_grad,
            self.no_grad or any(_is_no_grad(item.context_expr) for item in node.items),
        )
        for item in node.items:
            given = self.node(item.context_expr)
            at = next((i for i, e in enumerate(given) if e.kind == "yield"), len(given))
            before += given[:at]
            after = [e for e in given[at:] if e.kind != "yield"] + after
        body = self.block(node.body)
        self.no_grad = was
        return [*before, *body, *after]

    def _call(self, call: ast.Call) -> list[Event]:
        name = last(call.func)
        if name == "backward" or "reshard" in name:
            return [self._event("settle", call)]
        if self.no_grad and _is_forward(call.func):
            return [self._event("evaluate", call)]
        if name in _OF_ALL and any("model" in spelled(a) for a in call.args):
            return [self._event("weights", call)]
        if name in _OPTIMIZERS and call.args:
            return [self._event("optimizer", call)]
        return self._either(
            call,
            [
                self.order.events(file, function, self.no_grad)
                for file, function in self.order.called(self.file, call)
            ],
        )

    def _either(self, at: ast.AST, ways: list[list[Event]]) -> list[Event]:
        """Events of which one list happens: no evaluation of one is before another."""
        found: list[Event] = []
        for way in ways:
            if found and any(event.kind in ("weights", "optimizer") for event in way):
                found.append(self._event("settle", at))
            found += way
        return found

    def _event(self, kind: Kind, node: ast.AST) -> Event:
        assert isinstance(node, ast.expr | ast.stmt)
        return Event(kind, self.file.path, node.lineno, spelled(node))


def _parts(node: ast.AST) -> list[ast.AST]:
    """What happens in a node, in order: a value before what it is assigned to."""
    if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
        return [node.value] if node.value is not None else []
    return children(node)


@once
def _calls(node: ast.AST) -> tuple[ast.Call, ...]:
    """The calls in an expression, in the order they happen in."""
    return tuple(_each_call(node))


def _each_call(node: ast.AST) -> Iterator[ast.Call]:
    if not isinstance(node, _QUIET):
        for child in children(node):
            yield from _each_call(child)
        if isinstance(node, ast.Call):
            yield node


@dataclass(frozen=True)
class _Owners:
    """Finds the classes that have a method of one name, each once."""

    name: str

    def __call__(self, file: SourceFile) -> tuple[str, ...]:
        owners = (owner for owner, _ in Named(self.name)(file) if owner)
        return tuple(dict.fromkeys(owners))


@dataclass(frozen=True)
class _Saying:
    """Finds the functions in whose text is one of some words."""

    words: frozenset[str]

    def __call__(self, file: SourceFile) -> tuple[Function, ...]:
        return tuple(
            function
            for function in functions(file.syntax)
            if any(word in text(file, function) for word in self.words)
        )


@dataclass(frozen=True)
class _Lines:
    """Finds the lines of a file from one to another, counted from 1."""

    first: int
    last: int

    def __call__(self, file: SourceFile) -> tuple[str, ...]:
        return tuple(file.lines[self.first - 1 : self.last])


def text(file: SourceFile, node: Function | ast.ClassDef) -> str:
    """The text of a function or class, decorators included."""
    first = min((d.lineno for d in node.decorator_list), default=node.lineno)
    lines = _Lines(first, node.end_lineno or node.lineno)
    return "\n".join(file.all(lines))


def _short(events: list[Event]) -> list[Event]:
    """Without an event that stands for the one before it again."""
    kept: list[Event] = []
    for event in events:
        if not kept or kept[-1] != event:
            kept.append(event)
    return kept


def _is_no_grad(node: ast.expr) -> bool:
    return any(word in spelled(node) for word in _NO_GRAD)


def _is_forward(function: ast.expr) -> bool:
    """``self.model``, and ``self.pp_schedule.eval``, as what is called."""
    shown = spelled(function)
    return is_model(function) or (shown.endswith(".eval") and "schedule" in shown)


def _use(tree: ast.AST, names: set[str]) -> ast.AST | None:
    """The statement, or expression, that first reads or writes the value of one of these."""
    simple: list[ast.AST] = [n for n in nodes(tree) if isinstance(n, _SIMPLE)]
    for whole in simple or [tree]:
        for node in nodes(whole):
            for child in children(node):
                if isinstance(child, ast.Name) and child.id in names:
                    if _reads(node, child):
                        return whole
    return None


def _reads(parent: ast.AST, name: ast.Name) -> bool:
    if isinstance(parent, ast.Attribute):
        return parent.attr not in _HARMLESS
    if isinstance(parent, ast.Call):
        return name in parent.args and last(parent.func) not in _NO_READER
    if isinstance(parent, ast.Subscript):
        return parent.value is name
    return isinstance(parent, ast.BinOp | ast.AugAssign)
