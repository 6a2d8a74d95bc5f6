"""TM209: ``apply_fsdp`` and the training loop disagree about gradient scaling."""

from collections.abc import Iterator

from codemods.findings import Finding
from codemods.plans import Facts
from codemods.survey import function_of

CODE = "TM209"
TITLE = "apply_fsdp and the training loop disagree"
WHY = """\
A loop that divides a sum loss by the global token count needs gradients summed over
ranks; one with a local mean loss needs them averaged. Where apply_fsdp switches
division off and no such loop is found, or the other way round, one of the two is
wrong or written in a way that is not recognised. The new function then sums: compare
grad_norm of a short run with a single rank on the same global batch.
"""


def find(facts: Facts) -> Iterator[Finding]:
    for function in facts.functions.values():
        if function.plan.as_apply_fsdp or function.mirrors is None:
            if not (function.plan.sums_gradients and not facts.survey.global_tokens):
                continue
            if function.mirrors is None:
                continue
        node = function_of(facts.checkout, function.mirrors)
        assert node is not None
        loop = facts.survey.global_tokens
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
