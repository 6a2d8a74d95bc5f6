"""What a checkout is, as it is told to people and programs."""

from dataclasses import dataclass
from typing import Literal

from codemods.dependency import UNKNOWN, Dependency
from codemods.targets import Mesh

COPY = "none: a copy of its DDP path"
"""The generation where ParallelDims is not part of the checkout."""

Kind = Literal["ddp", "migrated", "dependent", "past", "foreign"]
MeshApi = Literal["world_mesh argument", "world_mesh property", "get_mesh"]


@dataclass(frozen=True)
class About:
    """What of a checkout's survey is told: plain values, of which no syntax tree is part.

    Args:
        kind: ``ddp`` (to migrate), ``migrated`` (already done), ``dependent`` (it uses a
            torchtitan that it does not hold, and has no DDP of its own), ``past`` (a torchtitan without either,
            as after its PR 2900) or ``foreign`` (no torchtitan).
        generation: the row of torchtitan's history that its code looks like.
        mesh_api: how the device mesh reaches a plan.
        migrated_to: the API that all that is migrated is written for, None where that is unclear.
        dependency: the torchtitan that it uses and does not hold, without its files.
        has_ddp: it has a function that wraps with DDP.
        has_replicate: it has one that wraps with the composable replicate.
        uses: it names what another torchtitan defines, or should.
        is_out_of_date: it names DDP's function of the dependency, or one that was it.
        is_unresolved: it names an ``apply_ddp`` that nothing here defines.
        is_provided: the dependency has a function that wraps with DDP.
        is_past: the torchtitan at hand has neither function, as from its PR 2900 on.
        keeps_fsdp_dimension: ParallelDims has an fsdp dimension also at degree 1; only
            where neither function is there.
        called: the paths of functions that are called from another file.
    """

    kind: Kind
    generation: str
    mesh_api: MeshApi
    migrated_to: Mesh | None
    dependency: Dependency = UNKNOWN
    has_ddp: bool = False
    has_replicate: bool = False
    uses: bool = False
    is_out_of_date: bool = False
    is_unresolved: bool = False
    is_provided: bool = False
    is_past: bool = False
    keeps_fsdp_dimension: bool = False
    called: frozenset[str] = frozenset()
