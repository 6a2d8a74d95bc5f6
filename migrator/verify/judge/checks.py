"""What can be said of a run without comparing its figures: is it whole, and is the model wrapped as FSDP wraps it."""

from __future__ import annotations

import math
from typing import Any

from migrator.verify.judge.compare import QUANTITIES
from migrator.verify.judge.ranks import (
    digests,
    first_apart,
    first_seen_apart,
    replicas,
)
from migrator.verify.judge.trace import MERGED, RankTrace, Trace
from migrator.verify.rehearse.compare import of_a_block


def in_words(trace: Trace) -> str:
    """What a run is, at the start of a sentence."""
    return {
        "baseline": "Baseline (DDP of the base revision)",
        "migrated": "Migrated tree (replicate)",
        "reference": "Reference (FSDP of the migrated tree)",
        "control": "Control (FSDP of the base revision)",
        "nudged": "Control with its rounding changed",
        "planted": "Migrated tree with a small error",
        "resumed": "Migrated tree, resuming DDP's checkpoint",
        "resumed-reference": "FSDP, resuming DDP's checkpoint",
        "resumed-nudged": "FSDP, resuming DDP's checkpoint with its rounding changed",
        "returned": "Base revision (DDP), resuming replicate's checkpoint",
        "reloaded": "Migrated tree, loading its own export",
        "alone": "Base revision on one rank",
        "alike-baseline": "Baseline, each rank on the data of one",
        "alike-control": "Control, each rank on the data of one",
        "single": "Base revision on one rank",
        "single-nudged": "Base revision on one rank with its rounding changed",
        "alike-migrated": "Migrated tree (replicate), each rank on the data of one",
    }[trace.party]


def incomplete(trace: Trace, steps: range, ranks: int) -> list[str]:
    """What a run of these steps lacks: ranks, steps, finite numbers, equal replicas, weights that move."""
    found: list[str] = []
    title = in_words(trace)
    if len(trace.ranks) != ranks:
        found.append(f"{title}: {len(trace.ranks)} of {ranks} ranks left a trace.")
    for rank in trace.ranks:
        missing = sorted(set(steps) - {step.step for step in rank.steps})
        if missing:
            found.append(
                f"{title}: rank {rank.rank} recorded no step {missing[0]} (of {steps[-1]})."
            )
            continue
        if not rank.model:
            found.append(
                f"{title}: rank {rank.rank} recorded no model: its trainer does not call clip_grad_norm_."
            )
            continue
        if not rank.error and not rank.ended:
            found.append(
                f"{title}: rank {rank.rank} ended before its training was over."
            )
        found += _not_finite(title, rank)
    if trace.ranks and not found:
        found += _no_loss(title, trace)
    found += _ranks_apart(title, trace)
    # At the end of a schedule one step may have a learning rate of nothing.
    if len(steps) > 1 and not found and _stands_still(trace):
        found.append(
            f"{title}: no parameter moved in {len(steps)} steps: its optimizer holds parameters"
            " of before the model was wrapped, or none."
        )
    return found


def _stands_still(trace: Trace) -> bool:
    before, after = trace.initial, trace.parameters
    return bool(before.keys() & after.keys()) and all(
        before[name]["digest"] == after[name]["digest"]
        for name in before.keys() & after.keys()
    )


def _no_loss(title: str, trace: Trace) -> list[str]:
    """Whether no rank has logged a loss; a run that logs it in other steps than those it is held against departs from them."""
    if any(step.loss is not None for step in trace.steps):
        return []
    return [f"{title}: no rank logged a loss."]


def _not_finite(title: str, rank: RankTrace) -> list[str]:
    for step in rank.steps:
        for quantity, read in QUANTITIES.items():
            value = read(step)
            if value is None and quantity in ("validation", "loss"):
                continue
            if value is None:
                return [
                    f"{title}: rank {rank.rank} recorded no {quantity} at step {step.step}."
                ]
            if not math.isfinite(value):
                return [
                    f"{title}: {quantity} is {value} on rank {rank.rank} at step {step.step}."
                ]
    return []


def _ranks_apart(title: str, trace: Trace) -> list[str]:
    """Replicas that are not replicas: data-parallel ranks must end with the same parameters."""
    for ranks in replicas(trace):
        apart = first_apart(ranks, _at_the_end)
        if apart:
            name, one, other = apart
            return [
                f"{title}: after the last step {name} is not the same on ranks {one} and {other}:"
                " its gradients are not reduced over the data-parallel ranks, or the ranks started apart."
                f"{first_seen_apart(ranks)}"
            ]
    return []


def tensor_ranks_apart(trace: Trace) -> str | None:
    """The first parameter that tensor-parallel ranks replicate and do not agree about; None where there is none.

    torchtitan's own MoE routers drift apart so, under FSDP as well.
    """
    apart = first_apart(trace.ranks, _at_the_end)
    return apart[0] if apart else None


def _at_the_end(rank: RankTrace) -> dict[str, str]:
    return digests(rank.parameters)


def rewrapped(after: Trace, before: Trace) -> list[str]:
    """How FSDP itself is wrapped otherwise after the migration than before: groups, policies, placements, dtypes."""
    for key in MERGED:
        mine, theirs = after.model.get(key, {}), before.model.get(key, {})
        for name in sorted(mine.keys() | theirs.keys()):
            if mine.get(name) != theirs.get(name):
                what = {"wrapped": "group", "policies": "mixed-precision policy"}
                return [
                    f"The migration changed how FSDP wraps, which it must not touch: {what.get(key, key)} of"
                    f" {name or 'the root module'}: {_short(theirs.get(name))} before, {_short(mine.get(name))} after."
                ]
    return []


def _short(value: object) -> str:
    return "nothing" if value is None else str(value)


def wrapped_wrongly(migrated: Trace, reference: Trace) -> list[str]:
    """Whether the migrated run really ran replicate, over the groups and dtypes that FSDP has."""
    kind = wrapping(migrated)
    if kind == "ddp":
        return [
            "The migrated tree still trains under DDP: its model was not wrapped by replicate."
        ]
    if kind != "replicate":
        what = "FSDP, which shards its parameters" if kind == "fsdp" else "nothing"
        return [f"The migrated tree's model is wrapped by {what}, not by replicate."]
    found: list[str] = []
    lacking = _groups_lacking(migrated, reference)
    if any(map(of_a_block, lacking)):
        found.append(_said_of_groups(lacking))
    found += _precision_apart(migrated.model, reference.model)
    found += _treated_otherwise(migrated.model, reference.model)
    mine, theirs = migrated.model["parameters"], reference.model.get("parameters", {})
    for name in sorted(mine.keys() | theirs.keys()):
        if (name in mine) != (name in theirs):
            side = "FSDP" if name in theirs else "replicate"
            found.append(f"Only the {side} run has a parameter {name}.")
            break
        if mine[name]["dtype"] != theirs[name]["dtype"]:
            found.append(
                f"{name} is {mine[name]['dtype']} under replicate and {theirs[name]['dtype']} under FSDP."
            )
            break
    for name, parameter in mine.items():
        if not _replicated(parameter):
            found.append(
                f"{name} is not replicated over the mesh (placements {parameter.get('placements')})."
            )
            break
    return found


def left_to_the_root(migrated: Trace, reference: Trace) -> list[str]:
    """A note on modules beside the blocks that replicate has no group of their own for: right, and reduced late."""
    lacking = _groups_lacking(migrated, reference)
    if not lacking or any(map(of_a_block, lacking)):
        return []
    return [_said_of_groups(lacking)]


def _groups_lacking(migrated: Trace, reference: Trace) -> list[str]:
    """The modules that the reference has groups of and the migrated tree has not."""
    groups = set(migrated.model["wrapped"])
    return sorted(set(reference.model.get("wrapped", {})) - groups)


def _said_of_groups(lacking: list[str]) -> str:
    shown = ", ".join(lacking[:4]) + (", …" if len(lacking) > 4 else "")
    return (
        f"replicate has no group of its own for {shown}, which apply_fsdp wraps:"
        " their all-reduce cannot overlap with the backward pass."
    )


def _precision_apart(mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """Where the migrated tree computes or reduces in other dtypes than the reference."""
    found: list[str] = []
    if mine.get("autocast") and not theirs.get("autocast"):
        found.append(
            "The migrated tree runs under autocast, and FSDP does not: maybe_enable_amp has to leave mixed"
            " precision to replicate."
        )
    policies = theirs.get("policies", {})
    for name, policy in mine.get("policies", {}).items():
        other = policies.get(name, policy)
        apart = [key for key in policy if policy[key] != other.get(key)]
        if apart:
            key = apart[0]
            found.append(
                f"{name or 'The root module'} has {key}={policy[key]} in its mixed-precision policy under replicate"
                f" and {other.get(key)} under FSDP."
            )
            break
    for key, what in (("gradients", "gradient"), ("outputs", "output")):
        dtypes = theirs.get(key, {})
        for name, dtype in mine.get(key, {}).items():
            if dtype != dtypes.get(name, dtype):
                found.append(
                    f"The {what} of {name} is {dtype} under replicate and {dtypes[name]} under FSDP."
                )
                break
    return found


_TREATED = {
    "checkpointed": "Activation checkpointing of {} covers",
    "compiled": "torch.compile: {} is",
    "evaluating": "Mode: {} is",
    "optimizers": "Optimizer: the group of {} says",
}


def _treated_otherwise(mine: dict[str, Any], theirs: dict[str, Any]) -> list[str]:
    """What happens to modules and parameters beside wrapping: checkpointing, compilation, the mode, the optimizer."""
    found = []
    for key, what in _TREATED.items():
        one, other = mine.get(key, {}), theirs.get(key, {})
        apart = [n for n in {**other, **one} if one.get(n) != other.get(n)]
        if apart:
            name = apart[0]
            left, right = _apart(one.get(name), other.get(name))
            found.append(
                f"{what.format(name or 'the model')} {left} under replicate and {right} under FSDP"
                f" ({len(apart)} of {len({**other, **one})} differ)."
            )
    return found


def _apart(one: Any, other: Any) -> tuple[str, str]:
    """Two values in words; of two groups of an optimizer, what differs."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [k for k in {**one, **other} if one.get(k) != other.get(k)]
        one, other = ({k: d.get(k) for k in keys} for d in (one, other))
    elif isinstance(one, dict) or isinstance(other, dict):
        one, other = (x and "is there" for x in (one, other))
    return _short(one), _short(other)


def wrapping(trace: Trace) -> str:
    """How the root module is wrapped: "replicate", "fsdp", "ddp" or "none"."""
    kinds = trace.model.get("wrapped", {}).get("", trace.model.get("root", []))
    if "ReplicateModule" in kinds:
        return "replicate"
    if "FSDPModule" in kinds:
        return (
            "replicate"
            if trace.model["parameters"]
            and all(
                _replicated(parameter)
                for parameter in trace.model["parameters"].values()
            )
            else "fsdp"
        )
    if "DDP" in kinds or "DistributedDataParallel" in kinds:
        return "ddp"
    return "none"


def _replicated(parameter: dict[str, Any]) -> bool:
    """Whether a parameter is replicated over every mesh dimension larger than 1 (torch 2.9 keeps a shard dimension of 1)."""
    placements, mesh = parameter.get("placements") or (), parameter.get("mesh", [])
    dims = parameter.get("mesh_dims") or [""] * len(mesh)
    return bool(placements) and all(
        placement.startswith("R")
        for placement, size, dim in zip(placements, mesh, dims)
        if size > 1 and dim not in ("tp", "ep", "etp")
    )
