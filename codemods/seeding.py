"""Where random numbers are seeded, and whether ranks are seeded alike before weights are made."""

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from codemods.modules import Function, functions
from codemods.nodes import nodes, spelled
from codemods.once import once
from codemods.source import SourceFile

SEEDS = re.compile(
    r"^(torch\.(cuda\.)?)?manual_seed(_all)?$"
    r"|(^|[._])(set|setup|fix|init|seed)_\w*(seeds?|everything|all|determinism)$"
)
LOADS = re.compile(r"load|from_pretrained|restore|state_dict", re.IGNORECASE)
SENDS = re.compile(r"broadcast|sync_|all_reduce|copy_|constant_|zeros_|ones_")

_MAKES = re.compile(
    r"(^|\.)(init_weights|init_states|reset_parameters|parallelize_fn)$"
)
_WRAPS = re.compile(r"(^|\.)(parallelize_(?!module)\w+|apply_ddp)$")
_GIVES = re.compile(
    r"(^|_)(load|restore)(_|$)|state_dict$|from_pretrained$|broadcast|(^|_)sync_"
)
_DISTINCT = re.compile(r"^distinct_seed_mesh_dims?$")
_REPLICAS = re.compile(r"dp_replicate|\bdp\b|dp_cp|\bbatch\b|\bloss\b|\bworld\b")
_OTHER_RANK = re.compile(
    r"(pp|tp|cp|ep)_?rank|(pp|tp|cp|ep)_mesh|[\"'](pp|tp|cp|ep)[\"']"
)


@dataclass(frozen=True)
class Unlike:
    """A seed of each replica's own, with which weights are made.

    Args:
        path, line: where it is set.
        code: the call.
        made: the line in the same function by which weights are made.
        statement: what sets it.
    """

    path: str
    line: int
    code: str
    made: int
    statement: str


def targets_of(node: ast.Assign | ast.AnnAssign) -> list[str]:
    """What an assignment assigns to, as it is written."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [
        spelled(part)
        for target in targets
        for part in (target.elts if isinstance(target, ast.Tuple) else [target])
    ]


def told(around: ast.AST, call: ast.AST) -> list[str]:
    """The text of a node, and that of what its variables are assigned."""
    names = {n.id for n in nodes(call) if isinstance(n, ast.Name)}
    return [
        spelled(call),
        *(
            spelled(node.value)
            for node in nodes(around)
            if isinstance(node, ast.Assign) and names.intersection(targets_of(node))
        ),
    ]


def is_of_a_rank(around: ast.AST, call: ast.Call) -> bool:
    """Whether a seed is another one on each rank, as far as its own text or that of its variables tells."""
    return any("rank" in text.lower() for text in told(around, call))


def unlike(files: Iterable[SourceFile]) -> Iterator[Unlike]:
    """Seeds that differ between replicas, set before the weights are made in the same function.

    Functions that set one and make nothing are followed to those that call them.

    Args:
        files: those of training.
    """
    every = [
        (file, function)
        for file in files
        for function in (*functions(file.syntax), file.syntax)
    ]
    helpers: set[str] = set()
    while True:
        more = {
            function.name
            for file, function in every
            if isinstance(function, Function) and not function.name.startswith("__")
            if _spreads(file, function, helpers)
            if not any(_makes(call) for call in _calls(function))
        }
        if more <= helpers:
            break
        helpers |= more
    for file, function in every:
        yield from _in(file, function, helpers)


def _spreads(file: SourceFile, function: Function, helpers: set[str]) -> bool:
    """Whether a function leaves another seed on each replica, where it is told nothing else."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args]
    defaults = [None] * (len(every) - len(arguments.defaults)) + arguments.defaults
    pairs = [
        *zip(every, defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    for argument, default in pairs:
        if _DISTINCT.match(argument.arg):
            return default is not None and bool(_REPLICAS.search(spelled(default)))
    return _last_seed(file, function, helpers) is not None


def _in(
    file: SourceFile, function: Function | ast.Module, helpers: set[str]
) -> Iterator[Unlike]:
    calls = _calls(function)
    seen: set[int] = set()
    makers = _makers(file)
    for made in (
        call for call in calls if _makes(call) or spelled(call.func) in makers
    ):
        seed = _last_seed(file, function, helpers, made.lineno)
        if seed is None or id(seed) in seen or _is_made(function, made, seed.lineno):
            continue
        if any(_gives(call) for call in calls if call.lineno > seed.lineno):
            continue
        seen.add(id(seed))
        statement = _statement(function, seed)
        yield Unlike(
            file.path, seed.lineno, spelled(seed), made.lineno, spelled(statement)
        )


@once
def _makers(file: SourceFile) -> frozenset[str]:
    """The methods of a file that make weights or wrap, as they are called on ``self``."""
    return frozenset(
        f"self.{function.name}"
        for function in functions(file.syntax)
        if any(map(_makes, _calls(function)))
    )


def _is_made(function: Function | ast.Module, wraps: ast.Call, before: int) -> bool:
    """Whether what a call wraps was made before a line of the same function."""
    model = next(iter(wraps.args), None)
    return _WRAPS.search(spelled(wraps.func)) is not None and any(
        model is not None and spelled(model) in targets_of(node)
        for node in nodes(function)
        if isinstance(node, ast.Assign) and node.lineno < before
    )


def _statement(function: Function | ast.Module, call: ast.Call) -> ast.AST:
    """The statement that a call is in."""
    around = (
        node
        for node in nodes(function)
        if isinstance(node, ast.Expr | ast.Assign)
        and node.lineno <= call.lineno <= (node.end_lineno or 0)
    )
    return next(around, call)


@once
def _calls(function: Function | ast.Module) -> tuple[ast.Call, ...]:
    """The calls of a function, or of a module outside of its functions and classes, in order."""
    inner: set[int] = set()
    for node in nodes(function):
        if node is not function and isinstance(node, Function | ast.ClassDef):
            inner |= {id(n) for n in nodes(node)}
    found = [
        n for n in nodes(function) if isinstance(n, ast.Call) and id(n) not in inner
    ]
    return tuple(sorted(found, key=lambda call: (call.lineno, call.col_offset)))


def _last_seed(
    file: SourceFile,
    function: Function | ast.Module,
    helpers: set[str],
    before: int | None = None,
) -> ast.Call | None:
    """The last call that seeds, where that is another seed on each replica."""
    last: ast.Call | None = None
    for call in _calls(function):
        if before is not None and call.lineno >= before:
            break
        name = spelled(call.func)
        told_which = any(_DISTINCT.match(word.arg or "") for word in call.keywords)
        spreads = name.rpartition(".")[2] in helpers and not told_which
        if spreads or _differs(file, function, call):
            last = call
        elif SEEDS.search(name):
            last = None
    return last


def _differs(file: SourceFile, function: Function | ast.Module, call: ast.Call) -> bool:
    for word in call.keywords:
        if word.arg and _DISTINCT.match(word.arg):
            return any(map(_REPLICAS.search, told(file.syntax, word.value)))
    if not SEEDS.search(spelled(call.func)):
        return False
    given = [*call.args, *(word.value for word in call.keywords)]
    if len(given) > 1:  # a device, too, is another one on each rank
        given = [g for g in given if "seed" in spelled(g) or "rank" in spelled(g)]
    texts = [text for one in given for text in told(function, one)]
    return any("rank" in t.lower() and not _OTHER_RANK.search(t) for t in texts)


def _makes(call: ast.Call) -> bool:
    """Whether a call makes a model's weights, or has a model wrapped that was made before."""
    name = spelled(call.func)
    named = any(word.arg == "model" for word in call.keywords)
    wraps = bool(_WRAPS.search(name)) and bool(call.args or named)
    return bool(_MAKES.search(name)) or wraps or name == "super().__init__"


def _gives(call: ast.Call) -> bool:
    """Whether a call gives the model weights that all ranks have."""
    name = spelled(call.func).rpartition(".")[2]
    return bool(_GIVES.search(name)) and any(
        "model" in spelled(part)
        for part in (call.func, *call.args, *(k.value for k in call.keywords))
    )
