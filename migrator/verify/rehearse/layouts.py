"""How ranks are laid out: the default table, and what a user asks for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from migrator.verify.errors import VerifyError

DEGREES = {
    "dp_replicate": "data_parallel_replicate_degree",
    "dp_shard": "data_parallel_shard_degree",
    "cp": "context_parallel_degree",
    "tp": "tensor_parallel_degree",
    "pp": "pipeline_parallel_degree",
    "ep": "expert_parallel_degree",
    "etp": "expert_tensor_parallel_degree",
}
"""What a degree is called by ParallelDims -> in the section `parallelism` of the configuration."""

# Expert parallelism takes ranks that the other dimensions have.
_BORROWED = ("ep", "etp")


@dataclass(frozen=True)
class Layout:
    """Degrees by name; those that are 1 are left out.

    Where it only replicates, the migrated tree is held against FSDP on the same
    ranks; else nothing may have changed.
    """

    degrees: tuple[tuple[str, int], ...]

    @cached_property
    def by_name(self) -> dict[str, int]:
        return dict(self.degrees)

    @property
    def title(self) -> str:
        """As `--world` takes it."""
        return ",".join(f"{name}={n}" for name, n in self.degrees) or "one rank"

    @property
    def world(self) -> int:
        """How many ranks there are."""
        return math.prod(n for name, n in self.degrees if name not in _BORROWED)

    @property
    def replicates(self) -> bool:
        """Whether data parallelism is replication alone, which is what the migration changes."""
        names = self.by_name
        return "dp_replicate" in names and not names.keys() & {"dp_shard", "cp"}

    @property
    def sharded(self) -> Layout:
        """FSDP over the ranks that this one replicates over."""
        renamed = {"dp_replicate": "dp_shard"}
        return Layout(tuple((renamed.get(name, name), n) for name, n in self.degrees))

    @property
    def ranks(self) -> tuple[int, ...]:
        """A rank of every pipeline stage; stages are the outermost dimension."""
        stages = self.by_name.get("pp", 1)
        return tuple(stage * (self.world // stages) for stage in range(stages))


def layout(**degrees: int) -> Layout:
    """A layout in the order of DEGREES, without degrees of 1."""
    return Layout(tuple((n, degrees[n]) for n in DEGREES if degrees.get(n, 1) > 1))


DEFAULT = (
    layout(dp_replicate=2),
    layout(dp_replicate=64),
    layout(dp_replicate=2, tp=2),
    layout(dp_replicate=2, pp=2),
    layout(dp_replicate=2, dp_shard=2),
    layout(dp_replicate=2, cp=2),
    layout(dp_replicate=2, dp_shard=2, ep=2),
    layout(tp=2),
)
"""What is rehearsed where nobody says; the first one is what every flavor can be."""


def parse(worlds: Sequence[str]) -> tuple[Layout, ...]:
    """The layouts of `--world`, such as "dp_replicate=128,tp=8"; raises VerifyError for what is none."""
    return tuple(dict.fromkeys(_parsed(text) for text in worlds))


def _parsed(text: str) -> Layout:
    found: dict[str, int] = {}
    for word in text.split(","):
        name, _, value = (part.strip() for part in word.partition("="))
        if name not in DEGREES or name in found:
            raise VerifyError(
                f"--world {text}: {name or word!r} is no degree or is there twice: give"
                f" {', '.join(DEGREES)} as dp_replicate=128,tp=8."
            )
        if not (value.isascii() and value.isdecimal() and int(value) > 0):
            raise VerifyError(
                f"--world {text}: {name} needs a number of ranks, as {name}=8."
            )
        found[name] = int(value)
    wanted = layout(**found)
    if wanted.world > 1 << 20:
        raise VerifyError(
            f"--world {text} has {wanted.world:,} ranks, more than a million: give smaller degrees."
        )
    return wanted


def of_size(degrees: dict[str, int], size: int) -> Layout:
    """The layout of a world of `size` ranks with a configuration's degrees, of which one may be -1, the rest.

    Where none is, the degree that replicates takes what is left. Raises
    VerifyError where that does not divide evenly.
    """
    rest = [name for name, n in degrees.items() if n < 0]
    open_one = rest[0] if rest else "dp_replicate"
    others = math.prod(
        n for name, n in degrees.items() if name not in (*_BORROWED, open_one)
    )
    if size % others:
        raise VerifyError(
            f"--world-size {size} does not divide by the {others} ranks of the configuration's other degrees."
        )
    return layout(**{**degrees, open_one: size // others})
