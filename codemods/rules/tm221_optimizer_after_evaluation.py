"""TM221: an optimizer made while an evaluation's copies are in place of the weights."""

from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.plans import Facts
from codemods.rules.tm220_weights_after_evaluation import SUGGESTION

CODE = "TM221"
TITLE = "an optimizer made after an evaluation"
SEVERITY: Severity = "silent"
WHAT = "An optimizer is made after a forward under no_grad, from copies of the weights."
WHY = """\
After a forward under no_grad replicate keeps the copies that it computed with, and
parameters() yields those. An optimizer made then holds them: it steps, and no weight
moves. reshard() before it puts the parameters back.
"""
UPSTREAM = """\
None. It rests on trainings of two ranks, torch 2.13: the loss of one batch stays the same
over three steps, and goes down as under DDP after reshard().
"""
RISK = """\
The run goes on, logs losses and learns nothing.
"""
PROOF = """\
Where torchtitan's own trainer does it, `dp` fails: "no parameter moved". Other trainers are
not run: compare a parameter before and after a step.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/experiments/averaged/train_averaged.py",
    before="""\
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.0001)
""",
    after=f"{SUGGESTION}\n",
)


def find(facts: Facts) -> Iterator[Finding]:
    found = facts.survey.order.after_evaluations("optimizer")
    for made, evaluation in found:
        yield Finding(
            made.path,
            made.line,
            CODE,
            f"{made.code.partition('(')[0]} is made after {evaluation.path}:{evaluation.line}, a "
            "forward without gradients, and so from copies of the weights",
            "hazard",
            SUGGESTION,
        )
