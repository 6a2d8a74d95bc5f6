"""What one run left behind: the events of its ranks, read back.

A rank's `rank<N>.jsonl` holds one JSON object a line, written by `host.py`:

    start       rank, pid, python, torch
    model       root: class names; wrapped: module name -> wrapper kinds;
                parameters: name -> shape, dtype and, for a DTensor, placements, mesh, mesh_dims;
                policies: module name -> mixed-precision policy; autocast: whether it was on;
                checkpointed, compiled: module name -> in words;
                tensor: tensor-parallel degree
    random      digest of the state of the random numbers, before the first step
    optimizers  held: parameter -> what its optimizer's group says, in the first step
    forward     norms: module -> norm of its first output, in order, in the first step
    figures     step, gradients and weights: parameter -> norm and alternating sum, in float64;
                data: digest of the tokens that this rank read; evaluating: modules in eval mode
                behind the backward pass; comes before its step
    buffers     when; digests: buffer -> dtype and digest
    gradients   dtypes: parameter -> dtype of its gradient, in the first step
    step        step, loss (mean over all ranks, null where this rank does not log), grad_norm, gradients, tokens (this rank), seconds
    loss        step, loss of a step that was written before it was logged
    validation  step, loss (mean over all ranks)
    logged      step, values: metric -> number, as this rank's logger was given it
    outputs     dtypes: block -> dtype of its output, in the second step
    collectives step, kinds: kind -> calls, bytes, in the second step
    parameters  when: initial, halfway or parameters (after the last step); values: name -> norm, sum (float64), digest (SHA-256 of the bytes)
    state       when: initial or halfway, where a checkpoint is resumed or written; values: "KEY of NAME" of the optimizers' state -> as of parameters
    error       type, message, traceback
    end         peak_bytes

Every event carries `time`, seconds since the epoch.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from numpy.typing import NDArray


Figures = Mapping[str, Sequence[float]]
"""Parameter -> norm, and sum with every other element taken off, in float64."""


@dataclass(frozen=True)
class Step:
    """One optimizer step.

    loss: nats a token, mean over all ranks, None on a rank that does not log it. grad_norm: the L2 norm before
    clipping that torchtitan computes, in float32. gradients: the same norm of
    the gathered gradients, summed in float64. tokens: of this rank, or of all
    ranks in `Trace.steps`. seconds: since the step before. validation: the
    validation loss, nats a token, where the step was followed by a validation.
    each_gradient, each_weight: of every parameter, the weight behind the step.
    data: digest of the tokens that this rank read, None where it read none.
    evaluating: modules in eval mode. logged: metric -> what this rank's logger was given.
    """

    step: int
    loss: float | None
    grad_norm: float | None
    gradients: float | None = None
    tokens: int = -1
    seconds: float = 0.0
    validation: float | None = None
    each_gradient: Figures = field(default_factory=dict, repr=False)
    each_weight: Figures = field(default_factory=dict, repr=False)
    data: str | None = None
    evaluating: Sequence[str] = ()
    logged: Mapping[str, float] = field(default_factory=dict, repr=False)


class Checksum(TypedDict):
    """What is kept of every parameter: norm and sum in float64, SHA-256 of its bytes."""

    norm: float
    sum: float
    digest: str


class Error(TypedDict):
    """What a rank failed with; time: seconds since the epoch."""

    type: str
    message: str
    traceback: str
    time: float


@dataclass(frozen=True)
class RankTrace:
    """The events of one rank, by kind.

    initial, halfway, parameters: the parameters before the first step, halfway
    (where a checkpoint is written there) and after the last, by name.
    collectives: kind -> calls and bytes in the second step. peak_bytes: memory.
    state: when -> what optimizers keep. buffers: when -> buffer -> dtype and digest. random: digest of the random numbers' state
    before the first step. forward: module -> norm of its output in the first step.
    """

    rank: int
    steps: tuple[Step, ...] = ()
    model: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Checksum] = field(default_factory=dict)
    torch: str = ""
    error: Error | None = None
    ended: bool = False
    initial: dict[str, Checksum] = field(default_factory=dict)
    halfway: dict[str, Checksum] = field(default_factory=dict)
    collectives: dict[str, list[int]] = field(default_factory=dict)
    peak_bytes: int = 0
    state: dict[str, dict[str, Checksum]] = field(default_factory=dict)
    buffers: dict[str, dict[str, str]] = field(default_factory=dict)
    random: str = ""
    forward: dict[str, float] = field(default_factory=dict)


class Weights(Mapping[str, "NDArray[Any]"]):
    """Parameters in full, name -> array, read from the files of a folder when asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @cached_property
    def _places(self) -> dict[str, Any]:
        import numpy

        stages = [numpy.load(path) for path in sorted(self._folder.glob("rank*.npz"))]
        return {name: stage for stage in stages for name in stage.files}

    def __getitem__(self, name: str) -> NDArray[Any]:
        array: NDArray[Any] = self._places[name][name]
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


MERGED = (
    *("wrapped", "parameters", "policies", "gradients", "outputs", "checkpointed"),
    *("compiled", "evaluating", "optimizers"),
)
"""What of a model each pipeline stage knows a part of."""


@dataclass(frozen=True)
class Trace:
    """One run of one party.

    weights: its final parameters, where they were kept. source: from where it came,
    if it was not trained now.
    """

    party: str
    ranks: tuple[RankTrace, ...]
    weights: Mapping[str, NDArray[Any]] = field(
        default_factory=dict, compare=False, repr=False
    )
    source: str = field(default="", compare=False)

    @property
    def steps(self) -> tuple[Step, ...]:
        """The steps of the whole run.

        Loss and grad_norm as the last rank saw them, which is in the last pipeline
        stage and so knows the loss, or the last one that logs; the gradients of all
        stages together.
        """
        if not self.ranks:
            return ()
        by_rank = [{step.step: step for step in rank.steps} for rank in self.ranks]
        stages = {
            tuple(sorted(rank.parameters)): steps
            for rank, steps in zip(self.ranks, by_rank)
        }
        whole = []
        for last in self.ranks[-1].steps:
            here = [steps[last.step] for steps in by_rank if last.step in steps]
            parts = [
                steps[last.step].gradients
                for steps in stages.values()
                if last.step in steps
            ]
            step = _together(last, here)
            squares = [part**2 for part in parts if part is not None]
            if len(stages) > 1 and len(squares) == len(parts):
                step = replace(step, gradients=sum(squares) ** 0.5)
            whole.append(step)
        return tuple(whole)

    @property
    def model(self) -> dict[str, Any]:
        """What wraps the model and where its parameters are, over all pipeline stages."""
        if not self.ranks:
            return {}
        found = dict(self.ranks[0].model)
        for rank in self.ranks[1:]:
            for key in MERGED:
                if key in found and key in rank.model:
                    found[key] = {**found[key], **rank.model[key]}
        return found

    @property
    def parameters(self) -> dict[str, Checksum]:
        """The final parameters, over all pipeline stages."""
        return self._gathered("parameters")

    @property
    def halfway(self) -> dict[str, Checksum]:
        """The parameters halfway, where the run wrote a checkpoint there."""
        return self._gathered("halfway")

    @property
    def initial(self) -> dict[str, Checksum]:
        """The parameters before the first step."""
        return self._gathered("initial")

    def state(self, when: str) -> dict[str, Checksum]:
        """What the optimizers keep, "KEY of NAME" -> checksum, halfway or where a checkpoint was resumed (initial)."""
        found: dict[str, Checksum] = {}
        for rank in self.ranks:
            found |= rank.state.get(when, {})
        return found

    def _gathered(self, when: str) -> dict[str, Checksum]:
        return {
            name: value
            for rank in self.ranks
            for name, value in getattr(rank, when).items()
        }

    @property
    def forward(self) -> dict[str, float]:
        """Module -> norm of its output in the first step, on the first rank of each stage."""
        found: dict[str, float] = {}
        for rank in self.ranks:
            for name, norm in rank.forward.items():
                found.setdefault(name, norm)
        return found

    @property
    def collectives(self) -> dict[str, list[int]]:
        """What one rank, the first, sends and receives in the second step: kind -> calls, bytes."""
        return self.ranks[0].collectives if self.ranks else {}

    @property
    def peak_bytes(self) -> int:
        """Peak memory of the rank that took most."""
        return max((rank.peak_bytes for rank in self.ranks), default=0)

    @property
    def first_error(self) -> tuple[int, Error] | None:
        """The rank that failed first and its error event: later ones only lost their connection to it."""
        failed = [(r.error["time"], r.rank, r.error) for r in self.ranks if r.error]
        if not failed:
            return None
        _, rank, error = min(failed, key=lambda item: item[:2])
        return rank, error

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the weights themselves."""
        return {
            "party": self.party,
            "ranks": [_short(asdict(rank)) for rank in self.ranks],
            "peak_bytes": self.peak_bytes,
        }


def _together(step: Step, here: Sequence[Step]) -> Step:
    """A step of all ranks, `here`, in place of the last rank's."""
    return replace(
        step,
        loss=_last(one.loss for one in here),
        validation=_last(one.validation for one in here),
        tokens=sum(one.tokens for one in here),
        each_gradient={k: v for s in here for k, v in s.each_gradient.items()},
        each_weight={k: v for s in here for k, v in s.each_weight.items()},
    )


def _last(values: Iterable[float | None]) -> float | None:
    """The last that there is."""
    return next((one for one in reversed(list(values)) if one is not None), None)


def _short(rank: dict[str, Any]) -> dict[str, Any]:
    """Without what is many numbers a step: the trace beside the report has it."""
    large = ("each_gradient", "each_weight", "evaluating", "logged")
    steps = [
        {key: value for key, value in step.items() if key not in large}
        for step in rank["steps"]
    ]
    rest = {key: value for key, value in rank.items() if key != "state"}
    return {**rest, "steps": steps}


def digest(values: dict[str, Checksum], name: str) -> str | None:
    """The digest of a parameter; None where it is not among these."""
    return values[name]["digest"] if name in values else None


def first_line(error: Error) -> str:
    """An error event's type and the first line of its message."""
    message = error["message"].strip().splitlines()
    return f"{error['type']}: {message[0]}" if message else error["type"]


# Event -> what of it is kept under which name: by itself, beside others of a model, or by when it was.
_ONE = {
    "start": ("torch", "torch"),
    "random": ("digest", "random"),
    "forward": ("norms", "forward"),
    "collectives": ("kinds", "collectives"),
}
_OF_MODEL = {"gradients": "dtypes", "outputs": "dtypes", "optimizers": "held"}
_BY_TIME = {"buffers": "digests", "state": "values"}


def read_rank(path: Path) -> RankTrace:
    """Reads one rank's file; a last line that a killed rank left half written is dropped."""
    found: dict[str, Any] = {"rank": int(path.stem.removeprefix("rank"))}
    model: dict[str, Any] = {}
    of_steps: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            event = json.loads(line)
        except json.JSONDecodeError:
            break
        kind = event.pop("event")
        time = event.pop("time")
        if kind in _OF_A_STEP:
            of_steps.append({"kind": kind, **event})
        elif kind in _ONE:
            key, name = _ONE[kind]
            found[name] = event[key]
        elif kind in _OF_MODEL:
            model[kind] = event[_OF_MODEL[kind]]
        elif kind in _BY_TIME:
            found.setdefault(kind, {})[event["when"]] = event[_BY_TIME[kind]]
        elif kind == "model":
            model.update(event)
        elif kind == "parameters":
            found[event["when"]] = event["values"]
        elif kind == "error":
            found["error"] = {**event, "time": time}
        elif kind == "end":
            found.update(ended=True, peak_bytes=event["peak_bytes"])
    steps = _steps_of(of_steps)
    if model:
        model["evaluating"] = _in_eval_mode(steps)
    return RankTrace(steps=steps, model=model, **found)


_OF_A_STEP = ("step", "figures", "loss", "validation", "logged")


def _steps_of(events: list[dict[str, Any]]) -> tuple[Step, ...]:
    """The steps, each with what was written of it before or behind its own event."""
    more: dict[int, dict[str, Any]] = {}
    for event in events:
        here = more.setdefault(event["step"], {"loss": None, "logged": {}})
        if event["kind"] == "figures":
            here["each_gradient"] = event["gradients"]
            here["each_weight"] = event["weights"]
            here["data"] = event["data"]
            here["evaluating"] = event["evaluating"]
        elif event["kind"] == "validation":
            here["validation"] = event["loss"]
        elif event["kind"] == "logged":
            here["logged"] |= event["values"]
        elif here["loss"] is None:
            here["loss"] = event["loss"]
    return tuple(
        Step(**{**event, **more[event["step"]]})
        for event in events
        if event.pop("kind") == "step"
    )


def _in_eval_mode(steps: Sequence[Step]) -> dict[str, str]:
    """Module -> in words, in which steps it was in eval mode; nothing of those that never were."""
    where: dict[str, list[int]] = {}
    for step in steps:
        for name in step.evaluating:
            where.setdefault(name, []).append(step.step)
    numbers = [step.step for step in steps]
    found = {}
    for name, seen in where.items():
        rest = numbers[numbers.index(seen[0]) :]
        at = "" if seen == numbers else f" from step {seen[0]} on"
        if seen != rest:
            at = f" in step {', '.join(map(str, seen))}"
        found[name] = f"in eval mode{at}"
    return found


def read_trace(party: str, folder: Path, weights: Path | None = None) -> Trace:
    """Reads the `rank<N>.jsonl` of all ranks in `folder`, in the order of ranks; `weights` is where they left theirs."""
    ranks = [read_rank(path) for path in folder.glob("rank*.jsonl")]
    kept = Weights(weights) if weights else {}
    return Trace(party, tuple(sorted(ranks, key=lambda rank: rank.rank)), kept)


def last_step(folder: Path) -> Step | None:
    """The newest step with its loss that a rank has recorded, for a progress line: the last rank that logs one.

    A pipeline's other stages know no loss, and of some trainers only one rank logs.
    """
    found = folder.glob("rank*.jsonl")
    by_rank = sorted(found, key=lambda path: int(path.stem.removeprefix("rank")))
    for path in reversed(by_rank):
        newest = None
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = file.read().split(b"\n")[1:]
        for line in lines:
            if line.startswith(b'{"event": "step"') and line.endswith(b"}"):
                event = json.loads(line)
                if event["loss"] is None:
                    continue
                if newest is None or event["step"] >= newest.step:
                    newest = Step(event["step"], event["loss"], event["grad_norm"])
        if newest is not None:
            return newest
    return None
