"""One step on fake tensors: what it would communicate, and what it would hold in memory."""

from __future__ import annotations

from typing import Any

from in_rank.measure import collective_counter

from .build import Made
from .read import parameter_groups


def count(made: Made) -> dict[str, Any]:
    """What a step of this rank costs, or why it cannot be followed.

    collectives   kind -> [calls, bytes], bytes of whole buffers
    memory        bytes of parameters, gradients, AdamW's two moments, and of the copies that are
                  unsharded or cast at one time; activations are not in it
    problem       what a forward or backward pass on fake tensors ended with
    """
    found: dict[str, Any] = {"memory": _memory(made)}
    try:
        found["collectives"] = _collectives(made)
    except (
        Exception
    ) as error:  # routing that depends on data, a mask that is made of it
        found["problem"] = f"{type(error).__name__}: {str(error).splitlines()[0][:200]}"
    return found


def _collectives(made: Made) -> dict[str, list[int]]:
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode

    (model,) = made.parts
    training = made.known["training"]
    # DTensor has to find its sharding strategies outside of the fake mode.
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu")
        shape = (training.local_batch_size, training.seq_len)
        tokens = torch.zeros(shape, dtype=torch.long)
        with collective_counter() as counter:
            logits = model(tokens)
            logits.float().sum().backward()
    kinds: dict[str, list[int]] = counter.kinds
    return kinds


def _memory(made: Made) -> dict[str, int]:
    import torch

    own = sum(
        _local(p).numel() * p.element_size()
        for part in made.parts
        for p in part.parameters()
    )
    groups = []
    for group in _distinct_groups(made):
        dtype = group.mp_policy.param_dtype
        size = sum(
            one._orig_size.numel() * (dtype or one.orig_dtype or torch.float32).itemsize
            for one in group.fsdp_params
        )
        kept = group.post_forward_mesh_info is None
        # A replica in its own dtype is its own unsharded copy.
        copies = dtype is not None or group.mesh_info.mesh.ndim > 1 or not kept
        groups.append((size if copies else 0, kept))
    kept_bytes = sum(size for size, kept in groups if kept)
    # The group that computes, and the next one.
    passing = sorted((size for size, kept in groups if not kept), reverse=True)[:2]
    return {
        "parameters": own,
        "gradients": own,
        "optimizer": 2 * own,
        "unsharded": kept_bytes + sum(passing),
    }


def _distinct_groups(made: Made) -> list[Any]:
    """Parameter groups, each once: several modules may form one."""
    states = {
        id(state): state
        for part in made.parts
        for module in part.modules()
        if (state := _state(module)) is not None
    }
    return [group for state in states.values() for group in parameter_groups(state)]


def _state(module: Any) -> Any:
    classes = [cls.__name__ for cls in type(module).__mro__]
    return module._get_fsdp_state() if "FSDPModule" in classes else None


def _local(parameter: Any) -> Any:
    return getattr(parameter, "_local_tensor", parameter)
