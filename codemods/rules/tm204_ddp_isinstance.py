"""TM204: code that asks whether a module is DDP's."""

import ast
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.names import dotted
from codemods.nodes import nodes
from codemods.plans import Facts

CODE = "TM204"
TITLE = "isinstance(..., DistributedDataParallel)"
SEVERITY: Severity = "silent"
WHAT = "Code asks whether a module is a DistributedDataParallel."
WHY = """\
A module under replicate is no DistributedDataParallel and has no .module: it is an
FSDPModule (a ReplicateModule from torch 2.10 on). Branches that ask for DDP are not
taken, silently. After torchtitan's apply_ddp they were not either, for DDP's composable
replicate keeps the model's class beside its own; after the wrapper of that name they
were.
"""
UPSTREAM = """\
None. It rests on PyTorch: replicate gives FSDPModule in torch 2.9 and ReplicateModule,
which is one, from 2.10 on.
"""
RISK = """\
A branch that unwrapped, froze, saved or logged for DDP is skipped, and nothing raises.
"""
PROOF = """\
Only where the branch changes figures in torchtitan's own trainer: then the migrated
tree and the reference, or the baseline, "differ" in `dp`. Otherwise not: read each
place.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/experiments/distill/train_student.py",
    before="""\
        if isinstance(self.model, DistributedDataParallel):
            return self.model.module
        return self.model
""",
    after="""\
isinstance(self.model, FSDPModule)  # from torch.distributed.fsdp
""",
)

_CLASS = "DistributedDataParallel"


def find(facts: Facts) -> Iterator[Finding]:
    for file in facts.checkout.mentioning(_CLASS):
        names = facts.checkout.names(file.path)
        for use in names.uses:
            if (
                use.spelling != "isinstance"
                or use.call is None
                or len(use.call.args) != 2
            ):
                continue
            for node in nodes(use.call.args[1]):
                spelling = dotted(node) if isinstance(node, ast.expr) else None
                if not spelling:
                    continue
                origin = facts.checkout.external(file.path, use.scope, spelling) or ""
                if spelling.endswith(_CLASS) or origin.endswith(_CLASS):
                    yield Finding(
                        file.path,
                        use.node.lineno,
                        CODE,
                        "a module under replicate is no DistributedDataParallel, so this "
                        "is False from now on",
                        "hazard",
                        f"isinstance({ast.unparse(use.call.args[0])}, FSDPModule)  "
                        "# from torch.distributed.fsdp",
                    )
                    break
