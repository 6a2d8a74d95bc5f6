"""TM209: ``apply_fsdp`` and the training loop disagree about gradient scaling."""

import ast
import re
from collections.abc import Iterator, Sequence
from functools import partial

from codemods.conditions import properties_of
from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.made_up_for import MadeUpFor, factors_of
from codemods.modules import Function, functions
from codemods.names import Definition
from codemods.nodes import nodes, spelled
from codemods.plans import Facts, NewFunction
from codemods.plans.sites import first_that_moves, standalone
from codemods.plans.trainers import (
    Trainers,
    keeps_its_own,
    others_of,
    trainers_of,
    trains_its_own,
)
from codemods.shapes import is_sharding_call, uses_within, wraps_with_replicate
from codemods.source import SourceFile
from codemods.survey import (
    CallSite,
    divides_by_global_tokens,
    function_of,
    parallel_dims_files,
)

CODE = "TM209"
TITLE = "who divides gradients"
SEVERITY: Severity = "silent"
WHAT = "Gradients are divided twice or not at all: by apply_fsdp, by DDP and by the training loop."
WHY = """\
A loop that divides a sum loss by the global token count needs gradients summed over
ranks; one with a local mean loss needs them averaged. Where apply_fsdp switches
division off and no such loop is found, or the other way round, one of the two is
wrong or written in a way that is not recognised. The new function then sums.
Asked is the loop that runs the plan: that of the model's own folder, else torchtitan's own,
and an experiment's only where there is no other. Where two that run it disagree, the new
function does as apply_fsdp does.
DDP always averages. Under a loop that divides by the global token count it divided once
more, by its ranks; replicate does not. That is a note, for the larger gradients are right.
A fork that made up for it, by the loss times dp_replicate or tokens over it where nothing
shards, has to stop: what it multiplies by is in the gradients now. Where all ranks are
made up for, FSDP's too, gradients are averaged as before.
"""
UPSTREAM = """\
PR 2458 has gradient division off; torchtitan divides the loss by the tokens of all
ranks from 0.2.2 on.
"""
RISK = """\
If the loss is a local mean after all, summed gradients are too large by the
data-parallel degree. AdamW hides that in the loss; clipping acts on it. So it does where
DDP divided twice: a max_norm that never clipped may clip now. What makes up for DDP and
stays makes gradients too large by the degree of dp_replicate.
"""
PROOF = """\
In part. Where apply_fsdp divides, `dp` fails: gradients are "summed over the
data-parallel ranks where they have to be averaged". Where it does not, replicate agrees
with FSDP, right or wrong, and `dp` notes "DDP divided the gradients twice": compare
grad_norm of a short run with that of one rank on the same global batch.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/models/robin/infra/parallelize.py",
    before="""\
def apply_fsdp(model, dp_mesh, param_dtype, reduce_dtype):
    mp_policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
    fsdp_config = {"mesh": dp_mesh, "mp_policy": mp_policy}
    fully_shard(model.encoder, **fsdp_config)
    for block in model.layers.values():
        fully_shard(block, **fsdp_config)
    fully_shard(model, **fsdp_config)

    # the data loader weighs each token by one over those of all ranks
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
""",
    after="""\
module.set_gradient_divide_factor(1.0)  # sums; leave it out to average
""",
)

_DIVIDES = re.compile(r"gradient_div|divide_factor|force_sum")
"""What says who divides: torch's methods, and torchtitan's functions that call them."""


_PARTING = (
    *("replica", "ddp", "DDP", "fsdp_enabled", "dp_shard", "parallel_shard_degree"),
    "is_fsdp",
)
"""Without one of these words nothing is done for pure replication alone."""

_WRAPS = re.compile(r"\b(apply_(fsdp|ddp|replicate)|fully_shard|replicate)\(")


def find(facts: Facts) -> Iterator[Finding]:
    made_up = list(_made_up_for(facts))
    yield from made_up
    yield from _divided_twice(facts, made_up)
    yield from _left_on(facts)
    for function in facts.functions.values():
        if function.mirrors is None:
            continue
        node = function_of(facts.checkout, function.mirrors)
        assert node is not None
        trainers = trainers_of(facts, _sites(facts, function))
        unknown = not (trainers.by_all or trainers.by_own)
        at_hand = not facts.survey.dependency.advice
        if function.plan.sums_gradients and unknown and not at_hand:
            yield _not_at_hand(facts, function.mirrors.path, node.lineno)
            continue
        said = _disagreement(function, trainers)
        if said:
            yield Finding(
                function.mirrors.path,
                node.lineno,
                CODE,
                said,
                "hazard",
                "module.set_gradient_divide_factor(1.0)  # sums; leave it out to average",
                None if function.plan.sums_gradients else "note",
            )
    yield from _of_experiments(facts)


def _sites(facts: Facts, function: NewFunction) -> list[CallSite]:
    """The calls that will use a function."""
    return [c.site for c in facts.calls if function in (c.function, *c.also)]


def _disagreement(function: NewFunction, trainers: Trainers) -> str:
    """What ``apply_fsdp`` and the loops that run it have against each other, empty if nothing."""
    plan = function.plan
    by_all, by_own = trainers.by_all[:1], trainers.by_own[:1]
    if not plan.as_apply_fsdp:
        return (
            f"{by_all[0] if by_all else 'the training loop'} divides by the global token "
            "count, but this apply_fsdp leaves the division of gradients on; "
            f"{plan.name} sums gradients"
        )
    if by_all and by_own:
        return (
            f"{by_all[0]} divides by the global token count, {by_own[0]} does not, and both "
            f"run this; {plan.name} {'sums' if plan.sums_gradients else 'averages'} gradients, "
            "as apply_fsdp does, which is right for one of them"
        )
    if not plan.sums_gradients or by_all:
        return ""
    found = (
        f"{by_own[0]}, which runs it, divides by no global token count or makes up for that"
        if by_own
        else "no training loop that divides by a global token count was found"
    )
    return (
        "this apply_fsdp switches the division of gradients off, but "
        f"{found}; {plan.name} sums gradients"
    )


def _of_experiments(facts: Facts) -> Iterator[Finding]:
    """Loops that may run what sums now, and that were right under DDP, which averaged."""
    found: dict[str, str] = {}
    for function in facts.written():
        sites = _sites(facts, function)
        if function.plan.sums_gradients and trainers_of(facts, sites).sum:
            for path in others_of(facts, sites):
                found.setdefault(path, function.plan.name)
    for path, name in found.items():
        file = facts.checkout.files[path]
        line = _backward(file)
        if (
            file.path in facts.checkout.own
            and line
            and not file.all(divides_by_global_tokens)
        ):
            yield Finding(
                path,
                line,
                CODE,
                f"this loop divides by no global token count: where it trains what {name} "
                "wraps, DDP averaged its gradients, and they are summed now",
                "hazard",
                "# divide the loss by the tokens of all ranks, as torchtitan's trainer does",
            )


def _made_up_for(facts: Facts) -> Iterator[Finding]:
    """Code that undoes an average which DDP made of the gradients, and replicate does not."""
    names = [f.plan.name for f in facts.functions.values() if f.plan.sums_gradients]
    if not names:
        return
    dims = [
        properties_of(file.syntax) for file, _ in parallel_dims_files(facts.checkout)
    ]
    held = {name: value for each in dims for name, value in each.items()}
    factors = [f.all(factors_of) for f in facts.in_training(".backward(")]
    dividing = frozenset().union(*factors)
    for file in facts.in_training(*_PARTING, *held):
        if keeps_its_own(facts, file.path) or trains_its_own(facts, file.path):
            continue
        called = partial(_called, facts, file)
        reads = MadeUpFor(file, called, held, dividing)
        for place in reads.places(_to_read(facts, file)):
            yield Finding(
                file.path,
                place.line,
                CODE,
                f"`{place.code}` may make up for the average that DDP made of gradients; "
                f"{names[0]} sums them, as apply_fsdp does: with it they are too large by the "
                "degree of dp_replicate",
                "hazard",
                place.instead,
            )


def _called(facts: Facts, file: SourceFile, call: ast.Call) -> list[Function]:
    return [function for _, function in facts.survey.order.called(file, call)]


def _to_read(facts: Facts, file: SourceFile) -> Iterator[tuple[Function, bool]]:
    """The functions of a file that stay, and whether they do not choose how to wrap."""
    gone = [d.name for d in facts.survey.definitions if d.path == file.path]
    for function in functions(file.syntax):
        if function.name not in gone:
            lines = file.lines[function.lineno - 1 : function.end_lineno]
            yield function, not _WRAPS.search("\n".join(lines))


def _backward(file: SourceFile) -> int | None:
    """The line of the first backward pass of a file."""
    return next(
        (
            node.lineno
            for node in nodes(file.syntax)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "backward"
        ),
        None,
    )


def _divided_twice(facts: Facts, made_up: Sequence[Finding]) -> Iterator[Finding]:
    """That DDP averaged what the loop had divided by the tokens of all ranks."""
    summing = [f for f in facts.written() if f.plan.sums_gradients]
    loop = {
        path
        for function in summing
        for path in trainers_of(facts, _sites(facts, function)).by_all
    }
    place = first_that_moves(facts)
    if not loop or place is None:
        return
    moving = (facts.checkout.files[d.path] for d in facts.survey.definitions)
    if any(file.mentions(b"comm_hook") for file in moving):
        return  # which may undo the average
    but = (
        f"; not where that was made up for, which has to go: {made_up[0].path}:{made_up[0].line}"
        if made_up
        else ""
    )
    yield Finding(
        *place,
        CODE,
        "DDP divided gradients by its ranks, after "
        f"{min(loop, key=lambda path: (path.count('/'), path))} had divided the loss by the tokens "
        "of all ranks; replicate does not: gradients, and grad_norm, grow by the degree of "
        f"dp_replicate, as under FSDP, and clipping acts on that{but}",
        "hazard",
        "# choose training.max_norm as for FSDP; compare grad_norm with FSDP's",
        severity="note",
    )


def _left_on(facts: Facts) -> Iterator[Finding]:
    """Functions of somebody else that replicate, and average what the loop has divided."""
    loop = facts.survey.global_tokens
    if not loop:
        return
    first = min(loop, key=lambda path: (path.count("/"), path))
    for file in facts.in_training("replicate_with_fsdp"):
        averages = file.mentions(b".backward(") and not file.all(
            divides_by_global_tokens
        )
        for node in file.syntax.body:
            if not isinstance(node, ast.FunctionDef) or averages:
                continue
            if not wraps_with_replicate(facts.checkout, file, node):
                continue
            around = _around(facts, Definition(file.path, node.name))
            off = [_switches_off(facts, *one) for one in around]
            if _switches_off(facts, file, node) or (off and all(off)):
                continue
            yield Finding(
                file.path,
                node.lineno,
                CODE,
                f"{first} divides by the global token count, and {node.name} leaves the "
                "division of gradients on: replicate averages them once more over the replicas",
                "hazard",
                "# in the last lines of it\n"
                "for module in model.modules():\n"
                "    if isinstance(module, FSDPModule):\n"
                "        module.set_gradient_divide_factor(1.0)",
            )


def _around(
    facts: Facts, definition: Definition
) -> list[tuple[SourceFile, ast.FunctionDef]]:
    """The functions that call one, without those whose own loop has a local mean."""
    return [
        (facts.checkout.files[site.reference.path], site.function)
        for site in facts.survey.call_sites
        if site.reference.definition == definition and site.function is not None
        if not standalone(facts, site)
    ]


def _switches_off(facts: Facts, file: SourceFile, node: ast.FunctionDef) -> bool:
    """Whether a function, or one that it calls, says who divides gradients."""
    called = (
        facts.checkout.resolve(file.path, use.scope, use.spelling)
        for use in uses_within(facts.checkout, file.path, node)
        if use.call is not None
        if not is_sharding_call(facts.checkout, file.path, use)
    )
    homes = [function_of(facts.checkout, at) for at in called if at is not None]
    return any(
        isinstance(part, ast.Call)
        and _DIVIDES.search(spelled(part.func).rpartition(".")[2]) is not None
        for function in (node, *filter(None, homes))
        for part in nodes(function)
    )


def _not_at_hand(facts: Facts, path: str, line: int) -> Finding:
    found = facts.survey.dependency
    return Finding(
        path,
        line,
        CODE,
        "this apply_fsdp switches the division of gradients off, which is right where the "
        f"training loop divides by a global token count; that loop is of a torchtitan{found.known} "
        f"that is not at hand: {found.advice}",
        "hazard",
        severity="note",
    )
