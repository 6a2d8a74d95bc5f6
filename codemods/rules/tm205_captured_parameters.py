"""TM205: parameters captured before the model is wrapped."""

import ast
from collections.abc import Iterator

from codemods.captured import captures
from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.plans import Facts
from codemods.source import SourceFile
from codemods.wrapping import calling_plans, is_plan, model_of

CODE = "TM205"
TITLE = "parameters captured before wrapping"
SEVERITY: Severity = "silent"
WHAT = "An optimizer, EMA, list or set takes a model's parameters before it is wrapped."
WHY = """\
replicate replaces the parameters of a module by DTensors. An optimizer, an EMA or a
list made from model.parameters() before holds the old ones: it trains nothing, and
nothing raises. Build them after the model is parallelized. What is set on a parameter
itself (`p.lr_scale = 0.1`), and what is known of it by its id, is gone as well: set it
after wrapping, or keep it by the parameter's name.
"""
UPSTREAM = """\
None. It rests on PyTorch's replicate, which replaces parameters; DDP kept them.
"""
RISK = """\
The loss is computed, gradients are reduced, steps are logged, and no weight moves. An
EMA averages weights that stay as they were made. Learning rates and weight decay fall
back to what holds for a parameter that nothing was set on.
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


def find(facts: Facts) -> Iterator[Finding]:
    sites = (*facts.survey.call_sites, *facts.survey.inline)
    wrapping = {
        (site.reference.path, site.node.lineno, site.node.col_offset) for site in sites
    }
    paths = {site.reference.path for site in sites if model_of(site.node) is not None}
    paths |= {file.path for file in calling_plans(facts.checkout)}

    def wrapped(file: SourceFile, call: ast.Call) -> ast.expr | None:
        place = file.path, call.lineno, call.col_offset
        known = place in wrapping or is_plan(facts.checkout, file, call)
        return model_of(call) if known else None

    homes = (facts.checkout.files[path] for path in sorted(paths))
    for found in captures(facts.checkout, wrapped, homes):
        yield Finding(
            found.path,
            found.line,
            CODE,
            f"{found.subject} {found.verb} {found.model}'s parameters "
            f"before replicate replaces them on line {found.before}",
            "hazard",
            f"# after line {found.before}\n{found.statement}",
        )
