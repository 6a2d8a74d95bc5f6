"""TM205: parameters captured before the model is wrapped."""

import ast
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.nodes import nodes
from codemods.plans import Facts
from codemods.source import SourceFile
from codemods.survey import enclosing

CODE = "TM205"
TITLE = "parameters captured before wrapping"
SEVERITY: Severity = "silent"
WHAT = "An optimizer, EMA or list takes a model's parameters before it is wrapped."
WHY = """\
replicate replaces the parameters of a module by DTensors. An optimizer, an EMA or a
list made from model.parameters() before holds the old ones: it trains nothing, and
nothing raises. Build them after the model is parallelized.
"""
UPSTREAM = """\
None. It rests on PyTorch's replicate, which replaces parameters; DDP kept them.
"""
RISK = """\
The loss is computed, gradients are reduced, steps are logged, and no weight moves. An
EMA averages weights that stay as they were made.
"""
PROOF = """\
Where torchtitan's own trainer does it, `dp` fails: "no parameter moved" in the
migrated tree, and where it does it for FSDP too there is no reference, for the same
reason. Other trainers are not run: compare a parameter before and after a step.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/experiments/distill/train_student.py",
    before="""\
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=0.001)
        self.model = parallelize_llama(model, parallel_dims, job_config)
""",
    after="""\
# after line 20
self.optimizer = torch.optim.AdamW(model.parameters(), lr=0.001)
""",
)

_TAKES = {"parameters", "named_parameters"}


def find(facts: Facts) -> Iterator[Finding]:
    for site in facts.survey.call_sites:
        given = [
            *site.node.args,
            *(k.value for k in site.node.keywords if k.arg == "model"),
        ]
        if site.function is None or not given:
            continue
        file = facts.survey.files[site.reference.path]
        model = ast.unparse(given[0])
        yield from _captures(file, site.function, model, site.node.lineno)
    for file in facts.checkout.mentioning("parallelize_fn(", "parallelize_llama("):
        for use in file.names.uses:
            if use.call is None or not use.call.args:
                continue
            if not use.spelling.rpartition(".")[2].startswith("parallelize_"):
                continue
            function = enclosing(file.syntax, use.call)
            if function is not None:
                model = ast.unparse(use.call.args[0])
                yield from _captures(file, function, model, use.node.lineno)


def _captures(
    file: SourceFile, function: ast.FunctionDef, model: str, before: int
) -> Iterator[Finding]:
    for statement in nodes(function):
        if not isinstance(statement, ast.Assign) or statement.lineno >= before:
            continue
        for node in nodes(statement.value):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in _TAKES
                and ast.unparse(node.func.value) == model
                and not _only_counted(statement.value)
            ):
                yield Finding(
                    file.path,
                    node.lineno,
                    CODE,
                    f"{ast.unparse(statement.targets[0])} is made from {model}'s parameters "
                    f"before replicate replaces them on line {before}",
                    "hazard",
                    f"# after line {before}\n{ast.unparse(statement)}",
                )


def _only_counted(value: ast.expr) -> bool:
    """Sums over sizes and the like, and a device or a dtype, keep no parameter."""
    if isinstance(value, ast.Attribute) and value.attr in ("device", "dtype"):
        return True
    return isinstance(value, ast.Call) and ast.unparse(value.func) in (
        "sum",
        "any",
        "all",
        "len",
        "next",
    )
