"""The degrees of parallelism, and the answers, under which a plan is executed."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

REPLICAS = 3
"""The degree of the data parallelism in question; no other degree is equal to it."""

_OTHERS = {"tp": 2, "pp": 5, "cp": 7}
_SHARDS = 11
_OWN = 13
_KNOWN = {"dp_replicate", "dp_shard", "ep", "etp", *_OTHERS}
_TIE = re.compile(r"(\S+)\.weight is (\S+)\.weight")


@dataclass(frozen=True)
class World:
    """Where a plan is executed.

    Args:
        degrees: of each dimension; what is left out is 1.
        answers: what holds where the code cannot tell.
        in_place_of_replicas: it is there to be compared with replication.
    """

    degrees: Mapping[str, int]
    answers: Mapping[str, bool] = field(default_factory=dict)
    in_place_of_replicas: bool = False

    @property
    def replicates(self) -> bool:
        """Whether its data parallelism is pure replication."""
        return self.degrees.get("dp_replicate", 1) > 1 and not any(
            self.degrees.get(name, 1) > 1 for name in ("dp_shard", "ep")
        )

    @property
    def own(self) -> list[str]:
        """The axes of more than one rank that are the fork's own."""
        return [k for k, v in self.degrees.items() if k not in _KNOWN and v > 1]

    @property
    def tied(self) -> list[tuple[str, str]]:
        """The pairs of modules whose weight is one."""
        return [
            (found[1], found[2])
            for question, holds in self.answers.items()
            for found in [_TIE.fullmatch(question)]
            if holds and found
        ]

    @property
    def shards(self) -> bool:
        """Whether FSDP takes part, alone or with replication."""
        return any(self.degrees.get(name, 1) > 1 for name in ("dp_shard", "cp"))

    @property
    def sharded(self) -> "World":
        """The same with FSDP in the place of replication."""
        degrees = {k: v for k, v in self.degrees.items() if k != "dp_replicate"}
        return World({**degrees, "dp_shard": REPLICAS}, self.answers, True)

    def __str__(self) -> str:
        degrees = [f"{k}={v}" for k, v in self.degrees.items() if v > 1]
        answers = [q if a else f"not ({q})" for q, a in self.answers.items()]
        return ", ".join([" x ".join(degrees) or "one device", *answers])


def few_degrees() -> tuple[Mapping[str, int], ...]:
    """Each branch of a plan once, and replication with the others that it goes with."""
    return (
        {"dp_replicate": REPLICAS},
        {"dp_replicate": REPLICAS, "tp": 2, "pp": 5},
        {"dp_shard": _SHARDS},
        {"dp_replicate": REPLICAS, "dp_shard": _SHARDS},
        {},
    )


def degrees_of(own: Iterable[str]) -> Iterator[Mapping[str, int]]:
    """Each axis of a fork's own, alone and beside replication."""
    for name in own:
        yield {name: _OWN}
        yield {"dp_replicate": REPLICAS, name: _OWN}


def all_degrees() -> Iterator[Mapping[str, int]]:
    """Every combination of dp_replicate, dp_shard, tp, pp, cp and ep."""
    for replicas, shards in product((1, REPLICAS), (1, _SHARDS)):
        for on in product((False, True), repeat=len(_OTHERS)):
            others = {k: v for (k, v), is_on in zip(_OTHERS.items(), on) if is_on}
            degrees = {"dp_replicate": replicas, "dp_shard": shards, **others}
            degrees = {k: v for k, v in degrees.items() if v > 1}
            yield degrees
            experts = shards * others.get("cp", 1)
            if experts > 1:
                yield {**degrees, "ep": experts}
