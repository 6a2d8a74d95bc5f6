"""TM202: methods that DDP had and replicate has not."""

import ast
from collections.abc import Iterator

from codemods.findings import Finding
from codemods.plans import Facts

CODE = "TM202"
TITLE = "methods of DDP that replicate does not have"
WHY = """\
A module wrapped by replicate has no no_sync() and no register_comm_hook(): calling one raises AttributeError. To accumulate gradients without a reduction use
set_requires_gradient_sync(False) on all but the last micro-batch; a communication
hook becomes the reduce_dtype of the mixed-precision policy or set_all_reduce_hook.
"""

_INSTEAD = {
    "no_sync": "model.set_requires_gradient_sync(is_last_microbatch)",
    "register_comm_hook": "MixedPrecisionPolicy(param_dtype=..., reduce_dtype=torch.bfloat16)",
}


def find(facts: Facts) -> Iterator[Finding]:
    for file in facts.checkout.mentioning(*_INSTEAD):
        for node in ast.walk(file.syntax):
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
