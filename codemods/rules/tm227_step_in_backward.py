"""TM227: optimizers that step during backward, which DDP got wrong."""

import ast
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.nodes import nodes
from codemods.plans import Facts

CODE = "TM227"
TITLE = "optimizers that step in backward"
SEVERITY: Severity = "note"
WHAT = "early_step_in_backward is an option here, with which DDP's replicas diverged."
WHY = """\
With early_step_in_backward each parameter is stepped as soon as its gradient is there.
Under DDP that was before the all-reduce, so that every replica followed its own data and
nothing raised. Under replicate the gradient is reduced by then, as under FSDP.
"""
UPSTREAM = """\
None. It rests on a training of two ranks, torch 2.13: after three steps DDP's weights
differ between the ranks, and replicate's losses are FSDP's.
"""
RISK = """\
None in the migration: curves of DDP with that option are no reference.
"""
PROOF = """\
`dp-early` (not in --quick) trains with it, and shows DDP without judging it. Compare with FSDP.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/experiments/averaged/options.py",
    before="""\
    early_step_in_backward: bool = False
""",
    after="""\
# compare runs with early_step_in_backward with FSDP's, not with DDP's
""",
)

_OPTION = "early_step_in_backward"


def find(facts: Facts) -> Iterator[Finding]:
    for file in facts.in_training(_OPTION):
        for node in nodes(file.syntax):
            if not isinstance(node, ast.AnnAssign) or not isinstance(
                node.target, ast.Name
            ):
                continue
            if node.target.id == _OPTION:
                yield Finding(
                    file.path,
                    node.lineno,
                    CODE,
                    f"with {_OPTION} DDP's replicas diverged without a word; replicate's do not",
                    "hazard",
                    f"# compare runs with {_OPTION} with FSDP's, not with DDP's",
                )
