"""TM228: branches that ask for FSDP or for placements."""

import ast
import re
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.modules import Function, functions
from codemods.nodes import dotted, nodes, spelled
from codemods.parameters import names_in
from codemods.plans import Facts
from codemods.source import SourceFile
from codemods.targets import REPLICATE_MODULE

CODE = "TM228"
TITLE = "branches on FSDPModule or placements"
SEVERITY: Severity = "silent"
WHAT = "Code asks whether a module is an FSDPModule, or how a parameter is placed."
WHY = """\
A module under replicate is an FSDPModule, and a parameter has one placement that is no
shard, Replicate(). Code that took the first to mean sharded, or one placement to mean
Shard, is right under FSDP and was never reached under DDP; it is now.
"""
UPSTREAM = """\
None. It rests on PyTorch's replicate. torchtitan's torchft manager sets a hook on every
FSDPModule, and so on every group of replicate, which it never did under DDP.
"""
RISK = """\
A branch for shards computes with whole tensors: sums over ranks come out too large, and
gathers repeat. Replicate() has no dim, and asking for it raises.
"""
PROOF = """\
Where torchtitan's own trainer takes the branch, the migrated tree and the reference
"differ" in `dp`. Other code is not run: read each place.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/experiments/averaged/average.py",
    before="""\
        if isinstance(p, DTensor) and len(p.placements) == 1:
""",
    after="""\
any(placement.is_shard() for placement in p.placements)
""",
)

_FINE = {
    *("reshard", "unshard", "set_requires_gradient_sync", "set_is_last_backward"),
    *("set_gradient_divide_factor", "set_reshard_after_backward"),
    *("set_unshard_in_backward", "set_requires_all_reduce"),
    *("set_reshard_after_forward", "set_modules_to_forward_prefetch"),
    *("set_modules_to_backward_prefetch", "set_reduce_scatter_unused_params"),
    *("set_force_sum_reduction_for_comms", "set_post_optim_event"),
}
"""What replicate's groups are to be asked as well."""

_ONE = re.compile(r"(^|[._])(p|param|parameter|g|grad|weight|w)$")


def find(facts: Facts) -> Iterator[Finding]:
    own = {
        definition.path
        for definition in (*facts.survey.definitions, *facts.survey.migrated)
    }
    for file in facts.in_training("FSDPModule"):
        yield from _modules(facts, file, file.path in own)
    for file in facts.in_training(".placements"):
        yield from _placements(file)


def _modules(facts: Facts, file: SourceFile, is_plan: bool) -> Iterator[Finding]:
    for function in functions(file.syntax):
        if is_plan and _shards(function):
            continue
        for node in nodes(function):
            if not isinstance(node, ast.If) or not _asks(node.test):
                continue
            called = {
                part.func.attr
                for statement in node.body
                for part in nodes(statement)
                if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute)
            }
            if called and called <= _FINE:
                continue
            sets = called and all(name.startswith("set_") for name in called)
            yield Finding(
                file.path,
                node.test.lineno,
                CODE,
                f"{spelled(node.test)}: every group of replicate is an FSDPModule, and "
                "under DDP none was"
                + (f"; {', '.join(sorted(called))} is called now" if sets else ""),
                "hazard",
                _of_shards(facts, node.test),
                "note" if sets else None,
            )


def _of_shards(facts: Facts, test: ast.expr) -> str:
    """The same test, of modules that fully_shard wrapped alone."""
    if facts.target.mesh == "2d":
        return (
            f"{spelled(test)} and parallel_dims.fsdp_enabled  # if for shards alone: "
            "torch 2.9 has one class for both"
        )
    module = next(
        spelled(node.args[0])
        for node in nodes(test)
        if isinstance(node, ast.Call) and spelled(node.func) == "isinstance"
    )
    return (
        f"# if it is for shards alone: from {REPLICATE_MODULE} import ReplicateModule\n"
        f"{spelled(test)} and not isinstance({module}, ReplicateModule)"
    )


def _shards(function: Function) -> bool:
    return any(
        isinstance(node, ast.Call)
        and (dotted(node.func) or "").rpartition(".")[2] in ("fully_shard", "replicate")
        for node in nodes(function)
    )


def _asks(test: ast.expr) -> bool:
    for node in nodes(test):
        if isinstance(node, ast.Call) and spelled(node.func) == "isinstance":
            for part in nodes(node.args[-1]):
                spelling = dotted(part) if isinstance(part, ast.expr) else None
                if spelling and spelling.rpartition(".")[2] == "FSDPModule":
                    return True
    return False


def _placements(file: SourceFile) -> Iterator[Finding]:
    names = names_in(file.syntax)
    for node in nodes(file.syntax):
        if isinstance(node, ast.Compare) and _counts(node, names):
            of = spelled(node.left).removeprefix("len(").removesuffix(")")
            yield Finding(
                file.path,
                node.lineno,
                CODE,
                f"{spelled(node)} is true under replicate, whose one placement is no shard",
                "hazard",
                f"any(placement.is_shard() for placement in {of})",
            )
        if isinstance(node, ast.Attribute) and node.attr == "dim":
            if isinstance(node.value, ast.Subscript) and _of_one(
                node.value.value, names
            ):
                shown = spelled(node.value)
                yield Finding(
                    file.path,
                    node.lineno,
                    CODE,
                    f"{shown} is Replicate() under replicate, and has no dim",
                    "hazard",
                    f"{shown}.dim if {shown}.is_shard() else None",
                    "loud",
                )


def _counts(node: ast.Compare, names: set[str]) -> bool:
    left = node.left
    one = (
        isinstance(node.comparators[0], ast.Constant) and node.comparators[0].value == 1
    )
    return (
        isinstance(left, ast.Call)
        and spelled(left.func) == "len"
        and len(left.args) == 1
        and _of_one(left.args[0], names)
        and one
        and isinstance(node.ops[0], ast.Eq)
    )


def _of_one(node: ast.expr, names: set[str]) -> bool:
    """Whether it is the placements of a parameter or gradient, by its name."""
    if not isinstance(node, ast.Attribute) or node.attr != "placements":
        return False
    shown = spelled(node.value)
    return shown.split(".")[0] in names or bool(_ONE.search(shown))
