"""Two numbers for every gradient and every weight, by which two runs are held against each other, one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .measure import plain_name

if TYPE_CHECKING:
    from torch import Tensor, nn

Figures = dict[str, list[float]]
"""Name of a parameter -> norm, and alternating sum, of a tensor of it, in float64."""


def every_gradient(model_parts: list[nn.Module]) -> Figures:
    """Those of the gradients, where there are any; a collective call."""
    return {
        plain_name(name): figures(parameter.grad)
        for part in model_parts
        for name, parameter in part.named_parameters()
        if parameter.grad is not None
    }


def every_weight(model_parts: list[nn.Module]) -> Figures:
    """Those of the parameters; a collective call."""
    return {
        plain_name(name): figures(parameter)
        for part in model_parts
        for name, parameter in part.named_parameters()
    }


def figures(tensor: Tensor) -> list[float]:
    """Norm, and sum with every other element taken off, of a tensor gathered in full.

    The norm alone does not see a sign, nor what has changed places.
    """
    import torch
    from torch.distributed.tensor import DTensor

    with torch.no_grad():
        full = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
        wide = full.detach().double().reshape(-1)
        alternating = wide[::2].sum() - wide[1::2].sum()
        return [float(wide.square().sum()) ** 0.5, float(alternating)]
