"""TM201: weights are tied after the model was wrapped."""

from collections.abc import Iterator

from codemods.findings import Finding
from codemods.plans import Facts

CODE = "TM201"
TITLE = "weights tied after wrapping"
WHY = """\
replicate takes over the parameters that it finds when it wraps. A weight that is tied
afterwards is not seen as shared: moving the model off the meta device gives each
module its own copy, so the tie is lost without a word (it is under FSDP and DDP in
such a checkout as well). Tie in the model's constructor and again in init_weights, as
torchtitan 0.2.2 does; apply_replicate then keeps the tied modules in one group.
"""


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
