"""TM208: switches of DDP's compiler integration."""

import ast
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.nodes import nodes
from codemods.plans import Facts
from codemods.survey import function_of

CODE = "TM208"
TITLE = "optimize_ddp and compiled autograd"
SEVERITY: Severity = "note"
WHAT = "A compiler switch is set that matters to DDP alone."
WHY = """\
torch._dynamo.config.optimize_ddp chooses how torch.compile cuts graphs for DDP's
buckets; replicate communicates per wrapped group, so the setting no longer matters.
enable_compiled_autograd chose among its values and has no part in the data-parallel
path any more; what else it switches stays.
"""
UPSTREAM = """\
PR 2458, whose apply_replicate takes no compiler switches.
"""
RISK = """\
A configuration keeps an option that does nothing, and a tuned job is slower or faster
than it was without a reason in its settings.
"""
PROOF = """\
It does not: a setting without effect changes no figure. `dp-compile` (not in --quick)
shows that the compiled model agrees with FSDP; its step times are in the report.
"""
EXAMPLE = Example(
    fixture="v0_1",
    path="torchtitan/models/llama3/infra/parallelize.py",
    before="""\
def apply_ddp(
    model: nn.Module,
    dp_mesh: DeviceMesh,
    enable_compiled_autograd: bool,
    enable_compile: bool,
):
""",
    after="""\
# drop parallelism.enable_compiled_autograd from configs that only meant DDP
""",
)


def find(facts: Facts) -> Iterator[Finding]:
    for definition in facts.survey.definitions:
        node = function_of(facts.checkout, definition)
        assert node is not None
        names = {arg.arg for arg in (*node.args.args, *node.args.kwonlyargs)}
        if "enable_compiled_autograd" in names:
            yield Finding(
                definition.path,
                node.lineno,
                CODE,
                "enable_compiled_autograd chose a mode of DDP's reducer; the new function "
                "does not take it, the option has no effect on data parallelism any more",
                "hazard",
                "# drop parallelism.enable_compiled_autograd from configs that only meant DDP",
            )
    inside = {
        (d.path, line)
        for d in facts.survey.definitions
        for node in [function_of(facts.checkout, d)]
        if node is not None
        for line in range(node.lineno, (node.end_lineno or 0) + 1)
    }
    for file in facts.checkout.mentioning("optimize_ddp"):
        for read in nodes(file.syntax):
            if isinstance(read, ast.Attribute) and read.attr == "optimize_ddp":
                if (file.path, read.lineno) not in inside:
                    yield Finding(
                        file.path,
                        read.lineno,
                        CODE,
                        "optimize_ddp has no effect on a model under replicate",
                        "hazard",
                        "# this line can go",
                    )
