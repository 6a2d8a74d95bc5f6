"""TM201: weights are tied after the model was wrapped."""

from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.plans import Facts, before_wrapping
from codemods.plans.sites import folder_of
from codemods.survey import CallSite, Tie

CODE = "TM201"
TITLE = "weights tied after wrapping"
SEVERITY: Severity = "silent"
WHAT = "A weight is tied to another after the model was wrapped."
WHY = """\
A plan wraps before the model has its weights. DDP leaves them plain tensors: off the meta
device each module gets its own, so the tie is lost without a word. The DTensors of replicate
and FSDP are moved in place, and stay tied (trained with torch 2.13). So the migration trains
one weight where DDP trained two, which the configuration says and no run before did. Tie in
the model's constructor and again in init_weights, as torchtitan 0.2.2 does, before you
migrate: apply_replicate then keeps the tied modules in one group. So must apply_fsdp: two
groups that share a weight raise at the first forward from torch 2.12 on. What initializes
the shared weight last counts: let it be the head, for an embedding's weights are so large
that the loss begins far too high.
"""
UPSTREAM = """\
None. The qwen3 plan of 0.2.0 and 0.2.1 ties after wrapping; 0.2.2 ties in the
constructor.
"""
RISK = """\
The migrated model is another one than DDP trained: it has one weight less, and a loss of
its own. Runs before and after cannot be compared, and checkpoints hold one weight more or less.
"""
PROOF = """\
Not as a failure, for replicate agrees with FSDP. Where the model was tied, `dp` notes that
"under DDP the tie is lost": 0.2.0's qwen3 begins at 8.1 under DDP, at 254 under both others.
"""
EXAMPLE = Example(
    fixture="v0_2_1",
    path="torchtitan/models/qwen3/infra/parallelize.py",
    before="""\
        model.output.weight = model.tok_embeddings.weight
""",
    after="""\
# in the model's __init__, and in init_weights before anything is initialized
self.tok_embeddings.weight = self.output.weight
# and not here: model.output.weight = model.tok_embeddings.weight
# in apply_fsdp, for tied models alone, one group, not two: apart, torch 2.12 and later raise
fully_shard([model.tok_embeddings, model.norm, model.output], **fsdp_config)
""",
)


def find(facts: Facts) -> Iterator[Finding]:
    for site in facts.survey.call_sites:
        if site.function is None:
            continue
        first, last = site.node.lineno, site.function.end_lineno or 0
        for tie in facts.survey.ties:
            if tie.path == site.reference.path and first < tie.line <= last:
                yield _finding(facts, site, tie)


def _finding(facts: Facts, site: CallSite, tie: Tie) -> Finding:
    here = facts.survey.files[tie.path].lines[tie.line - 1].strip()
    pair = f"{tie.left} and {tie.right}"
    if any(
        {other.left, other.right} == {tie.left, tie.right}
        and folder_of(other.path) == folder_of(tie.path)
        and before_wrapping(facts, other, site)
        for other in facts.survey.ties
    ):
        message = (
            f"{pair} are tied again after the model was wrapped; the model ties them itself, "
            "so this line can go"
        )
        return Finding(
            tie.path, tie.line, CODE, message, "hazard", f"# and not here: {here}"
        )
    # What initializes last stays: a head's weights are small, an embedding's are not.
    first, second = tie.left, tie.right
    if "emb" in second and "emb" not in first:
        first, second = second, first
    norm = "model.norm, " if tie.right == "tok_embeddings" else ""
    return Finding(
        tie.path,
        tie.line,
        CODE,
        f"{pair} are tied after the model was wrapped: DDP loses that tie, FSDP and replicate "
        "keep it, so the migrated model is another one; tie them where the model is built, "
        "and keep them in one group of apply_fsdp then, before you migrate",
        "hazard",
        "# in the model's __init__, and in init_weights before anything is initialized\n"
        f"self.{first}.weight = self.{second}.weight\n"
        f"# and not here: {here}\n"
        "# in apply_fsdp, for tied models alone, one group, not two: apart, torch 2.12 and later "
        "raise\n"
        f"fully_shard([model.{tie.right}, {norm}model.{tie.left}], **fsdp_config)",
    )
