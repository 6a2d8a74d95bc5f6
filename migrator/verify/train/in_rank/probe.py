"""Writes a trace: wraps the calls that torchtitan makes once a step and notes what passes through them."""

from __future__ import annotations

import functools
import hashlib
import json
import random
import sys
import time
from collections.abc import Iterable, Mapping
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
    in_eval_mode,
    nudge,
    numbers,
    optimized,
    parameters_of,
    plant,
    save_weights,
    states,
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
    """Watches what every trainer does once a step, in whatever order and by whatever means, and writes it down.

    Whoever clips (torchtitan, torch, or the trainer by itself), logs (every rank, or
    one) and ends (torchtitan's way, or its own): what is collective is done where all
    ranks come by, at the clipping and behind the optimizers, and nothing else is.
    """

    def __init__(self, recorder: Recorder, options: dict[str, Any]) -> None:
        self.recorder = recorder
        self.options = options
        self.steps_seen = 0
        self.grad_norm: float | None = None
        self.gradients: float | None = None
        self.each_gradient: Figures = {}
        self.each_weight: Figures | None = None
        self.evaluating: list[str] = []
        self.seen_gradients = False
        self.went_backward = False
        self.clips = False
        self.model_parts: list[nn.Module] | None = None
        self.forward: Forward | None = None
        self.optimizers: dict[int, Optimizer] = {}
        self.stepped: set[int] = set()
        self.stages = 1
        self.counter: Any = None
        self.written: set[str] = set()
        self.trainer: Any = None
        self.has_planted = False
        self.counted = self.tokens = 0
        self.step_began = time.perf_counter()

    def install(self) -> None:
        self._watch_gradients()
        self._watch_optimizers()
        self._watch_logs()

    def close(self) -> None:
        """Writes what a training that ended by itself has not come to."""
        import torch

        if not torch.distributed.is_initialized() or self.model_parts is None:
            return
        if self.seen_gradients:
            self._finish(None)
        self._write_last()

    def _watch_gradients(self) -> None:
        """Gradients are read before whatever clips them; where nothing known does, behind the backward pass."""
        import torch
        from torchtitan.distributed import utils as dist_utils

        for module, name in (
            (torch.nn.utils, "clip_grad_norm_"),
            (torch.nn.utils.clip_grad, "clip_grad_norm_"),
            (torch.nn.utils, "clip_grads_with_norm_"),
            (torch.nn.utils.clip_grad, "clip_grads_with_norm_"),
            (dist_utils, "clip_grad_norm_"),
        ):
            if hasattr(module, name):
                setattr(module, name, self._clipping(getattr(module, name)))
        backward = torch.autograd.backward

        @functools.wraps(backward)
        def backward_and_look(*args: Any, **kwargs: Any) -> Any:
            if self.each_weight is not None and not _within_backward():
                # Nobody has logged the step before, or emptied its gradients.
                self._finish(None)
            result = backward(*args, **kwargs)
            if not _within_backward():
                self.went_backward = True
                if not self.clips:
                    self._read_gradients()
            return result

        torch.autograd.backward = backward_and_look

    def _clipping(self, clip: Any) -> Any:
        """A function that clips, and has the gradients read before."""

        @functools.wraps(clip)
        def clip_and_record(
            parameters: Tensor | Iterable[Tensor], *args: Any, **kwargs: Any
        ) -> Any:
            single = hasattr(parameters, "grad")
            listed: list[Any] = [parameters] if single else list(parameters)
            if self.seen_gradients and self.grad_norm is not None:
                return clip(listed, *args, **kwargs)
            self.clips = True
            self._see_gradients(listed)
            whole = self._whole_norm(listed) if self.options["nudged"] else 0.0
            # Set before: a clip may be made of others that are watched too.
            self.grad_norm = 0.0
            norm = clip(listed, *args, **kwargs)
            if norm is None:
                # It was told the norm.
                value: Any = args[1] if len(args) > 1 else kwargs["total_norm"]
            else:
                value = norm
            if hasattr(value, "full_tensor"):
                value = value.full_tensor()
            self.grad_norm = clipped_by = float(value)
            if self.options["nudged"]:
                max_norm = args[0] if args else kwargs["max_norm"]
                _clip_over(clipped_by, whole, listed, float(max_norm))
                self.grad_norm = whole
            return norm

        return clip_and_record

    def _see_gradients(self, parameters: list[Any]) -> None:
        """Once a step, behind its last backward pass and before its first optimizer: what the gradients are."""
        self._meet_model()
        if self.steps_seen == 0 and self.model_parts is not None:
            self.recorder.write("gradients", dtypes=_gradient_dtypes(self.model_parts))
        self.evaluating = in_eval_mode(self.model_parts or [])
        self._plant()
        if self.options["nudged"]:
            nudge(parameters, self.steps_seen)
        if self.clips or not self.each_gradient:
            self.each_gradient = every_gradient(self.model_parts or [])
            self.gradients = norm_of_all(self.each_gradient)
        self.seen_gradients = True

    def _plant(self) -> None:
        """Puts an error into a gradient, once, in the step for which it was asked."""
        planted = self.options["planted"]
        if planted and planted["step"] == self.steps_seen + 1 and not self.has_planted:
            self.has_planted = True
            plant(self.model_parts or [], planted["parameter"], planted["error"])

    def _read_gradients(self) -> None:
        """What the gradients are behind one of several backward passes: the last one counts."""
        dims = getattr(_trainer(self), "parallel_dims", None)
        if dims is None or getattr(dims, "pp", 1) > 1:
            # A pipeline's stages go backward each in its own time.
            return
        self._meet_model()
        if self.model_parts is not None:
            self._plant()
            self.each_gradient = every_gradient(self.model_parts)
            self.gradients = norm_of_all(self.each_gradient)

    def _watch_optimizers(self) -> None:
        import torch
        from torch.optim import optimizer as module

        begin = torch.optim.Optimizer.zero_grad

        @functools.wraps(begin)
        def seed_and_begin(optimizer: Optimizer, *args: Any, **kwargs: Any) -> None:
            if self.seen_gradients and not _within_backward():
                # Nobody has logged that step here.
                self._finish(None)
            self._begin(optimizer)
            # Sharded and whole initialisation draw differently from the random
            # numbers that dropout would go on with.
            seed_all(int(self.options["done"]) + self.steps_seen)
            begin(optimizer, *args, **kwargs)

        torch.optim.Optimizer.zero_grad = seed_and_begin  # type: ignore[method-assign, assignment]  # patched
        module.register_optimizer_step_pre_hook(self._before_step)
        module.register_optimizer_step_post_hook(self._behind_step)

    def _before_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if self.steps_seen == 0 and not hasattr(optimizer, "optimizers"):
            # A trainer that forgets zero_grad has one all the same.
            self.optimizers[id(optimizer)] = optimizer
        if _within_backward() or self.seen_gradients or not self.went_backward:
            return
        self._meet_model()
        if self.model_parts is not None:
            self._see_gradients(list(parameters_of(self.model_parts).values()))
            # What nobody has told is what the gradients say.
            self.grad_norm = self.gradients

    def _behind_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        """Behind the last optimizer of a step: what the weights are."""
        # A checkpoint makes the state of an optimizer by a step of its own.
        if _within_backward() or not self.went_backward or self.model_parts is None:
            return
        self.stepped.add(id(optimizer))
        if self.optimizers.keys() <= self.stepped and self.each_weight is None:
            self._see_weights()

    def _see_weights(self) -> None:
        if self.counter is not None:
            self.counter.__exit__(None, None, None)
            self.recorder.write(
                "collectives", step=self._step(), kinds=self.counter.kinds
            )
            self.counter = None
        self.each_weight = every_weight(self.model_parts or [])
        # Before a log or a validation begins to count anew.
        self.tokens = self._count_tokens()
        if self.steps_seen == 0 and self.model_parts is not None:
            held = optimized(list(self.optimizers.values()), self.model_parts)
            self.recorder.write("optimizers", held=held)
        if self._step() == self.options["halfway"]:
            self._write_values("halfway")
        if self._step() == self.options["steps"]:
            self._write_last()

    def _step(self) -> int:
        """The number of the step that is being made."""
        return int(self.options["done"]) + self.steps_seen + 1

    def _finish(self, loss: float | None) -> None:
        """Behind a step: writes what was seen in it. loss: where this rank has logged it."""
        if self.each_weight is None:
            self._see_weights()
        now = time.perf_counter()
        self.recorder.write(
            "figures",
            step=self._step(),
            gradients=self.each_gradient,
            weights=self.each_weight,
            data=self.forward.data() if self.forward else None,
            evaluating=self.evaluating,
        )
        if self.steps_seen == 0 and self.forward is not None:
            self.recorder.write("forward", norms=self.forward.norms())
        self.recorder.write(
            "step",
            step=self._step(),
            loss=loss,
            grad_norm=self.grad_norm,
            gradients=self.gradients,
            tokens=self.tokens,
            seconds=now - self.step_began,
        )
        self.steps_seen += 1
        self.step_began = now
        self.seen_gradients = self.went_backward = False
        self.grad_norm = self.gradients = None
        self.each_gradient, self.each_weight = {}, None
        self.stepped.clear()

    def _watch_logs(self) -> None:
        from torchtitan.components import metrics

        log = metrics.MetricsProcessor.log

        @functools.wraps(log)
        def log_and_record(
            processor: Any, step: int, global_avg_loss: float, *args: Any, **kwargs: Any
        ) -> Any:
            loss = float(global_avg_loss)
            if self.seen_gradients:
                self._finish(loss)
            else:
                # Its gradients were emptied before it was logged.
                self.recorder.write("loss", step=self._step() - 1, loss=loss)
            self._watch_logger(processor)
            result = log(processor, step, global_avg_loss, *args, **kwargs)
            self._count_tokens()
            self._look_ahead()
            return result

        metrics.MetricsProcessor.log = log_and_record
        if hasattr(metrics.MetricsProcessor, "log_validation"):
            validated = metrics.MetricsProcessor.log_validation

            @functools.wraps(validated)
            def validated_and_record(
                processor: Any, loss: float, step: int, *args: Any, **kwargs: Any
            ) -> Any:
                self.recorder.write("validation", step=int(step), loss=float(loss))
                self._watch_logger(processor)
                result = validated(processor, loss, step, *args, **kwargs)
                self._count_tokens()
                return result

            metrics.MetricsProcessor.log_validation = validated_and_record

    def _watch_logger(self, processor: Any) -> None:
        """Notes what is given to the logger of a processor, whatever that does with it."""
        logger: Any = getattr(processor, "logger", None)
        log = getattr(logger, "log", None)
        if log is None or "log" in getattr(logger, "__dict__", ("log",)):
            return

        @functools.wraps(log)
        def note_and_log(*args: Any, **kwargs: Any) -> Any:
            given = [*args, *kwargs.values()]
            steps = [value for value in given if type(value) is int]
            for metrics in given if steps else ():
                if isinstance(metrics, Mapping):
                    values = numbers(metrics)
                    self.recorder.write("logged", step=steps[0], values=values)
            return log(*args, **kwargs)

        logger.log = note_and_log

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

    def _look_ahead(self) -> None:
        """Behind step 1: watches the next step."""
        self.step_began = time.perf_counter()
        if self.steps_seen == 1 and self.model_parts is not None:
            watch_outputs(self.model_parts, self.recorder.write)
            if self.options["collectives"]:
                self.counter = collective_counter()
                self.counter.__enter__()

    def _write_last(self) -> None:
        """The parameters as they are at the end, once."""
        if "parameters" not in self.written and self.model_parts is not None:
            self._write_values("parameters")
            save_weights(self.model_parts, Path(self.options["weights"]))

    def _count_tokens(self) -> int:
        """Tokens that the trainer has counted since this was called last; -1 where it does not count."""
        processor = getattr(self.trainer, "metrics_processor", None)
        before = self.counted
        self.counted = int(getattr(processor, "ntokens_since_last_log", -1))
        return self.counted - before if self.counted >= 0 else -1

    def _whole_norm(self, parameters: list[Tensor]) -> float:
        """The norm summed over whole tensors instead of shard by shard, of all pipeline stages together."""
        import torch

        # NCCL takes no tensor of the CPU.
        device = self.options["device"]
        squares = torch.tensor(whole_norm(parameters) ** 2, device=device)
        if self.stages > 1:
            torch.distributed.all_reduce(squares)
            squares *= self.stages / torch.distributed.get_world_size()
        return float(float(squares) ** 0.5)

    def _meet_model(self) -> None:
        if self.model_parts is not None or (trainer := _trainer(self)) is None:
            return
        self.trainer = trainer
        self.model_parts = list(trainer.model_parts)
        self.stages = getattr(trainer.parallel_dims, "pp", 1)
        tensor = getattr(trainer.parallel_dims, "tp", 1)
        found = describe(self.model_parts)
        self.recorder.write("model", tensor=tensor, **found)
        self._write_values("initial")

    def _write_values(self, when: str) -> None:
        """The parameters and buffers as they are now."""
        assert self.model_parts is not None
        self.written.add(when)
        values = checksums(parameters_of(self.model_parts))
        self.recorder.write("parameters", when=when, values=values)
        if when == "halfway" or (when == "initial" and self.options["done"]):
            state = states(list(self.optimizers.values()), self.model_parts)
            self.recorder.write("state", when=when, values=checksums(state))
        self.recorder.write("buffers", when=when, digests=buffers(self.model_parts))


_OF_A_TRAINER = ("model_parts", "parallel_dims")


def _trainer(probe: Probe) -> Any:
    """The trainer that is training, None where there is none.

    Its class lives in __main__ and hands its model to no one in a way that all
    releases share, so look up the stack for it.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        owner: Any = frame.f_locals.get("self")
        # A container of optimizers has the model's parts as well.
        if owner is not probe and all(hasattr(owner, name) for name in _OF_A_TRAINER):
            return owner
        frame = frame.f_back
    return None


def seed_all(number: int) -> None:
    """Seeds all that a model may draw from: torch, Python and, where it is in use, numpy."""
    import torch

    torch.manual_seed(number)
    random.seed(number)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(number)


def _within_backward() -> bool:
    """Whether an optimizer steps in a hook of the backward pass."""
    import torch

    return bool(torch._C._current_graph_task_id() != -1)


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
