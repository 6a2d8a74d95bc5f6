"""TM202: methods that DDP had and replicate has not."""

import ast
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.nodes import nodes
from codemods.plans import Facts

CODE = "TM202"
TITLE = "methods of DDP that replicate does not have"
SEVERITY: Severity = "loud"
WHAT = "no_sync() or register_comm_hook() is called on a module."
WHY = """\
A module wrapped by replicate has no no_sync() and no register_comm_hook(): calling one
raises AttributeError. To accumulate gradients without a reduction use
set_requires_gradient_sync(False) on all but the last micro-batch; a communication
hook becomes the reduce_dtype of the mixed-precision policy or set_all_reduce_hook.
"""
UPSTREAM = """\
None. It rests on PyTorch's replicate, which accumulates by set_requires_gradient_sync.
"""
RISK = """\
The call raises. Behind a hasattr or a try it does not: then every micro-batch is
reduced, and what the hook did to gradients is not done any more.
"""
PROOF = """\
Where torchtitan's own trainer makes the call, `dp` (`dp-accumulate` for no_sync) fails:
a rank of the migrated tree "failed with" an AttributeError. Other trainers are not run:
take one accumulated step with each.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/experiments/distill/train_student.py",
    before="""\
        self.model = parallelize_llama(model, parallel_dims, job_config)
        self.model.register_comm_hook(None, bf16_compress_hook)
""",
    after="""\
MixedPrecisionPolicy(param_dtype=..., reduce_dtype=torch.bfloat16)
""",
)

_INSTEAD = {
    "no_sync": "model.set_requires_gradient_sync(is_last_microbatch)",
    "register_comm_hook": "MixedPrecisionPolicy(param_dtype=..., reduce_dtype=torch.bfloat16)",
}


def find(facts: Facts) -> Iterator[Finding]:
    for file in facts.checkout.mentioning(*_INSTEAD):
        for node in nodes(file.syntax):
            if not isinstance(node, ast.Call) or not isinstance(
                node.func, ast.Attribute
            ):
                continue
            if node.func.attr in _INSTEAD:
                yield Finding(
                    file.path,
                    node.lineno,
                    CODE,
                    f"{ast.unparse(node.func)}() is DDP's; a module under replicate has none",
                    "hazard",
                    _INSTEAD[node.func.attr],
                )
