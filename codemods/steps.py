"""Which rules only make sense together: what a selection may not split, and one commit each."""

from dataclasses import dataclass
from types import ModuleType

from codemods.rules import all_rules
from codemods.targets import Target

SHARED = ("TM104", "TM105")
"""Rules about code that all models use: none of them is migrated rightly without it."""

FOLLOWS = {"TM107": "TM101"}
"""A rule that tells of what another one did -> that one, without which it does not run."""


@dataclass(frozen=True)
class Step:
    """A part of the migration after which the tree imports and trains.

    Args:
        codes: its rules.
        apart: why they cannot be had apart; empty for a single rule.
        subject: of its commit, in the imperative and in one line.
        why: what changes and why, as paragraphs of the commit's message.
        upstream: what torchtitan did, with the address of the pull request.
    """

    codes: tuple[str, ...]
    apart: str
    subject: str
    why: str = ""
    upstream: str = ""


_WHY_REPLICATE = """\
DDP wraps the whole model, and with tensor or pipeline parallelism it refuses to train
or trains wrongly. PyTorch's composable replicate is built on FSDP2 and combines with
both. Each model is wrapped in the groups of its apply_fsdp (layer by layer where there
is none to follow), with the same mixed-precision policy and division of gradients, and
nothing is resharded.
"""

_WHY_2D = """
The replicate of torch 2.9 takes a mesh of two dimensions, (dp_replicate, dp_shard),
the second of degree 1. ParallelDims leaves out dimensions of degree 1, so from now on
it keeps this one where dp_replicate is more than 1. Neither change trains without the
other.
"""

SINCE = (
    "A month later its PR 2900 replaced that by fully_shard over (dp_replicate, fsdp), and no "
    "release has apply_replicate."
)
"""What became of PR 2458, for whoever decides whether to follow it."""

_SUBJECTS = {
    "TM106": "Accept Replicate placements in the MoE state-dict adapter",
    "TM107": "Update the help texts for replicate",
}


def _replicate(target: Target) -> Step:
    apart = (
        "they are the new function, the calls that fit it, the guard that would refuse what it "
        "can do, and mixed precision by its policy instead of autocast."
    )
    if target.mesh == "1d":
        return Step(
            ("TM101", "TM102", "TM103", "TM105"),
            apart,
            "Replace DDP by replicate",
            _WHY_REPLICATE,
            f"Upstream did the same: {_upstream(target)}. {SINCE}",
        )
    return Step(
        ("TM101", "TM102", "TM103", "TM104", "TM105"),
        apart.removesuffix(".") + ", on the 2-D mesh that ParallelDims has to build.",
        "Replace DDP by replicate on a 2-D mesh",
        _WHY_REPLICATE + _WHY_2D,
        f"Upstream proposed the same: {_upstream(target)}.",
    )


def _alone(rule: ModuleType, target: Target) -> Step:
    return Step(
        (rule.CODE,),
        "",
        _SUBJECTS.get(rule.CODE, f"Apply {rule.CODE}: {rule.TITLE}"),
        rule.WHY,
        f"It goes with replicate: {_upstream(target)}.",
    )


def _upstream(target: Target) -> str:
    number = {"1d": 2458, "2d": 1714}[target.mesh]
    return (
        f"torchtitan PR {number} (https://github.com/pytorch/torchtitan/pull/{number})"
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
    return (first, *(_alone(rule, target) for rule in others))


def step_of(code: str, target: Target) -> Step:
    """The step that a rule belongs to; a hazard is a step of its own."""
    for step in steps(target):
        if code in step.codes:
            return step
    return Step((code,), "", "")
