"""Expressions of a checkout, with the values of ``values``."""

import ast
import math
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

from codemods.bindings import Checkout
from codemods.interpret.values import (
    Class,
    External,
    Frame,
    Function,
    Instance,
    Member,
    Mesh,
    Raised,
    Unknown,
    derived,
    holds_unknown,
    refuse,
    show,
)
from codemods.names import Definition, Import
from codemods.nodes import spelled
from codemods.source import SourceFile

_LARGEST = 1 << 53
LONGEST = 10_000

_OPERATORS: dict[type[ast.AST], Callable[[Any, Any], object]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.BitOr: operator.or_,
    ast.BitAnd: operator.and_,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Is: operator.is_,
    ast.IsNot: operator.is_not,
}

_BUILTINS: dict[str, Callable[..., Any]] = {
    "abs": abs, "all": all, "any": any, "bool": bool, "dict": dict, "enumerate": enumerate,
    "float": float, "frozenset": frozenset, "int": int, "len": len, "list": list,
    "max": max, "min": min, "reversed": reversed, "set": set, "sorted": sorted,
    "str": str, "sum": sum, "tuple": tuple, "zip": zip, "math.prod": math.prod,
    "math.ceil": math.ceil,
}  # fmt: skip

_METHODS: dict[type, frozenset[str]] = {
    list: frozenset("append extend insert index remove pop copy count".split()),
    tuple: frozenset("index count".split()),
    dict: frozenset("get items keys values update pop setdefault copy".split()),
    set: frozenset("add union difference intersection issubset update".split()),
    str: frozenset("join lower upper split strip startswith endswith replace".split()),
}
"""What may be called of plain values: nothing that reaches beyond them."""

ExternalCall = Callable[[str, list[object], Mapping[str, object]], object]


@dataclass(frozen=True)
class _Package:
    """Whether a module imports a part of a package by its whole name."""

    name: str

    def __call__(self, file: SourceFile) -> bool:
        return any(n.split(".")[0] == self.name for n in file.names.top.imports)


class Expressions(ABC):
    """Evaluates expressions; what runs statements and calls functions builds on it."""

    checkout: Checkout
    known: Mapping[str, object]
    asks: bool = False
    """Whether ``answer`` is asked where something is not known; else that is refused."""

    def answer(self, question: str) -> bool:
        """Whether something holds that is not known."""
        raise NotImplementedError

    @abstractmethod
    def call_external(
        self, name: str, args: list[object], keywords: Mapping[str, object]
    ) -> object:
        """What a call of something from outside the checkout gives, by its dotted name."""

    @abstractmethod
    def named(self, definition: Definition) -> object:
        """The function, class or constant that a module-level name is, else unknown."""

    @abstractmethod
    def call(
        self,
        function: Function,
        args: Sequence[object],
        keywords: Mapping[str, object],
    ) -> object:
        """What a function of the checkout returns."""

    @abstractmethod
    def apply(
        self, called: object, args: list[object], keywords: Mapping[str, object]
    ) -> object:
        """What a call of any value gives."""

    @abstractmethod
    def store(self, target: ast.expr, value: object, frame: Frame) -> None:
        """Assign a value to a target."""

    @abstractmethod
    def class_attribute(self, owner: Instance, name: str) -> object:
        """What an object has from its class."""

    @abstractmethod
    def of_class(self, owner: Class, name: str) -> object:
        """What a class has itself: a constant, or a member of an enumeration."""

    @abstractmethod
    def step(self) -> None:
        """Count one step of the evaluation."""

    def evaluate(self, node: ast.expr, frame: Frame) -> object:
        """What an expression is worth.

        Raises:
            CannotFollow: it goes beyond what is evaluated.
            Raised: evaluating it raises.
        """
        self.step()
        handler = getattr(self, f"_of_{type(node).__name__}", None)
        if handler is None:
            refuse(f"a {type(node).__name__} expression", node)
        value: object = handler(node, frame)
        return value

    def _of_Constant(self, node: ast.Constant, frame: Frame) -> object:
        return node.value

    def _of_Name(self, node: ast.Name, frame: Frame) -> object:
        here: Frame | None = frame
        while here is not None:
            if node.id in here.variables:
                return here.variables[node.id]
            here = here.outer
        found = self.checkout.files[frame.path].lookup(node.id)
        if isinstance(found, Import):
            return self.imported(found, frame, node.id)
        if isinstance(found, Definition):
            return self.named(found)
        if node.id in _BUILTINS:
            return _BUILTINS[node.id]
        if node.id in ("isinstance", "getattr", "hasattr", "print", "type", "range"):
            return External(node.id)
        if self.checkout.files[frame.path].all(_Package(node.id)):
            return External(node.id)  # `import a.b` binds `a`
        starred = self.checkout.resolve(frame.path, "", node.id)
        return derived(node.id) if starred is None else self.named(starred)

    def imported(self, found: Import, frame: Frame, local: str) -> object:
        full = ".".join(filter(None, (found.module, found.name)))
        if found.name is None and found.local == found.module:
            full = local  # `import a.b` binds `a`
        if full in self.known:
            return self.known[full]
        if found.name is not None:
            definition = self.checkout.resolve(frame.path, frame.scope, local)
            if definition is None:
                definition = self.checkout.resolve(frame.path, "", local)
            if definition is not None and self.checkout.defines(definition):
                return self.named(definition)
        return External(full)

    def _of_Attribute(self, node: ast.Attribute, frame: Frame) -> object:
        return self.attribute(self.evaluate(node.value, frame), node.attr, node)

    def attribute(self, owner: object, name: str, node: ast.AST) -> object:
        """An attribute of a value: a property is called, a method bound."""
        if isinstance(owner, Unknown):
            return self.unknown_attribute(owner, name)
        if isinstance(owner, External):
            return self._external_attribute(owner, name)
        if isinstance(owner, Instance):
            if name in owner.attributes:
                return owner.attributes[name]
            return self.class_attribute(owner, name)
        if isinstance(owner, Class):
            return self.of_class(owner, name)
        if isinstance(owner, Mesh):
            return self._of_mesh(owner, name, node)
        if isinstance(owner, Member):
            owner = str(owner)
            if name == "value":
                return owner
        if name in _METHODS.get(type(owner), ()):
            return getattr(owner, name)
        if type(owner) in _METHODS or owner is None:
            raise Raised("AttributeError", name)
        refuse(f"{name} of {type(owner).__name__}", node)

    def unknown_attribute(self, owner: Unknown, name: str) -> object:
        """An attribute of what is not known."""
        return Unknown(f"{owner}.{name}", owner, name)

    def unknown_item(self, owner: Unknown | External, key: object) -> object:
        """An item of what is not known, or under a key that is not."""
        return derived(owner, "[", key, "]")

    def _external_attribute(self, owner: External, name: str) -> object:
        full = f"{owner.name}.{name}"
        if full in self.known:
            return self.known[full]
        if full in _BUILTINS:
            return _BUILTINS[full]
        if self.checkout.path_of(owner.name) is not None:
            definition = self.checkout.at(full)
            if definition is not None and self.checkout.defines(definition):
                return self.named(definition)
        return External(full)

    def _of_mesh(self, mesh: Mesh, name: str, node: ast.AST) -> object:
        if name == "ndim":
            return len(mesh.sizes)
        if name == "mesh_dim_names":
            return mesh.names
        if name == "shape":
            return mesh.sizes
        if name == "size":
            return lambda mesh_dim=None: (
                math.prod(mesh.sizes) if mesh_dim is None else mesh.sizes[mesh_dim]
            )
        if name in ("_flatten", "flatten"):
            return lambda mesh_dim_name=None, **_: mesh.flatten(
                mesh_dim_name or "_".join(mesh.names)
            )
        if name == "_unflatten":
            return lambda dim, mesh_sizes, mesh_dim_names, **_: mesh.unflatten(
                dim, tuple(mesh_sizes), tuple(mesh_dim_names)
            )
        return Unknown(f"{mesh}.{name}")  # groups, ranks, devices

    def _of_Subscript(self, node: ast.Subscript, frame: Frame) -> object:
        owner, key = self.evaluate(node.value, frame), self.evaluate(node.slice, frame)
        if isinstance(owner, (Unknown, External)):
            return self.unknown_item(owner, key)
        absent = type(owner) is dict and key not in owner and holds_unknown(owner)
        if absent or (isinstance(key, Unknown) and not self._has(owner, key)):
            return derived(spelled(node.value), "[", key, "]")
        if isinstance(owner, Mesh):
            names = (key,) if isinstance(key, str) else key
            if not isinstance(names, tuple) or not all(
                isinstance(n, str) for n in names
            ):
                refuse("a mesh is sliced by something other than names", node)
            return owner.sliced(names)
        if type(owner) not in (list, tuple, dict, str):
            refuse(f"an item of {type(owner).__name__}", node)
        try:
            return owner[key]  # type: ignore[index]  # narrowed by type()
        except (KeyError, IndexError, TypeError) as error:
            raise Raised(type(error).__name__, str(error)) from error

    @staticmethod
    def _has(owner: object, key: object) -> bool:
        return isinstance(owner, dict) and key in owner

    def _of_Slice(self, node: ast.Slice, frame: Frame) -> object:
        parts = (node.lower, node.upper, node.step)
        values = [self.evaluate(p, frame) if p else None for p in parts]
        if any(isinstance(value, Unknown) for value in values):
            return derived(*(p for v in values for p in (v, ":")))
        return slice(*values)

    def _of_Call(self, node: ast.Call, frame: Frame) -> object:
        called = self.evaluate(node.func, frame)
        args, keywords = self.arguments(node, frame)
        if isinstance(called, External) and "." not in called.name:
            return self._builtin(called.name, args, keywords, node)
        return self.apply(called, args, keywords)

    def arguments(
        self, node: ast.Call, frame: Frame
    ) -> tuple[list[object], dict[str, object]]:
        """What a call passes, by position and by name."""
        args: list[object] = []
        for argument in node.args:
            if isinstance(argument, ast.Starred):
                args += self.items(self.evaluate(argument.value, frame), argument)
            else:
                args.append(self.evaluate(argument, frame))
        keywords: dict[str, object] = {}
        for keyword in node.keywords:
            value = self.evaluate(keyword.value, frame)
            if keyword.arg is not None:
                keywords[keyword.arg] = value
            elif isinstance(value, dict):
                keywords |= value
            elif isinstance(value, Unknown):
                keywords[f"**{value}"] = value
            else:
                refuse("arguments by **", node)
        return args, keywords

    def _builtin(
        self,
        name: str,
        args: list[object],
        keywords: Mapping[str, object],
        node: ast.AST,
    ) -> object:
        if name == "range":
            if all(type(a) is int and abs(a) < 10_000 for a in args):
                return list(range(*args))  # type: ignore[call-overload]  # all are int
            if self.asks and any(isinstance(a, Unknown) for a in args):
                return derived("range", tuple(args))
            refuse("a range of unknown or great length", node)
        if name in ("getattr", "hasattr"):
            try:
                value = self.attribute(args[0], str(args[1]), node)
            except Raised:
                if name == "getattr" and len(args) > 2:
                    return args[2]
                if name == "getattr":
                    raise
                return False
            if name == "getattr":
                return value
            if isinstance(value, Unknown):
                return derived("hasattr(", args[0], f", {args[1]!r})")
            return True
        if name == "isinstance":
            return self.is_instance(args[0], args[1])
        if name == "type":
            return derived("type(", args[0], ")")
        return self.call_external(name, args, keywords)

    def _of_BinOp(self, node: ast.BinOp, frame: Frame) -> object:
        left, right = self.evaluate(node.left, frame), self.evaluate(node.right, frame)
        return self.binary(node.op, left, right, node)

    def binary(
        self, op: ast.operator, left: object, right: object, node: ast.AST
    ) -> object:
        if isinstance(left, (Unknown, External)) or isinstance(
            right, (Unknown, External)
        ):
            return derived(left, f" {type(op).__name__} ", right)
        function = _OPERATORS.get(type(op))
        if function is None:
            refuse(f"the operator {type(op).__name__}", node)
        if isinstance(op, ast.Mult) and not (_is_number(left) and _is_number(right)):
            size = max(v for v in (left, right, 0) if isinstance(v, int))
            if size > 1000:
                refuse("a long repetition", node)
        try:
            value = function(left, right)
        except (TypeError, ZeroDivisionError) as error:
            raise Raised(type(error).__name__, str(error)) from error
        if _is_number(value) and abs(value) > _LARGEST:  # type: ignore[arg-type]  # a number
            refuse("a number beyond all measure", node)
        if isinstance(value, Sized) and len(value) > LONGEST:
            refuse("a value grows beyond all measure", node)
        return value

    def _of_BoolOp(self, node: ast.BoolOp, frame: Frame) -> object:
        stops_at = isinstance(node.op, ast.Or)
        value: object = None
        for part in node.values:
            value = self.evaluate(part, frame)
            if isinstance(value, Unknown) and not self.asks:
                return derived(spelled(node))
            if self.truth(value, part) is stops_at:
                return value
        return value

    def _of_UnaryOp(self, node: ast.UnaryOp, frame: Frame) -> object:
        value = self.evaluate(node.operand, frame)
        if isinstance(node.op, ast.Not):
            if isinstance(value, Unknown) and not self.asks:
                return derived("not ", value)
            return not self.truth(value, node)
        if isinstance(value, Unknown):
            return derived(type(node.op).__name__, " ", value)
        if isinstance(node.op, ast.USub) and _is_number(value):
            return -value  # type: ignore[operator]  # a number
        refuse(f"the operator {type(node.op).__name__}", node)

    def _of_Compare(self, node: ast.Compare, frame: Frame) -> object:
        left = self.evaluate(node.left, frame)
        for op, comparator in zip(node.ops, node.comparators):
            right = self.evaluate(comparator, frame)
            holds: object
            if holds_unknown(left) or holds_unknown(right):
                holds = self.unknown_comparison(op, left, right)
                if isinstance(holds, Unknown) and node.ops[-1] is op:
                    return holds
                if isinstance(holds, Unknown):
                    return derived(holds, " in ", spelled(node))
                if not holds:
                    return False
                left = right
                continue
            if isinstance(op, (ast.In, ast.NotIn)):
                held = left in self.items(right, node)
                holds = held is isinstance(op, ast.In)
            else:
                holds = self._binary_compare(op, left, right)
            if not holds:
                return False
            left = right
        return True

    def unknown_comparison(self, op: ast.cmpop, left: object, right: object) -> object:
        """Whether a comparison holds of what is not known."""
        return derived(left, f" {type(op).__name__} ", right)

    @staticmethod
    def _binary_compare(op: ast.cmpop, left: object, right: object) -> object:
        try:
            return _OPERATORS[type(op)](left, right)
        except TypeError as error:
            raise Raised("TypeError", str(error)) from error

    def _of_IfExp(self, node: ast.IfExp, frame: Frame) -> object:
        if self.truth(self.evaluate(node.test, frame), node.test):
            return self.evaluate(node.body, frame)
        return self.evaluate(node.orelse, frame)

    def _of_List(self, node: ast.List | ast.Tuple | ast.Set, frame: Frame) -> object:
        items: list[object] = []
        for element in node.elts:
            if isinstance(element, ast.Starred):
                items += self.items(self.evaluate(element.value, frame), element)
            else:
                items.append(self.evaluate(element, frame))
        if isinstance(node, ast.Set):
            return set(items)
        return tuple(items) if isinstance(node, ast.Tuple) else items

    _of_Tuple = _of_Set = _of_List

    def _of_Dict(self, node: ast.Dict, frame: Frame) -> object:
        made: dict[object, object] = {}
        for key, value in zip(node.keys, node.values):
            worth = self.evaluate(value, frame)
            if key is None:
                if isinstance(worth, Unknown):
                    worth = {f"**{worth}": worth}
                if not isinstance(worth, dict):
                    refuse("a dictionary spread by **", node)
                made |= worth
            else:
                made[self.evaluate(key, frame)] = worth
        return made

    def _of_JoinedStr(self, node: ast.JoinedStr, frame: Frame) -> object:
        parts, unknown = [], False
        for part in node.values:
            inner = part.value if isinstance(part, ast.FormattedValue) else part
            value = self.evaluate(inner, frame)
            parts.append(value if isinstance(value, str) else show(value))
            unknown = unknown or isinstance(value, Unknown)
        return derived(*parts) if unknown else "".join(parts)

    def _of_Lambda(self, node: ast.Lambda, frame: Frame) -> object:
        return Function(node, frame)

    def _of_NamedExpr(self, node: ast.NamedExpr, frame: Frame) -> object:
        value = self.evaluate(node.value, frame)
        self.store(node.target, value, frame)
        return value

    def _of_ListComp(
        self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp, frame: Frame
    ) -> object:
        found = [
            self.evaluate(node.elt, f) for f in self._frames(node.generators, frame)
        ]
        return set(found) if isinstance(node, ast.SetComp) else found

    _of_SetComp = _of_GeneratorExp = _of_ListComp

    def _of_DictComp(self, node: ast.DictComp, frame: Frame) -> object:
        return {
            self.evaluate(node.key, f): self.evaluate(node.value, f)
            for f in self._frames(node.generators, frame)
        }

    def _frames(
        self, generators: Sequence[ast.comprehension], frame: Frame
    ) -> list[Frame]:
        """The frame of each round of a comprehension."""
        rounds = [Frame(frame.path, frame.scope, {}, frame)]
        for generator in generators:
            onward = []
            for one in rounds:
                for item in self.items(self.evaluate(generator.iter, one), generator):
                    self.step()
                    inner = Frame(one.path, one.scope, dict(one.variables), frame)
                    self.store(generator.target, item, inner)
                    if all(
                        self.truth(self.evaluate(test, inner), test)
                        for test in generator.ifs
                    ):
                        onward.append(inner)
            rounds = onward
        return rounds

    def items(self, value: object, node: ast.AST) -> list[Any]:
        if isinstance(
            value, (list, tuple, dict, set, frozenset, str, zip, enumerate, reversed)
        ) or type(value).__name__ in ("dict_items", "dict_keys", "dict_values"):
            walked: Iterable[Any] = value  # type: ignore[assignment]  # all of these can be
            return list(walked)
        refuse(f"something not known is walked ({value!r})", node)

    def truth(self, value: object, node: ast.AST) -> bool:
        if isinstance(value, (Unknown, External)):
            if not self.asks or "?" in show(value):
                refuse(f"`{spelled(node)}` is not known", node)
            return self.answer(show(value))
        return bool(value)

    def is_instance(self, value: object, kinds: object) -> object:
        """Whether a value is of some types, as far as that is known."""
        return _is_instance(value, kinds)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_instance(value: object, kinds: object) -> object:
    """Whether a plain value is of plain types; unknown for all else."""
    asked = kinds if isinstance(kinds, tuple) else (kinds,)
    plain = type(value) in (bool, int, float, str, list, tuple, dict, set, type(None))
    if plain and all(isinstance(kind, type) for kind in asked):
        return isinstance(value, asked)
    return derived("isinstance(", value, ", ", kinds, ")")
