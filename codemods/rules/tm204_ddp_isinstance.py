"""TM204: code that asks whether a module is DDP's."""

import ast
from collections.abc import Iterator

from codemods.classes import Names, Question, questions
from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.nodes import nodes, spelled
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
    ddp, fsdp = (Names(facts.checkout, word) for word in (_CLASS, "FSDPModule"))
    for file in facts.checkout.mentioning(*ddp.words):
        for question in questions(file.syntax):
            unwraps = _unwraps(file.syntax, question)
            if _is_named(question) or ddp.stands_for(file, question.asked):
                # With both in one tuple it is true from now on: TM228 has that.
                if unwraps or not fsdp.stands_for(file, question.asked):
                    yield _asked(facts, file, question, unwraps)


def _is_named(question: Question) -> bool:
    """Whether it asks for the class by its name, as a string."""
    return question.how == "name" and any(
        isinstance(part, ast.Constant) and part.value == _CLASS
        for part in nodes(question.asked)
    )


def _asked(
    facts: Facts, file: SourceFile, question: Question, unwraps: bool
) -> Finding:
    subject = question.subject
    severity: Severity
    if facts.survey.class_uses:
        since, severity = "from now on", SEVERITY
    else:  # DDP's composable replicate is no such class either
        since, severity = "as it was under the composable DDP of apply_ddp", "note"
    suggestion = f"isinstance({subject}, FSDPModule)  # from torch.distributed.fsdp"
    if unwraps:
        suggestion = (
            f"{subject}  # nothing is wrapped around it, so there is no .module"
        )
    return Finding(
        file.path,
        question.node.lineno,
        CODE,
        "a module under replicate is no DistributedDataParallel, so this is "
        f"{question.negated} {since}",
        "hazard",
        suggestion,
        severity,
    )


def _unwraps(syntax: ast.Module, question: Question) -> bool:
    """Whether what is asked decides on going into the wrapper."""
    inner = f"{question.subject}.module"
    return any(
        question.node in nodes(_test(node))
        and any(
            isinstance(part, ast.Attribute) and spelled(part) == inner
            for part in nodes(node)
        )
        for node in nodes(syntax)
        if isinstance(node, ast.If | ast.IfExp | ast.While | ast.match_case)
    )


def _test(node: ast.If | ast.IfExp | ast.While | ast.match_case) -> ast.AST:
    return node.pattern if isinstance(node, ast.match_case) else node.test
