"""What one run left behind: the events of its ranks, read back.

A rank's `rank<N>.jsonl` holds one JSON object a line, written by `host.py`:

    start       rank, pid, python, torch
    model       root: class names; wrapped: module name -> wrapper kinds;
                parameters: name -> shape, dtype and, for a DTensor, placements, mesh, mesh_dims;
                policies: module name -> mixed-precision policy; autocast: whether it was on
    step        step, loss (mean over all ranks), grad_norm, gradients, tokens (this rank), seconds
    parameters  step (0: before the first), values: name -> norm, sum (float64), digest (SHA-256 of the bytes)
    error       type, message, traceback
    end

Every event carries `time`, seconds since the epoch.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path


@dataclass(frozen=True)
class Step:
    """One optimizer step.

    loss: nats a token, mean over all ranks. grad_norm: the L2 norm before
    clipping that torchtitan computes, in float32. gradients: the same norm of
    the gathered gradients, summed in float64.
    """

    step: int
    loss: float
    grad_norm: float | None
    gradients: float | None = None
    tokens: int = -1
    seconds: float = 0.0


@dataclass(frozen=True)
class RankTrace:
    """The events of one rank, by kind."""

    rank: int
    steps: tuple[Step, ...] = ()
    model: dict = field(default_factory=dict)
    parameters: dict[str, dict] = field(default_factory=dict)
    torch: str = ""
    error: dict | None = None
    ended: bool = False
    initial: dict[str, dict] = field(default_factory=dict)


@dataclass(frozen=True)
class Trace:
    """One run of one party."""

    party: str
    ranks: tuple[RankTrace, ...]

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of the whole run.

        Loss and grad_norm as the last rank saw them, which is in the last pipeline
        stage and so knows the loss; the gradients of all stages together.
        """
        if not self.ranks:
            return ()
        stages = {tuple(sorted(rank.parameters)): rank for rank in self.ranks}
        if len(stages) < 2:
            return self.ranks[-1].steps
        others = [{step.step: step for step in rank.steps} for rank in stages.values()]
        whole = []
        for step in self.ranks[-1].steps:
            parts = [
                other[step.step].gradients for other in others if step.step in other
            ]
            known = [part for part in parts if part is not None]
            total = (
                sum(part**2 for part in known) ** 0.5
                if len(known) == len(parts)
                else None
            )
            whole.append(replace(step, gradients=total))
        return tuple(whole)

    @property
    def model(self) -> dict:
        """What wraps the model and where its parameters are, over all pipeline stages."""
        if not self.ranks:
            return {}
        found = dict(self.ranks[0].model)
        for rank in self.ranks[1:]:
            for key in ("wrapped", "parameters", "policies"):
                if key in found and key in rank.model:
                    found[key] = {**found[key], **rank.model[key]}
        return found

    @property
    def parameters(self) -> dict[str, dict]:
        """The final parameters, over all pipeline stages."""
        return {
            name: value
            for rank in self.ranks
            for name, value in rank.parameters.items()
        }

    @property
    def initial(self) -> dict[str, dict]:
        """The parameters before the first step."""
        return {
            name: value for rank in self.ranks for name, value in rank.initial.items()
        }

    @property
    def first_error(self) -> tuple[int, dict] | None:
        """The rank that failed first and its error event: later ones only lost their connection to it."""
        failed = [(r.error["time"], r.rank, r.error) for r in self.ranks if r.error]
        if not failed:
            return None
        _, rank, error = min(failed, key=lambda item: item[:2])
        return rank, error

    def to_dict(self) -> dict:
        return asdict(self)


def read_rank(path: Path) -> RankTrace:
    """Reads one rank's file; a last line that a killed rank left half written is dropped."""
    found: dict = {"rank": int(path.stem.removeprefix("rank"))}
    steps: list[Step] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            break
        kind = event.pop("event")
        if kind == "step":
            event.pop("time")
            steps.append(Step(**event))
        elif kind == "start":
            found["torch"] = event["torch"]
        elif kind == "model":
            event.pop("time")
            found["model"] = event
        elif kind == "parameters":
            found["initial" if event["step"] == 0 else "parameters"] = event["values"]
        elif kind == "error":
            found["error"] = event
        elif kind == "end":
            found["ended"] = True
    return RankTrace(steps=tuple(steps), **found)


def read_trace(party: str, folder: Path) -> Trace:
    """Reads the `rank<N>.jsonl` of all ranks in `folder`, in the order of ranks."""
    ranks = [read_rank(path) for path in folder.glob("rank*.jsonl")]
    return Trace(party, tuple(sorted(ranks, key=lambda rank: rank.rank)))
