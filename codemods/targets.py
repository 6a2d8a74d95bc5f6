"""Which of PyTorch's two replicate APIs the new code is written for."""

import re
from dataclasses import dataclass
from typing import Literal

from codemods.layout import WIDTH

REPLICATE_MODULE = "torch.distributed._composable.replicate_with_fsdp"
"""Where the composable replicate lives; ``_composable.replicate`` is still DDP."""

FIRST_TORCH = (2, 9)
"""``replicate_with_fsdp`` first shipped in torch 2.9, with a 2-D mesh."""

FIRST_1D_TORCH = (2, 10)
"""From torch 2.10 on replicate takes ``mesh=``, one-dimensional."""


class TargetError(ValueError):
    """No target fits what was asked for."""


Mesh = Literal["1d", "2d"]
Asked = Literal["auto", "1d", "2d"]


@dataclass(frozen=True)
class Target:
    """The API that the new code calls.

    Args:
        mesh: ``1d`` (torch 2.10 on: a one-dimensional ``dp_replicate`` mesh, as in
            torchtitan's PR 2458) or ``2d`` (torch 2.9: ``(dp_replicate, dp_shard)``
            with ``dp_shard`` of degree 1, as in PR 1714).
        function_name: what ``apply_ddp`` is called afterwards.
        reason: why this target was taken, for people.
        keep_precision: calls pass fp32, in which DDP without autocast computed.
        width: columns that a line of it may have.
    """

    mesh: Mesh
    function_name: str
    reason: str
    keep_precision: bool = False
    width: int = WIDTH

    @property
    def mesh_keyword(self) -> str:
        return "mesh" if self.mesh == "1d" else "device_mesh"


def choose_target(
    mesh: Asked,
    torch_version: str | None,
    function_name: str | None = None,
    source: str | None = None,
) -> Target:
    """Pick the target.

    Args:
        mesh: ``auto``, ``1d`` or ``2d``.
        torch_version: of the torch that the migrated code will run on, or None.
        function_name: ``apply_replicate``, ``apply_ddp``, or None for the default
            of the target.
        source: where the version was read, ``requirements.txt:3``, if it was.

    Raises:
        TargetError: the torch is too old, or does not go with the mesh asked for.
    """
    release = _release(torch_version) if torch_version else None
    pinned = f", which {source} pins," if source else ""
    if release and release < FIRST_TORCH:
        raise TargetError(
            f"torch {torch_version}{pinned} has no composable replicate: it came with torch 2.9. "
            "Move the environment to torch 2.9 or later, or name the version that the "
            "migrated code will run on with --torch."
        )
    fitting: Mesh | None
    fitting = None if release is None else "1d" if release >= FIRST_1D_TORCH else "2d"
    if mesh == "auto":
        if fitting is None:
            mesh, reason = "1d", "no torch in this environment, so the current API"
        else:
            mesh, reason = fitting, f"torch {torch_version}"
            if source:
                reason += f", pinned in {source}"
    else:
        reason = "asked for"
        if fitting and fitting != mesh:
            raise TargetError(
                f"--target {mesh} does not go with torch {torch_version}, whose replicate "
                f"takes a {fitting.upper()} mesh. Leave out one of the two."
            )
    default = "apply_replicate" if mesh == "1d" else "apply_ddp"
    return Target(mesh=mesh, function_name=function_name or default, reason=reason)


def _release(version: str) -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", version)
    if not found:
        raise TargetError(
            f"'{version}' is not a version of torch; write it like 2.10 or 2.13.0."
        )
    return int(found[1]), int(found[2])
