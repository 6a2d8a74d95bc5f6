"""TM228: branches that ask for FSDP or for placements."""

import ast
import re
from collections.abc import Iterator

from codemods.answers import Answer, answered
from codemods.classes import Names, Question, questions
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

_CLASS = "FSDPModule"
_ONE = re.compile(r"(^|[._])(p|param|parameter|g|grad|weight|w)$")


def find(facts: Facts) -> Iterator[Finding]:
    own = {
        definition.path
        for definition in (*facts.survey.definitions, *facts.survey.migrated)
    }
    fsdp = Names(facts.checkout, _CLASS)
    for file in facts.in_training(*fsdp.words):
        yield from _modules(facts, file, fsdp, file.path in own)
    for file in facts.in_training(".placements"):
        yield from _placements(file)


def _modules(
    facts: Facts, file: SourceFile, fsdp: Names, is_plan: bool
) -> Iterator[Finding]:
    sharding = {
        id(node)
        for function in functions(file.syntax)
        if is_plan and _shards(function)
        for node in nodes(function)
    }
    for question in questions(file.syntax):
        exact = question.how in ("type", "name")  # its own class is never that one
        if id(question.node) in sharding or exact:
            continue
        if not fsdp.stands_for(file, question.asked):
            continue
        answer = answered(file.syntax, question)
        done = sorted(set(_called(facts, answer)))
        if done and set(done) <= _FINE:
            continue
        sets = done and all(name.startswith("set_") for name in done)
        yield Finding(
            file.path,
            question.node.lineno,
            CODE,
            f"{spelled(answer.whole)}: every group of replicate is an FSDPModule, and "
            "under DDP none was"
            + (f"; {', '.join(done)} is called now" if sets else ""),
            "hazard",
            _of_shards(facts, question, answer.whole),
            "note" if sets else None,
        )


def _called(facts: Facts, answer: Answer) -> Iterator[str]:
    """What is called where it is true, here or where a function is called that asks it."""
    if answer.function is None:
        yield from answer.known
        return
    for file in facts.in_training(f"{answer.function}("):
        for call in nodes(file.syntax):
            if isinstance(call, ast.Call) and answer.function == _last(call.func):
                asks = Question(call, "", call.func, "isinstance")
                yield from answered(file.syntax, asks).known


def _last(node: ast.expr) -> str:
    return spelled(node).rpartition(".")[2]


def _of_shards(facts: Facts, question: Question, whole: ast.AST) -> str:
    """The same question, of modules that fully_shard wrapped alone."""
    asks, shown, end = spelled(question.node), spelled(whole), ""
    if facts.target.mesh == "2d":
        head, end = "", "  # if for shards alone: torch 2.9 has one class for both"
        also, against = "parallel_dims.fsdp_enabled", "not parallel_dims.fsdp_enabled"
    else:
        head = (
            "# if it is for shards alone: "
            f"from {REPLICATE_MODULE} import ReplicateModule\n"
        )
        against = f"isinstance({question.subject}, ReplicateModule)"
        also = f"not {against}"
    if question.how == "case":
        return f"{head}case {shown} if {also}:{end}"
    only = f"{asks} or {against}" if question.negated else f"{asks} and {also}"
    joined = isinstance(whole, ast.BoolOp) and whole.values[-1] is question.node
    bare = whole is question.node or isinstance(whole, ast.Call) or joined
    return f"{head}{shown.replace(asks, only if bare else f'({only})', 1)}{end}"


def _shards(function: Function) -> bool:
    return any(
        isinstance(node, ast.Call)
        and (dotted(node.func) or "").rpartition(".")[2] in ("fully_shard", "replicate")
        for node in nodes(function)
    )


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
