"""TM220: weights used while they are still as an evaluation left them."""

from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.plans import Facts

CODE = "TM220"
TITLE = "weights used after an evaluation"
SEVERITY: Severity = "silent"
WHAT = "Weights are averaged, clamped, copied or swapped after a forward under no_grad."
WHY = """\
After a forward under no_grad or inference_mode replicate keeps what it computed with, until
the next backward. named_parameters() then yields those copies, in param_dtype: an average
reads bf16, a clamp changes what is thrown away. What is written to parameters that were
taken before does not reach the next forward, which computes with the copies. DDP has one
set of weights. reshard() puts the parameters back; state_dict() does so too.
"""
UPSTREAM = """\
None. It rests on trainings of two ranks, torch 2.13: losses of DDP and of the cure are the
same, and those without it are not (tests/hazards). fully_shard over (dp_replicate, 1) has no such copies.
"""
RISK = """\
Averages lose precision, a clamp has no effect, weights that were swapped in for the
evaluation are trained on for a step. Nothing raises.
"""
PROOF = """\
Where torchtitan's own trainer does it, the migrated tree and the reference "differ" in
`dp-validate`. Other trainers are not run: print a parameter's dtype after the evaluation.
"""
SUGGESTION = """\
# from torch.distributed.fsdp import FSDPModule; right after the evaluation:
for module in model.modules():
    if isinstance(module, FSDPModule):
        module.reshard()"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/experiments/averaged/average.py",
    before="""\
            for p, kept in zip(model.parameters(), self.kept):
                p.copy_(kept)
""",
    after=f"{SUGGESTION}\n",
)


def find(facts: Facts) -> Iterator[Finding]:
    found = facts.survey.order.after_evaluations("weights")
    for weights, evaluation in found:
        yield Finding(
            weights.path,
            weights.line,
            CODE,
            f"{weights.code.splitlines()[0]} comes after {evaluation.path}:{evaluation.line}, a "
            "forward without gradients, which leaves copies in place of the weights",
            "hazard",
            SUGGESTION,
        )
