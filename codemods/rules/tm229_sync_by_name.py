"""TM229: code that leaves out a reduction by what only DDP's wrapper has."""

import ast
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.nodes import nodes
from codemods.plans import Facts

CODE = "TM229"
TITLE = "reductions left out by a name of DDP's"
SEVERITY: Severity = "note"
WHAT = "no_sync or require_backward_grad_sync is asked for by name, or set."
WHY = """\
hasattr(model, "no_sync") is False under replicate, and setting
require_backward_grad_sync does nothing. Either way every micro-batch is reduced: the
gradients are the same, and the traffic is that of as many steps.
"""
UPSTREAM = """\
None. It rests on a training of two ranks, torch 2.13, over two micro-batches: gradients
equal DDP's.
"""
RISK = """\
Gradients are reduced once a micro-batch instead of once a step. What else hangs on the
name does not happen.
"""
PROOF = """\
Where torchtitan's own trainer does it, the collectives that `dp-accumulate` reports are
more than FSDP's.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/experiments/averaged/train_averaged.py",
    before="""\
        self.model.require_backward_grad_sync = last
""",
    after="""\
self.model.set_requires_gradient_sync(last)
""",
)

_NAMES = {"no_sync", "require_backward_grad_sync"}
_FLAG = "require_backward_grad_sync"


def find(facts: Facts) -> Iterator[Finding]:
    for file in facts.in_training(*_NAMES):
        for node in nodes(file.syntax):
            if isinstance(node, ast.Call) and _asks(node):
                model = ast.unparse(node.args[0])
                yield Finding(
                    file.path,
                    node.lineno,
                    CODE,
                    f"{ast.unparse(node)} finds nothing under replicate: every micro-batch is "
                    "reduced",
                    "hazard",
                    f"{model}.set_requires_gradient_sync(is_last_microbatch)",
                )
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    if isinstance(target, ast.Attribute) and target.attr == _FLAG:
                        model = ast.unparse(target.value)
                        yield Finding(
                            file.path,
                            node.lineno,
                            CODE,
                            f"{ast.unparse(target)} means nothing to replicate: every "
                            "micro-batch is reduced",
                            "hazard",
                            f"{model}.set_requires_gradient_sync({ast.unparse(node.value)})",
                        )


def _asks(call: ast.Call) -> bool:
    if not isinstance(call.func, ast.Name) or call.func.id not in (
        "hasattr",
        "getattr",
    ):
        return False
    named = call.args[1] if len(call.args) > 1 else None
    return isinstance(named, ast.Constant) and named.value in _NAMES
