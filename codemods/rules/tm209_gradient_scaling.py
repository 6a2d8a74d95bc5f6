"""TM209: ``apply_fsdp`` and the training loop disagree about gradient scaling."""

from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.plans import Facts
from codemods.plans.sites import first_that_moves
from codemods.survey import function_of

CODE = "TM209"
TITLE = "who divides gradients"
SEVERITY: Severity = "silent"
WHAT = "Gradients are divided twice or not at all: by apply_fsdp, by DDP and by the training loop."
WHY = """\
A loop that divides a sum loss by the global token count needs gradients summed over
ranks; one with a local mean loss needs them averaged. Where apply_fsdp switches
division off and no such loop is found, or the other way round, one of the two is
wrong or written in a way that is not recognised. The new function then sums.
DDP always averages. Under a loop that divides by the global token count it divided once
more, by its ranks; replicate does not. That is a note, for the larger gradients are right.
"""
UPSTREAM = """\
PR 2458 has gradient division off; torchtitan divides the loss by the tokens of all
ranks from 0.2.2 on.
"""
RISK = """\
If the loss is a local mean after all, summed gradients are too large by the
data-parallel degree. AdamW hides that in the loss; clipping acts on it. So it does where
DDP divided twice: a max_norm that never clipped may clip now.
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


def find(facts: Facts) -> Iterator[Finding]:
    yield from _divided_twice(facts)
    for function in facts.functions.values():
        if function.plan.as_apply_fsdp or function.mirrors is None:
            if not (function.plan.sums_gradients and not facts.survey.global_tokens):
                continue
            if function.mirrors is None:
                continue
        node = function_of(facts.checkout, function.mirrors)
        assert node is not None
        loop = facts.survey.global_tokens
        if not loop and facts.survey.dependency.advice:
            yield _not_at_hand(facts, function.mirrors.path, node.lineno)
            continue
        said = (
            f"{loop[0]} divides by the global token count, but this apply_fsdp leaves the "
            "division of gradients on"
            if loop
            else "this apply_fsdp switches the division of gradients off, but no training "
            "loop that divides by a global token count was found"
        )
        yield Finding(
            function.mirrors.path,
            node.lineno,
            CODE,
            f"{said}; {function.plan.name} sums gradients",
            "hazard",
            "module.set_gradient_divide_factor(1.0)  # sums; leave it out to average",
        )


def _divided_twice(facts: Facts) -> Iterator[Finding]:
    """That DDP averaged what the loop had divided by the tokens of all ranks."""
    loop, place = facts.survey.global_tokens, first_that_moves(facts)
    sums = any(function.plan.sums_gradients for function in facts.written())
    if not loop or not sums or place is None:
        return
    moving = (facts.checkout.files[d.path] for d in facts.survey.definitions)
    if any(b"comm_hook" in file.raw for file in moving):
        return  # which may undo the average
    yield Finding(
        *place,
        CODE,
        "DDP divided gradients by its ranks, after "
        f"{min(loop, key=lambda path: (path.count('/'), path))} had divided the loss by the tokens "
        "of all ranks; replicate does not: gradients, and grad_norm, grow by the degree of "
        "dp_replicate, as under FSDP, and clipping acts on that",
        "hazard",
        "# choose training.max_norm as for FSDP; compare grad_norm with FSDP's",
        severity="note",
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
