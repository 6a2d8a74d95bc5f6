"""TM222: hooks on parameters, which replicate never calls."""

import ast
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.nodes import nodes
from codemods.parameters import loops
from codemods.plans import Facts

CODE = "TM222"
TITLE = "register_hook on a parameter"
SEVERITY: Severity = "silent"
WHAT = (
    "A hook is registered on a parameter by register_hook, which replicate never calls."
)
WHY = """\
Under DDP autograd brings a gradient to the parameter itself, and runs its hooks. replicate
computes with another tensor and puts the reduced gradient on the parameter without
autograd: a hook by register_hook is not called once, nor is it under FSDP.
register_post_accumulate_grad_hook is, after the reduction, where it was registered behind
the wrapping: before, the parameter is another one. It is called in each backward with
the sum so far, so what scales or clips has to act once a step under accumulation.
"""
UPSTREAM = """\
None. It rests on a training of two ranks, torch 2.13: as many calls as parameters under
DDP, none under replicate.
"""
RISK = """\
Gradients are not clipped, scaled, masked or logged any more, and nothing raises.
"""
PROOF = """\
In part. Where torchtitan's own trainer runs the hook and it changes gradients, `dp` notes
that "under DDP something acts on" the parameter; the migrated tree equals FSDP, which has
no such hook either. A hook that only looks shows nowhere: count its calls.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/experiments/averaged/train_averaged.py",
    before="""\
        for p in self.model.parameters():
            p.register_hook(lambda grad: grad.clamp(-1.0, 1.0))
""",
    after="""\
# behind the wrapping; hook takes the parameter and changes p.grad in place
# with gradient accumulation: once a step instead, before the optimizer's
p.register_post_accumulate_grad_hook(hook)
""",
)

_METHOD = "register_hook"
_PARAMETERS = {"weight", "bias"}


def find(facts: Facts) -> Iterator[Finding]:
    for file in facts.in_training(f".{_METHOD}("):
        of_loops = {
            id(node)
            for loop in loops(file.syntax)
            for statement in loop.inner
            for node in nodes(statement)
            if isinstance(node, ast.Call) and _registered_on(node) in loop.names
        }
        for node in nodes(file.syntax):
            if not isinstance(node, ast.Call):
                continue
            on = _registered_on(node)
            if id(node) in of_loops or on.rpartition(".")[2] in _PARAMETERS:
                yield Finding(
                    file.path,
                    node.lineno,
                    CODE,
                    f"{on}.register_hook() is never called under replicate, nor is it under FSDP: "
                    "both put gradients on parameters without autograd",
                    "hazard",
                    f"# behind the wrapping; hook takes the parameter and changes {on}.grad in place\n"
                    "# with gradient accumulation: once a step instead, before the optimizer's\n"
                    f"{on}.register_post_accumulate_grad_hook(hook)",
                )


def _registered_on(call: ast.Call) -> str:
    """What a call of ``register_hook`` is made on; empty for another call."""
    if isinstance(call.func, ast.Attribute) and call.func.attr == _METHOD:
        return ast.unparse(call.func.value)
    return ""
