"""TM223: what plain tensors can do and DTensors cannot."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.modules import Function, functions
from codemods.nodes import dotted, nodes, spelled
from codemods.parameters import Loop, derived, loops, mentions
from codemods.plans import Facts
from codemods.source import SourceFile
from codemods.weights import Tensors, taking, tensors

CODE = "TM223"
TITLE = "parameters used as plain tensors"
SEVERITY: Severity = "loud"
WHAT = (
    "A parameter or its gradient is given to a collective or mixed with a plain tensor."
)
WHY = """\
Under replicate parameters and gradients are DTensors. A collective of torch.distributed
raises NotImplementedError on one, and arithmetic with a plain tensor "mixed torch.Tensor
and DTensor"; numpy() and tolist() raise too, and so does setting a row to a number. A weight
taken by attribute is one except between a forward and its backward. data_ptr() does not
raise: it is 0 for every one of them. Numbers, and tensors made by randn_like and its kind, are fine. A gradient that backward
left is the mean over the replicas already.
"""
UPSTREAM = """\
None. It rests on trainings of two ranks, torch 2.13. The RL trainer of torchtitan's main
had such a broadcast in spring 2026.
"""
RISK = """\
It raises at the first use. Where parameters are told apart by data_ptr(), all but one are
passed over, and nothing raises.
"""
PROOF = """\
Where torchtitan's own trainer does it, a rank of the migrated tree "failed with" it in
`dp`. Other trainers are not run: take one step with each.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/experiments/averaged/average.py",
    before="""\
    for p in model.parameters():
        dist.broadcast(p.data, src=0)
""",
    after="""\
dist.broadcast(p.detach().to_local(), src=0)
""",
)

_COLLECTIVES = {
    *("all_reduce", "broadcast", "reduce", "all_gather", "all_gather_into_tensor"),
    *("reduce_scatter", "reduce_scatter_tensor", "all_to_all", "all_to_all_single"),
    *("gather", "scatter", "send", "recv", "isend", "irecv", "all_reduce_coalesced"),
}
_MADE = {
    *("randn", "rand", "zeros", "ones", "full", "empty", "tensor", "eye", "normal"),
    *("from_numpy", "as_tensor", "arange", "randint", "bernoulli"),
}
_ARRAYS = ("numpy.asarray", "numpy.array")
_IMPORT = "# from torch.distributed.tensor import distribute_tensor"
_INDICES = re.compile(r"(^|_)(ids|indices|tokens|mask|perm|labels|rows)$")
_MODULES = ("torch.distributed.", "torch.distributed.distributed_c10d.")


def find(facts: Facts) -> Iterator[Finding]:
    places = {id(place.function): place for place in facts.survey.trained}
    for file in facts.in_training("parameters(", '["params"]', ".weight", ".bias"):
        seen: set[tuple[int, str]] = set()
        for loop in file.all(_loops):
            for finding in _in_loop(facts, file, loop):
                if (finding.line, finding.message) not in seen:
                    seen.add((finding.line, finding.message))
                    yield finding
        lines = {line for line, _ in seen}
        known = {id(f): f for f in file.all(taking)}
        known |= {
            at: place.function
            for at, place in places.items()
            if place.file.path == file.path
        }
        for at, function in sorted(known.items(), key=lambda one: one[1].lineno):
            here = tensors(file, function, places.get(at))
            for finding in _beside_loops(facts, file, here):
                if finding.line not in lines:
                    lines.add(finding.line)
                    yield finding


def _beside_loops(facts: Facts, file: SourceFile, here: Tensors) -> Iterator[Finding]:
    """What is done with weights taken by attribute, and with all parameters in one tensor."""
    for node in nodes(here.function) if here.sources else ():
        if isinstance(node, ast.Call):
            yield from _of_tensors(facts, file, node, here)
        elif isinstance(node, ast.BinOp):
            for tensor, other in ((node.left, node.right), (node.right, node.left)):
                if here.holds(tensor) and here.is_plain(other):
                    yield _beside_plain(file, node, tensor, _whole(tensor))
        elif isinstance(node, ast.Subscript) and here.holds(node.value):
            if isinstance(node.ctx, ast.Load) and _indexes_by_tensor(here, node.slice):
                advice = f"{_whole(node.value)}[{spelled(node.slice)}]"
                yield _beside_plain(file, node, node.value, advice)
        elif isinstance(node, ast.Assign):
            yield from _is_set(file, node, here)


def _of_tensors(
    facts: Facts, file: SourceFile, call: ast.Call, here: Tensors
) -> Iterator[Finding]:
    if _is_collective(facts, file, call):
        given = [arg for arg in call.args if here.holds(arg)]
        if given:
            yield _collective(file, call, given[0])
        return
    listed = _as_python(facts, file, call)
    if listed is not None and here.holds(listed):
        yield _python(file, call, listed)
    elif isinstance(call.func, ast.Attribute) and here.holds(call.func.value):
        writes = call.func.attr.endswith("_")
        for other in call.args:
            if here.is_plain(other) or (writes and spelled(other) in here.given):
                placed = _distributed(call.func.value, other)
                advice = f"{_IMPORT}\n{spelled(call.func)}({placed})"
                advice = advice if writes else _whole(call.func.value)
                yield _beside_plain(file, call, call.func.value, advice)
    elif isinstance(call.func, ast.Attribute):
        parts = [call.func.value, *call.args]
        flat = [part for one in parts for part in getattr(one, "elts", [one])]
        for tensor in filter(here.holds, flat):
            if any(map(here.is_plain, flat)):
                yield _beside_plain(file, call, tensor, _whole(tensor))


def _as_python(facts: Facts, file: SourceFile, call: ast.Call) -> ast.expr | None:
    """What a call makes an array or a list of."""
    if isinstance(call.func, ast.Attribute) and call.func.attr in ("numpy", "tolist"):
        return call.func.value
    origin = facts.checkout.external(file.path, "", dotted(call.func) or "_")
    return call.args[0] if origin in _ARRAYS and call.args else None


def _indexes_by_tensor(here: Tensors, index: ast.expr) -> bool:
    """Whether an index is a plain tensor or a list, and no number or slice."""
    if isinstance(index, ast.Tuple):
        return any(_indexes_by_tensor(here, part) for part in index.elts)
    named = isinstance(index, ast.Name) and bool(_INDICES.search(index.id))
    known = here.is_plain(index) or spelled(index) in here.given
    return named or known or isinstance(index, ast.List)


def _is_set(file: SourceFile, node: ast.Assign, here: Tensors) -> Iterator[Finding]:
    """Elements of a weight that are set to a number or to a plain tensor."""
    target, value = node.targets[0], node.value
    if not isinstance(target, ast.Subscript) or not here.holds(target.value):
        return
    if isinstance(value, ast.Constant):
        advice = f"{spelled(target)}.fill_({spelled(value)})"
    elif here.is_plain(value) or spelled(value) in here.given:
        placed = _distributed(target.value, value)
        advice = f"{_IMPORT}\n{spelled(target)} = {placed}"
    else:
        return
    yield Finding(
        file.path,
        node.lineno,
        CODE,
        f"{spelled(target.value)} is a DTensor under replicate, and setting a part of it so "
        "raises",
        "hazard",
        advice,
    )


def _distributed(weight: ast.expr, plain: ast.expr) -> str:
    """A plain tensor as a DTensor like a weight."""
    of = spelled(_bare(weight))
    return f"distribute_tensor({spelled(plain)}, {of}.device_mesh, {of}.placements)"


def _whole(tensor: ast.expr) -> str:
    """A parameter, or what is made of one, as a plain tensor."""
    return f"{spelled(tensor)}.full_tensor()"


def _beside_plain(
    file: SourceFile, node: ast.expr, tensor: ast.expr, advice: str
) -> Finding:
    return Finding(
        file.path,
        node.lineno,
        CODE,
        f"{spelled(tensor)} is a DTensor under replicate, except between a forward and its "
        "backward, and a plain tensor cannot be mixed with it",
        "hazard",
        advice,
    )


def _in_loop(facts: Facts, file: SourceFile, loop: Loop) -> Iterator[Finding]:
    names = derived(loop)
    for statement in loop.inner:
        for node in nodes(statement):
            if isinstance(node, ast.AugAssign) and _is_tensor(node.target, names):
                if _is_made(file, node.value):
                    yield _mixed(file, node.lineno, node.target)
            if isinstance(node, ast.Call):
                yield from _of_call(facts, file, node, names)
    yield from _after(facts, file, loop, names)


def _of_call(
    facts: Facts, file: SourceFile, call: ast.Call, names: set[str]
) -> Iterator[Finding]:
    if _is_collective(facts, file, call):
        given = [arg for arg in call.args if mentions(arg, names)]
        if given:
            yield _collective(file, call, given[0])
    elif isinstance(call.func, ast.Attribute) and _is_tensor(call.func.value, names):
        if call.func.attr in ("numpy", "tolist"):
            yield _python(file, call, call.func.value)
        elif call.func.attr == "data_ptr":
            yield Finding(
                file.path,
                call.lineno,
                CODE,
                f"{spelled(call)} is 0 for every parameter under replicate: they are "
                "DTensors",
                "hazard",
                f"id({spelled(_bare(call.func.value))})",
                "silent",
            )
        elif call.func.attr.endswith("_") and any(_is_made(file, a) for a in call.args):
            yield _mixed(file, call.lineno, call.func.value)


def _after(
    facts: Facts, file: SourceFile, loop: Loop, names: set[str]
) -> Iterator[Finding]:
    """Collectives on a sum that the loop made, after it: ``total`` of a norm."""
    summed = names - loop.names
    if not summed or not isinstance(loop.node, ast.For):
        return
    last = loop.node.end_lineno or loop.node.lineno
    for function in file.all(_Around(loop.node.lineno)):
        for node in nodes(function):
            if isinstance(node, ast.Call) and node.lineno > last:
                if _is_collective(facts, file, node):
                    given = [arg for arg in node.args if mentions(arg, summed)]
                    if given:
                        yield _collective(file, node, given[0])


def _loops(file: SourceFile) -> tuple[Loop, ...]:
    return loops(file.syntax)


@dataclass(frozen=True)
class _Around:
    """Finds the functions that a line is in."""

    line: int

    def __call__(self, file: SourceFile) -> tuple[Function, ...]:
        return tuple(
            function
            for function in functions(file.syntax)
            if function.lineno <= self.line <= (function.end_lineno or 0)
        )


def _is_collective(facts: Facts, file: SourceFile, call: ast.Call) -> bool:
    spelling = dotted(call.func)
    if spelling is None or spelling.rpartition(".")[2] not in _COLLECTIVES:
        return False
    origin = facts.checkout.external(file.path, "", spelling) or spelling
    return origin.startswith((*_MODULES, "dist."))


def _is_tensor(node: ast.expr, names: set[str]) -> bool:
    """A parameter, its data or its gradient, or a view of one."""
    return mentions(node, names)


def _is_made(file: SourceFile, node: ast.expr) -> bool:
    """Whether a plain tensor of more than one element is made in an expression."""
    for part in nodes(node):
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute):
            if spelled(part.func.value) != "torch" or part.func.attr not in _MADE:
                continue
            one = part.args and isinstance(part.args[0], ast.Constant)
            if not one:  # `torch.tensor(0.5)` and `torch.ones(1)` are taken as numbers
                return True
    return False


def _bare(node: ast.expr) -> ast.expr:
    """A parameter without what is done before it is looked at: ``p`` of ``p.data.cpu()``."""
    while True:
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            node = node.func.value
        elif isinstance(node, ast.Attribute) and node.attr == "data":
            node = node.value
        else:
            return node


def _collective(file: SourceFile, call: ast.Call, given: ast.expr) -> Finding:
    shown = spelled(given)
    tensor = spelled(_bare(given))
    local = (
        f"{tensor}.to_local()" if "grad" in tensor else f"{tensor}.detach().to_local()"
    )
    return Finding(
        file.path,
        call.lineno,
        CODE,
        f"{shown} is a DTensor under replicate, on which {spelled(call.func)} raises",
        "hazard",
        spelled(call).replace(shown, local, 1),
    )


def _python(file: SourceFile, call: ast.Call, tensor: ast.expr) -> Finding:
    bare = spelled(_bare(tensor))
    full = f"{bare}.full_tensor()" + ".detach().cpu()" * (spelled(tensor) == bare)
    return Finding(
        file.path,
        call.lineno,
        CODE,
        f"{spelled(call)} raises under replicate: parameters are DTensors",
        "hazard",
        spelled(call).replace(bare, full, 1),
    )


def _mixed(file: SourceFile, line: int, target: ast.expr) -> Finding:
    shown = spelled(target)
    return Finding(
        file.path,
        line,
        CODE,
        f"{shown} is a DTensor under replicate, and a plain tensor cannot be mixed with it",
        "hazard",
        f"torch.randn_like({shown})  # or zeros_like, full_like: a DTensor too\n"
        f"{spelled(_bare(target))}.to_local()  # or work on the local tensor",
    )
