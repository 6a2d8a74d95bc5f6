"""Two numbers for every gradient and every weight, by which two runs are held against each other, one by one.

They are what they are of the whole tensor, however it is cut: a gradient of a shard on each
of two ranks is as good as one of both on each. Little is sent for it, and no counter of
collectives sees it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .measure import in_full, parameters_of

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

Figures = dict[str, list[float]]
"""Name of a parameter -> norm, and alternating sum, of a tensor of it, in float64.

The norm alone does not see a sign, nor what has changed places.
"""


def every_gradient(model_parts: list[nn.Module]) -> Figures:
    """Those of the gradients, where there are any; a collective call."""
    named = parameters_of(model_parts).items()
    return figures({name: p.grad for name, p in named if p.grad is not None})


def every_weight(model_parts: list[nn.Module]) -> Figures:
    """Those of the parameters; a collective call."""
    return figures(dict(parameters_of(model_parts)))


def norm_of_all(each: Figures) -> float:
    """The norm of all these tensors together.

    The norm that torchtitan prints is summed in float32 over tensors of
    different sizes (whole under replicate, shards under FSDP) and is only
    good to four digits; this one does not depend on how a tensor is cut.
    """
    return float(sum(norm * norm for norm, _ in each.values()) ** 0.5)


def figures(tensors: dict[str, Tensor]) -> Figures:
    """Those of some tensors; a collective call where one is distributed."""
    import torch
    import torch.distributed as dist
    from torch.distributed.tensor import DTensor
    from torch.utils._python_dispatch import _disable_current_modes

    sums: dict[str, list[float]] = {}
    shared: dict[tuple[DeviceMesh, int], list[str]] = {}
    with _disable_current_modes(), torch.no_grad():
        for name, tensor in tensors.items():
            dim = _rows_over(tensor) if isinstance(tensor, DTensor) else None
            if isinstance(tensor, DTensor) and dim is not None:
                sums[name] = _sums(tensor.to_local(), _first(tensor, dim))
                shared.setdefault((tensor.device_mesh, dim), []).append(name)
            else:
                sums[name] = _sums(in_full(tensor))
        for (mesh, dim), names in shared.items():
            total = torch.tensor(
                [sums[name] for name in names],
                dtype=torch.float64,
                device=mesh.device_type,
            )
            dist.all_reduce(total, group=mesh.get_group(dim))
            sums |= zip(names, total.tolist(), strict=True)
    return {name: [squares**0.5, other] for name, (squares, other) in sums.items()}


def _sums(tensor: Tensor, first: int = 0) -> list[float]:
    """Sum of squares, and sum with every other element taken off, of elements that begin with that of number `first`."""
    wide = tensor.double().reshape(-1)
    alternating = wide[::2].sum() - wide[1::2].sum()
    sign = -1 if first % 2 else 1
    return [float(wide.square().sum()), sign * float(alternating)]


def _rows_over(tensor: DTensor) -> int | None:
    """The mesh dimension over which the rows of a tensor are dealt out, where that is all that is done to it."""
    from torch.distributed.tensor import Replicate, Shard

    cut = [n for n, p in enumerate(tensor.placements) if p != Replicate()]
    # Not a subclass, which may deal rows out in another order.
    whole = len(cut) == 1 and type(tensor.placements[cut[0]]) is Shard
    return cut[0] if whole and tensor.placements[cut[0]] == Shard(0) else None


def _first(tensor: DTensor, dim: int) -> int:
    """The number, in the whole tensor, of this rank's first element: rows are cut as `torch.chunk` does."""
    mesh, rows = tensor.device_mesh, tensor.shape[0]
    mine = -(-rows // mesh.size(dim)) * mesh.get_local_rank(dim)
    return mine * tensor.shape[1:].numel()
