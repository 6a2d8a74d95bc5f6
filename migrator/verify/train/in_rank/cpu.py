"""What torch lacks for torchtitan to train on a CPU."""

from __future__ import annotations

import collections
import functools
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn


def prepare_cpu() -> None:
    """Gives torch what torchtitan asks of an accelerator, before torchtitan is imported."""
    import torch
    import torch.distributed

    torch._utils._get_available_device_type = lambda: "cpu"

    properties = SimpleNamespace(name="CPU", total_memory=1 << 34)
    missing: dict[str, Callable[..., object]] = {
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
    def barrier_without_devices(
        *args: Any, device_ids: object = None, **kwargs: Any
    ) -> Any:
        return barrier(*args, **kwargs)

    torch.distributed.barrier = barrier_without_devices

    # Counting the tokens of MoE experts: histc has no integer kernel on CPU.
    histc = torch.histc

    @functools.wraps(histc)
    def histc_through_float(values: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if values.is_floating_point() or values.device.type != "cpu":
            return histc(values, *args, **kwargs)
        return histc(values.float(), *args, **kwargs).to(values.dtype)

    torch.histc = histc_through_float  # type: ignore[assignment]  # patched
    _attend_on_local_tensors()
    _attend_flexibly_in_eager_mode()
    _replace_premul_sum()


def _attend_on_local_tensors() -> None:
    """Gives attention on DTensors, which on CPU have no sharding strategy, to their local parts.

    Exact where whole heads and whole sequences are local, which is how tensor
    parallelism cuts them.
    """
    import torch
    from torch.distributed.tensor import DTensor

    attend = torch.nn.functional.scaled_dot_product_attention

    @functools.wraps(attend)
    def attend_locally(
        query: Tensor, key: Any, value: Any, *args: Any, **kwargs: Any
    ) -> Tensor:
        if not isinstance(query, DTensor) or query.device.type != "cpu":
            return attend(query, key, value, *args, **kwargs)
        cut = query.placements
        whole = all(p.is_replicate() or p.is_shard(0) or p.is_shard(1) for p in cut)
        if not whole or cut != key.placements or cut != value.placements:
            return attend(query, key, value, *args, **kwargs)
        local = (query.to_local(), key.to_local(), value.to_local())
        out = attend(*local, *args, **kwargs)
        return DTensor.from_local(out, query.device_mesh, cut, run_check=False)

    torch.nn.functional.scaled_dot_product_attention = attend_locally


def _attend_flexibly_in_eager_mode() -> None:
    """Replaces flex attention, which has no backward on CPU, by plain matrix products."""
    import torch
    from torch.nn.attention import flex_attention as module

    def flex_attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        score_mod: Callable[..., Tensor] | None = None,
        block_mask: Any = None,
        scale: float | None = None,
        enable_gqa: bool = False,
        return_lse: bool = False,
        kernel_options: object = None,
        **kwargs: Any,
    ) -> Tensor | tuple[Tensor, Tensor]:
        batch, heads, length, width = query.shape
        # Several query heads share one key head (grouped-query attention).
        groups = heads // key.shape[1]
        key, value = (t.repeat_interleave(groups, dim=1) for t in (key, value))
        scale = width**-0.5 if scale is None else scale
        scores = query.float() @ key.float().transpose(-1, -2) * scale
        sizes = (batch, heads, length, key.shape[2])
        places = torch.meshgrid(*(torch.arange(size) for size in sizes), indexing="ij")
        if score_mod is not None:
            scores = score_mod(scores, *places)
        if block_mask is not None:
            scores = scores.masked_fill(~block_mask.mask_mod(*places), float("-inf"))
        total = torch.logsumexp(scores, dim=-1)
        # A row in which everything is masked has nothing to attend to.
        weights = torch.exp(scores - total.clamp(min=-1e30).unsqueeze(-1))
        out = (weights @ value.float()).to(query.dtype)
        return (out, total) if return_lse else out

    module.flex_attention = torch._dynamo.disable(flex_attention)  # type: ignore[no-untyped-call]  # torch has no types for it


def fit_model(spec: Any) -> None:
    """Sets what keeps a debug flavor from training on a CPU: grouped matrix kernels, a vocabulary of 200 000.

    Weights that a model leaves uninitialised (torch fills them with NaN in
    deterministic mode) become zeros. `spec` is torchtitan's TrainSpec.
    """
    import torch

    _permute_without_triton()
    for arguments in (getattr(spec, "model_args", None) or spec.config).values():
        experts: Any = getattr(arguments, "moe_args", None)
        if getattr(experts, "use_grouped_mm", False):
            experts.use_grouped_mm = False
        if getattr(arguments, "vocab_size", 0) > 100_000:
            arguments.vocab_size = 2048
    model = getattr(spec, "model_cls", None) or spec.cls
    initialise = getattr(model, "init_weights", None)
    if initialise is None:
        return

    @functools.wraps(initialise)
    def initialise_all(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        result = initialise(self, *args, **kwargs)
        with torch.no_grad():
            for parameter in self.parameters():
                local = getattr(parameter, "_local_tensor", parameter)
                local.masked_fill_(local.isnan(), 0)
        return result

    model.init_weights = initialise_all


def _permute_without_triton() -> None:
    """Has expert parallelism order its tokens by torchtitan's own loop for CPUs, where it would ask a kernel of triton's."""
    for name in ("kernels", "utils"):
        module = sys.modules.get(f"torchtitan.models.moe.{name}")
        permute = getattr(module, "generate_permute_indices", None)
        if permute is not None and not isinstance(permute, functools.partial):
            module.generate_permute_indices = functools.partial(permute, use_cpu=True)  # type: ignore[union-attr]  # it has one


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
        scatter_group: Any,
        reduce_group: Any,
        reduce_dtype: torch.dtype,
        device_type: str = "",
        factor: float | None = None,
        force_sum: bool = False,
    ) -> Any:
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

    _fsdp_collectives._get_gradient_divide_factors = divide_factors  # type: ignore[assignment]  # patched
