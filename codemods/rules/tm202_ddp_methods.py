"""TM202: methods that DDP had and replicate has not."""

import ast
from collections.abc import Iterator

from codemods.findings import Finding
from codemods.plans import Facts

CODE = "TM202"
TITLE = "methods of DDP that replicate does not have"
WHY = """\
A module wrapped by replicate has no no_sync(), no join() and no register_comm_hook():
calling one raises AttributeError. To accumulate gradients without a reduction use
set_requires_gradient_sync(False) on all but the last micro-batch; a communication
hook becomes the reduce_dtype of the mixed-precision policy or set_all_reduce_hook.
"""

_INSTEAD = {
    "no_sync": "model.set_requires_gradient_sync(is_last_microbatch)",
    "register_comm_hook": "MixedPrecisionPolicy(param_dtype=..., reduce_dtype=torch.bfloat16)",
    "join": "# give every rank the same number of batches",
}


def find(facts: Facts) -> Iterator[Finding]:
    for file in facts.checkout.mentioning("no_sync", "register_comm_hook", ".join("):
        ddp_file = b"apply_ddp" in file.raw or b"DistributedDataParallel" in file.raw
        for node in ast.walk(file.syntax):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            name = node.func.attr
            if name not in _INSTEAD:
                continue
            # str.join, os.path.join and thread.join are everywhere: only a call
            # with nothing to join, in a file about DDP, can be DDP's context.
            if name == "join" and not (ddp_file and "model" in ast.unparse(node.func)):
                continue
            yield Finding(
                file.path,
                node.lineno,
                CODE,
                f"{ast.unparse(node.func)}() is DDP's; a module under replicate has none",
                "hazard",
                _INSTEAD[name],
            )
