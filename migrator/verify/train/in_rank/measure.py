"""What is measured of a model in training. Names of parameters and modules are without wrappers'."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer
    from torch.utils.hooks import RemovableHandle


# Names of classes, as a torch may lack some of them.
_WRAPPERS: tuple[str, ...] = (
    "ReplicateModule",
    "FSDPModule",
    "DDP",
    "DistributedDataParallel",
)


def plain_name(name: str) -> str:
    """A parameter's or module's name without what activation checkpointing and torch.compile put into it."""
    parts = [
        p
        for p in name.split(".")
        if p not in ("_checkpoint_wrapped_module", "_orig_mod")
    ]
    return ".".join(parts)


def parameters_of(model_parts: list[nn.Module]) -> dict[str, nn.Parameter]:
    """Every parameter by its plain name."""
    return {
        plain_name(name): parameter
        for part in model_parts
        for name, parameter in part.named_parameters()
    }


def in_full(tensor: Tensor) -> Tensor:
    """A tensor's values on all ranks, detached; a collective call where it is distributed."""
    from torch.distributed.tensor import DTensor

    tensor = tensor.detach()
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def describe(model_parts: list[nn.Module]) -> dict[str, Any]:
    """What wraps the model, and where and in which dtype each parameter lives."""
    from torch.distributed.tensor import DTensor

    policies: dict[str, dict[str, str]] = {}
    checkpointed: dict[str, str] = {}
    compiled: dict[str, str] = {}
    wrapped: dict[str, list[str]] = {}
    parameters: dict[str, dict[str, Any]] = {}
    for part in model_parts:
        for name, module in part.named_modules():
            classes = [cls.__name__ for cls in type(module).__mro__]
            kinds = [kind for kind in _WRAPPERS if kind in classes]
            if kinds:
                wrapped[plain_name(name)] = kinds
            if "CheckpointWrapper" in classes:
                at = "the whole group" if kinds else "within a group"
                checkpointed[plain_name(name)] = at
            if getattr(module, "_compiled_call_impl", None) or (
                "OptimizedModule" in classes
            ):
                compiled[plain_name(name)] = "compiled"
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
        "checkpointed": checkpointed,
        "compiled": compiled,
        "autocast": autocast_entered,
    }


def in_eval_mode(model_parts: list[nn.Module]) -> list[str]:
    """The modules that are not in training mode."""
    return [
        plain_name(name)
        for part in model_parts
        for name, module in part.named_modules()
        if not module.training
    ]


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """What of a logger's metrics is a number, or a tensor of one."""
    import torch

    return {
        str(name): float(value)
        for name, value in metrics.items()
        if isinstance(value, int | float)
        or (type(value) is torch.Tensor and value.numel() == 1)
    }


def mixed_precision(module: Any) -> dict[str, str]:
    """The mixed-precision policy that a module was wrapped with, by field."""
    policy = getattr(module._get_fsdp_state(), "_mp_policy", None)
    fields = ("param_dtype", "reduce_dtype", "output_dtype", "cast_forward_inputs")
    return {field: str(getattr(policy, field, "unknown")) for field in fields}


autocast_entered = False


def watch_autocast() -> None:
    """Notes whether the trainer ever runs under an autocast that casts.

    One to float32 is on on GPUs, and disabled by torch on the CPU: it casts nothing on either.
    """
    import torch

    enter: Any = torch.autocast.__enter__

    @functools.wraps(enter)
    def enter_and_note(self: torch.autocast) -> Any:
        global autocast_entered
        casts = getattr(self, "fast_dtype", None) != torch.float32
        enabled = bool(getattr(self, "_enabled", True))
        autocast_entered = autocast_entered or (enabled and casts)
        return enter(self)

    torch.autocast.__enter__ = enter_and_note  # type: ignore[method-assign]  # patched


def nudge(parameters: list[Tensor], step: int) -> None:
    """Moves each element of each gradient up or down by one unit in its last place.

    What another order of additions would do to it, so that a run shows how much
    of a difference rounding alone makes. Replicas of one gradient move alike.
    """
    import torch

    generator = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for parameter in parameters:
            gradient = parameter.grad
            if gradient is None:
                continue
            local = getattr(gradient, "_local_tensor", gradient)
            signs = torch.randint(0, 2, local.shape, generator=generator) * 2 - 1
            step_size = torch.finfo(local.dtype).eps
            local.mul_(1 + step_size * signs.to(local.device, local.dtype))


def plant(model_parts: list[nn.Module], name: str, error: float) -> None:
    """Makes one gradient larger by `error`, in units of it; where a stage does not have it, none."""
    import torch

    parameter = parameters_of(model_parts).get(name)
    if parameter is not None and parameter.grad is not None:
        with torch.no_grad():
            parameter.grad.mul_(1 + error)


def watch_outputs(model_parts: list[nn.Module], write: Callable[..., None]) -> None:
    """Records the dtype of every block's output in the next forward, once."""
    found: dict[str, str] = {}
    handles: list[RemovableHandle] = []

    def watch(name: str) -> Callable[..., None]:
        def note(module: nn.Module, inputs: object, output: Any) -> None:
            first = output[0] if isinstance(output, (tuple, list)) else output
            if name not in found and hasattr(first, "dtype"):
                found[name] = str(first.dtype).removeprefix("torch.")
            if len(found) == len(handles):
                for handle in handles:
                    handle.remove()
                write("outputs", dtypes=found)

        return note

    for part in model_parts:
        layers = getattr(part, "layers", None)
        for name, block in getattr(layers, "named_children", lambda: ())():
            handles.append(block.register_forward_hook(watch(f"layers.{name}")))


_COLLECTIVES = {
    "allreduce": "all-reduce",
    "allgather": "all-gather",
    "reducescatter": "reduce-scatter",
    "alltoall": "all-to-all",
    "broadcast": "broadcast",
    "send": "send",
    "recv": "receive",
}


def collective_counter(
    key: Callable[[str, tuple[Any, ...]], Any] = lambda kind, args: kind,
) -> Any:
    """A dispatch mode whose `kinds` is {kind: [calls, bytes]}; bytes of the whole buffer, gathered or to be scattered.

    key: what is counted together, from the kind and the arguments of a call. torch's CommDebugMode counts the calls of DTensor; this one sees DDP's and
    FSDP's as well and how much they carry.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    def size(argument: object) -> int:
        tensors = (leaf for leaf in tree_leaves(argument) if torch.is_tensor(leaf))
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    class Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types for it
        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]  # torch has no types for it
            self.kinds: dict[Any, list[int]] = {}

        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            space, _, name = func._schema.name.partition("::")
            result = func(*args, **(kwargs or {}))
            if "c10d" in space:
                flat = name.replace("_", "")
                kind = next((k for n, k in _COLLECTIVES.items() if n in flat), None)
                if kind:
                    count = self.kinds.setdefault(key(kind, args), [0, 0])
                    count[0] += 1
                    # A functional collective returns its output, others are given it.
                    count[1] += max(size(part) for part in (*args, result))
            return result

    return Counter()


def save_weights(model_parts: list[nn.Module], folder: Path) -> None:
    """Writes the final parameters, gathered in full, once for each pipeline stage; a collective call."""
    import numpy
    import torch

    full: dict[str, Any] = {}
    for name, parameter in parameters_of(model_parts).items():
        tensor = in_full(parameter)
        # float32 holds bf16 and fp16 exactly.
        tensor = tensor if tensor.dtype == torch.float64 else tensor.float()
        full[name] = tensor.cpu().numpy()
    world, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    names: list[Any] = [None] * world
    torch.distributed.all_gather_object(names, sorted(full))
    if rank == names.index(names[rank]):
        folder.mkdir(parents=True, exist_ok=True)
        numpy.savez(folder / f"rank{rank}.npz", **full)


def peak_memory(device: str) -> int:
    """Peak memory of this rank in bytes: what the allocator held on a GPU, the resident set on a CPU."""
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    import resource

    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kib if sys.platform == "darwin" else kib * 1024


def whole_norm(parameters: list[Tensor]) -> float:
    """Norm of all gradients as torch sums it in their own dtype, but over tensors gathered in full; a collective call."""
    import torch

    gradients = [in_full(p.grad) for p in parameters if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(gradients))


def checksums(tensors: Mapping[str, Tensor]) -> dict[str, dict[str, float | str]]:
    """Norm and sum (float64) and digest of each tensor, gathered in full; a collective call."""
    import torch

    values: dict[str, dict[str, float | str]] = {}
    for name, tensor in tensors.items():
        full = in_full(tensor).cpu().contiguous()
        wide = full.double()
        raw = full.reshape(-1).view(torch.uint8).numpy().tobytes()
        values[name] = {
            "norm": float(wide.norm()),
            "sum": float(wide.sum()),
            "digest": hashlib.sha256(raw).hexdigest(),
        }
    return values


def buffers(model_parts: list[nn.Module]) -> dict[str, str]:
    """Dtype and digest of every buffer, of a distributed one of this rank's part."""
    import torch

    found: dict[str, str] = {}
    for part in model_parts:
        for name, buffer in part.named_buffers():
            local = getattr(buffer, "_local_tensor", buffer).detach().cpu().contiguous()
            raw = local.reshape(-1).view(torch.uint8).numpy().tobytes()
            dtype = str(local.dtype).removeprefix("torch.")
            found[plain_name(name)] = f"{dtype} {hashlib.sha256(raw).hexdigest()[:16]}"
    return found


def optimized(
    optimizers: list[Optimizer], model_parts: list[nn.Module]
) -> dict[str, dict[str, object]]:
    """Parameter -> what its optimizer's group says (learning rate, decay), for each that an optimizer steps."""
    names = {id(p): name for name, p in parameters_of(model_parts).items()}
    return {
        names[id(parameter)]: {
            key: value
            for key, value in group.items()
            if isinstance(value, int | float | tuple | list) and key != "params"
        }
        for optimizer in optimizers
        for group in optimizer.param_groups
        for parameter in group["params"]
        if id(parameter) in names
    }


def states(
    optimizers: list[Optimizer], model_parts: list[nn.Module]
) -> dict[str, Tensor]:
    """What the optimizers keep of each parameter: "KEY of NAME" -> tensor."""
    import torch

    return {
        f"{key} of {name}": torch.as_tensor(value)
        for name, parameter in parameters_of(model_parts).items()
        for optimizer in optimizers
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, int | float | torch.Tensor)
    }
