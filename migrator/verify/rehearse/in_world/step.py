"""One step on fake tensors: what it would communicate, and what it would hold in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from in_rank.measure import collective_counter

from .build import Made
from .read import parameter_groups

if TYPE_CHECKING:
    from torch import Tensor, nn

Collective = tuple[str, str, str]
"""Its kind, the mesh dimension that it goes over, the dtype that it carries."""


def count(made: Made) -> dict[str, Any]:
    """What a step of this rank costs, or why it cannot be followed.

    collectives   a list of {kind, over, dtype, calls, bytes}, bytes of whole buffers; `over` is a
                  mesh dimension. Of a pipeline, all its microbatches.
    memory        bytes of parameters, gradients, AdamW's two moments, and of the copies that are
                  unsharded or cast at one time; activations are not in it
    problem       what a forward or backward pass on fake tensors ended with
    """
    found: dict[str, Any] = {"memory": _memory(made)}
    try:
        kinds = _collectives(made)
    except (
        Exception
    ) as error:  # routing that depends on data, a mask that is made of it
        said = str(error).strip().partition("\n")[0][:200]
        found["problem"] = f"{type(error).__name__}: {said}".rstrip(": ")
    else:
        found["collectives"] = [
            dict(zip(("kind", "over", "dtype", "calls", "bytes"), (*key, *numbers)))
            for key, numbers in kinds.items()
        ]
    return found


def _collectives(made: Made) -> dict[Collective, list[int]]:
    from torch._subclasses.fake_tensor import FakeTensorMode

    total: dict[Collective, list[int]] = {}
    key = _key(made)
    # DTensor has to find its sharding strategies outside of the fake mode.
    with FakeTensorMode(allow_non_fake_inputs=True):
        for part in made.parts:
            part.to_empty(device="cpu")
        for number, (first, last) in enumerate(_ends(made)):
            inputs = _inputs(made, tokens=first)
            for times, final in _microbatches(made):
                with collective_counter(key) as counter:
                    if _pipelined(made):
                        outputs = _staged(made.parts[number], inputs, final)
                    else:
                        outputs = _pass(made.parts[number], inputs)
                beside = [] if first else [inputs]
                beside += [] if last else [outputs]
                _hand_on(beside, counter.kinds)
                for one, (calls, size) in counter.kinds.items():
                    numbers = total.setdefault(one, [0, 0])
                    numbers[0] += times * calls
                    numbers[1] += times * size
    return total


def _ends(made: Made) -> Iterator[tuple[bool, bool]]:
    """Of each part, whether it is the first and whether it is the last of the whole model."""
    last = len(made.parts) - 1
    for number in range(len(made.parts)):
        yield made.ends[0] and number == 0, made.ends[1] and number == last


def _pipelined(made: Made) -> bool:
    return made.ends != (True, True) or len(made.parts) > 1


def _microbatches(made: Made) -> list[tuple[int, bool]]:
    """(how many are alike, whether they are the last): gradients are reduced after the last one."""
    if not _pipelined(made):
        return [(1, True)]
    several = made.known["training"].local_batch_size // _size(made)
    # The first one gathers what those in the middle find gathered.
    before = [(1, False), (several - 2, False)] if several > 2 else [(1, False)]
    return [*before, (1, True)] if several > 1 else [(1, True)]


def _size(made: Made) -> int:
    """Samples in a microbatch; without a pipeline, all of a rank's."""
    if not _pipelined(made):
        return int(made.known["training"].local_batch_size)
    settings = made.known["parallelism"]
    return int(getattr(settings, "pipeline_parallel_microbatch_size", 1))


def _inputs(made: Made, *, tokens: bool) -> Tensor:
    import torch

    length = made.known["training"].seq_len
    if tokens:
        return torch.zeros((_size(made), length), dtype=torch.long)
    # Between the blocks of tensor parallelism, sequences are cut.
    length //= getattr(made.known["parallel_dims"], "tp", 1)
    shape = (_size(made), length, made.known["model_args"].dim)
    dtype = getattr(torch, made.known["mixed_precision_param"] or "float32")
    return torch.zeros(shape, dtype=dtype, requires_grad=True)


def _pass(part: nn.Module, inputs: Tensor) -> Tensor:
    """Forward and backward pass; returns the output."""
    outputs: Any = part(inputs)
    outputs.float().sum().backward()
    result: Tensor = outputs
    return result


def _staged(part: nn.Module, inputs: Tensor, final: bool) -> Tensor:
    """The same for one microbatch. Gradients are reduced after the last one, as torch does it in a pipeline."""
    from torch.distributed.pipelining import stage

    reduce = getattr(stage._PipelineStageBase, "perform_reduce_grad", None)
    # An older torch reduces within the last backward pass.
    within = final and reduce is None
    wrapped: Any = part
    if _state(part) is not None:
        wrapped.set_is_last_backward(within)
        wrapped.set_reshard_after_backward(within)
        wrapped.set_requires_gradient_sync(within)
    outputs = _pass(part, inputs)
    if final and reduce is not None:
        reduce(SimpleNamespace(submod=part), 1)
    return outputs


def _hand_on(tensors: list[Tensor], kinds: dict[Collective, list[int]]) -> None:
    """Counts what passes between this stage and those beside: tensors one way, their gradients the other."""
    for tensor in tensors:
        local = _local(tensor)
        for kind in ("send", "receive"):
            one = (kind, "pp", str(local.dtype).removeprefix("torch."))
            numbers = kinds.setdefault(one, [0, 0])
            numbers[0] += 1
            numbers[1] += local.numel() * local.element_size()


def _key(made: Made) -> Callable[[str, tuple[Any, ...]], Collective]:
    """Tells collectives apart, by kind, mesh dimension and dtype."""
    from torch.utils._pytree import tree_leaves

    names = _dimensions(made)

    def key(kind: str, args: tuple[Any, ...]) -> Collective:
        leaves = tree_leaves(args)
        dtypes = Counter(
            str(leaf.dtype).removeprefix("torch.")
            for leaf in leaves
            if hasattr(leaf, "dtype")
        )
        dtype = dtypes.most_common(1)[0][0] if dtypes else "?"
        over = next((names[n] for leaf in leaves if (n := _group(leaf)) in names), "?")
        return kind, over, dtype

    return key


def _group(leaf: Any) -> str:
    """The name of a process group that is an argument: functional collectives are given the name itself."""
    if isinstance(leaf, str):
        return leaf
    import torch

    if not isinstance(leaf, torch.ScriptObject):
        return ""
    try:
        return str(torch.distributed.ProcessGroup.unbox(leaf).group_name)
    except (AttributeError, RuntimeError):  # a reduction, or a torch without it
        return ""


def _dimensions(made: Made) -> dict[str, str]:
    """The names of the process groups of all meshes -> of their mesh dimensions."""
    meshes = [made.known["world_mesh"]]
    for part in made.parts:
        meshes += [
            p.device_mesh for p in part.parameters() if hasattr(p, "device_mesh")
        ]
    for group in _distinct_groups(made):
        meshes.append(group.mesh_info.mesh)
    return {
        str(mesh.get_group(number).group_name): name
        for mesh in {id(mesh): mesh for mesh in meshes if mesh is not None}.values()
        for number, name in enumerate(mesh.mesh_dim_names or ())
    }


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
