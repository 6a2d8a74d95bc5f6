"""TM230: optimizers with kernels or state of their own."""

import ast
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.modules import Function, methods
from codemods.nodes import nodes, of_kind, spelled
from codemods.parameters import Loop, derived, loops, mentions
from codemods.plans import Facts
from codemods.source import SourceFile

CODE = "TM230"
TITLE = "optimizers that know no DTensor"
SEVERITY: Severity = "loud"
WHAT = (
    "An optimizer of this checkout gives parameters to a kernel, or keeps plain state."
)
WHY = """\
Under replicate an optimizer gets DTensors. PyTorch's own operators take them, those of an
orthogonalisation too; a Triton kernel, a CUDA extension and an operator of torch.ops do not,
and state made by torch.zeros(p.shape) is a plain tensor, which arithmetic refuses beside
one. zeros_like makes a DTensor.
"""
UPSTREAM = """\
None. It rests on operators tried on two ranks, torch 2.13: matmul, QR, SVD and eigh work on
replicated DTensors, custom operators have no sharding strategy.
"""
RISK = """\
The first optimizer step raises. A kernel that takes data_ptr() gets 0.
"""
PROOF = """\
Where torchtitan's trainer is made to use the optimizer, a rank of the migrated tree "failed
with" it in `dp`. No cell chooses one: take a step with it.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/experiments/averaged/optimizer.py",
    before="""\
                    state["momentum"] = torch.zeros(p.shape, device=p.device)
""",
    after="""\
torch.zeros_like(p)  # a DTensor, as p is
""",
)

_MADE = {"torch.zeros", "torch.ones", "torch.empty", "torch.full"}
_HANDLED = ("to_local", "full_tensor", "local_map")


def find(facts: Facts) -> Iterator[Finding]:
    for file in facts.in_training("Optimizer"):
        yield from file.all(_in_file)


def _in_file(file: SourceFile) -> tuple[Finding, ...]:
    return tuple(
        finding
        for node in of_kind(file.syntax, ast.ClassDef)
        if any(spelled(base).endswith("Optimizer") for base in node.bases)
        for method in methods(node).values()
        for finding in _in_method(file, method)
    )


def _in_method(file: SourceFile, method: Function) -> Iterator[Finding]:
    if any(word in spelled(method) for word in _HANDLED):
        return
    seen: set[int] = set()
    for loop in loops(method):
        for call in _calls(loop):
            if call.lineno in seen:
                continue
            if spelled(call.func) in _MADE and _of_shape(call, loop.names):
                seen.add(call.lineno)
                (name, *_) = sorted(loop.names)
                made = spelled(call.func)
                yield Finding(
                    file.path,
                    call.lineno,
                    CODE,
                    f"{spelled(call)} is a plain tensor, and {name} a DTensor under "
                    "replicate: they cannot be mixed",
                    "hazard",
                    f"{made}_like({name})  # a DTensor, as {name} is",
                )
            elif _is_kernel(call) and _takes(call, derived(loop)):
                seen.add(call.lineno)
                yield Finding(
                    file.path,
                    call.lineno,
                    CODE,
                    f"{spelled(call.func)} is a kernel, and gets DTensors under replicate",
                    "hazard",
                    "# whole tensors on every rank; in place, so the DTensor changes too\n"
                    f"{spelled(call.func)}("
                    + ", ".join(_local(arg, derived(loop)) for arg in call.args)
                    + ")",
                )


def _calls(loop: Loop) -> Iterator[ast.Call]:
    for statement in loop.inner:
        for node in nodes(statement):
            if isinstance(node, ast.Call):
                yield node


def _of_shape(call: ast.Call, names: frozenset[str]) -> bool:
    """Whether it is as large as a parameter: ``torch.zeros(p.shape)``."""
    return any(
        isinstance(node, ast.Attribute)
        and node.attr in ("shape", "size")
        and isinstance(node.value, ast.Name | ast.Attribute)
        and spelled(node.value).split(".")[0] in names
        for arg in call.args
        for node in nodes(arg)
    )


def _is_kernel(call: ast.Call) -> bool:
    """``kernel[grid](...)`` of Triton, and ``torch.ops.mine.step(...)``."""
    if isinstance(call.func, ast.Subscript):
        return True
    name = spelled(call.func)
    return name.startswith("torch.ops.") and not name.startswith("torch.ops.aten.")


def _takes(call: ast.Call, names: set[str]) -> bool:
    return any(mentions(arg, names) for arg in call.args)


def _local(arg: ast.expr, names: set[str]) -> str:
    shown = spelled(arg)
    return f"{shown}.to_local()" if mentions(arg, names) else shown
