"""Where training code makes up for DDP, which averages gradients where FSDP sums them."""

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from codemods.conditions import REPLICAS, SHARDS, Held, conditions_of, parting
from codemods.modules import Function, functions
from codemods.nodes import children, last, nodes, of_kind, spelled
from codemods.once import once
from codemods.source import SourceFile

_SCALED = re.compile(
    r"loss(?!_mesh)|(?<![a-z])(max_)?grads?(?!_acc|_enabled|[a-z])|gradients(?!_acc)|max_norm"
)
"""What is scaled where gradients are."""

_RANKS = re.compile(
    r"^((dp|ddp|data_parallel|batch|dist)_?(degree|size|world_size)|world_size"
    r"|num_(processes|ranks)|get_world_size)$"
)
"""What holds the number of ranks that share the data, however they hold the model."""

_COUNTED = re.compile(r"token|batch")
"""What is a product with the number of ranks, and is not that."""

_TIMES = re.compile(r"(^|_)(mul|multiply)_?$")
_OVER = re.compile(r"(^|_)(div|divide|true_divide)_?$")
_NUMBERS = {"float", "int", "max", "torch.tensor"}
_RESCALES = re.compile(r"scale|averag|undo|compensat|normali[sz]e", re.IGNORECASE)
_ONLY_SAYS = re.compile(r"^(self\.)?_?(logger|logging|log|print|warnings?)\b")
_DIVISIONS = (ast.Div, ast.FloorDiv)
_MAY_SCALE = ast.BinOp, ast.AugAssign, ast.Call
_DETACHED = re.compile(r"\.(detach|item)\(")
_NEVER_CALLED = "register_hook"
"""Hooks on parameters, which replicate does not call."""

Calls = Callable[[ast.Call], Sequence[Function]]


@dataclass(frozen=True)
class MadeUp:
    """One place that scales the loss or gradients for DDP alone.

    Args:
        line: of the statement, from 1.
        code: it, or the condition that it hangs on.
        instead: what to write for replicate, which is scaled as FSDP is.
    """

    line: int
    code: str
    instead: str


@dataclass
class MadeUpFor:
    """Reads one file.

    Args:
        file: it.
        called: the functions that a call in it may lead into.
        held: what the names of conditions stand for elsewhere, as in ParallelDims.
        dividing: names of functions that other files call to scale a loss.
    """

    file: SourceFile
    called: Calls
    held: Held
    dividing: frozenset[str] = frozenset()

    def places(self, chosen: Iterable[tuple[Function, bool]]) -> Iterator[MadeUp]:
        """The places in some functions of the file, one for each statement.

        Args:
            chosen: functions, each with whether its branches count: those of a plan part
                pure replication from sharding because they wrap.
        """
        found: dict[int, MadeUp] = {}
        for function, branches in chosen:
            for place in _Reader(self, function, branches).block(function.body):
                found.setdefault(place.line, place)
        yield from (found[line] for line in sorted(found))

    @cached_property
    def conditions(self) -> Held:
        return {**self.held, **conditions_of(self.file.syntax)}

    @cached_property
    def factors(self) -> frozenset[str]:
        """The names that a loss or gradients are multiplied with or divided by, functions too."""
        return factors_of(self.file)

    def parts(self, test: ast.expr) -> tuple[bool, bool] | None:
        return parting(test, self.conditions)

    def is_degree(
        self, node: ast.expr, wide: bool, seen: frozenset[str] = frozenset()
    ) -> bool:
        """Whether an expression is the number of replicas; if wide, of any ranks.

        ``seen``: names that were followed on the way to it.
        """
        parts = _parts_of_a_number(node)
        if parts and not wide and _counts_shards(node):
            return False
        if parts:
            return any(self.is_degree(part, wide, seen) for part in parts)
        named = node.func if isinstance(node, ast.Call) else node
        before, _, last = spelled(named).rpartition(".")
        if isinstance(node, ast.Call):
            if last == "size" and "mesh" in before:
                return wide or self._is_of_replicas(before.rpartition(".")[2])
            return wide and bool(_RANKS.match(last))
        if REPLICAS.match(last) or (wide and _RANKS.match(last)):
            return True
        if last in seen or not isinstance(node, ast.Name | ast.Attribute):
            return False
        if _SCALED.search(last) or _COUNTED.search(last):
            return False
        values = self._set.get(last, ())
        return any(self.is_degree(value, wide, seen | {last}) for value in values)

    def _is_of_replicas(self, mesh: str) -> bool:
        """Whether a mesh is of replicas alone, by its name or by what it was set to."""
        said = [mesh, *map(spelled, self._set.get(mesh, ()))]
        return any("replicate" in one and "shard" not in one for one in said)

    @cached_property
    def _set(self) -> dict[str, list[ast.expr]]:
        """Name -> what it is set to, anywhere in the file."""
        found: dict[str, list[ast.expr]] = {}
        for node in of_kind(self.file.syntax, ast.Assign):
            for target in node.targets:
                name = spelled(target).rpartition(".")[2]
                found.setdefault(name, []).append(node.value)
        return found


@once
def factors_of(file: SourceFile) -> frozenset[str]:
    """The names in a file that a loss or gradients are multiplied with or divided by."""
    results = {
        id(node.value)
        for node in of_kind(file.syntax, ast.Assign)
        if _gives_what_is_scaled(node)
    }
    return frozenset(
        last(inner)
        for node, what, factor, _ in _scalings_in(file.syntax)
        if _SCALED.search(spelled(what)) or id(node) in results
        for inner in nodes(factor)
        if isinstance(inner, ast.Name | ast.Attribute)
    )


def _gives_what_is_scaled(node: ast.stmt, within: str = "") -> bool:
    """Whether a statement sets a loss or gradients, or returns them from a function ``within``."""
    if isinstance(node, ast.Assign):
        return any(_SCALED.search(spelled(target)) for target in node.targets)
    return isinstance(node, ast.Return) and bool(_SCALED.search(within))


def _results(node: ast.stmt) -> list[ast.AST]:
    """What a statement gives, and what a lambda in its place would."""
    value = getattr(node, "value", None)
    return (
        [value.body, value]
        if isinstance(value, ast.Lambda)
        else [value]
        if value
        else []
    )


def scalings(node: ast.AST) -> Iterator[tuple[ast.expr, ast.expr, bool]]:
    """What a node scales, by what, and whether it multiplies."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        yield node.left, node.right, True
        yield node.right, node.left, True
    elif isinstance(node, ast.BinOp) and isinstance(node.op, _DIVISIONS):
        yield node.left, node.right, False
    elif isinstance(node, ast.AugAssign) and isinstance(
        node.op, (ast.Mult, *_DIVISIONS)
    ):
        yield node.target, node.value, isinstance(node.op, ast.Mult)
    elif isinstance(node, ast.Call):
        name = spelled(node.func).rpartition(".")[2]
        times = bool(_TIMES.search(name))
        if (times or _OVER.search(name)) and node.args:
            what = node.args[0] if len(node.args) > 1 else node.func
            what = (
                what.value
                if isinstance(what, ast.Attribute) and what is node.func
                else what
            )
            yield what, node.args[-1], times


def _scalings_in(
    tree: ast.AST,
) -> Iterator[tuple[ast.AST, ast.expr, ast.expr, bool]]:
    """Each node in a tree that scales something, with what ``scalings`` says of it."""
    for node in of_kind(tree, *_MAY_SCALE):
        for what, factor, times in scalings(node):
            yield node, what, factor, times


def _counts_shards(node: ast.AST) -> bool:
    """Whether the number of shards is part of something: with the replicas it is that of all ranks."""
    return any(
        SHARDS.match(last(inner))
        for inner in nodes(node)
        if isinstance(inner, ast.Name | ast.Attribute)
    )


def _parts_of_a_number(node: ast.expr) -> list[ast.expr]:
    """What a number is made of, where it is made of others: ``float(max(a, 1))``, ``a * b``."""
    if isinstance(node, ast.Call) and spelled(node.func) in _NUMBERS:
        return node.args
    if isinstance(node, ast.IfExp):
        return [node.body, node.orelse]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return [node.left, node.right]
    return []


def makes_up_for_all(file: SourceFile) -> bool:
    """Whether a training loop multiplies its loss by the number of all ranks, FSDP's too.

    What divides by the tokens of all ranks and does so wants its gradients averaged.
    """
    of = MadeUpFor(file, lambda call: (), {})
    return any(
        reads.of_all_ranks(function.body)
        for function in functions(file.syntax)
        for reads in [_Reader(of, function, True)]
        if reads.trained
    )


@dataclass
class _Reader:
    """Reads one function."""

    of: MadeUpFor
    function: Function
    branches: bool

    @cached_property
    def trained(self) -> dict[str, int]:
        """What a backward pass begins with -> its line."""
        return {
            spelled(node.func.value): node.lineno
            for node in of_kind(self.function, ast.Call)
            if isinstance(node.func, ast.Attribute) and node.func.attr == "backward"
        }

    @cached_property
    def _divides(self) -> bool:
        """Whether the function gives what a loss is scaled by, or is called for that."""
        name = self.function.name
        return name in self.of.factors or name in self.of.dividing

    def block(
        self, statements: Sequence[ast.stmt], parted: bool = False
    ) -> Iterator[MadeUp]:
        for statement in statements:
            yield from self._statement(statement, parted)

    def _statement(self, node: ast.stmt, parted: bool) -> Iterator[MadeUp]:
        if isinstance(node, Function | ast.ClassDef):
            return
        if isinstance(node, ast.If) and self.branches:
            answers = self.of.parts(node.test)
            rest = [*node.body, *node.orelse]
            if answers and any(map(self._scales, rest)):
                yield MadeUp(
                    node.lineno, f"if {spelled(node.test)}", _branch(node, answers)
                )
                return
        inner = [child for child in children(node) if isinstance(child, ast.stmt)]
        if inner:
            yield from self.block(inner, parted)
            for handler in getattr(node, "handlers", ()):
                yield from self.block(handler.body, parted)
            return
        if self._chooses(node) or self._multiplies(node):
            yield MadeUp(node.lineno, spelled(node), _without(self, node))

    def of_all_ranks(self, statements: Sequence[ast.stmt]) -> bool:
        """Whether one of these scales what is trained up by all ranks, pure replication or not."""
        for node in statements:
            inner = [child for child in children(node) if isinstance(child, ast.stmt)]
            if inner:
                if isinstance(node, ast.If) and self.of.parts(node.test):
                    continue
                if self.of_all_ranks(inner):
                    return True
            elif node.lineno <= max(self.trained.values()):
                if self._multiplies(node, True) and not self._multiplies(node):
                    if not self._chooses(node):
                        return True
        return False

    def _scales(self, statement: ast.stmt) -> bool:
        """Whether a statement of one branch scales the loss or gradients, or sets what does."""
        return any(map(self._does, nodes(statement)))

    def _does(self, node: ast.AST) -> bool:
        if isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            return any(self._is_scale(t, node) for t in targets)
        if isinstance(node, ast.Return):
            given = self._divides or bool(_SCALED.search(self.function.name))
            return given and node.value is not None
        if isinstance(node, ast.Call) and not _ONLY_SAYS.match(spelled(node.func)):
            name = spelled(node.func).rpartition(".")[2]
            about = _SCALED.search(spelled(node)) or "ddp" in name
            if about and _RESCALES.search(name):
                return True
            if any(map(self._rescales, self.of.called(node))):
                return True
        if isinstance(node, ast.Attribute) and node.attr == "grad":
            return True
        return any(
            _SCALED.search(spelled(what)) and self.of.is_degree(factor, True)
            for what, factor, _ in scalings(node)
        )

    def _is_scale(self, target: ast.expr, node: ast.Assign | ast.AugAssign) -> bool:
        """Whether a target is what is trained, before it is, or what that is scaled by."""
        if _DETACHED.search(spelled(node.value)):
            return False
        name = spelled(target)
        if name in self.trained:
            return node.lineno <= self.trained[name]
        return name.rpartition(".")[2] in self.of.factors or "max_norm" in name

    def _chooses(self, node: ast.stmt) -> bool:
        """Whether a statement scales by a conditional expression that parts the two."""
        if not self.branches:
            return False
        for inner in of_kind(node, ast.IfExp):
            if self.of.parts(inner.test):
                if isinstance(node, ast.Return):
                    return self._divides or bool(_SCALED.search(spelled(node)))
                if isinstance(node, ast.Assign):
                    set_ = any(self._is_scale(t, node) for t in node.targets)
                    if set_ and not isinstance(inner.body, ast.Constant | ast.Lambda):
                        return True
                    if set_ and isinstance(inner.body, ast.Constant):
                        return isinstance(inner.body.value, int | float)
                for _, what, factor, _ in _scalings_in(node):
                    if _SCALED.search(spelled(what)) and inner in nodes(factor):
                        return True
        return False

    def _multiplies(self, node: ast.stmt, wide: bool = False) -> bool:
        """Whether a statement scales up by the number of replicas, or of all ranks, anyhow."""
        if not wide and _counts_shards(node):
            return False
        for inner in of_kind(node, *_MAY_SCALE):
            if isinstance(inner, ast.Call):
                if spelled(inner.func).endswith(_NEVER_CALLED):
                    return False
                if self._hands_over(inner):
                    return True
            for what, factor, times in scalings(inner):
                itself = bool(_SCALED.search(spelled(what)))
                of_loss = itself or (
                    inner in _results(node)
                    and _gives_what_is_scaled(node, self.function.name)
                )
                threshold = "max_norm" in spelled(what)
                if self.of.is_degree(factor, wide):
                    if of_loss and times != threshold:
                        return True
                    if not itself and not times and self._is_divisor(node, inner):
                        return True
        return False

    def _hands_over(self, call: ast.Call) -> bool:
        """Whether a call gives the number of replicas to what scales gradients."""
        given = [*call.args, *(word.value for word in call.keywords)]
        if not any(
            isinstance(one, ast.Name | ast.Attribute) and self.of.is_degree(one, False)
            for one in given
        ):
            return False
        return any(
            _SCALED.search(spelled(what)) and parameter in map(spelled, nodes(factor))
            for function in self.of.called(call)
            for parameter in self._bound(call, function)
            for _, what, factor, _ in _scalings_in(function)
        )

    def _bound(self, call: ast.Call, function: Function) -> list[str]:
        """The parameters that the number of replicas is passed for."""
        names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
        names = names[1:] if names[:1] == ["self"] else names
        given = [
            *zip(names, call.args),
            *((k.arg or "", k.value) for k in call.keywords),
        ]
        return [n for n, v in given if self.of.is_degree(v, False)]

    def _rescales(self, function: Function) -> bool:
        """Whether a function that is called changes gradients, or scales a loss by ranks."""
        return any(
            ".grad" in spelled(what)
            or "grads" in spelled(what)
            or (
                _SCALED.search(spelled(what)) is not None
                and self.of.is_degree(factor, True)
            )
            for _, what, factor, _ in _scalings_in(function)
        )

    def _is_divisor(self, node: ast.stmt, inner: ast.AST) -> bool:
        """Whether a quotient is what a loss is divided by."""
        if isinstance(node, ast.Return):
            return self._divides
        if isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(spelled(t).rpartition(".")[2] in self.of.factors for t in targets):
                return True
        return any(
            _SCALED.search(spelled(what)) and inner in nodes(factor)
            for _, what, factor, times in _scalings_in(node)
            if not times
        )


def _branch(node: ast.If, answers: tuple[bool, bool]) -> str:
    """The condition with replicate on FSDP's side."""
    test = spelled(node.test)
    replicated, _ = answers
    if not replicated:
        return f"if {test} or {_flag(node.test)}:  # replicate as FSDP"
    if not node.orelse:
        return "# take it out:\n" + _commented(spelled(node))
    return f"if False:  # {test}: take this branch out, replicate goes the other way"


def _flag(test: ast.expr) -> str:
    """How ParallelDims is asked for replication, beside this condition."""
    for inner in nodes(test):
        if isinstance(inner, ast.Attribute) and "parallel_dims" in spelled(inner.value):
            return f"{spelled(inner.value)}.dp_replicate_enabled"
    return "parallel_dims.dp_replicate_enabled"


def _commented(code: str) -> str:
    return "\n".join(f"# {line}" for line in code.splitlines())


class _Drop(ast.NodeTransformer):
    """Takes the factor for DDP out of an expression."""

    def __init__(self, reads: _Reader) -> None:
        self.reads = reads

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        answers = self.reads.of.parts(node.test)
        if answers is None:
            return self.generic_visit(node)
        chosen: ast.AST = self.visit(node.body if answers[1] else node.orelse)
        return chosen

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        of = self.reads.of
        if isinstance(node.op, ast.Mult | ast.Div):
            if of.is_degree(node.right, False):
                left: ast.AST = self.visit(node.left)
                return left
            if isinstance(node.op, ast.Mult) and of.is_degree(
                node.left, False, frozenset()
            ):
                right: ast.AST = self.visit(node.right)
                return right
        return self.generic_visit(node)


def _without(reads: _Reader, node: ast.stmt) -> str:
    """A statement without what makes up for DDP."""
    before = spelled(node)
    rest = ast.unparse(_Drop(reads).visit(ast.parse(before)))
    target, _, value = rest.partition(" = ")
    if rest == before or target == value:
        return "# take it out:\n" + _commented(before)
    return rest
