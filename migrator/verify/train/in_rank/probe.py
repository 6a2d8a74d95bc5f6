"""Writes a trace: wraps the calls that torchtitan makes once a step and notes what passes through them."""

from __future__ import annotations

import functools
import hashlib
import json
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from .figures import Figures, every_gradient, every_weight, norm_of_all
from .forward import Forward
from .measure import (
    buffers,
    checksums,
    collective_counter,
    describe,
    nudge,
    optimized,
    parameters_of,
    plant,
    save_weights,
    watch_outputs,
    whole_norm,
)

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer


class Recorder:
    """Appends events to this rank's trace, each written through at once so that a killed rank leaves its past."""

    def __init__(self, folder: Path, rank: int) -> None:
        self._file = open(folder / f"rank{rank}.jsonl", "w", encoding="utf-8")

    def write(self, event: str, **values: object) -> None:
        # json writes floats by repr, so a reader gets the same bits back.
        self._file.write(
            json.dumps({"event": event, "time": time.time(), **values}) + "\n"
        )
        self._file.flush()


class Probe:
    """Wraps the two calls that torchtitan makes once a step and writes what passes through them."""

    def __init__(self, recorder: Recorder, options: dict[str, Any]) -> None:
        self.recorder = recorder
        self.options = options
        self.steps_seen = 0
        self.grad_norm: float | None = None
        self.gradients: float | None = None
        self.each_gradient: Figures = {}
        self.model_parts: list[nn.Module] | None = None
        self.forward: Forward | None = None
        self.optimizers: dict[int, Optimizer] = {}
        self.stages = 1
        self.counter: Any = None
        self.step_began = time.perf_counter()

    def install(self) -> None:
        import torch
        from torchtitan.components import metrics
        from torchtitan.distributed import utils as dist_utils

        clip = dist_utils.clip_grad_norm_
        log = metrics.MetricsProcessor.log

        @functools.wraps(clip)
        def clip_and_record(
            parameters: Iterable[Tensor], *args: Any, **kwargs: Any
        ) -> Any:
            parameters = list(parameters)
            if self.model_parts is None:
                self._meet_model()
            if self.steps_seen == 0 and self.model_parts is not None:
                self.recorder.write(
                    "gradients", dtypes=_gradient_dtypes(self.model_parts)
                )
            planted = self.options["planted"]
            if planted and planted["step"] == self.steps_seen + 1:
                plant(self.model_parts or [], planted["parameter"], planted["error"])
            if self.options["nudged"]:
                nudge(parameters, self.steps_seen)
                whole = self._whole_norm(parameters)
            self.each_gradient = every_gradient(self.model_parts or [])
            self.gradients = norm_of_all(self.each_gradient)
            norm = clip(parameters, *args, **kwargs)
            value = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
            self.grad_norm = clipped_by = float(value)
            if self.options["nudged"]:
                max_norm = args[0] if args else kwargs["max_norm"]
                _clip_over(clipped_by, whole, parameters, float(max_norm))
                self.grad_norm = whole
            return norm

        @functools.wraps(log)
        def log_and_record(
            processor: Any, step: int, global_avg_loss: float, *args: Any, **kwargs: Any
        ) -> Any:
            now = time.perf_counter()
            self._write_figures(int(step))
            self.recorder.write(
                "step",
                step=int(step),
                loss=float(global_avg_loss),
                grad_norm=self.grad_norm,
                gradients=self.gradients,
                tokens=int(getattr(processor, "ntokens_since_last_log", -1)),
                seconds=now - self.step_began,
            )
            result = log(processor, step, global_avg_loss, *args, **kwargs)
            self.steps_seen += 1
            if self.model_parts is not None:
                self._look_inside(self.model_parts, step)
            self.step_began = time.perf_counter()
            return result

        begin = torch.optim.Optimizer.zero_grad

        @functools.wraps(begin)
        def seed_and_begin(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
            self._begin(optimizer)
            # Sharded and whole initialisation draw differently from the random
            # numbers that dropout would go on with.
            torch.manual_seed(self.options["done"] + self.steps_seen)
            begin(optimizer, *args, **kwargs)

        torch.optim.Optimizer.zero_grad = seed_and_begin  # type: ignore[method-assign, assignment]  # patched
        dist_utils.clip_grad_norm_ = clip_and_record
        metrics.MetricsProcessor.log = log_and_record
        if hasattr(metrics.MetricsProcessor, "log_validation"):
            validated = metrics.MetricsProcessor.log_validation

            @functools.wraps(validated)
            def validated_and_record(
                processor: Any, loss: float, step: int, *args: Any, **kwargs: Any
            ) -> Any:
                self.recorder.write("validation", step=int(step), loss=float(loss))
                return validated(processor, loss, step, *args, **kwargs)

            metrics.MetricsProcessor.log_validation = validated_and_record

    def _begin(self, optimizer: Optimizer) -> None:
        """At the start of a step: meets the model before its first forward, and the optimizers."""
        import torch

        if self.steps_seen == 0:
            self.optimizers[id(optimizer)] = optimizer
        if self.forward is None and (trainer := _trainer(self)) is not None:
            self.forward = Forward(
                list(trainer.model_parts), outputs=self.options["collectives"]
            )
            state = torch.get_rng_state().numpy().tobytes()
            self.recorder.write("random", digest=hashlib.sha256(state).hexdigest()[:16])

    def _write_figures(self, step: int) -> None:
        """Behind a step: what its gradients and weights are, one by one, and which data it read."""
        self.recorder.write(
            "figures",
            step=step,
            gradients=self.each_gradient,
            weights=every_weight(self.model_parts or []),
            data=self.forward.data() if self.forward else None,
        )
        if self.steps_seen == 0 and self.forward is not None:
            self.recorder.write("forward", norms=self.forward.norms())
        if self.steps_seen == 0 and self.model_parts is not None:
            held = optimized(list(self.optimizers.values()), self.model_parts)
            self.recorder.write("optimizers", held=held)

    def _look_inside(self, parts: list[nn.Module], step: int) -> None:
        """Behind step 1: watches the next step; behind the last: takes the parameters."""
        if self.steps_seen == 1:
            watch_outputs(parts, self.recorder.write)
            if self.options["collectives"]:
                self.counter = collective_counter()
                self.counter.__enter__()
        elif self.counter is not None:
            self.counter.__exit__(None, None, None)
            self.recorder.write("collectives", step=int(step), kinds=self.counter.kinds)
            self.counter = None
        when = {self.options["halfway"]: "halfway", self.options["steps"]: "parameters"}
        if step in when:
            self._write_values(when[step])
        if step == self.options["steps"]:
            save_weights(parts, Path(self.options["weights"]))

    def _whole_norm(self, parameters: list[Tensor]) -> float:
        """The norm summed over whole tensors instead of shard by shard, of all pipeline stages together."""
        import torch

        squares = torch.tensor(whole_norm(parameters) ** 2)
        if self.stages > 1:
            torch.distributed.all_reduce(squares)
            squares *= self.stages / torch.distributed.get_world_size()
        return float(float(squares) ** 0.5)

    def _meet_model(self) -> None:
        trainer = _trainer(self)
        if trainer is None:
            return
        self.model_parts = list(trainer.model_parts)
        self.stages = getattr(trainer.parallel_dims, "pp", 1)
        tensor = getattr(trainer.parallel_dims, "tp", 1)
        found = describe(self.model_parts)
        self.recorder.write("model", tensor=tensor, **found)
        self._write_values("initial")

    def _write_values(self, when: str) -> None:
        """The parameters and buffers as they are now."""
        assert self.model_parts is not None
        values = checksums(self.model_parts)
        self.recorder.write("parameters", when=when, values=values)
        self.recorder.write("buffers", when=when, digests=buffers(self.model_parts))


def _trainer(probe: Probe) -> Any:
    """The trainer that is training, None where there is none.

    Its class lives in __main__ and hands its model to no one in a way that all
    releases share, so look up the stack for it.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        owner: Any = frame.f_locals.get("self")
        if owner is not probe and hasattr(owner, "model_parts"):
            return owner
        frame = frame.f_back
    return None


def _gradient_dtypes(model_parts: list[nn.Module]) -> dict[str, str]:
    return {
        name: str(parameter.grad.dtype).removeprefix("torch.")
        for name, parameter in parameters_of(model_parts).items()
        if parameter.grad is not None
    }


def _clip_over(
    clipped_by: float, norm: float, parameters: list[Tensor], max_norm: float
) -> None:
    """Does over by `norm` the clipping that was done by `clipped_by`."""
    import torch

    done, wanted = (min(1.0, max_norm / (n + 1e-6)) for n in (clipped_by, norm))
    with torch.no_grad():
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(wanted / done)
