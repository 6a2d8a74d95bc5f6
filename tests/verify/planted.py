"""Traces and verdicts as planted, for the tests of what is said of them."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from migrator.verify.choose.scenarios import CELLS
from migrator.verify.judge.compare import Tolerance
from migrator.verify.judge.judges import (
    judge_combination,
    judge_parity,
    judge_resumed,
    judge_unchanged,
)
from migrator.verify.judge.trace import RankTrace, Step, Trace
from migrator.verify.judge.verdict import Terms, Verdict, Verification
from migrator.verify.show import terminal

STEPS = 4
KINDS = {
    "ddp": ["DDP"],
    "replicate": ["ReplicateModule", "FSDPModule"],
    "fsdp": ["FSDPModule"],
}
TOLERANCES = {
    "loss": Tolerance(1e-5, "ten times what was planted"),
    "grad_norm": Tolerance(1e-3, "ten times what was planted"),
    "gradients": Tolerance(1e-5, "ten times what was planted"),
    "tokens": Tolerance(0.0, "counted"),
    "parameters": Tolerance(1e-4, "ten times what was planted"),
}
TERMS = Terms(STEPS, 2, 2, TOLERANCES)
HOSTILE = "a|b <script>alert(1)</script> `x` **y** [z](http://evil.example) @octocat #12\n\n| c | d |\x1b[31m"


def run(party: str, kind: str, *, scale=1.0, loss=0.0, name="layers.0.w", **changes):
    """A run of two ranks whose gradients are `scale` times, and whose losses are `loss` above, the right ones."""
    steps = tuple(
        Step(
            n,
            loss=8.0 - n / 3 + (loss if n > 1 else 0.0),
            grad_norm=(1.0 + n / 7) * scale,
            gradients=(1.0 + n / 7) * scale,
            tokens=512,
            seconds=0.5 if kind == "ddp" else 0.4,
        )
        for n in range(1, STEPS + 1)
    )
    parameter = {"shape": [4], "dtype": "float32"}
    if kind != "ddp":
        placements = ["R"] if kind == "replicate" else ["S(0)"]
        parameter |= {"placements": placements, "mesh": [2], "mesh_dims": ["dp"]}
    model = {
        "root": [],
        "wrapped": {"": KINDS[kind]},
        "parameters": {name: parameter},
        "gradients": {name: "float32"},
        "outputs": {"layers.0": "bfloat16"},
    }
    rank = RankTrace(
        0,
        steps,
        model,
        {name: {"norm": 3.0, "sum": 1.0, "digest": f"{scale}{loss}"}},
        ended=True,
        collectives={"all-reduce": [7, 24654864]},
        peak_bytes=800_000_000 if kind == "ddp" else 1_000_000_000,
    )
    rank = replace(rank, **changes)
    return Trace(party, (rank, replace(rank, rank=1)))


def failing(party: str, message: str) -> Trace:
    error = {"type": "RuntimeError", "message": message, "time": 1.0}
    error["traceback"] = f"Traceback:\n```\n{message}\n  the end"
    return Trace(party, (RankTrace(0, error=error),))


def judged(judge, *runs: Trace) -> Verdict:
    return judge({one.party: one for one in runs}, TERMS)


BASELINE = run("baseline", "ddp")
MIGRATED = run("migrated", "replicate")
REFERENCE = run("reference", "fsdp")
CONTROL = run("control", "fsdp")
PASSED = judged(judge_parity, BASELINE, MIGRATED, REFERENCE, CONTROL)
NEAR = judged(
    judge_parity,
    BASELINE,
    MIGRATED,
    run("reference", "fsdp", loss=1e-5),
    run("control", "fsdp", loss=1e-5),
)
TWICE = judged(
    judge_parity, run("baseline", "ddp", scale=0.5), MIGRATED, REFERENCE, CONTROL
)
FAILED = judged(
    judge_parity, BASELINE, run("migrated", "replicate", loss=0.5), REFERENCE, CONTROL
)
REFUSED = judged(
    judge_combination, failing("baseline", "DDP has no TP"), MIGRATED, REFERENCE
)
CRASHED = judged(judge_combination, BASELINE, failing("migrated", HOSTILE), REFERENCE)
UNCHANGED = judged(judge_unchanged, CONTROL, REFERENCE)
NOT_RUN = Verdict(not_run="this torchtitan has no setting a|b")


def resumed() -> Verdict:
    """A cell whose pairs are not all compared in all quantities: DDP trains otherwise."""
    value = {"layers.0.w": {"norm": 3.0, "sum": 1.0, "digest": "half"}}

    def rest(party, kind, **changes):
        whole = run(party, kind, initial=value, **changes)
        ranks = (replace(rank, steps=rank.steps[2:]) for rank in whole.ranks)
        return Trace(party, tuple(ranks))

    return judged(
        judge_resumed,
        run("baseline", "ddp", scale=0.5, halfway=value),
        run("migrated", "replicate", halfway=value),
        rest("resumed", "replicate"),
        rest("resumed-reference", "fsdp"),
        rest("returned", "ddp", scale=0.5),
    )


def printed(*shown, width: int = 80, **environment) -> str:
    """What is printed of (cell, verdict) pairs and their summary, not on a terminal."""
    console = Console(record=True, width=width, file=io.StringIO())
    for name, verdict in shown:
        terminal.show_cell("llama3", CELLS[name], verdict, console)
    terminal.show_summary(Verification({"llama3": dict(shown)}, environment), console)
    return console.export_text()
