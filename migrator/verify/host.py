"""Runs torchtitan's trainer, unmodified, inside one rank, and records what it does.

    torchrun ... host.py TREE TRACE_DIR STEPS -- <arguments of torchtitan.train>

TREE is the folder that holds the `torchtitan` package, TRACE_DIR receives
`rank<N>.jsonl` (one event a line, see `trace.py`) and `rank<N>.log` (all that
the rank prints), STEPS is the number of the last step.

This file is the only part of titan-migrate that imports torch, and it imports
nothing else of titan-migrate: it has to run in whatever environment a fork
trains in. Nothing is parsed from logs: figures are taken, at full precision,
from the calls that every release from 0.1.0 to 0.2.2 makes once a step,
`dist_utils.clip_grad_norm_` and `MetricsProcessor.log`.
"""

from __future__ import annotations

import collections
import functools
import hashlib
import json
import os
import runpy
import sys
import threading
import time
import traceback
from pathlib import Path


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


# --- preparing a process in which torchtitan trains on a CPU ---------------


def prepare_cpu() -> None:
    """Gives torch what torchtitan asks of an accelerator, before torchtitan is imported."""
    import torch
    import torch.distributed

    torch._utils._get_available_device_type = lambda: "cpu"

    properties = collections.namedtuple("properties", "name total_memory")(
        "CPU", 1 << 34
    )
    missing = {
        "get_device_name": lambda *_: "CPU",
        "get_device_properties": lambda *_: properties,
        "get_device_capability": lambda *_: (0, 0),
        "memory_stats": lambda *_: collections.defaultdict(int),
        "reset_peak_memory_stats": lambda *_: None,
        "empty_cache": lambda: None,
        "set_device": lambda *_: None,
        "current_device": lambda: "cpu",
        "synchronize": lambda *_: None,
    }
    for name, function in missing.items():
        if not hasattr(torch.cpu, name):
            setattr(torch.cpu, name, function)

    barrier = torch.distributed.barrier

    @functools.wraps(barrier)
    def barrier_without_devices(*args, device_ids=None, **kwargs):
        return barrier(*args, **kwargs)

    torch.distributed.barrier = barrier_without_devices

    # Counting the tokens of MoE experts: histc has no integer kernel on CPU.
    histc = torch.histc

    @functools.wraps(histc)
    def histc_through_float(values, *args, **kwargs):
        if values.is_floating_point() or values.device.type != "cpu":
            return histc(values, *args, **kwargs)
        return histc(values.float(), *args, **kwargs).to(values.dtype)

    torch.histc = histc_through_float
    _replace_premul_sum()


def _replace_premul_sum() -> None:
    """Does with a division and a sum what NCCL does with PREMUL_SUM, which gloo lacks.

    FSDP asks for PREMUL_SUM(1 / factor) when a gradient divide factor is set.
    Forcing sum reductions is no way out: replicate then applies a factor
    other than 1 twice (torch 2.10 on).
    """
    import torch
    from torch.distributed.fsdp._fully_shard import _fsdp_collectives

    original = _fsdp_collectives._get_gradient_divide_factors
    plain_sum = torch.distributed.ReduceOp.SUM
    # From 2.10 on foreach_reduce divides by the factor itself where nothing is scattered.
    divides_itself = tuple(int(part) for part in torch.__version__.split(".")[:2]) >= (
        2,
        10,
    )

    @functools.wraps(original)
    def divide_factors(
        scatter_group,
        reduce_group,
        reduce_dtype,
        device_type="",
        factor=None,
        force_sum=False,
    ):
        risky = reduce_dtype not in (torch.float32, torch.bfloat16)
        if device_type != "cpu" or factor is None or force_sum or risky:
            return original(
                scatter_group,
                reduce_group,
                reduce_dtype,
                device_type,
                factor,
                force_sum,
            )
        scatters = scatter_group is not None and scatter_group.size() > 1
        divide = factor != 1 and (scatters or not divides_itself)
        return (factor if divide else None), None, plain_sum, plain_sum

    _fsdp_collectives._get_gradient_divide_factors = divide_factors


# --- recording ---------------------------------------------------------------


class Probe:
    """Wraps the two calls that torchtitan makes once a step and writes what passes through them."""

    def __init__(self, recorder: Recorder, last_step: int) -> None:
        self.recorder = recorder
        self.last_step = last_step
        self.grad_norm: float | None = None
        self.gradients: float | None = None
        self.model_parts: list | None = None
        self.step_began = time.perf_counter()

    def install(self) -> None:
        from torchtitan.components import metrics
        from torchtitan.distributed import utils as dist_utils

        clip = dist_utils.clip_grad_norm_
        log = metrics.MetricsProcessor.log

        @functools.wraps(clip)
        def clip_and_record(parameters, *args, **kwargs):
            parameters = list(parameters)
            if self.model_parts is None:
                self._meet_model()
            self.gradients = gradient_norm(parameters)
            norm = clip(parameters, *args, **kwargs)
            value = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
            self.grad_norm = float(value)
            return norm

        @functools.wraps(log)
        def log_and_record(processor, step, global_avg_loss, *args, **kwargs):
            now = time.perf_counter()
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
            if step == self.last_step and self.model_parts is not None:
                self.recorder.write(
                    "parameters", step=int(step), values=checksums(self.model_parts)
                )
            self.step_began = time.perf_counter()
            return result

        dist_utils.clip_grad_norm_ = clip_and_record
        metrics.MetricsProcessor.log = log_and_record

    def _meet_model(self) -> None:
        # The trainer class lives in __main__ and hands its model to no one in
        # a way that all releases share, so look up the stack for the trainer.
        frame = sys._getframe(1)
        while frame is not None:
            owner = frame.f_locals.get("self")
            if owner is not self and hasattr(owner, "model_parts"):
                self.model_parts = list(owner.model_parts)
                self.recorder.write("model", **describe(self.model_parts))
                self.recorder.write(
                    "parameters", step=0, values=checksums(self.model_parts)
                )
                return
            frame = frame.f_back


def plain_name(name: str) -> str:
    """A parameter's or module's name without what activation checkpointing and torch.compile put into it."""
    parts = [
        p
        for p in name.split(".")
        if p not in ("_checkpoint_wrapped_module", "_orig_mod")
    ]
    return ".".join(parts)


def describe(model_parts: list) -> dict:
    """What wraps the model, and where and in which dtype each parameter lives."""
    from torch.distributed.tensor import DTensor

    policies: dict[str, dict[str, str]] = {}
    wrapped: dict[str, list[str]] = {}
    parameters: dict[str, dict] = {}
    for part in model_parts:
        for name, module in part.named_modules():
            classes = [cls.__name__ for cls in type(module).__mro__]
            kinds = [
                k
                for k in (
                    "ReplicateModule",
                    "FSDPModule",
                    "DDP",
                    "DistributedDataParallel",
                )
                if k in classes
            ]
            if kinds:
                wrapped[plain_name(name)] = kinds
            if "FSDPModule" in kinds:
                policies[plain_name(name)] = mixed_precision(module)
        for name, parameter in part.named_parameters():
            entry = {
                "shape": list(parameter.shape),
                "dtype": str(parameter.dtype).removeprefix("torch."),
            }
            if isinstance(parameter, DTensor):
                entry["placements"] = [
                    str(placement) for placement in parameter.placements
                ]
                entry["mesh"] = list(parameter.device_mesh.shape)
                entry["mesh_dims"] = list(parameter.device_mesh.mesh_dim_names or ())
            parameters[plain_name(name)] = entry
    root = [cls.__name__ for cls in type(model_parts[0]).__mro__]
    return {
        "root": root,
        "wrapped": wrapped,
        "parameters": parameters,
        "policies": policies,
        "autocast": autocast_entered,
    }


def mixed_precision(module) -> dict[str, str]:
    """The mixed-precision policy that a module was wrapped with, by field."""
    policy = getattr(module._get_fsdp_state(), "_mp_policy", None)
    fields = ("param_dtype", "reduce_dtype", "output_dtype", "cast_forward_inputs")
    return {field: str(getattr(policy, field, "unknown")) for field in fields}


autocast_entered = False


def watch_autocast() -> None:
    """Notes whether the trainer ever runs under autocast."""
    import torch

    enter = torch.autocast.__enter__

    @functools.wraps(enter)
    def enter_and_note(self):
        global autocast_entered
        autocast_entered = autocast_entered or bool(getattr(self, "_enabled", True))
        return enter(self)

    torch.autocast.__enter__ = enter_and_note


def gradient_norm(parameters: list) -> float:
    """Norm of all gradients, gathered in full and summed in float64; a collective call.

    The norm that torchtitan prints is summed in float32 over tensors of
    different sizes (whole under replicate, shards under FSDP) and is only
    good to four digits; this one does not depend on how a tensor is cut.
    """
    import torch
    from torch.distributed.tensor import DTensor

    squares = 0.0
    with torch.no_grad():
        for parameter in parameters:
            gradient = parameter.grad
            if gradient is None:
                continue
            if isinstance(gradient, DTensor):
                gradient = gradient.full_tensor()
            squares += float(gradient.double().square().sum())
    return squares**0.5


def checksums(model_parts: list) -> dict:
    """Norm and sum (float64) and digest of every parameter, gathered in full; a collective call."""
    import torch
    from torch.distributed.tensor import DTensor

    values: dict[str, dict] = {}
    with torch.no_grad():
        for part in model_parts:
            for name, parameter in part.named_parameters():
                full = parameter.detach()
                if isinstance(full, DTensor):
                    full = full.full_tensor()
                full = full.cpu().contiguous()
                wide = full.double()
                raw = full.reshape(-1).view(torch.uint8).numpy().tobytes()
                values[plain_name(name)] = {
                    "norm": float(wide.norm()),
                    "sum": float(wide.sum()),
                    "digest": hashlib.sha256(raw).hexdigest(),
                }
    return values


# --- the process -------------------------------------------------------------


def end_with(*process_ids: int) -> None:
    """Ends this rank once torchrun or titan-migrate is gone.

    torchrun gives every rank a session of its own, so a signal to its process
    group does not reach the ranks if torchrun itself was killed.
    """

    def watch() -> None:
        while True:
            time.sleep(0.5)
            for process_id in process_ids:
                try:
                    os.kill(process_id, 0)
                except ProcessLookupError:
                    os._exit(1)
                except PermissionError:
                    pass
            if os.getppid() != process_ids[0]:
                os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(argv: list[str]) -> None:
    tree, trace_dir, steps, separator, *trainer_arguments = argv
    if separator != "--":
        raise SystemExit(f"usage: {__doc__.splitlines()[2].strip()}")
    rank = int(os.environ["RANK"])
    folder = Path(trace_dir)

    log = os.open(
        folder / f"rank{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644
    )
    os.dup2(log, 1)
    os.dup2(log, 2)
    end_with(os.getppid(), int(os.environ.get("TITAN_MIGRATE_PID", os.getppid())))

    # Python put this file's folder first, where `trace.py` would hide the
    # standard library's; the tree under test takes its place.
    sys.path[0] = tree
    # torchtitan's configuration reads the arguments when it is imported.
    sys.argv = ["torchtitan.train", *trainer_arguments]
    recorder = Recorder(folder, rank)
    try:
        import torch

        recorder.write(
            "start",
            rank=rank,
            pid=os.getpid(),
            python=sys.version.split()[0],
            torch=torch.__version__,
        )
        prepare_cpu()
        watch_autocast()
        import torchtitan

        found = Path(torchtitan.__file__).resolve().parent.parent
        if found != Path(tree).resolve():
            raise RuntimeError(
                f"torchtitan was imported from {found}, not from the tree under test, {tree}"
            )
        Probe(recorder, int(steps)).install()
        runpy.run_module("torchtitan.train", run_name="__main__", alter_sys=True)
    except BaseException as error:
        if isinstance(error, SystemExit) and not error.code:
            end(recorder)
        recorder.write(
            "error",
            type=type(error).__name__,
            message=str(error),
            traceback=traceback.format_exc(),
        )
        raise
    end(recorder)


def end(recorder: Recorder) -> None:
    """Leaves at once after a training that went well.

    gloo's threads sometimes abort the interpreter while it shuts down
    ("terminate called without an active exception"), after everything is done.
    """
    recorder.write("end")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])
