"""Walk statements, calls and objects of a checkout with the values of ``values``."""

import ast
from collections.abc import Callable, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Any

from codemods.bindings import Checkout
from codemods.interpret.expressions import LONGEST, Expressions, ExternalCall
from codemods.interpret.values import (
    UNKNOWN,
    CannotFollow,
    Class,
    External,
    Frame,
    Function,
    Instance,
    Member,
    Raised,
    Unknown,
    derived,
    holds_unknown,
    refuse,
    show,
)
from codemods.names import Definition
from codemods.nodes import dotted, spelled
from codemods.once import once
from codemods.source import SourceFile

_STEPS = 200_000

_SEARCHES = {"index", "count", "remove", "get", "pop", "setdefault"}
"""Methods of lists and dictionaries that look for what they are given."""


@dataclass(frozen=True)
class _Giving:
    """Finds the functions, classes and values that a module gives a name to, in order."""

    name: str

    def __call__(
        self, file: SourceFile
    ) -> tuple[ast.FunctionDef | ast.ClassDef | ast.expr, ...]:
        return _given(file).get(self.name, ())


@once
def _given(
    file: SourceFile,
) -> dict[str, tuple[ast.FunctionDef | ast.ClassDef | ast.expr, ...]]:
    found: dict[str, tuple[ast.FunctionDef | ast.ClassDef | ast.expr, ...]] = {}
    for node in file.syntax.body:
        given: list[tuple[str, ast.FunctionDef | ast.ClassDef | ast.expr]] = []
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            given = [(node.name, node)]
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            given = [(t.id, node.value) for t in targets if isinstance(t, ast.Name)]
        for name, value in given:
            found[name] = (*found.get(name, ()), value)
    return found


class _Return(Exception):
    def __init__(self, value: object) -> None:
        self.value = value


class _Break(Exception):
    pass


class _Continue(Exception):
    pass


class Interpreter(Expressions):
    """Evaluates functions of a checkout.

    Args:
        checkout: where names are looked up.
        call_external: what a call of something from outside gives, by its dotted
            name; ``UNKNOWN`` for what it does not care about.
        known: dotted external names -> what they are worth.
    """

    def __init__(
        self,
        checkout: Checkout,
        call_external: ExternalCall = lambda name, args, keywords: UNKNOWN,
        known: Mapping[str, object] | None = None,
    ) -> None:
        self.checkout = checkout
        self._call_external = call_external
        self.known = known or {}
        self._left = _STEPS
        self._depth = 0
        self._handled: list[Raised] = []
        self._constants: dict[Definition, object] = {}
        self._named: dict[Definition, object] = {}
        self._members: dict[tuple[Definition, str], Instance] = {}

    def call_external(
        self, name: str, args: list[object], keywords: Mapping[str, object]
    ) -> object:
        return self._call_external(name, args, keywords)

    # What a checkout holds

    def named(self, definition: Definition) -> object:
        """The function, class or constant that a module-level name is, else unknown."""
        if definition not in self._named:
            self._named[definition] = self._find(definition)
        return self._named[definition]

    def _find(self, definition: Definition) -> object:
        frame = Frame(definition.path, "")
        found: object = Unknown(definition.name)
        for node in self.checkout.files[definition.path].all(_Giving(definition.name)):
            if isinstance(node, ast.FunctionDef):
                found = Function(node, frame)
            elif isinstance(node, ast.ClassDef):
                found = Class(definition, node)
            else:
                found = self._constant(definition, node, frame)
        return found

    def _constant(
        self, definition: Definition, value: ast.expr, frame: Frame
    ) -> object:
        if definition not in self._constants:
            self._constants[definition] = Unknown(
                definition.name
            )  # of itself, while it is evaluated
            self._constants[definition] = self.evaluate(value, frame)
        return self._constants[definition]

    def make(self, cls: Class, values: Mapping[str, object]) -> Instance:
        """An object of a class, made from values by the names of its parameters.

        Parameters of ``__init__``, or fields of a dataclass, that are not in
        ``values`` get their default, or are unknown.
        """
        made = Instance(of=cls)
        init = self._method(cls, "__init__")
        if init is not None:
            names = [a.arg for a in (*init.node.args.args, *init.node.args.kwonlyargs)]
            given = {n: values[n] for n in names[1:] if n in values}
            given |= {
                n: Unknown(n) for n in self._without_default(init) if n not in given
            }
            given.pop(names[0], None)
            self.call(Function(init.node, init.frame, (made,)), [], given)
            return made
        for node in self.class_body(cls):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                name = node.target.id
                if name in values:
                    made.attributes[name] = values[name]
                elif node.value is not None:
                    made.attributes[name] = self._default(node.value, cls)
                else:
                    made.attributes[name] = Unknown(name)
        after = self._method(cls, "__post_init__")
        if after is not None:
            self.call(Function(after.node, after.frame, (made,)), [], {})
        return made

    def _default(self, node: ast.expr, cls: Class) -> object:
        """The default of a field, its own for each object."""
        if isinstance(node, ast.Call) and (dotted(node.func) or "").endswith("field"):
            for keyword in node.keywords:
                if keyword.arg == "default_factory":
                    made = self.evaluate(keyword.value, Frame(cls.definition.path, ""))
                    return self.apply(made, [], {})
                if keyword.arg == "default":
                    node = keyword.value
        return self.evaluate(node, Frame(cls.definition.path, ""))

    @staticmethod
    def _without_default(function: Function) -> list[str]:
        arguments = function.node.args
        count = len(arguments.args) - len(arguments.defaults)
        names = [a.arg for a in arguments.args[:count]]
        for arg, default in zip(arguments.kwonlyargs, arguments.kw_defaults):
            if default is None:
                names.append(arg.arg)
        return names

    def class_body(self, cls: Class) -> list[ast.stmt]:
        """The statements of a class after those of its bases in the checkout."""
        body: list[ast.stmt] = []
        for base in cls.node.bases:
            spelling = dotted(base)
            found = spelling and self.checkout.resolve(
                cls.definition.path, "", spelling
            )
            if found and found != cls.definition:
                inherited = self.named(found)
                if isinstance(inherited, Class):
                    body += self.class_body(inherited)
        return [*body, *cls.node.body]

    def _method(self, cls: Class, name: str) -> Function | None:
        for node in reversed(self.class_body(cls)):
            if isinstance(node, ast.FunctionDef) and node.name == name:
                scope = cls.definition.name
                return Function(node, Frame(cls.definition.path, scope))
        return None

    def class_attribute(self, owner: Instance, name: str) -> object:
        if owner.of is None:
            return Unknown(f"{show(owner)}.{name}")
        method = self._method(owner.of, name)
        if method is not None:
            assert isinstance(method.node, ast.FunctionDef)
            kinds = {spelled(d).split(".")[-1] for d in method.node.decorator_list}
            if kinds & {"property", "cached_property"}:
                return self.call(method, [owner], {})
            if "staticmethod" in kinds:
                return method
            return Function(method.node, method.frame, (owner,))
        for statement in reversed(self.class_body(owner.of)):
            if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value:
                targets = (
                    statement.targets
                    if isinstance(statement, ast.Assign)
                    else [statement.target]
                )
                if any(isinstance(t, ast.Name) and t.id == name for t in targets):
                    return self._default(statement.value, owner.of)
        if owner.of.node.bases:
            return Unknown(f"{show(owner)}.{name}")  # a base from outside may have it
        raise Raised("AttributeError", name)

    def of_class(self, owner: Class, name: str) -> object:
        """What a class has itself: a constant, or a member of an enumeration."""
        bases = {(dotted(base) or "").rpartition(".")[2] for base in owner.node.bases}
        for node in reversed(self.class_body(owner)):
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value:
                targets = (
                    node.targets if isinstance(node, ast.Assign) else [node.target]
                )
                if not any(isinstance(t, ast.Name) and t.id == name for t in targets):
                    continue
                value = self._default(node.value, owner)
                if not any(base.endswith("Enum") for base in bases):
                    return value
                if isinstance(value, str) and bases & {"str", "StrEnum"}:
                    return Member(value)
                made = Instance({"value": value, "name": name}, owner)
                return self._members.setdefault((owner.definition, name), made)
        return Unknown(f"{show(owner)}.{name}")

    # Calls

    def call(
        self,
        function: Function,
        args: Sequence[object],
        keywords: Mapping[str, object],
    ) -> object:
        """What a function of the checkout returns.

        Raises:
            CannotFollow: it goes beyond what is evaluated.
            Raised: it raises.
        """
        self._depth += 1
        if self._depth > 60:
            raise CannotFollow("calls are nested too deeply")
        try:
            node = function.node
            name = node.name if isinstance(node, ast.FunctionDef) else "<lambda>"
            scope = f"{function.frame.scope}.{name}".lstrip(".")
            frame = Frame(function.frame.path, scope, {}, function.frame)
            self._bind(function, [*function.bound, *args], keywords, frame)
            if isinstance(node, ast.Lambda):
                return self.evaluate(node.body, frame)
            self.execute(node.body, frame)
        except _Return as returned:
            return returned.value
        finally:
            self._depth -= 1
        return None

    def _bind(
        self,
        function: Function,
        args: Sequence[object],
        keywords: Mapping[str, object],
        frame: Frame,
    ) -> None:
        arguments = function.node.args
        positional = [*arguments.posonlyargs, *arguments.args]
        variables = frame.variables
        for arg, value in zip(positional, args):
            variables[arg.arg] = value
        if len(args) > len(positional) and arguments.vararg is None:
            raise Raised("TypeError", "too many positional arguments")
        if arguments.vararg is not None:
            variables[arguments.vararg.arg] = tuple(args[len(positional) :])
        names = {a.arg for a in (*positional, *arguments.kwonlyargs)}
        rest: dict[str, object] = {}
        for name, value in keywords.items():
            if name.startswith("**"):
                raise CannotFollow(f"arguments by {name}")
            (variables if name in names else rest)[name] = value
        if arguments.kwarg is not None:
            variables[arguments.kwarg.arg] = rest
        elif rest:
            raise Raised("TypeError", f"unexpected argument {sorted(rest)[0]}")
        defaults = dict(
            zip(reversed([a.arg for a in positional]), reversed(arguments.defaults))
        )
        for arg, default in zip(arguments.kwonlyargs, arguments.kw_defaults):
            if default is not None:
                defaults[arg.arg] = default
        for name in names - set(variables):
            if name not in defaults:
                raise Raised("TypeError", f"missing argument {name}")
            variables[name] = self.evaluate(defaults[name], function.frame)

    def apply(
        self,
        called: object,
        args: list[object],
        keywords: Mapping[str, object],
    ) -> object:
        """What a call of any value gives."""
        if isinstance(called, Function):
            return self.call(called, args, keywords)
        if isinstance(called, External):
            return self.call_external(called.name, args, keywords)
        if isinstance(called, Class):
            names = [
                n.target.id
                for n in self.class_body(called)
                if isinstance(n, ast.AnnAssign) and isinstance(n.target, ast.Name)
            ]
            return self.make(called, {**dict(zip(names, args)), **keywords})
        if isinstance(called, Unknown):
            return self.call_unknown(called, args, keywords)
        if callable(called):  # a builtin, or a method of a plain value
            return self._apply_plain(called, args, keywords)
        raise CannotFollow(f"{called!r} is called")

    def call_unknown(
        self, called: Unknown, args: list[object], keywords: Mapping[str, object]
    ) -> object:
        """What a call of something unknown gives."""
        return called_with(called, args, keywords)

    def _apply_plain(
        self,
        called: Callable[..., object],
        args: list[object],
        keywords: Mapping[str, object],
    ) -> object:
        given = (*args, *keywords.values())
        owner = getattr(called, "__self__", None)
        holder = type(owner) in (list, dict, set)
        if holder:  # these hold whatever there is, but are not searched for it
            if called.__name__ in ("extend", "update"):
                args = [self.spread(value) for value in args]
            unknown = called.__name__ in _SEARCHES and (
                holds_unknown(given[:1]) or holds_unknown(owner)
            )
        else:
            unknown = any(holds_unknown(value) for value in given)
        if unknown:
            return self.plain_of_unknown(called, args, keywords)
        if not holder and any(
            isinstance(value, (Function, External, Class)) for value in given
        ):
            raise CannotFollow("a function is handed to a builtin")
        try:
            value = called(*args, **keywords)
        except (TypeError, ValueError, KeyError, IndexError) as error:
            raise Raised(type(error).__name__, str(error)) from error
        for changed in (value, owner):
            if isinstance(changed, Sized) and len(changed) > LONGEST:
                raise CannotFollow("a value grows beyond all measure")
        return value

    def plain_of_unknown(
        self,
        called: Callable[..., object],
        args: list[object],
        keywords: Mapping[str, object],
    ) -> object:
        """What a builtin, or a method of a plain value, gives of what is not known."""
        return called_with(Unknown(called.__name__), args, keywords)

    def spread(self, value: object) -> object:
        """What a list or dictionary is extended by."""
        return value

    # Statements

    def execute(self, statements: Iterable[ast.stmt], frame: Frame) -> None:
        for statement in statements:
            self.step()
            name = f"_do_{type(statement).__name__}"
            handler = getattr(self, name, None)
            if handler is None:
                refuse(f"a {type(statement).__name__} statement", statement)
            handler(statement, frame)

    def step(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise CannotFollow("it takes too many steps")

    def _do_Pass(self, node: ast.Pass, frame: Frame) -> None:
        pass

    _do_Global = _do_Nonlocal = _do_Pass

    def _do_Expr(self, node: ast.Expr, frame: Frame) -> None:
        self.evaluate(node.value, frame)

    def _do_Assign(self, node: ast.Assign, frame: Frame) -> None:
        value = self.evaluate(node.value, frame)
        for target in node.targets:
            self.store(target, value, frame)

    def _do_AnnAssign(self, node: ast.AnnAssign, frame: Frame) -> None:
        if node.value is not None:
            self.store(node.target, self.evaluate(node.value, frame), frame)

    def _do_AugAssign(self, node: ast.AugAssign, frame: Frame) -> None:
        load = ast.parse(spelled(node.target), mode="eval").body
        value = self.binary(
            node.op, self.evaluate(load, frame), self.evaluate(node.value, frame), node
        )
        self.store(node.target, value, frame)

    def _do_If(self, node: ast.If, frame: Frame) -> None:
        if self.truth(self.evaluate(node.test, frame), node.test):
            self.execute(node.body, frame)
        else:
            self.execute(node.orelse, frame)

    def _do_For(self, node: ast.For, frame: Frame) -> None:
        for item in self.items(self.evaluate(node.iter, frame), node):
            self.step()
            self.store(node.target, item, frame)
            try:
                self.execute(node.body, frame)
            except _Break:
                return
            except _Continue:
                continue
        self.execute(node.orelse, frame)

    def _do_While(self, node: ast.While, frame: Frame) -> None:
        while self.truth(self.evaluate(node.test, frame), node.test):
            self.step()
            try:
                self.execute(node.body, frame)
            except _Break:
                return
            except _Continue:
                continue
        self.execute(node.orelse, frame)

    def _do_Try(self, node: ast.Try, frame: Frame) -> None:
        try:
            self.execute(node.body, frame)
        except Raised as raised:
            handler = next((h for h in node.handlers if _catches(h, raised)), None)
            if handler is None:
                raise
            if handler.name:
                frame.variables[handler.name] = Unknown(handler.name)
            self._handled.append(raised)
            try:
                self.execute(handler.body, frame)
            finally:
                self._handled.pop()
        else:
            self.execute(node.orelse, frame)
        finally:
            self.execute(node.finalbody, frame)

    def _do_Match(self, node: ast.Match, frame: Frame) -> None:
        subject = self.evaluate(node.subject, frame)
        for case in node.cases:
            if self._matches(case.pattern, subject, frame) and (
                case.guard is None
                or self.truth(self.evaluate(case.guard, frame), case.guard)
            ):
                return self.execute(case.body, frame)

    def _matches(self, pattern: ast.pattern, subject: object, frame: Frame) -> bool:
        if isinstance(pattern, ast.MatchAs) and pattern.pattern is None:
            if pattern.name:
                frame.variables[pattern.name] = subject
            return True
        if isinstance(pattern, ast.MatchOr):
            return any(self._matches(p, subject, frame) for p in pattern.patterns)
        if isinstance(pattern, ast.MatchSequence) and isinstance(
            subject, (tuple, list)
        ):
            if not any(isinstance(part, ast.MatchStar) for part in pattern.patterns):
                return len(pattern.patterns) == len(subject) and all(
                    self._matches(part, item, frame)
                    for part, item in zip(pattern.patterns, subject)
                )
        if not isinstance(pattern, (ast.MatchValue, ast.MatchSingleton)):
            refuse(f"a {type(pattern).__name__} pattern", pattern)
        if isinstance(pattern, ast.MatchValue):
            value = self.evaluate(pattern.value, frame)
        else:
            value = pattern.value
        if isinstance(subject, (Unknown, External)):
            return self.truth(
                self.unknown_comparison(ast.Eq(), subject, value), node=pattern
            )
        return subject == value

    def _do_Delete(self, node: ast.Delete, frame: Frame) -> None:
        for target in node.targets:
            if isinstance(target, ast.Name):
                frame.variables.pop(target.id, None)
            elif isinstance(target, ast.Subscript):
                owner = self.evaluate(target.value, frame)
                key = self.evaluate(target.slice, frame)
                if type(owner) not in (dict, list):
                    refuse("something not known is deleted", node)
                try:
                    del owner[key]  # type: ignore[attr-defined]  # narrowed by type()
                except (KeyError, IndexError, TypeError) as error:
                    raise Raised(type(error).__name__, str(error)) from error
            else:
                refuse("something not known is deleted", node)

    def _do_Break(self, node: ast.Break, frame: Frame) -> None:
        raise _Break

    def _do_Continue(self, node: ast.Continue, frame: Frame) -> None:
        raise _Continue

    def _do_Return(self, node: ast.Return, frame: Frame) -> None:
        raise _Return(self.evaluate(node.value, frame) if node.value else None)

    def _do_Raise(self, node: ast.Raise, frame: Frame) -> None:
        what = node.exc
        if what is None and self._handled:
            raise self._handled[-1]
        if isinstance(what, ast.Call):
            said = [self.evaluate(argument, frame) for argument in what.args]
            words = " ".join(s if isinstance(s, str) else show(s) for s in said)
            raise Raised(spelled(what.func), words, frame.path, node.lineno)
        kind = spelled(what) if what else "Exception"
        raise Raised(kind, "", frame.path, node.lineno)

    def _do_Assert(self, node: ast.Assert, frame: Frame) -> None:
        value = self.evaluate(node.test, frame)
        if isinstance(value, Unknown):
            return  # it holds wherever the code goes on
        if not self.truth(value, node.test):
            said = self.evaluate(node.msg, frame) if node.msg else ""
            raise Raised("AssertionError", str(said), frame.path, node.lineno)

    def _do_With(self, node: ast.With, frame: Frame) -> None:
        for item in node.items:
            value = self.evaluate(item.context_expr, frame)
            if item.optional_vars is not None:
                self.store(item.optional_vars, value, frame)
        self.execute(node.body, frame)

    def _do_Import(self, node: ast.Import, frame: Frame) -> None:
        for alias in node.names:
            local = alias.asname or alias.name.split(".")[0]
            frame.variables[local] = External(alias.name if alias.asname else local)

    def _do_ImportFrom(self, node: ast.ImportFrom, frame: Frame) -> None:
        names = self.checkout.names(frame.path)
        for alias in node.names:
            local = alias.asname or alias.name
            found = names.scopes[frame.scope].imports.get(local)
            if found is None:
                refuse("an import that is not followed", node)
            frame.variables[local] = self.imported(found, frame, local)

    def _do_FunctionDef(self, node: ast.FunctionDef, frame: Frame) -> None:
        frame.variables[node.name] = Function(node, frame)

    def _do_ClassDef(self, node: ast.ClassDef, frame: Frame) -> None:
        frame.variables[node.name] = Unknown(node.name)

    _do_AsyncFunctionDef = _do_ClassDef

    def store(self, target: ast.expr, value: object, frame: Frame) -> None:
        if isinstance(target, ast.Name):
            frame.variables[target.id] = value
        elif isinstance(target, (ast.Tuple, ast.List)):
            self._unpack(target, value, frame)
        elif isinstance(target, ast.Attribute):
            owner = self.evaluate(target.value, frame)
            if isinstance(owner, Instance):
                owner.attributes[target.attr] = value
            elif isinstance(owner, (Unknown, External)):
                self.set_unknown(owner, f".{target.attr}", value)
            elif owner is None:
                raise Raised("AttributeError", target.attr)
            else:
                refuse(f"an attribute of {owner!r} is set", target)
        elif isinstance(target, ast.Subscript):
            held: Any = self.evaluate(target.value, frame)
            key = self.evaluate(target.slice, frame)
            self._set_item(held, key, value, target)

    def _set_item(self, owner: Any, key: object, value: object, node: ast.AST) -> None:
        if type(owner) is dict or (type(owner) is list and isinstance(key, int)):
            owner[key] = value  # type: ignore[call-overload]  # it is one of the two
        elif isinstance(owner, (Unknown, External)):
            self.set_unknown(owner, f"[{show(key)}]", value)
        else:
            refuse(f"an item of {owner!r} is set", node)

    def _unpack(
        self, target: ast.Tuple | ast.List, value: object, frame: Frame
    ) -> None:
        count = len(target.elts)
        if isinstance(value, Unknown):
            items: list[object] = [derived(value, f"[{i}]") for i in range(count)]
        else:
            items = self.items(value, target)
        at = [i for i, t in enumerate(target.elts) if isinstance(t, ast.Starred)]
        if at:
            after = count - at[0] - 1
            middle = items[at[0] : len(items) - after]
            items = [*items[: at[0]], middle, *items[len(items) - after :]]
        if len(items) != count:
            raise Raised("ValueError", "unpacking")
        for inner, item in zip(target.elts, items):
            self.store(
                inner.value if isinstance(inner, ast.Starred) else inner, item, frame
            )

    def set_unknown(self, owner: Unknown | External, what: str, value: object) -> None:
        """An attribute or item is set of what is not known."""


def called_with(
    called: object, args: Sequence[object], keywords: Mapping[str, object]
) -> Unknown:
    """What a call gives that is not entered."""
    parts: list[object] = [*args, *(f"{k}={show(v)}" for k, v in keywords.items())]
    return derived(
        called, "(", ", ".join(p if isinstance(p, str) else show(p) for p in parts), ")"
    )


def _catches(handler: ast.ExceptHandler, raised: Raised) -> bool:
    """Whether a handler takes an exception, by the names of the usual classes."""
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    names = {(dotted(kind) or "").rpartition(".")[2] for kind in kinds}
    kind = raised.kind.rpartition(".")[2]
    wider = {"Exception", "BaseException"}
    if kind in ("KeyError", "IndexError"):
        wider |= {"LookupError"}
    return bool(names & {kind, *wider})
