"""What torch lacks for torchtitan to train on a CPU."""

from __future__ import annotations

import collections
import functools


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
