"""Runs of every party as planted, right ones and wrong ones, for the tests of the judge."""

from __future__ import annotations

from dataclasses import replace

from migrator.verify.judge.compare import Tolerance
from migrator.verify.judge.judges import judge_combination, judge_parity
from migrator.verify.judge.trace import RankTrace, Step, Trace
from migrator.verify.judge.verdict import Terms

DP = 2
STEPS = 4
GROUPS = ("", "tok_embeddings", "layers.0", "layers.1", "norm", "output")
KINDS = {
    "none": [],
    "ddp": ["DDP"],
    "replicate": ["ReplicateModule", "FSDPModule"],
    "fsdp": ["FSDPModule"],
}
PLACEMENTS = {"replicate": ["R"], "fsdp": ["S(0)"]}


def model(kind: str, groups=GROUPS, dtype="float32") -> dict:
    parameter = {"shape": [4, 4], "dtype": dtype}
    if kind in PLACEMENTS:
        parameter |= {"placements": PLACEMENTS[kind], "mesh": [DP]}
    groups = {"ddp": ("",), "none": ()}.get(kind, groups)
    wrapped = dict.fromkeys(groups, KINDS[kind])
    return {
        "root": [],
        "wrapped": wrapped,
        "parameters": {"layers.0.weight": parameter},
    }


def trace(
    party: str, kind: str, *, scale=1.0, loss=0.0, digest="d", **changes
) -> Trace:
    """A run whose gradients are `scale` times, and whose losses are `loss` above, the right ones."""
    steps = tuple(
        Step(
            n,
            loss=8.0 - n / 4 + loss,
            grad_norm=(1.0 + n / 10) * scale,
            gradients=(1.0 + n / 10) * scale,
            tokens=512,
        )
        for n in range(1, STEPS + 1)
    )
    value = {"norm": 3.0, "sum": 1.0, "digest": digest}
    rank = RankTrace(
        0, steps, model(kind), {"layers.0.weight": value}, "2.13.0", None, True
    )
    rank = replace(rank, **changes)
    return Trace(party, tuple(replace(rank, rank=n) for n in range(DP)))


BASELINE = trace("baseline", "ddp")
MIGRATED = trace("migrated", "replicate")
REFERENCE = trace("reference", "fsdp")
CONTROL = trace("control", "fsdp")
HALVED = trace("baseline", "ddp", scale=1 / DP)
TOLERANCES = {
    "loss": Tolerance(1e-5, "planted"),
    "grad_norm": Tolerance(1e-3, "planted"),
    "gradients": Tolerance(1e-5, "planted"),
    "tokens": Tolerance(0.0, "planted"),
    "parameters": Tolerance(1e-4, "planted"),
}
TERMS = Terms(STEPS, DP, DP, TOLERANCES)


def verdict(baseline=BASELINE, migrated=MIGRATED, reference=REFERENCE, control=CONTROL):
    runs = (baseline, migrated, reference, control)
    return judge_parity({run.party: run for run in runs}, TERMS)


ERROR = {
    "type": "RuntimeError",
    "message": "DDP has not supported it",
    "time": 1.0,
    "traceback": "T",
}
REFUSES = Trace("baseline", (RankTrace(0, error=ERROR),))


def combination(baseline=REFUSES, migrated=MIGRATED, reference=REFERENCE):
    runs = (baseline, migrated, reference)
    return judge_combination({run.party: run for run in runs}, TERMS)


def drifting(party: str, kind: str) -> Trace:
    """Four ranks, dp 2 and tp 2, in which the two of each tensor-parallel pair do not agree."""
    ranks = []
    for number in range(2 * DP):
        value = {"norm": 3.0, "sum": 1.0, "digest": f"tp{number % 2}"}
        run = trace(party, kind, model={**model(kind), "tensor": 2})
        final = {"layers.0.weight": value}
        ranks.append(replace(run.ranks[0], rank=number, parameters=final))
    return Trace(party, tuple(ranks))


def with_model(party: str, kind: str, **changes) -> Trace:
    return trace(party, kind, model={**model(kind), **changes})
