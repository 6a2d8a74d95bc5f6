"""TM204: code that asks whether a module is DDP's."""

import ast
from collections.abc import Iterator

from codemods.bindings import dotted
from codemods.findings import Finding
from codemods.plans import Facts

CODE = "TM204"
TITLE = "isinstance(..., DistributedDataParallel)"
WHY = """\
A module under replicate is no DistributedDataParallel and has no .module: it is an
FSDPModule (a ReplicateModule from torch 2.10 on). Branches that ask for DDP are not
taken any more, silently.
"""

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
            for node in ast.walk(use.call.args[1]):
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
