"""TM232: code that asks a module of the trained model for its very class."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from codemods.classes import Names, class_name_of, class_of
from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.modules import methods, modules
from codemods.nodes import nodes, spelled
from codemods.plans import Facts
from codemods.source import SourceFile
from codemods.trained import Place

CODE = "TM232"
TITLE = "modules told by their very class"
SEVERITY: Severity = "silent"
WHAT = "Modules of the trained model are told by type() or by the name of their class."
WHY = """\
replicate gives each module that it wraps a class of its own, ReplicateEmbedding for Embedding
(FSDPEmbedding in torch 2.9): the embedding, each block, norm, output and the model.
DDP left the classes below the model as they were. type(m) is nn.Embedding is False from
now on, and so is a comparison of names; isinstance is as before.
"""
UPSTREAM = """\
None. It rests on PyTorch's replicate, tried in torch 2.13; fully_shard renames classes too.
"""
RISK = """\
Embeddings and norms get weight decay, hooks are not registered, counts are 0. Nothing
raises.
"""
PROOF = """\
Where torchtitan's own trainer asks and figures hang on it, `dp` shows a migrated tree and a
reference that agree, and a baseline that "differs": fully_shard renames classes too. Other
code is not run: print type(m) behind the wrapping.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/experiments/averaged/decay.py",
    before="""\
            if type(module) in (nn.Embedding, nn.RMSNorm)
""",
    after="""\
isinstance(module, (nn.Embedding, nn.RMSNorm))
""",
)

_PARTS = {"modules", "named_modules", "children", "named_children", "values", "items"}
_SAME = {"list", "tuple", "enumerate", "reversed", "sorted", "dict"}
_BEGINNING = {"startswith", "removeprefix"}
_DDP = re.compile(r"^(DDP|DistributedDataParallel)")

_Role = Literal["compared", "among", "part", "key", "method", "matched"]
"""``among``: of several. ``part``: a text that a name may have in it."""


@dataclass(frozen=True)
class _Use:
    """A class, or its name, that decides something.

    Args:
        node: the comparison, look-up, call or match.
        key: the class or name in it.
        subject: the module.
        by_name: whether it is a name.
        role: what is done with it.
        asked: what it is held against.
        negated: whether it decides for all others.
    """

    node: ast.expr | ast.Match
    key: ast.expr
    subject: ast.expr
    by_name: bool
    role: _Role
    asked: tuple[ast.expr, ...] = ()
    negated: bool = False

    @property
    def shown(self) -> str:
        """The code in one line."""
        if isinstance(self.node, ast.Match):
            return f"match {spelled(self.key)}"
        return spelled(self.node)

    @property
    def is_of_ddp(self) -> bool:
        """Whether it is about the name that DDP's replicate gives the model: ``DDPTransformer``."""
        return self.by_name and any(
            isinstance(part, ast.Constant) and _DDP.search(str(part.value))
            for asked in self.asked
            for part in nodes(asked)
        )


@dataclass
class _Asking:
    """One function, and what it calls modules of the trained model.

    Args:
        place: the function.
        modules: variables that are one.
        classes: variable -> the module that it is the class of.
        names: variable -> the module that it is the name of the class of.
    """

    place: Place
    modules: set[str]
    classes: dict[str, ast.expr] = field(default_factory=dict)
    names: dict[str, ast.expr] = field(default_factory=dict)

    def class_of(self, node: ast.expr) -> ast.expr | None:
        """The module that an expression is the class of."""
        return self.classes.get(spelled(node)) or self._module(class_of(node))

    def name_of(self, node: ast.expr) -> ast.expr | None:
        """The module that it is the name of the class of."""
        return self.names.get(spelled(node)) or self._module(class_name_of(node))

    def _module(self, node: ast.expr | None) -> ast.expr | None:
        if node is None:
            return None
        is_one = spelled(node) in self.modules or self.place.is_in_model(node)
        return node if is_one else None

    def uses(self) -> Iterator[_Use]:
        """Every place that a class or its name decides something."""
        for node in nodes(self.place.function):
            if isinstance(node, ast.Compare) and len(node.ops) == 1:
                yield from self._compared(node)
            elif isinstance(node, ast.Subscript):
                yield from self._of(node, node.slice, "key", ())
            elif isinstance(node, ast.Match):
                yield from self._of(node, node.subject, "matched", ())
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                yield from self._called(node, node.func)

    def _compared(self, node: ast.Compare) -> Iterator[_Use]:
        (operator,), left, (right,) = node.ops, node.left, node.comparators
        no = isinstance(operator, ast.IsNot | ast.NotEq | ast.NotIn)
        if isinstance(operator, ast.In | ast.NotIn):
            yield from self._of(node, left, "among", (right,), no)
            if self.name_of(right):
                yield from self._of(node, right, "part", (left,), no)
        elif not (self.class_of(left) and self.class_of(right)):
            yield from self._of(node, left, "compared", (right,), no)
            yield from self._of(node, right, "compared", (left,), no)

    def _called(self, node: ast.Call, on: ast.Attribute) -> Iterator[_Use]:
        if on.attr in ("get", "pop") and node.args:
            yield from self._of(node, node.args[0], "key", ())
        for use in self._of(node, on.value, "method", tuple(node.args)):
            if use.by_name and (on.attr in _BEGINNING or use.is_of_ddp):
                yield use

    def _of(
        self,
        node: ast.expr | ast.Match,
        key: ast.expr,
        role: _Role,
        asked: tuple[ast.expr, ...],
        negated: bool = False,
    ) -> Iterator[_Use]:
        if subject := self.class_of(key):
            yield _Use(node, key, subject, False, role, asked, negated)
        elif subject := self.name_of(key):
            yield _Use(node, key, subject, True, role, asked, negated)


def find(facts: Facts) -> Iterator[Finding]:
    inner, ddp = _inner(facts), Names(facts.checkout, "DistributedDataParallel")
    seen: set[tuple[str, int]] = set()
    for asking in _all(facts):
        file = asking.place.file
        for use in asking.uses():
            line = use.node.lineno
            known = _spellings(use)
            if (
                (file.path, line) in seen
                or (known and known <= inner)
                or any(ddp.stands_for(file, part) for part in use.asked)
                or not _changes(facts, asking, use)
            ):
                continue
            seen.add((file.path, line))
            yield Finding(
                file.path,
                line,
                CODE,
                _message(facts, use),
                "hazard",
                _advice(facts, use),
            )


def _changes(facts: Facts, asking: _Asking, use: _Use) -> bool:
    """Whether the answer is another one from now on."""
    if use.is_of_ddp:
        return "DistributedDataParallel" not in _spellings(use)  # TM204 has that
    if use.role == "part":
        return False  # Embedding is in ReplicateEmbedding
    of_whole = asking.place.is_model(use.subject)
    # Of the whole model DDP's composable replicate had changed the class already.
    return not of_whole or bool(facts.survey.class_uses)


def _message(facts: Facts, use: _Use) -> str:
    prefix = _prefix(facts)
    if use.is_of_ddp:
        return (
            f"{use.shown} asks for the name that DDP gives the model: replicate gives it one "
            f"that begins with {prefix}"
        )
    name = next(
        (
            word
            for word in sorted(_spellings(use))
            if word[:1].isupper() and not word.isupper()
        ),
        "Embedding",
    )
    return (
        f"{use.shown} asks for the very class, and each module that replicate wraps gets one of "
        f"its own: {prefix}{name} for {name}"
    )


def _advice(facts: Facts, use: _Use) -> str:
    """What to write instead."""
    key, shown, prefix = spelled(use.key), use.shown, _prefix(facts)
    if use.is_of_ddp:
        return re.sub(r"(?<=['\"])DDP", prefix, shown)
    if use.by_name:
        stripped = shown.replace(key, f"{key}.removeprefix({prefix!r})", 1)
        return f"{stripped}:" if use.role == "matched" else stripped
    module = spelled(use.subject)
    if use.role == "matched":
        return f"match {module}:  # and case Block(): for case Block:"
    if use.role == "key":
        return _looked_up(use.node, module)
    no = "not " if use.negated else ""
    return f"{no}isinstance({module}, {_tuple(use.asked[0], use.role == 'among')})"


def _looked_up(node: ast.AST, module: str) -> str:
    """What a table has for the class of a module, or for one that it inherits from."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        table = spelled(node.func.value)
        other = spelled(node.args[1]) if len(node.args) > 1 else "None"
    else:
        assert isinstance(node, ast.Subscript)
        table, other = spelled(node.value), ""
    found = f"{table}[c] for c in type({module}).__mro__ if c in {table}"
    return f"next(({found}), {other})" if other else f"next({found})"


def _tuple(asked: ast.expr, several: bool) -> str:
    """The classes that are asked for, as ``isinstance`` takes them."""
    if isinstance(asked, ast.Set | ast.List):
        asked = ast.Tuple(asked.elts, ast.Load())
    named = several and not isinstance(asked, ast.Tuple)
    return f"tuple({spelled(asked)})" if named else spelled(asked)


def _spellings(use: _Use) -> set[str]:
    """The names of the classes that a class is held against, as far as they are written out."""
    return {
        str(part.value)
        if isinstance(part, ast.Constant)
        else spelled(part).rpartition(".")[2]
        for asked in use.asked
        for part in getattr(asked, "elts", [asked])
    }


def _all(facts: Facts) -> Iterator[_Asking]:
    """Every function that has to do with modules of the model, and those that it hands one."""
    for place in facts.survey.trained:
        asking = _read(place, set())
        yield asking
        for call in nodes(place.function):
            if isinstance(call, ast.Call):
                yield from _handed_on(facts, asking, call)


def _handed_on(facts: Facts, asking: _Asking, call: ast.Call) -> Iterator[_Asking]:
    """The functions that a call hands a module."""
    given = [spelled(argument) in asking.modules for argument in call.args]
    if any(given):
        for file, function in facts.survey.order.called(asking.place.file, call):
            names = [arg.arg for arg in function.args.args if arg.arg != "self"]
            handed = {name for name, is_one in zip(names, given) if is_one}
            yield _read(Place(file, function), handed)


def _read(place: Place, given: set[str]) -> _Asking:
    asking, lists = _Asking(place, set(given)), set[str]()
    for _ in range(2):  # what is named below may be gone through above
        for node in nodes(place.function):
            if isinstance(node, ast.Assign) and len(node.targets) == 1:
                name = spelled(node.targets[0])
                if _are_modules(place, node.value, lists):
                    lists.add(name)
                elif subject := asking.class_of(node.value):
                    asking.classes[name] = subject
                elif subject := asking.name_of(node.value):
                    asking.names[name] = subject
            elif isinstance(node, ast.For | ast.comprehension):
                if _are_modules(place, node.iter, lists):
                    named = [n for n in nodes(node.target) if isinstance(n, ast.Name)]
                    asking.modules |= {n.id for n in named[-1:]}
    return asking


def _are_modules(place: Place, node: ast.expr, lists: set[str]) -> bool:
    """Whether an expression gives the modules of the model, or of a part, one by one."""
    if isinstance(node, ast.Call):
        if spelled(node.func) in _SAME:
            return bool(node.args) and _are_modules(place, node.args[0], lists)
        if isinstance(node.func, ast.Attribute) and node.func.attr in _PARTS:
            on = node.func.value
            return place.is_in_model(on) or spelled(on) in lists
        return False
    inside = isinstance(node, ast.Attribute) and not place.is_model(node)
    return spelled(node) in lists or (inside and place.is_in_model(node))


def _prefix(facts: Facts) -> str:
    """What the name of a wrapped class begins with."""
    return "FSDP" if facts.target.mesh == "2d" else "Replicate"


def _inner(facts: Facts) -> set[str]:
    """The classes that models here have inside of their blocks alone, where nothing is wrapped."""
    within: set[str] = set()
    around: set[str] = set()
    for file in facts.in_training("def forward("):
        for names in file.all(_made):
            is_whole = bool(names & {"ModuleDict", "ModuleList", "Sequential"})
            (around if is_whole else within).update(names)
    return within - around


def _made(file: SourceFile) -> tuple[frozenset[str], ...]:
    """What each module of a file calls to make itself."""
    made = (methods(node).get("__init__") for node in modules(file.syntax))
    return tuple(
        frozenset(
            spelled(node.func).rpartition(".")[2]
            for node in (nodes(one) if one else ())
            if isinstance(node, ast.Call)
        )
        for one in made
    )
