"""ParallelDims for a checkout that has none of its own, and what a FSDP branch may slice."""

import math
from collections.abc import Mapping, Sequence

from codemods.bindings import Checkout
from codemods.interpret import Instance, Interpreter, Mesh, Raised
from codemods.meshes import Meshes

_WORLD = ("pp", "dp_replicate", "dp_shard", "cp", "tp")
_SHARDED = ("dp_shard_cp", "fsdp", "dp_shard", "dp", "dp_cp", "batch",
    "dp_shard_mod_ep", "dp_shard_in_ep", "dp_mod_ep", "efsdp", "edp")  # fmt: skip
"""What the dimension that FSDP shards over is called in one torchtitan or another."""


def parallel_dims(degrees: Mapping[str, int]) -> Meshes:
    """A ParallelDims with what plans ask of that of torchtitan, in any generation.

    Args:
        degrees: of each dimension; what is left out is 1.
    """
    full = {**dict.fromkeys((*_WORLD, "ep", "etp"), 1), **degrees}
    names = tuple(name for name in _WORLD if full[name] > 1)
    world = Mesh(names, tuple(full[name] for name in names))
    sharded = full["dp_shard"] * full["cp"]
    if sharded > 1:
        for name in ("dp_shard_cp", "fsdp"):
            world.flattened[name] = Mesh((name,), (sharded,), world)

    def get_mesh(asked: str | Sequence[str]) -> Mesh:
        return world.sliced((asked,) if isinstance(asked, str) else tuple(asked))

    def get_optional_mesh(asked: str | Sequence[str]) -> Mesh | None:
        try:
            return get_mesh(asked)
        except Raised:
            return None

    attributes: dict[str, object] = {
        **full,
        **{f"{name}_enabled": degree > 1 for name, degree in full.items()},
        "dp_enabled": full["dp_replicate"] * full["dp_shard"] > 1,
        "fsdp_enabled": sharded > 1,
        "dp_cp_enabled": full["dp_replicate"] * sharded > 1,
        "world_size": math.prod(world.sizes),
        "world_mesh": world,
        "get_mesh": get_mesh,
        "get_optional_mesh": get_optional_mesh,
    }
    return Meshes(Instance(attributes), world, Interpreter(Checkout({})))


def with_names_of_fsdp(meshes: Meshes, replicas: int) -> None:
    """Let the mesh be sliced by whatever FSDP's dimension is called elsewhere.

    A plan of a fork may name a dimension that something else than ParallelDims makes.
    """
    world = meshes.world
    for name in _SHARDED:
        if name not in world.names:
            world.flattened.setdefault(name, Mesh((name,), (replicas,), world))
