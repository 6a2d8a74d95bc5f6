"""Reads what came out of a plan: groups, parameters, ties, autocast, checkpointing, compile, optimizer. Nothing is run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from in_rank.measure import mixed_precision, plain_name

from .build import Made, call, ties

if TYPE_CHECKING:
    from torch import nn

_DDP = ("DDP", "DistributedDataParallel")


def record(made: Made) -> dict[str, Any]:
    """The record of a model that was made and wrapped, as plain values for JSON.

    groups      in the order of their first module: `modules` that form one, its `class`, `mesh`
                (names, sizes, ranks), `policy` by field, `divide` factor, whether a `sum` is
                forced, `reshard` after forward, the names of its `parameters`
    ddp         modules that DDP wraps
    parameters  by name: global `shape`, `dtype`, `trains`, and as a DTensor `placements`, `mesh`
    ties        names of parameters that are one, the one in `parameters` first
    built_ties  the same of the model before it was wrapped
    autocast    what `maybe_enable_amp` would enter, or null
    checkpointed, compiled    modules, by name
    optimizers  of each its `class`, and of each of its groups `settings` and names
    world_mesh  names and sizes of the dimensions of ParallelDims
    """
    return {
        "groups": [group for part in made.parts for group in _groups(part)],
        "ddp": [
            plain_name(name) for part in made.parts for name in _under(part, *_DDP)
        ],
        "parameters": {
            plain_name(name): _parameter(parameter)
            for part in made.parts
            for name, parameter in part.named_parameters()
        },
        "ties": [names for part in made.parts for names in ties(part)],
        "built_ties": made.ties,
        "autocast": _autocast(made),
        "checkpointed": [
            plain_name(name)
            for part in made.parts
            for name in _under(part, "CheckpointWrapper")
        ],
        "compiled": [
            plain_name(name)
            for part in made.parts
            for name, module in part.named_modules()
            if module._compiled_call_impl is not None
            or type(module).__name__ == "OptimizedModule"
        ],
        "optimizers": _optimizers(made),
        "world_mesh": _mesh(made.known["world_mesh"], ranks=False),
    }


def _under(part: nn.Module, *classes: str) -> list[str]:
    """Names of the modules that have one of these classes."""
    return [
        name
        for name, module in part.named_modules()
        if any(cls.__name__ in classes for cls in type(module).__mro__)
    ]


def _groups(part: nn.Module) -> list[dict[str, Any]]:
    """What is sharded or replicated together, in the order of `named_modules`."""
    names = {id(p): plain_name(name) for name, p in part.named_parameters()}
    found: dict[int, dict[str, Any]] = {}
    for name, module in part.named_modules():
        classes = [cls.__name__ for cls in type(module).__mro__]
        if "FSDPModule" not in classes:
            continue
        state: Any = module._get_fsdp_state()
        if id(state) in found:
            found[id(state)]["modules"].append(name)
            continue
        kind = "replicate" if "ReplicateModule" in classes else "fully_shard"
        found[id(state)] = {
            "modules": [name],
            "class": kind,
            "policy": mixed_precision(module),
            **_communication(state),
            "parameters": [
                names.get(id(one.sharded_param), "?")
                for group in parameter_groups(state)
                for one in group.fsdp_params
            ],
        }
    return list(found.values())


def parameter_groups(state: Any) -> list[Any]:
    """The parameter groups of a state: none where all parameters lie in groups below it, several from torch 2.12 on."""
    several = getattr(state, "_fsdp_param_groups", None)
    one = [state._fsdp_param_group] if several is None else several
    return [group for group in one if group is not None]


def _communication(state: Any) -> dict[str, Any]:
    groups = parameter_groups(state)
    if not groups:
        return {"mesh": None, "divide": None, "sum": False, "reshard": None}
    group = groups[0]
    after = group.post_forward_mesh_info
    return {
        "mesh": _mesh(group.mesh_info.mesh, ranks=True),
        "divide": group.gradient_divide_factor,
        "sum": bool(getattr(group, "force_sum_reduction_for_comms", False)),
        "reshard": after is not None and int(after.mesh.size()),
    }


def _mesh(mesh: Any, *, ranks: bool) -> dict[str, Any] | None:
    if mesh is None:
        return None
    found = {"names": list(mesh.mesh_dim_names or ()), "sizes": list(mesh.shape)}
    return found | ({"ranks": mesh.mesh.flatten().tolist()} if ranks else {})


def _parameter(parameter: Any) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "shape": list(parameter.shape),
        "dtype": str(parameter.dtype).removeprefix("torch."),
        "trains": parameter.requires_grad,
    }
    if hasattr(parameter, "device_mesh"):
        entry["placements"] = [str(placement) for placement in parameter.placements]
        entry["mesh"] = _mesh(parameter.device_mesh, ranks=False)
    return entry


def _autocast(made: Made) -> dict[str, Any] | None:
    """What the trainer would compute under, None where nothing or where there is no maybe_enable_amp.

    Nor is it asked where the torchtitan is not the tree's own, which may ask it otherwise.
    """
    import torchtitan
    from torchtitan.distributed import utils

    if (
        torchtitan.__file__
        and Path(torchtitan.__file__).with_name(".grafted").is_file()
    ):
        return None
    enable = getattr(utils, "maybe_enable_amp", None)
    context: Any = call(enable, made.known) if enable else None
    if not hasattr(context, "fast_dtype"):
        return None
    dtype = str(context.fast_dtype).removeprefix("torch.")
    return {"dtype": dtype, "enabled": bool(context._enabled)}


def _optimizers(made: Made) -> list[dict[str, Any]]:
    """The optimizers that the checkout builds, and which parameters each of their groups holds; none where its trainer does that by itself."""
    build = getattr(made.spec, "build_optimizers_fn", None)
    if build is None:
        return []
    settings: Any = made.known.get("optimizer")
    if hasattr(settings, "implementation"):
        # fused wants a device that computes.
        settings.implementation = "for-loop"
    known = {**made.known, "model_parts": made.parts, "optimizer_config": settings}
    container = call(build, known)
    names = {
        id(parameter): plain_name(name)
        for part in made.parts
        for name, parameter in part.named_parameters()
    }
    return [
        {
            "class": type(optimizer).__name__,
            "groups": [
                {
                    "settings": {
                        key: value
                        for key, value in group.items()
                        if isinstance(value, (bool, int, float, str))
                    },
                    "parameters": sorted(
                        names.get(id(p), "?") for p in group["params"]
                    ),
                }
                for group in optimizer.param_groups
            ],
        }
        for optimizer in getattr(container, "optimizers", [container])
    ]
