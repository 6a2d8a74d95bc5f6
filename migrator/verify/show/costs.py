"""What steps cost, as the table in `migrator/verify/README.md`: `titan-migrate rehearse ... --json | python -m migrator.verify.show.costs`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from migrator.verify.rehearse.layouts import Layout
from migrator.verify.show.markdown import table, text

_HEADS = (
    "model",
    "ranks",
    "replicate, a rank and step",
    "FSDP",
    "both, over other dimensions",
    "memory: replicate",
    "FSDP",
    "seconds",
)
_DATA_PARALLEL = ("dp", "dp_replicate", "dp_shard", "dp_shard_cp", "fsdp")
# In the order in which a step has them.
_HELD = ("parameters", "gradients", "optimizer", "unsharded")


def costs_table(scenes: Iterable[Mapping[str, Any]]) -> list[str]:
    """A row for each scene of a rehearsal's JSON of which a step was counted; of a pipeline, its fullest stage."""
    return table(_HEADS, list(_rows(scenes)))


def _rows(scenes: Iterable[Mapping[str, Any]]) -> Iterator[list[str]]:
    for scene in scenes:
        steps = [scene["steps"].get(party) for party in ("migrated", "reference")]
        if not all(steps):
            continue
        replicate, fsdp = (max(several, key=_total) for several in steps)
        degrees = tuple(scene["layout"].items())
        yield [
            text(scene["model"]),
            text(Layout(degrees).title),
            _calls(replicate, own=True),
            _calls(fsdp, own=True),
            _calls(replicate, own=False),
            _memory(replicate),
            _memory(fsdp),
            f"{scene['seconds']:.0f}",
        ]


def _total(step: Mapping[str, Any]) -> int:
    return sum(step["memory"].values())


def _calls(step: Mapping[str, Any], *, own: bool) -> str:
    """The collectives over the data-parallel dimension, or over all others by dimension."""
    if "problem" in step:
        return text(f"not counted: {step['problem']}")
    chosen = [c for c in step["collectives"] if (c["over"] in _DATA_PARALLEL) is own]
    if own:
        told = [
            f"{c['calls']} {c['kind']}, {_gib(c['bytes'])} {c['dtype']}" for c in chosen
        ]
        return "; ".join(told) or "none"
    dimensions = dict.fromkeys(c["over"] for c in chosen)
    told = []
    for name in dimensions:
        of = [c for c in chosen if c["over"] == name]
        size = _gib(sum(c["bytes"] for c in of))
        told.append(f"{name}: {sum(c['calls'] for c in of)}, {size}")
    return "; ".join(told) or "none"


def _memory(step: Mapping[str, Any]) -> str:
    """In GiB, in the order of _HELD, and their sum."""
    parts = " + ".join(_short(step["memory"][what]) for what in _HELD)
    return f"{parts} = {_gib(_total(step))}"


def _gib(size: int) -> str:
    return f"{_short(size)} GiB"


def _short(size: int) -> str:
    """In GiB, of three digits, or all before the point."""
    gib = size / 2**30
    return f"{gib:.0f}" if gib >= 100 else f"{gib:.3g}"


if __name__ == "__main__":
    print("\n".join(costs_table(json.load(sys.stdin)["scenes"])))
