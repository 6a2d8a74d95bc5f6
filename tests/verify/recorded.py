"""Records of plans as a rehearsal reads them, of a model of our own with two blocks."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

MODULES = {
    "tok_embeddings": ["tok_embeddings.weight"],
    "layers.0": ["layers.0.w", "layers.0.norm"],
    "layers.1": ["layers.1.w", "layers.1.norm"],
    "output": ["output.weight"],
}
_POLICY = {
    "param_dtype": "torch.bfloat16",
    "reduce_dtype": "torch.float32",
    "output_dtype": "None",
    "cast_forward_inputs": "True",
}


def record(dimension: str, ranks: int = 2) -> dict[str, Any]:
    """A right plan over a dimension: "dp_replicate" for replicate, "fsdp" for FSDP."""
    replicates = dimension == "dp_replicate"
    mesh = {"names": [dimension], "sizes": [ranks]}
    parameter = {
        "shape": [8, 8],
        "dtype": "float32",
        "trains": True,
        "placements": ["R" if replicates else "S(0)"],
        "mesh": mesh,
    }
    groups = [
        {
            "modules": [module],
            "class": "replicate" if replicates else "fully_shard",
            "policy": _POLICY,
            "mesh": {**mesh, "ranks": list(range(ranks))},
            "divide": 1.0,
            "sum": False,
            "reshard": False if replicates else ranks,
            "parameters": names,
        }
        for module, names in MODULES.items()
    ]
    names = [name for several in MODULES.values() for name in several]
    return unshared(
        {
            "groups": groups,
            "ddp": [],
            "parameters": dict.fromkeys(names, parameter),
            "ties": [],
            "built_ties": [],
            "autocast": None,
            "checkpointed": ["layers.0"],
            "compiled": [],
            "optimizers": [
                {
                    "class": "AdamW",
                    "groups": [{"settings": {"lr": 0.1}, "parameters": names}],
                }
            ],
            "world_mesh": {"names": ["world"], "sizes": [ranks]},
        }
    )


def unshared(values: dict[str, Any]) -> dict[str, Any]:
    """The same values, no two of them one object."""
    found: dict[str, Any] = json.loads(json.dumps(values))
    return found


def ddp() -> dict[str, Any]:
    """The same model as DDP leaves it."""
    found = record("dp_replicate")
    for parameter in found["parameters"].values():
        del parameter["placements"], parameter["mesh"]
    return {
        **found,
        "groups": [],
        "ddp": [""],
        "autocast": {"dtype": "bfloat16", "enabled": True},
    }


def changed(
    dimension: str, change: Callable[[dict[str, Any]], object]
) -> dict[str, Any]:
    """A right plan in which something was changed."""
    found = record(dimension)
    change(found)
    return found
