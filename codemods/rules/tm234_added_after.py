"""TM234: modules that a model gets after it is wrapped."""

import ast
from collections.abc import Iterator

from codemods.added import additions
from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.modules import functions
from codemods.nodes import of_kind, spelled
from codemods.plans import Facts
from codemods.plans.flow import after, behind
from codemods.siblings import subject
from codemods.source import SourceFile
from codemods.wrapping import calling_plans, is_plan, model_of

CODE = "TM234"
TITLE = "modules added after wrapping"
SEVERITY: Severity = "silent"
WHAT = "A plan, or who calls it, puts new modules or parameters into a model that is wrapped already."
WHY = """\
DDP takes the parameters that a model has at its first forward: adapters or a head that
came after wrapping were reduced with the rest. replicate takes those that are there when it
wraps. What comes later is a plain tensor that nobody reduces.
"""
UPSTREAM = """\
None. It rests on two ranks, torch 2.13, gloo: gradients of a layer that was put in after
wrapping are the same on both under DDP, and each rank's own under replicate.
"""
RISK = """\
Each rank trains an adapter or a head of its own, and the file that is saved has rank 0's.
Nothing raises.
"""
PROOF = """\
In torchtitan's own trainer replicas "differ" in `dp`. Scripts are not run: print the
gradient of the new module on each rank.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/models/plover/infra/parallelize.py",
    before="""\
        apply_ddp(model, parallel_dims.get_mesh("dp_replicate"))
        add_value_head(model)
""",
    after="""\
# before the model is wrapped:
add_value_head(model)
""",
)


def find(facts: Facts) -> Iterator[Finding]:
    places = {
        (file.path, statement.lineno): (statement, model)
        for file, model, later in (*_in_plans(facts), *_in_callers(facts))
        for statement in additions(
            facts.checkout, file, sorted(later, key=lambda s: s.lineno), {model}
        )
    }
    for (path, line), (statement, model) in sorted(places.items(), key=lambda p: p[0]):
        code = spelled(statement)
        yield Finding(
            path,
            line,
            CODE,
            f"`{code.splitlines()[0]}` comes after {model} is wrapped: replicate reduces "
            "what is there when it wraps, and DDP reduced this too",
            "hazard",
            f"# before the model is wrapped:\n{code}",
        )


_Place = tuple[SourceFile, str, Iterator[ast.stmt]]
"""A file, what the model is called there, and what is done after it is wrapped."""


def _in_plans(facts: Facts) -> Iterator[_Place]:
    for call in facts.calls:
        model = subject(call.site.node)
        if call.site.function is not None and model:
            file = facts.survey.files[call.site.reference.path]
            yield file, model, after(call.site)


def _in_callers(facts: Facts) -> Iterator[_Place]:
    """The same where a plan is called: trainers and scripts."""
    for file in calling_plans(facts.checkout):
        for function in functions(file.syntax):
            for call in of_kind(function, ast.Call):
                model = model_of(call) if is_plan(facts.checkout, file, call) else None
                if model is not None:
                    yield file, spelled(model), behind(function, call)
