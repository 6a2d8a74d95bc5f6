"""TM204: code that asks whether a module is DDP's."""

import ast
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.nodes import dotted, nodes, spelled
from codemods.plans import Facts
from codemods.source import SourceFile

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
self.model  # nothing is wrapped around it, so there is no .module
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
                    yield _asked(facts, file, use.call)
                    break


def _asked(facts: Facts, file: SourceFile, call: ast.Call) -> Finding:
    subject = spelled(call.args[0])
    severity: Severity
    if facts.survey.class_uses:
        since, severity = "from now on", SEVERITY
    else:  # DDP's composable replicate is no such class either
        since, severity = "as it was under the composable DDP of apply_ddp", "note"
    suggestion = f"isinstance({subject}, FSDPModule)  # from torch.distributed.fsdp"
    if _unwraps(file.syntax, call, f"{subject}.module"):
        suggestion = (
            f"{subject}  # nothing is wrapped around it, so there is no .module"
        )
    return Finding(
        file.path,
        call.lineno,
        CODE,
        f"a module under replicate is no DistributedDataParallel, so this is False {since}",
        "hazard",
        suggestion,
        severity,
    )


def _unwraps(syntax: ast.Module, call: ast.Call, inner: str) -> bool:
    """Whether what is asked decides on going into the wrapper."""
    return any(
        call in nodes(node.test)
        and any(
            isinstance(part, ast.Attribute) and spelled(part) == inner
            for part in nodes(node)
        )
        for node in nodes(syntax)
        if isinstance(node, (ast.If, ast.IfExp))
    )
