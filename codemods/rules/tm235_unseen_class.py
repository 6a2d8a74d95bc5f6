"""TM235: what a call wraps is of a class that nothing here shows."""

from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.nodes import spelled
from codemods.plans import Facts, is_inline, needs, untold, wrapped_by

CODE = "TM235"
TITLE = "models that are not seen to be of the plan"
SEVERITY: Severity = "loud"
WHAT = "A call outside of the plans wraps a model whose class nothing here shows."
WHY = """\
apply_ddp wrapped any module, as a whole. apply_replicate wraps the modules of one kind of
model by their names, as the apply_fsdp does that it mirrors. A plan shards and replicates
the same model, so there the names are right. Elsewhere it is followed which class is
wrapped: where it lacks them the call is left, and where it cannot be followed the call is
rewritten, and this is said.
"""
UPSTREAM = """\
None. In torchtitan 0.2.1 and 0.2.2 the RL trainer wraps a Qwen3 by Llama 3's function.
"""
RISK = """\
A model without these modules does not start: the first of them is an AttributeError. One
that has others besides trains rightly, and these communicate with the root.
"""
PROOF = """\
Scripts are not run. Add the line below before the call, and run the script once.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/experiments/distill/train_teacher.py",
    before="""\
        self.model = model.eval()
        apply_ddp(self.model, parallel_dims.get_mesh("dp_replicate"), False)
""",
    after="""\
# before it is wrapped; another model is wrapped by replicate(self.model, mesh=...)
for name in ("layers", "norm", "output", "tok_embeddings"):
    assert hasattr(self.model, name), name
""",
)


def find(facts: Facts) -> Iterator[Finding]:
    for call in facts.calls:
        if is_inline(facts, call) or not untold(facts, call.site, call.function):
            continue
        names = sorted(needs(call.function))
        node = wrapped_by(facts, call.site)
        model = spelled(node) if node is not None else "model"
        listed = ", ".join(f'"{name}"' for name in names) + "," * (len(names) == 1)
        yield Finding(
            call.site.reference.path,
            call.site.reference.line,
            CODE,
            f"nothing here shows the class of {model}: DDP wrapped any module, "
            f"{call.function.definition.name} wraps {', '.join(names)} of it by name",
            "hazard",
            "# before it is wrapped; another model is wrapped by "
            f"replicate({model}, {facts.target.mesh_keyword}=...)\n"
            f"for name in ({listed}):\n"
            f"    assert hasattr({model}, name), name",
        )
