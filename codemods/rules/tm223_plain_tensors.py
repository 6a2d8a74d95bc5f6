"""TM223: what plain tensors can do and DTensors cannot."""

import ast
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.nodes import dotted, nodes, spelled
from codemods.parameters import Loop, derived, loops, mentions
from codemods.plans import Facts
from codemods.source import SourceFile

CODE = "TM223"
TITLE = "parameters used as plain tensors"
SEVERITY: Severity = "loud"
WHAT = (
    "A parameter or its gradient is given to a collective or mixed with a plain tensor."
)
WHY = """\
Under replicate parameters and gradients are DTensors. A collective of torch.distributed
raises NotImplementedError on one, and arithmetic with a plain tensor "mixed torch.Tensor
and DTensor"; numpy() raises too. data_ptr() does not: it is 0 for every one of them.
Numbers, and tensors made by randn_like and its kind, are fine. A gradient that backward
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
_MODULES = ("torch.distributed.", "torch.distributed.distributed_c10d.")


def find(facts: Facts) -> Iterator[Finding]:
    for file in facts.in_training("parameters(", '["params"]'):
        seen: set[tuple[int, str]] = set()
        for loop in loops(file.syntax):
            for finding in _in_loop(facts, file, loop):
                if (finding.line, finding.message) not in seen:
                    seen.add((finding.line, finding.message))
                    yield finding


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
        if call.func.attr == "numpy":
            yield Finding(
                file.path,
                call.lineno,
                CODE,
                f"{spelled(call)} raises under replicate: parameters are DTensors",
                "hazard",
                f"{spelled(_bare(call.func.value))}.full_tensor().detach().cpu().numpy()",
            )
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
    for function in nodes(file.syntax):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not function.lineno <= loop.node.lineno <= (function.end_lineno or 0):
            continue
        for node in nodes(function):
            if isinstance(node, ast.Call) and node.lineno > last:
                if _is_collective(facts, file, node):
                    given = [arg for arg in node.args if mentions(arg, summed)]
                    if given:
                        yield _collective(file, node, given[0])


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
