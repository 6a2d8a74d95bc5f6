"""TM201: weights are tied after the model was wrapped."""

from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding
from codemods.plans import Facts

CODE = "TM201"
TITLE = "weights tied after wrapping"
WHAT = "A weight is tied to another after the model was wrapped."
WHY = """\
replicate takes over the parameters that it finds when it wraps. A weight that is tied
afterwards is not seen as shared: moving the model off the meta device gives each
module its own copy, so the tie is lost without a word (it is under FSDP and DDP in
such a checkout as well). Tie in the model's constructor and again in init_weights, as
torchtitan 0.2.2 does; apply_replicate then keeps the tied modules in one group.
"""
UPSTREAM = """\
None. The qwen3 plan of 0.2.0 and 0.2.1 ties after wrapping; 0.2.2 ties in the
constructor.
"""
RISK = """\
The model trains with two weights where its configuration says one: more parameters,
and another model than the one that was meant.
"""
PROOF = """\
Not as a failure: DDP, replicate and FSDP lose the tie alike, so they agree. Look in
report.json at the parameters of a rank: where output.weight stands beside
tok_embeddings.weight, there are two.
"""
EXAMPLE = Example(
    fixture="v0_2_1",
    path="torchtitan/models/qwen3/infra/parallelize.py",
    before="""\
        model.output.weight = model.tok_embeddings.weight
""",
    after="""\
# in the model's __init__ and at the end of init_weights
self.output.weight = self.tok_embeddings.weight
# and not here: model.output.weight = model.tok_embeddings.weight
""",
)


def find(facts: Facts) -> Iterator[Finding]:
    for site in facts.survey.call_sites:
        if site.function is None:
            continue
        first, last = site.node.lineno, site.function.end_lineno or 0
        for tie in facts.survey.ties:
            if tie.path == site.reference.path and first < tie.line <= last:
                here = facts.survey.files[tie.path].lines[tie.line - 1].strip()
                yield Finding(
                    tie.path,
                    tie.line,
                    CODE,
                    f"{tie.left} and {tie.right} are tied after the model was wrapped, so "
                    "the tie does not last; tie them where the model is built",
                    "hazard",
                    "# in the model's __init__ and at the end of init_weights\n"
                    f"self.{tie.left}.weight = self.{tie.right}.weight\n"
                    f"# and not here: {here}",
                )
