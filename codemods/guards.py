"""What a guard against more than one dimension looks like, in each of its shapes."""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeGuard

from codemods.asked import alternatives, written_out
from codemods.nodes import dotted, nodes, spelled
from codemods.once import once

_MESSAGE = re.compile(
    r"(DDP|replicate).*(> ?1-?D|1-?D|> 1 dim|one.dimension)", re.I | re.S
)
_DDP = re.compile(r"\bDDP\b|data.?parallel|\breplica", re.I)
_MORE = re.compile(
    r"\d-?D\b|dimension|\bn?dims?\b|\b(TP|PP)\b|tensor|pipeline|model.parallel|mesh|"
    r"combin|compos|other parallel|\bonly\b|\balone\b|\bpure\b|not support|unsupported",
    re.I,
)
_OTHERS = re.compile(r"(?<!\w)(\w*FSDP|HSDP|CP|EP)\b|shard|expert|context", re.I)
_ADVICE = re.compile(
    r"\b(use|try|enable|prefer|consider|switch to|set)\s+(\S+\s+){0,3}?"
    r"(\w*FSDP\d?|HSDP|\w*shard\w*)",
    re.I,
)
_TENSOR = re.compile(r"(?<!\w)(TP|PP)\b|tensor|pipeline", re.I)
_BESIDE_TENSOR = re.compile(r"(?<!\w)(CP|EP)\b|(context|expert)(.?parallel\w*)?", re.I)
_WORDS_OF_A_NAME = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])|_")

_RANK = re.compile(
    r"\bndim\b|mesh_dim_names|\b(get_)?world_size\b|\.size\(|\.shape\b|\blen\(.*mesh"
)
_OTHER_DIMENSION = re.compile(
    r"\b(tp|pp|tensor_parallel|pipeline_parallel)(_enabled|_degree|_size)?\b"
)
_LOGS = re.compile(r"(\w*log\w*|warnings)\.\w+|print|warn")
_NO_SHARDING = re.compile(
    r"not [\w.]*\b(fsdp|dp_shard)(_enabled)?|[\w.]*\b"
    r"(dp_shard(_degree)?|data_parallel_shard_degree) (== 1|<= 1|< 2)"
)
_PURELY_REPLICATED = re.compile(
    rf"^({_NO_SHARDING.pattern})$|"
    r"\bdp_replicate(_enabled|_degree)?\b|\bdata_parallel_replicate_degree\b|\bddp\b"
)
_REPLICATION = re.compile(
    r"[\w.]*\b(dp_replicate|ddp)(_enabled)?|"
    r"[\w.]*\b(dp_replicate(_degree)?|data_parallel_replicate_degree) > 1"
)
_SOME_MESH = re.compile(r"\w*mesh( is not None)?")
_NOT_REPLICATES = re.compile(
    r"\b(cp|ep|etp|context_parallel|expert_parallel)(_enabled|_degree|_size)?\b"
)
_WITHOUT = re.compile(
    rf"not [\w.]*{_NOT_REPLICATES.pattern}|"
    rf"[\w.]*{_NOT_REPLICATES.pattern} (== 1|<= 1|< 2)"
)
"""That there is no other parallelism beside, which a refusal of more may ask for too."""
_WORD = re.compile(r"[a-z]{2,}")
_ANY = frozenset(
    "across all an and any are at available be but can cannot combined data ddp degree dim dimension "
    "dimensional dimensions dims device do does dp enabled error every exactly expect expected expects "
    "for found get given got has have here implemented in is it its just larger less log mesh "
    "meshes mode more multi multiple must ndim need needs no not of on one only or other our "
    "parallel parallelism parallelisms path plan please plain pure rank ranks replica replicas "
    "replicate replicated replication requires see should single size so some support supported "
    "supports take takes tensor than that the this to too two unsupported use used we when "
    "which with without works world yet you".split()
)
"""What a message may say of any mesh."""

_CHECKS = re.compile(r"torch\._check\w*")

Shape = Literal["statement", "head", "else", "return"]
"""How a guard is spelled, and so what its going means.

``statement``: it goes as a whole. ``head``: an if that refuses, and its else is what
happens. ``else``: it is the else that refuses. ``return``: what happens returns, and
what follows it refuses.
"""

_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Place:
    """Where a statement is.

    Args:
        scope: qualified name of the function or class around, "" at module level.
        function: the innermost function around, None outside of all.
        chain: (block, index in it) from the function's body inwards to the statement.
    """

    scope: str
    function: _Function | None
    chain: tuple[tuple[Sequence[ast.stmt], int], ...]

    @property
    def following(self) -> Iterator[Sequence[ast.stmt]]:
        """What may run after the statement in the same function, from its block outwards."""
        for block, index in reversed(self.chain):
            yield block[index + 1 :]

    @property
    def instead(self) -> Iterator[Sequence[ast.stmt]]:
        """What is done where the statement, in an else or behind an early return, is not.

        Not where that goes by replication alone.
        """
        for (outer, at), (block, index) in zip((([], 0), *self.chain), self.chain):
            above = [outer[at]] if outer else []
            if index:
                above.append(block[index - 1])
            for node in above:
                if not isinstance(node, ast.If) or _asks_for_replication(node.test):
                    continue
                returns = isinstance(node.body[-1], ast.Return)
                if block is node.orelse or (node in block and returns):
                    yield node.body


@dataclass(frozen=True)
class Guard:
    """A statement that refuses a mesh of more than one dimension for DDP.

    Args:
        node: the ``if``, the ``assert``, or the call of a helper that is all guard.
        place: where it is.
        shape: how it is spelled.
        test: the condition, as code.
        refusal: the statements that refuse.
        kept: what stays of it, in its place.
        words: whether it says that it is about DDP; without, only its place tells.
        strings: nodes of the message, where that is apart from it.
        prepared: the names that hold that message.
        rest: what else the condition asks, and has to go on asking.
    """

    node: ast.stmt
    place: Place
    shape: Shape
    test: ast.expr
    refusal: tuple[ast.stmt, ...]
    kept: tuple[ast.stmt, ...] = ()
    words: bool = True
    strings: tuple[ast.AST, ...] = ()
    prepared: tuple[str, ...] = ()
    rest: tuple[ast.expr, ...] = ()


def is_check(node: ast.AST) -> TypeGuard[ast.Expr]:
    """Whether a statement is ``torch._check(condition, message)``."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and bool(node.value.args)
        and bool(_CHECKS.fullmatch(spelled(node.value.func)))
    )


def spots(tree: ast.AST) -> dict[int, tuple[int, int]]:
    """id of every statement -> its line, and how many others there are before it on it."""
    found: dict[int, tuple[int, int]] = {}
    for outer in nodes(tree):
        for block in _inner_blocks(outer):
            before = 0
            for index, node in enumerate(block):
                follows = index and block[index - 1].end_lineno == node.lineno
                before = before + 1 if follows else 0
                found[id(node)] = node.lineno, before
    return found


def refuses(node: ast.AST) -> TypeGuard[ast.Constant]:
    """Whether a string says that DDP does not do more than one dimension."""
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and bool(_MESSAGE.search(node.value))
    )


def is_guard(node: ast.stmt) -> bool:
    """Whether a statement only refuses a mesh of more than one dimension for DDP."""
    found = guard_at(node, Place("", None, (([node], 0),)), {})
    return found is not None and found.shape == "statement" and found.words


@once
def guards(tree: ast.Module) -> list[Guard]:
    """Every guard of a file, in its order; those within another are part of it."""
    found: list[Guard] = []
    inside: set[int] = set()
    known: dict[int, Mapping[str, ast.expr]] = {}
    for node, place in statements(tree):
        if id(node) in inside:
            continue
        around = id(place.function)
        if around not in known:
            known[around] = values_around(tree, place.function)
        guard = guard_at(node, place, known[around])
        if guard is not None:
            found.append(guard)
            for part in (guard.node, *guard.refusal):
                if part is guard.node and guard.shape != "statement":
                    continue
                inside |= {id(inner) for inner in nodes(part)}
    return found


def statements(tree: ast.Module) -> Iterator[tuple[ast.stmt, Place]]:
    """Every statement that begins on a line of its block, with its place, in source order."""
    yield from _statements(tree.body, "", None, ())


def _statements(
    block: Sequence[ast.stmt],
    scope: str,
    function: _Function | None,
    chain: tuple[tuple[Sequence[ast.stmt], int], ...],
) -> Iterator[tuple[ast.stmt, Place]]:
    for index, node in enumerate(block):
        here = (*chain, (block, index))
        yield node, Place(scope, function, here)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            inner = f"{scope}.{node.name}".lstrip(".")
            new = function if isinstance(node, ast.ClassDef) else node
            yield from _statements(node.body, inner, new, ())
            continue
        for inner_block in _inner_blocks(node):
            # In `if x: y` the statement y has no line to go with.
            if inner_block[0].lineno > node.lineno:
                yield from _statements(inner_block, scope, function, here)


def _inner_blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    """The blocks that a statement holds, in source order."""
    for name in ("body", "handlers", "cases", "orelse", "finalbody"):
        held = getattr(node, name, None)
        if not isinstance(held, list) or not held:
            continue
        if isinstance(held[0], ast.stmt):
            yield held
        elif name in ("handlers", "cases"):
            yield from (part.body for part in held)


def all_statements(outer: ast.AST) -> Iterator[ast.stmt]:
    """Every statement in a function or file, however deep, in source order."""
    for block in _inner_blocks(outer):
        for node in block:
            yield node
            yield from all_statements(node)


def values_around(
    tree: ast.Module, function: _Function | None
) -> Mapping[str, ast.expr]:
    """What names stand for in a function, or outside of all, that are set once."""
    module = _values(tree.body)
    return {**module, **_values(list(all_statements(function)))} if function else module


def _values(block: Sequence[ast.stmt]) -> dict[str, ast.expr]:
    """What names are set to that are set once, to a message or an exception."""
    found: dict[str, ast.expr] = {}
    several: set[str] = set()
    for node in block:
        if isinstance(node, ast.Assign) and len(node.targets) == 1:
            target, value = node.targets[0], node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            target, value = node.target, node.value
        else:
            continue
        if isinstance(target, ast.Name):
            if target.id in found:
                several.add(target.id)
            found[target.id] = value
    return {name: found[name] for name in found.keys() - several}


def guard_at(
    node: ast.stmt, place: Place, known: Mapping[str, ast.expr]
) -> Guard | None:
    """The guard that a statement is or begins.

    Args:
        node: the statement.
        place: where it is.
        known: what names around it stand for, for messages set before.
    """
    if isinstance(node, ast.Assert):
        message = node.msg if node.msg is not None else ast.Constant("")
        return _judged(
            node, place, "statement", node.test, (node,), (), [message], known
        )
    if is_check(node):
        call = node.value
        assert isinstance(call, ast.Call)
        said = list[ast.AST](call.args[1:])
        return _judged(node, place, "statement", call.args[0], (node,), (), said, known)
    if not isinstance(node, ast.If):
        return None
    body, orelse = node.body, node.orelse
    if _refuses_only(body):
        shape: Shape = "head" if orelse else "statement"
        said = _said(body)
        return _judged(
            node, place, shape, node.test, tuple(body), tuple(orelse), said, known
        )
    if orelse and _refuses_only(orelse):
        said = _said(orelse)
        for asked, rest in _split(node.test):
            found = _judged(
                node, place, "else", asked, tuple(orelse), tuple(body), said, known
            )
            if found is not None:
                return replace(found, rest=rest)
        return None
    if not orelse and isinstance(body[-1], ast.Return) and not _is_elif(place):
        block, index = place.chain[-1]
        after = block[index + 1 :]
        if after and _refuses_only(after) and _raises(after):
            said = _said(after)
            return _judged(
                node, place, "return", node.test, tuple(after), tuple(body), said, known
            )
    return None


def _split(test: ast.expr) -> Iterator[tuple[ast.expr, tuple[ast.expr, ...]]]:
    """A condition, and what of it asks how many dimensions there are beside the rest.

    The rest asks for replication: without any there is nothing to be refused.
    """
    yield test, ()
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        asked = [
            v
            for v in test.values
            if _strict([v], True) or _SOME_MESH.fullmatch(spelled(v))
        ]
        rest = tuple(v for v in test.values if v not in asked)
        if asked and all(_REPLICATION.fullmatch(spelled(v)) for v in rest):
            yield (asked[0] if len(asked) == 1 else ast.BoolOp(ast.And(), asked)), rest


def _is_elif(place: Place) -> bool:
    if len(place.chain) < 2:
        return False
    (outer, index), (block, _) = place.chain[-2:]
    parent = outer[index]
    if not isinstance(parent, ast.If) or block is not parent.orelse:
        return False
    return len(block) == 1 and block[0].col_offset == parent.col_offset


_EXITS = re.compile(r"((sys|os)\.)?_?exit|quit|pytest\.(fail|skip)")


def _refuses_only(block: Sequence[ast.stmt]) -> bool:
    """Whether statements do nothing but raise, exit or give up, and say why."""
    *before, last = block
    if not all(_only_says(node) for node in before):
        return False
    if isinstance(last, ast.Raise):
        return last.exc is not None
    if isinstance(last, ast.If):
        # Refused one by one: each with words of its own.
        strict = _strict(list(_leaves(last.test, {})), False)
        replicated = _REPLICATION.fullmatch(spelled(last.test))
        rest = not last.orelse or _refuses_only(last.orelse)
        return bool(strict or replicated) and rest and _refuses_only(last.body)
    if isinstance(last, ast.Return):
        # To give up with a word about it is to refuse; a return alone is anything.
        return any(isinstance(n, ast.Expr) for n in before) and not any(
            isinstance(n, ast.Call) for n in nodes(last)
        )
    if isinstance(last, ast.Expr) and isinstance(last.value, ast.Call):
        called = spelled(last.value.func)
        logs = called != "print" and _LOGS.fullmatch(called)
        return bool(_EXITS.fullmatch(called) or logs)
    return False


def _raises(block: Sequence[ast.stmt]) -> bool:
    last = block[-1]
    if isinstance(last, ast.If):
        return _raises(last.body) and (not last.orelse or _raises(last.orelse))
    return isinstance(last, ast.Raise)


def _only_says(node: ast.stmt) -> bool:
    if isinstance(node, ast.Expr):
        if isinstance(node.value, ast.Constant):
            return True
        called = node.value.func if isinstance(node.value, ast.Call) else None
        return called is not None and bool(_LOGS.fullmatch(spelled(called)))
    if isinstance(node, (ast.Assign, ast.AnnAssign)):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return all(isinstance(target, ast.Name) for target in targets)
    return isinstance(node, (ast.Import, ast.ImportFrom))


def _said(block: Sequence[ast.stmt]) -> list[ast.AST]:
    return list(block)


def _judged(
    node: ast.stmt,
    place: Place,
    shape: Shape,
    test: ast.expr,
    refusal: tuple[ast.stmt, ...],
    kept: tuple[ast.stmt, ...],
    said: Sequence[ast.AST],
    known: Mapping[str, ast.expr],
) -> Guard | None:
    """The guard, if what is said and what is asked are a guard's."""
    read = {n: known[n] for part in said for n in _read_by(part) if n in known}
    spoken = " ".join(spelled(part) for part in (*said, *read.values()))
    spoken += f" {_kinds(said)}"
    negated = shape in ("else", "return")
    refused = isinstance(node, ast.If) and not negated
    leaves = _asked_where_refused(test, known, refused)
    strict = _strict(leaves, negated)
    # A word in a log, or a return, refuses only where it says so of the mesh alone.
    hard = isinstance(node, ast.Assert) or is_check(node) or _raises(refusal)
    loose = hard and not negated and not _asks_for_others(leaves)
    asks = strict or (loose and _only_about_the_mesh(test))
    by_name = not any(_RANK.search(spelled(leaf)) for leaf in leaves)
    words = _has_words(spoken, strict, asks, by_name)
    if not words:
        if not (hard and strict and wants_one(test, refused)):
            return None
        if _speaks_of_others(_messages(said)):
            return None
    strings = tuple(inner for value in read.values() for inner in nodes(value))
    return Guard(node, place, shape, test, refusal, kept, words, strings, tuple(read))


def _read_by(part: ast.AST) -> Iterator[str]:
    for node in nodes(part):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            yield node.id


def _kinds(said: Sequence[ast.AST]) -> str:
    """The names of the exceptions that are raised, word by word."""
    kinds = [
        dotted(node.exc.func if isinstance(node.exc, ast.Call) else node.exc) or ""
        for part in said
        for node in nodes(part)
        if isinstance(node, ast.Raise) and node.exc is not None
    ]
    return _WORDS_OF_A_NAME.sub(" ", " ".join(kinds))


def _has_words(spoken: str, strict: bool, asks: bool, by_name: bool) -> bool:
    """Whether a message says that DDP does not go with other dimensions.

    Args:
        spoken: all that is said.
        strict: nothing else is asked than how many dimensions there are.
        asks: what is asked is about the mesh, or nothing else.
        by_name: it asks for tensor or pipeline parallelism by name.
    """
    if _MESSAGE.search(spoken) and not _others_only(spoken):
        return asks
    about = _DDP.search(spoken) and _MORE.search(spoken)
    return bool(about) and strict and (by_name or not _of_others(spoken))


def _of_others(spoken: str) -> bool:
    """Whether a message is about other parallelisms than those that replicate goes with.

    Not where it only advises them, or names them in one breath with TP and PP.
    """
    said = _ADVICE.sub(" ", spoken)
    if _TENSOR.search(said):
        said = _BESIDE_TENSOR.sub(" ", said)
    return bool(_OTHERS.search(said))


def _messages(said: Sequence[ast.AST]) -> str:
    return " ".join(
        n.value
        for part in said
        for n in nodes(part)
        if isinstance(n, ast.Constant) and isinstance(n.value, str)
    )


def _speaks_of_others(message: str) -> bool:
    """Whether a message that does not name DDP has a subject of its own.

    ``ring kernels take one dimension`` has, and ``expected a mesh of one dimension`` has not.
    """
    return bool(_OTHERS.search(message) or set(_WORD.findall(message.lower())) - _ANY)


def _others_only(spoken: str) -> bool:
    """Whether a message is about another way of replicating, as SimpleFSDP's."""
    return bool(re.search(r"\w+FSDP", spoken)) and not re.search(r"\bDDP\b", spoken)


def _leaves(test: ast.expr, known: Mapping[str, ast.expr]) -> Iterator[ast.expr]:
    """What a condition asks, one by one; by a variable, what that was set to."""
    test = written_out(test, known)
    if isinstance(test, ast.BoolOp):
        for value in test.values:
            yield from _leaves(value, known)
    elif _NO_SHARDING.fullmatch(spelled(test)) or _WITHOUT.fullmatch(spelled(test)):
        yield test
    elif isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        yield from _leaves(test.operand, known)
    else:
        yield test


def _asks_for_replication(test: ast.expr) -> bool:
    """Whether a condition asks for replication alone."""
    leaves = _leaves(test, {})
    return all(_PURELY_REPLICATED.search(spelled(leaf)) for leaf in leaves)


def _asks_for_others(leaves: Sequence[ast.expr]) -> bool:
    """Whether a condition asks for parallelisms whose ranks are none of dp_replicate's."""
    asked = [s for s in map(spelled, leaves) if not _WITHOUT.fullmatch(s)]
    return any(_NOT_REPLICATES.search(text) for text in asked)


def _asked_where_refused(
    test: ast.expr, known: Mapping[str, ast.expr], refused: bool
) -> list[ast.expr]:
    """What is so, one by one, where a condition makes something be refused."""
    found = alternatives(test, known, refused)
    return [leaf for one in found for leaf in _leaves(one, {})]


def _strict(asked: Sequence[ast.expr], negated: bool) -> bool:
    """Whether a condition asks only how many dimensions there are.

    With ``negated`` not whether there is replication at all: what refuses in the else
    refuses that too.
    """
    some = False
    for leaf in asked:
        text = spelled(leaf)
        others = _NOT_REPLICATES.search(text)
        if _RANK.search(text) or (_OTHER_DIMENSION.search(text) and not others):
            some = True
        elif _SOME_MESH.fullmatch(text) or _WITHOUT.fullmatch(text):
            continue
        elif negated or not _PURELY_REPLICATED.search(text):
            return False
    return some


def wants_one(test: ast.expr, refuses_if: bool) -> bool:
    """Whether all that a condition asks is that a mesh has one dimension, no more.

    Args:
        test: the condition.
        refuses_if: it is what is refused, and not what is wanted.
    """
    while isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        test, refuses_if = test.operand, not refuses_if
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        left, right = test.left, test.comparators[0]
        if _wants_all_ranks(spelled(left), test.ops[0], spelled(right), refuses_if):
            return True
    found = re.fullmatch(
        r"(?:[\w.]*mesh\w*(?:\(\))?\.ndim|len\([\w.]*mesh_dim_names\)) (\S+ \d)",
        spelled(test),
    )
    more = {"> 1", "!= 1", ">= 2"} if refuses_if else {"== 1", "<= 1", "< 2"}
    return found is not None and found[1] in more


_ALL_RANKS = re.compile(r"[\w.]*\bworld_size(\(\))?|[\w.]*\bget_world_size\(\)")
_REPLICAS = re.compile(
    r"[\w.]*mesh\w*(\[[^]]*\])?\.size\(0?\)|[\w.]*\bdp_replicate(_degree)?"
)


def _wants_all_ranks(left: str, op: ast.cmpop, right: str, refuses_if: bool) -> bool:
    """Whether a comparison asks that every rank is a replica of its own."""
    less: type[ast.cmpop] = ast.Lt
    if _REPLICAS.fullmatch(right) and _ALL_RANKS.fullmatch(left):
        left, right, less = right, left, ast.Gt
    if not (_REPLICAS.fullmatch(left) and _ALL_RANKS.fullmatch(right)):
        return False
    return isinstance(op, (ast.NotEq, less) if refuses_if else ast.Eq)


def _only_about_the_mesh(test: ast.expr) -> bool:
    """Whether a condition asks for the mesh alone, directly or by a variable."""
    if isinstance(test, ast.BoolOp):
        return all(_only_about_the_mesh(value) for value in test.values)
    if isinstance(test, ast.UnaryOp):
        return _only_about_the_mesh(test.operand)
    if isinstance(test, ast.Compare):
        sides = (test.left, *test.comparators)
        if all(isinstance(side, (ast.Name, ast.Constant)) for side in sides):
            return True
    if isinstance(test, ast.Name):
        return True
    text = spelled(test)
    if _NOT_REPLICATES.search(text):
        return False  # the ranks of context parallelism are none of dp_replicate's
    return bool(re.search(r"mesh|ndim|size|_enabled|degree|dims", text))


_WIDE = re.compile(r"([\w.]*\b(?:dp_|data_parallel_))replicate(_degree|_enabled)?\b")
_SHARDING = re.compile(r"fsdp|shard|hsdp", re.I)


def for_hsdp_alone(guard: Guard) -> ast.stmt | None:
    """The part of a guard that refuses HSDP, which is FSDP's to do; None where it refuses none.

    It does if it asks for replicas by name and neither it nor a condition around it says
    anything of shards.
    """
    found = _WIDE.search(spelled(guard.test))
    around = [one for block, at in guard.place.chain for one in block[: at + 1]]
    tests = [guard.test, *(node.test for node in around if isinstance(node, ast.If))]
    if found is None or any(_SHARDING.search(spelled(test)) for test in tests):
        return None
    if found[2] == "_enabled":
        shards = f"{found[1].removesuffix('dp_')}fsdp_enabled"
        none = f"not {shards}"
    else:
        shards, none = (
            f"{found[1]}shard{found[2] or ''} {how}" for how in ("> 1", "== 1")
        )
    if isinstance(guard.node, ast.If) and guard.shape == "statement":
        test = ast.BoolOp(ast.And(), [_parsed(shards), guard.test])
        return ast.If(test, guard.node.body, [])
    if isinstance(guard.node, ast.Assert):
        test = ast.BoolOp(ast.Or(), [_parsed(none), guard.test])
        return ast.Assert(test, guard.node.msg)
    return None


def _parsed(code: str) -> ast.expr:
    return ast.parse(code, mode="eval").body


def other_than_mesh(
    test: ast.expr, known: Mapping[str, ast.expr] = {}, refused: bool = True
) -> ast.expr | None:
    """What is refused besides more than one dimension; None if nothing, or only that.

    Args:
        test: the condition.
        known: what names around it stand for.
        refused: it is what is refused, and not what is wanted.
    """
    found = alternatives(test, known, refused)
    rest = [
        one
        for one in found
        if not _strict(list(_leaves(one, {})), not isinstance(one, ast.BoolOp))
    ]
    if not rest or len(rest) == len(found):
        return None
    return rest[0] if len(rest) == 1 else ast.BoolOp(ast.Or(), rest)


def asked_by(node: ast.stmt) -> tuple[ast.expr, bool] | None:
    """The condition of a statement that does nothing but refuse, and whether it is what is refused."""
    if isinstance(node, ast.Assert):
        return node.test, False
    if is_check(node):
        assert isinstance(node.value, ast.Call)
        return node.value.args[0], False
    if isinstance(node, ast.If) and _refuses_only(node.body) and _raises(node.body):
        return node.test, True
    return None


def words_of(node: ast.stmt) -> str:
    """What a statement says that refuses, in messages and in the names of exceptions."""
    said: Sequence[ast.AST] = node.body if isinstance(node, ast.If) else [node]
    return f"{_messages(said)} {_kinds(said)}"


def says_ddp(node: ast.stmt) -> bool:
    """Whether a statement that refuses does so for DDP, as it says."""
    return bool(re.search(r"\bDDP\b|DistributedDataParallel", words_of(node)))


def only_says_ddp(node: ast.stmt) -> bool:
    """Whether a statement raises or calls something, in words of DDP and other dimensions."""
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call):
        if not _LOGS.fullmatch(spelled(call.func)):
            return says_ddp(node) and bool(_MORE.search(words_of(node)))
    return isinstance(node, ast.Raise) and says_ddp(node)


def asks_for_replication(test: ast.expr) -> bool:
    """Whether a condition asks for replication, be it beside other things."""
    return any(_REPLICATION.fullmatch(spelled(leaf)) for leaf in _leaves(test, {}))


def asks_for_others(test: ast.expr) -> bool:
    """Whether a condition asks for other parallelisms, by name or by the number of ranks."""
    text = spelled(test)
    found = _OTHER_DIMENSION.search(text) or _NOT_REPLICATES.search(text)
    return bool(found or re.search(r"\b(get_)?world_size\b", text))


def is_mixed(node: ast.stmt, known: Mapping[str, ast.expr]) -> bool:
    """Whether a statement refuses DDP beside several parallelisms, not all replicate's.

    Context parallelism in an ``or``, say: its ranks are none of dp_replicate's.
    """
    asked = asked_by(node)
    if asked is None or (isinstance(node, ast.If) and node.orelse):
        return False
    spoken = words_of(node)
    about = _DDP.search(spoken) and _MORE.search(spoken)
    return bool(about) and other_than_mesh(asked[0], known, asked[1]) is not None


_ABOUT_IT = re.compile(
    r"\d-?D\b|dimension|support|parallelism|guard|\bTP\b|\bPP\b|compos|ndim|"
    r"\bDDP\b.*\b(only|alone|can ?not|can't|must|needs?|never|not|mesh|combin\w+)\b",
    re.I,
)
"""Words of a guard; of DDP alone a comment may say what its branch is for."""


def go_with_it(comments: Sequence[str]) -> bool:
    """Whether the comments above a guard say what the guard does, and go with it."""
    return any(map(_ABOUT_IT.search, comments))


# Guards that somebody has commented out


def commented_guards(lines: Sequence[str]) -> list[tuple[int, tuple[str, ...]]]:
    """(first line from 1, the comments) of each guard that is commented out."""
    found = []
    index = 0
    while index < len(lines):
        length = _commented(lines, index)
        if length:
            texts = tuple(line.strip() for line in lines[index : index + length])
            found.append((index + 1, texts))
        index += length or 1
    return found


def _commented(lines: Sequence[str], start: int) -> int:
    """How many lines from ``start`` are one guard behind comment signs, 0 for none."""
    if not re.match(r"\s*# ?(if|elif|assert)\b", lines[start]):
        return 0
    code: list[str] = []
    best = 0
    for line in lines[start : start + 12]:
        bare = re.match(r"\s*# ?(.*)$", line)
        if bare is None:
            break
        code.append(bare[1])
        text = re.sub(r"^elif\b", "if", "\n".join(code))
        try:
            parsed = ast.parse(text)
        except SyntaxError:
            continue
        if len(parsed.body) == 1 and is_guard(parsed.body[0]):
            best = len(code)
        elif len(parsed.body) > 1:
            break
    return best
