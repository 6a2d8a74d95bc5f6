"""Derive ``apply_replicate`` from a checkout's own ``apply_fsdp``.

``apply_fsdp`` already says how this checkout wraps its models: which modules form a
group, with which mixed-precision policy, whether gradients are divided. The derived
function is that plan with ``replicate`` for ``fully_shard`` and nothing to reshard,
offload or prefetch. What only serves sharding goes: parameters of those names are
taken at their default and the branches that follow from it are folded.
"""

from codemods.mirror.derive import derive
from codemods.mirror.records import CannotMirror, Parameter, Plan, Wishes

__all__ = ["CannotMirror", "Parameter", "Plan", "Wishes", "derive"]
