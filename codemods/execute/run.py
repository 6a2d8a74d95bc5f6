"""One execution of a function of a checkout, with a record of what it did."""

import ast
import re
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from codemods.autocast import REPLICATED
from codemods.bindings import Checkout
from codemods.execute.records import Event, Kind, Record
from codemods.interpret.interpreter import Interpreter, called_with
from codemods.interpret.values import (
    CannotFollow,
    Class,
    External,
    Frame,
    Function,
    Instance,
    Mesh,
    Raised,
    Unknown,
    derived,
    holds_unknown,
    show,
)
from codemods.meshes import Meshes, init_device_mesh
from codemods.names import Definition
from codemods.nodes import dotted, spelled
from codemods.shapes import DDP_REPLICATE, FULLY_SHARD
from codemods.targets import REPLICATE_MODULE

BLOCKS = 2
"""How many parts there are of what a plan walks over, as ``model.layers``."""

_LOG = re.compile(r"(^|\.|\b)(print|warn|warn_once|info|warning|debug|error)$")
_QUESTION = re.compile(r"is_|has_|(size|numel|get_(local_)?rank|get_world_size)$")
_MAKERS: tuple[Callable[..., Iterable[object]], ...] = (
    list, tuple, set, reversed, zip,
)  # fmt: skip
_PAIRS = {"items", "named_children", "named_modules", "named_parameters"}
_SINGLE = {"values", "children", "parameters", "buffers"}


@dataclass(frozen=True)
class _Partial:
    """What ``functools.partial`` gives."""

    called: object
    args: tuple[object, ...]
    keywords: tuple[tuple[str, object], ...]


class Run(Interpreter):
    """Executes one function; what it does is in ``record``.

    Args:
        checkout: the files.
        answers: what holds where the code cannot tell, by the text of the question.
        meshes: what ParallelDims built for the degrees of this run.
        matters: whether a function has to be entered where nothing asks for its value.
        passing: (path, line) of what is raised and passed over.
        stand_ins: what a parameter or attribute of a name is, wherever it is met.
    """

    asks = True

    def __init__(
        self,
        checkout: Checkout,
        answers: Mapping[str, bool],
        meshes: Meshes | None,
        matters: Callable[[Function], bool] = lambda function: True,
        passing: Set[tuple[str, int]] = frozenset(),
        stand_ins: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(checkout)
        self.record = Record()
        self._answers = answers
        self._meshes = meshes
        self._matters = matters
        self._passing = passing
        self._stand_ins = stand_ins or {}
        self._stored: dict[str, object] = {}
        self._wrapped: dict[str, None] = {}
        self._equal: dict[str, str] = {}
        self._place = ("", 0)

    def start(
        self, function: Function, given: Mapping[str, object] | None = None
    ) -> Record:
        """Execute a function with stand-ins for those of its parameters not given."""
        record = self.record
        try:
            values = {**self._given(function), **(given or {})}
            record.returned = show(self.call(function, [], values))
        except Raised as raised:
            record.raised_at = (raised.path, raised.line) if raised.path else None
            record.raised = (raised.kind, self._words(raised))
        except CannotFollow as error:
            record.unclear = str(error)
        except RecursionError:
            record.unclear = "it is nested too deeply"
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            record.unclear = f"a stand-in was not made for this: {error}"
        return record

    def _words(self, raised: Raised) -> str:
        """What is said of an exception; not what ParallelDims says of its own meshes."""
        home = self._meshes.parallel_dims.of if self._meshes else None
        own = home is not None and home.definition.path == raised.path
        return "" if own else raised.message

    def _given(self, function: Function) -> dict[str, object]:
        arguments = function.node.args
        every = [*arguments.posonlyargs, *arguments.args]
        optional = {a.arg for a in every[len(every) - len(arguments.defaults) :]}
        for arg, default in zip(arguments.kwonlyargs, arguments.kw_defaults):
            every.append(arg)
            if default is not None:
                optional.add(arg.arg)
        given: dict[str, object] = {}
        for arg in every:
            kind = spelled(arg.annotation) if arg.annotation else ""
            value = self._stand_in(arg.arg, kind)
            if value is not None:
                given[arg.arg] = value
            elif arg.arg not in optional:
                given[arg.arg] = Unknown(arg.arg)
        return given

    def _stand_in(self, name: str, kind: str = "") -> object:
        """ParallelDims or the world's mesh, by what a thing is called."""
        if name in self._stand_ins:
            return self._stand_ins[name]
        if self._meshes is None:
            return None
        if name == "parallel_dims" or re.search(r"\bParallelDims\b", kind):
            return self._meshes.parallel_dims
        if name == "world_mesh" or re.search(r"\bDeviceMesh\b", kind):
            return self._meshes.world
        return None

    # Questions

    def answer(self, question: str, otherwise: bool = True) -> bool:
        answer = self._answers.get(question)
        if answer is None:
            answer = self.record.asked.get(question, otherwise)
        self.record.asked[question] = answer
        return answer

    def unknown_comparison(self, op: ast.cmpop, left: object, right: object) -> object:
        words = (show(left), show(right))
        if "?" in "".join(words):
            raise CannotFollow(f"{words[0]} is compared with {words[1]}")
        if isinstance(op, (ast.Is, ast.IsNot, ast.Eq, ast.NotEq)):
            same = self._same(left, right, isinstance(op, (ast.Is, ast.IsNot)))
            return same is isinstance(op, (ast.Is, ast.Eq))
        if isinstance(op, (ast.In, ast.NotIn)):
            return self.answer(" in ".join(words)) is isinstance(op, ast.In)
        return self.answer(f" {type(op).__name__} ".join(words))

    def _same(self, left: object, right: object, identical: bool) -> bool:
        for one, other in ((left, right), (right, left)):
            if one is None:
                return isinstance(other, Unknown) and not self.answer(show(other))
        one, other = show(left), show(right)
        if one == other:
            return True
        if isinstance(left, External) and isinstance(right, External):
            return False
        fixed = [v for v in (left, right) if not holds_unknown(v)]
        if len(fixed) == 1 and not identical:
            unknown, constant = (other, one) if fixed[0] is left else (one, other)
            if unknown in self._equal:
                return self._equal[unknown] == constant
            holds = self.answer(f"{unknown} == {constant}")
            if holds:
                self._equal[unknown] = constant
            return holds
        word = " is " if identical else " == "
        return self.answer(word.join(sorted((one, other))), otherwise=False)

    def is_instance(self, value: object, kinds: object) -> object:
        named = [show(k) for k in (kinds if isinstance(kinds, tuple) else (kinds,))]
        last = {name.rpartition(".")[2] for name in named}
        if isinstance(value, Mesh):
            return "DeviceMesh" in last
        if last & {"FSDPModule", "ReplicateModule"} and len(last) == 1:
            return show(value) in self._wrapped
        if isinstance(value, Instance) and "kind" in value.attributes:
            return value.attributes["kind"] in last
        if isinstance(value, Instance) and isinstance(kinds, Class):
            return value.of is not None and value.of.definition == kinds.definition
        return super().is_instance(value, kinds)

    def _constant(
        self, definition: Definition, value: ast.expr, frame: Frame
    ) -> object:
        """A constant of a module: what making it calls was called on import."""
        return self._quiet(lambda: super(Run, self)._constant(definition, value, frame))

    # A model, a configuration: whatever is asked of them

    def attribute(self, owner: object, name: str, node: ast.AST) -> object:
        if isinstance(owner, Function):
            return Unknown(f"{show(owner)}.{name}")
        return super().attribute(owner, name, node)

    def class_attribute(self, owner: Instance, name: str) -> object:
        if "kind" in owner.attributes:  # a placement, which has what it has
            raise Raised("AttributeError", name)
        if self._meshes and owner is self._meshes.parallel_dims:
            return self._of_parallel_dims(owner, name)
        return super().class_attribute(owner, name)

    def _of_parallel_dims(self, owner: Instance, name: str) -> object:
        """What ParallelDims has, or is given by somebody outside of its class."""
        assert self._meshes is not None
        try:
            return super().class_attribute(owner, name)
        except Raised as raised:
            degree = owner.attributes.get(name.removesuffix("_enabled"))
            if raised.kind == "AttributeError" and isinstance(degree, int):
                return degree > 1
            if name in ("mesh", "world_mesh", "device_mesh"):
                return self._meshes.world
            raise

    def unknown_attribute(self, owner: Unknown, name: str) -> object:
        text = f"{owner}.{name}"
        if text in self._stored:
            return self._stored[text]
        if self._answers.get(f"hasattr({owner}, {name!r})") is False:
            raise Raised("AttributeError", name)
        if self._answers.get(text) is False:
            return None
        if name == REPLICATED and self._meshes is not None:
            # Whatever it is called, it is what can be asked that.
            return self.attribute(self._meshes.parallel_dims, name, ast.Pass())
        stand_in = self._stand_in(name)
        return Unknown(text, owner, name) if stand_in is None else stand_in

    def unknown_item(self, owner: Unknown | External, key: object) -> object:
        if isinstance(owner, Unknown) and isinstance(key, slice):
            return self.items(owner, ast.Pass())[key]
        if isinstance(key, str) and key.isdigit():
            key = int(key)
        if isinstance(key, int) and key < 0:
            key += BLOCKS
        text = f"{show(owner)}[{show(key)}]"
        if text in self._stored:
            return self._stored[text]
        return derived(text)

    def items(self, value: object, node: ast.AST) -> list[object]:
        if isinstance(value, Unknown):
            if "?" in value.text:
                raise CannotFollow(
                    f"line {getattr(node, 'lineno', 0)}: {value} is walked"
                )
            return [self.unknown_item(value, index) for index in range(BLOCKS)]
        return super().items(value, node)

    def spread(self, value: object) -> object:
        return self.items(value, ast.Pass()) if isinstance(value, Unknown) else value

    def plain_of_unknown(
        self,
        called: Callable[..., object],
        args: list[object],
        keywords: Mapping[str, object],
    ) -> object:
        if called in (any, all) and len(args) == 1:
            parts = self.items(args[0], ast.Pass())
            return called(self.truth(part, ast.Pass()) for part in parts)
        if called is bool:
            return self.truth(args[0], ast.Pass())
        if called is len:
            return len(self.items(args[0], ast.Pass()))
        if called is enumerate:
            start = [*args[1:], *keywords.values(), 0][0]
            items = self.items(args[0], ast.Pass())
            if isinstance(start, int):
                return list(enumerate(items, start))
            return [(derived(start, " + ", i), x) for i, x in enumerate(items)]
        if called in _MAKERS:
            spread = [self.items(arg, ast.Pass()) for arg in args]
            made: Iterable[object] = called(*spread, **keywords)
            return made if isinstance(made, (tuple, set)) else list(made)
        if called is dict and not args:
            return dict(keywords)
        return called_with(Unknown(called.__name__), args, keywords)

    def set_unknown(self, owner: Unknown | External, what: str, value: object) -> None:
        text = f"{show(owner)}{what}"
        self._stored[text] = value
        self._note("set", text, arguments=(("", show(value)),))

    # Calls

    def call(
        self,
        function: Function,
        args: Sequence[object],
        keywords: Mapping[str, object],
    ) -> object:
        if isinstance(function.node, ast.FunctionDef):
            name = f"{function.frame.scope}.{function.node.name}".lstrip(".")
            self.record.entered.add((function.frame.path, name))
        place = self._place
        try:
            if self._meshes and [*function.bound, *args][:1] == [
                self._meshes.parallel_dims
            ]:
                return self._quiet(
                    lambda: super(Run, self).call(function, args, keywords)
                )
            return super().call(function, args, keywords)
        finally:
            self._place = place

    def _quiet(self, do: Callable[[], object]) -> object:
        """Do what may have been done before, and so says nothing."""
        before = len(self.record.events)
        try:
            return do()
        finally:
            del self.record.events[before:]

    def make(self, cls: Class, values: Mapping[str, object]) -> Instance:
        if self._meshes is not None and "ParallelDims" in cls.definition.name:
            return self._meshes.parallel_dims
        return super().make(cls, values)

    def apply(
        self, called: object, args: list[object], keywords: Mapping[str, object]
    ) -> object:
        if isinstance(called, _Partial):
            given = {**dict(called.keywords), **keywords}
            return self.apply(called.called, [*called.args, *args], given)
        if isinstance(called, Class) and self._of_torch(called):
            return called_with(called, args, keywords)
        if isinstance(called, Function) and self._is_left_alone(called):
            return self._noted(self._dotted(called), args, keywords)
        if isinstance(called, Function) and not self._matters(called):
            before = len(self.record.events)
            try:
                return super().apply(called, args, keywords)
            except CannotFollow:
                # It is the same code before and after, so it stands for itself.
                del self.record.events[before:]
                return self._entered_not(called, args, keywords)
        return super().apply(called, args, keywords)

    def _is_left_alone(self, called: Function) -> bool:
        """Whether this checkout calls a function of its dependency that wraps nothing."""
        far = self.checkout.dependency
        here = self._place[0] not in far and not called.bound
        return here and called.frame.path in far and not self._matters(called)

    def _dotted(self, called: Function) -> str:
        module = self.checkout.files[called.frame.path].module
        return f"{module}.{getattr(called.node, 'name', '')}"

    def _of_torch(self, cls: Class) -> bool:
        """Whether a class is made of one from outside, as every model is."""
        if "ParallelDims" in cls.definition.name:
            return False
        for spelling in filter(None, map(dotted, cls.node.bases)):
            found = self.checkout.resolve(cls.definition.path, "", spelling)
            base = self.named(found) if found and found != cls.definition else None
            if not isinstance(base, Class) or self._of_torch(base):
                return True
        return False

    def _entered_not(
        self, called: object, args: Sequence[object], keywords: Mapping[str, object]
    ) -> Unknown:
        self._note("call", show(called), arguments=_arguments(args, keywords))
        return called_with(called, args, keywords)

    def call_external(
        self, name: str, args: list[object], keywords: Mapping[str, object]
    ) -> object:
        last = name.rpartition(".")[2]
        if last == "init_device_mesh":
            return init_device_mesh(name, args, keywords)
        if name == "functools.partial" and args:
            return _Partial(args[0], tuple(args[1:]), tuple(keywords.items()))
        module = name.rpartition(".")[0]
        if "." in module and self.checkout.path_of(module) is not None:
            raise CannotFollow(f"there is no {name}")
        kind = wraps(name)
        if kind is not None:
            return self._group(kind, name, args, keywords)
        return self._noted(name, args, keywords)

    def call_unknown(
        self, called: Unknown, args: list[object], keywords: Mapping[str, object]
    ) -> object:
        owner, name = called.owner, called.name
        if self._meshes and name in ("get_mesh", "get_optional_mesh"):
            method = self.attribute(self._meshes.parallel_dims, name, ast.Pass())
            return self.apply(method, args, keywords)
        if called.text == "setattr" and len(args) == 3:
            if isinstance(args[0], (Unknown, External)) and isinstance(args[1], str):
                self.set_unknown(args[0], f".{args[1]}", args[2])
                return None
        if owner is not None and not args:
            if name == "modules":
                inside = [m for m in self._wrapped if m.startswith(owner.text)]
                return [*map(Unknown, inside)] or [owner]
            parts = self.items(owner, ast.Pass()) if name in _PAIRS | _SINGLE else []
            if name in _PAIRS:
                return [(str(index), part) for index, part in enumerate(parts)]
            if name in _SINGLE:
                return parts
            if name == "keys":
                return [str(index) for index in range(BLOCKS)]
        return self._noted(called.text, args, keywords)

    def _noted(
        self, name: str, args: list[object], keywords: Mapping[str, object]
    ) -> Unknown:
        last = name.rpartition(".")[2]
        kind: Kind = "log" if _LOG.search(name) else "call"
        # A class only makes a value, and a question changes nothing.
        if kind == "log" or not (last[:1].isupper() or _QUESTION.match(last)):
            self._note(kind, name, arguments=_arguments(args, keywords))
        return called_with(Unknown(name), args, keywords)

    def _group(
        self, kind: Kind, name: str, args: list[object], keywords: Mapping[str, object]
    ) -> object:
        given = dict(keywords)
        module = args[0] if args else given.pop("module", Unknown("?"))
        for index, value in enumerate(args[1:]):
            given[str(index + 1)] = value
        parts = module if isinstance(module, (list, tuple)) else [module]
        names = tuple(map(show, parts))
        if any("?" in part for part in names):
            raise CannotFollow(f"line {self._place[1]}: what is wrapped is not known")
        self._wrapped |= dict.fromkeys(names)
        self._note(kind, name, names, _arguments([], given))
        return module

    def _note(
        self,
        kind: Kind,
        name: str,
        modules: tuple[str, ...] = (),
        arguments: tuple[tuple[str, str], ...] = (),
    ) -> None:
        self.record.events.append(Event(kind, name, modules, arguments, self._place))

    # Statements

    def execute(self, statements: Iterable[ast.stmt], frame: Frame) -> None:
        for statement in statements:
            self._place = (frame.path, statement.lineno)
            super().execute((statement,), frame)

    def _do_Expr(self, node: ast.Expr, frame: Frame) -> None:
        """A statement; the call of a function that does not matter is not entered."""
        call = node.value
        if isinstance(call, ast.Call) and dotted(call.func):
            called = self.evaluate(call.func, frame)
            if isinstance(called, Function) and not self._matters(called):
                args, keywords = self.arguments(call, frame)
                self._entered_not(called, args, keywords)
                return
        self.evaluate(call, frame)

    def _do_If(self, node: ast.If, frame: Frame) -> None:
        """An if; what would only raise is not assumed where that is open."""
        if isinstance(node.body[-1], ast.Raise) and not self._refuses(node, frame):
            self.execute(node.orelse, frame)
            return
        super()._do_If(node, frame)

    def _refuses(self, node: ast.If, frame: Frame) -> bool:
        before, events = set(self.record.asked), len(self.record.events)
        if not self.truth(self.evaluate(node.test, frame), node.test):
            return False
        open_ones = [
            q for q in self.record.asked if q not in before and q not in self._answers
        ]
        for question in open_ones:
            self.record.asked[question] = False
            self._equal.clear()
            del self.record.events[events:]
            if not self.truth(self.evaluate(node.test, frame), node.test):
                return False
        return True

    def _do_Raise(self, node: ast.Raise, frame: Frame) -> None:
        if (frame.path, node.lineno) not in self._passing:
            super()._do_Raise(node, frame)

    def _do_Assert(self, node: ast.Assert, frame: Frame) -> None:
        if (frame.path, node.lineno) not in self._passing:
            super()._do_Assert(node, frame)


def wraps(name: str) -> Kind | None:
    """What kind of group a call makes, by the dotted name of what is called."""
    if FULLY_SHARD.match(name):
        return "shard"
    if name.startswith(REPLICATE_MODULE) and name.endswith(".replicate"):
        return "replicate"
    if name in DDP_REPLICATE or name.endswith(".DistributedDataParallel"):
        return "ddp"
    return None


def _arguments(
    args: Sequence[object], keywords: Mapping[str, object]
) -> tuple[tuple[str, str], ...]:
    named = sorted((key, show(value)) for key, value in keywords.items())
    return (*(("", show(value)) for value in args), *named)
