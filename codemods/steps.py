"""Which rules only make sense together: what a selection may not split, and one commit each."""

from dataclasses import dataclass

from codemods.rules import all_rules
from codemods.targets import Target


@dataclass(frozen=True)
class Step:
    """A part of the migration after which the tree imports and trains.

    Args:
        codes: its rules.
        apart: why they cannot be had apart; empty for a single rule.
        subject: of its commit, in the imperative.
    """

    codes: tuple[str, ...]
    apart: str
    subject: str


def _replicate(target: Target) -> Step:
    apart = (
        "they are the new function, the calls that fit it, the guard that would refuse what it "
        "can do, and mixed precision by its policy instead of autocast."
    )
    if target.mesh == "1d":
        return Step(
            ("TM101", "TM102", "TM103", "TM105"), apart, "Replace DDP by replicate"
        )
    return Step(
        ("TM101", "TM102", "TM103", "TM104", "TM105"),
        apart.removesuffix(".") + ", on the 2-D mesh that ParallelDims has to build.",
        "Replace DDP by replicate on a 2-D mesh",
    )


def steps(target: Target) -> tuple[Step, ...]:
    """Every step, in the order in which a series of commits takes them.

    A rewriting rule that is in no other step is one of its own.
    """
    first = _replicate(target)
    others = [
        rule
        for rule in all_rules()
        if hasattr(rule, "rewrite") and rule.CODE not in first.codes
    ]
    return (first, *(Step((rule.CODE,), "", rule.TITLE) for rule in others))


def step_of(code: str, target: Target) -> Step:
    """The step that a rule belongs to; a hazard is a step of its own."""
    for step in steps(target):
        if code in step.codes:
            return step
    return Step((code,), "", "")
