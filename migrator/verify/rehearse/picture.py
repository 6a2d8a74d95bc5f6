"""A plan as nested boxes, which a page can draw: what forms a group, and how groups differ. Pure functions; no torch."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import prod

from migrator.verify.rehearse.compare import Group, Record


@dataclass(frozen=True)
class Box:
    """A group, or several beside each other that are alike but for a number in their names.

    modules: names of those that form it, without wrappers. until: the last one of several
    that are alike, empty where it is one. alike: how many there are. kind: ``replicate``,
    ``fully_shard`` or ``DDP``. says: what of it is not as most are. parameters: elements
    that it holds itself, of one of those that are alike. odd: whether it is not as it is
    to be. inside: groups of what lies below its modules.
    """

    modules: tuple[str, ...]
    kind: str
    says: tuple[str, ...]
    parameters: int
    until: str = ""
    alike: int = 1
    odd: bool = False
    inside: tuple[Box, ...] = ()


@dataclass(frozen=True)
class Plan:
    """How one party wraps a model. says: what most groups have. boxes: none where nothing is wrapped."""

    says: tuple[str, ...]
    boxes: tuple[Box, ...]


def plan(record: Record, expected: Record | None = None) -> Plan:
    """The plan of a record. expected: one that it is held against but for the mesh; boxes that it has not are odd."""
    if record["ddp"]:
        held = sum(map(_size, record["parameters"].values()))
        boxes = [Box(_named([m]), "DDP", (), held) for m in record["ddp"]]
        return Plan(_under_ddp(record), tuple(boxes))
    known = None if expected is None else set(map(_held_to, expected["groups"]))
    flat = [_box(record, group, known) for group in record["groups"]]
    with_parameters = [box for box in flat if box.parameters]
    common = _common(with_parameters)
    # A group without parameters has a policy, which is used for nothing.
    short = [
        replace(
            box,
            says=tuple(s for s in box.says if s not in common)
            if box.parameters
            else (),
        )
        for box in flat
    ]
    return Plan(common, tuple(_nested(short)))


def _under_ddp(record: Record) -> tuple[str, ...]:
    autocast = record["autocast"]
    if not autocast or not autocast["enabled"]:
        return ("without autocast",)
    return (f"autocast to {autocast['dtype']}",)


def _box(record: Record, group: Group, known: set[object] | None) -> Box:
    held = sum(
        _size(record["parameters"][name])
        for name in group["parameters"]
        if name in record["parameters"]
    )
    odd = known is not None and _held_to(group) not in known
    return Box(_named(group["modules"]), group["class"], _says(group), held, odd=odd)


def _size(parameter: Record) -> int:
    return prod(parameter["shape"])


def _named(modules: Iterable[str]) -> tuple[str, ...]:
    wrapper = "_checkpoint_wrapped_module"
    return tuple(".".join(p for p in m.split(".") if p != wrapper) for m in modules)


def _held_to(group: Group) -> object:
    """What is to be the same of a group in two parties."""
    policy = tuple(sorted(group["policy"].items()))
    names = tuple(sorted(_named(group["modules"])))
    held = tuple(sorted(group["parameters"]))
    return names, held, policy, group["divide"], group["sum"]


def _says(group: Group) -> tuple[str, ...]:
    """The policy and the mesh of a group, in short."""
    policy, mesh = group["policy"], group["mesh"]
    param, reduce = (
        policy[field].removeprefix("torch.")
        for field in ("param_dtype", "reduce_dtype")
    )
    said = [
        "computes in its own dtype" if param == "None" else f"computes in {param}",
        "reduces in that" if reduce == "None" else f"reduces in {reduce}",
    ]
    if mesh is not None:
        names = mesh["names"] or ["?"] * len(mesh["sizes"])
        pairs = zip(names, mesh["sizes"])
        said.append("over " + " × ".join(f"{name}={size}" for name, size in pairs))
        factor = group["divide"]
        averaged = "gradients averaged" if factor is None else "gradients summed"
        said.append(averaged if factor in (None, 1) else f"gradients over {factor:g}")
    if group["sum"]:
        said.append("sums forced")
    return tuple(said)


def _common(boxes: Sequence[Box]) -> tuple[str, ...]:
    """What more than half of the boxes say, in the order in which they say it."""
    counts = Counter(said for box in boxes for said in box.says)
    return tuple(said for said, n in counts.items() if 2 * n > len(boxes))


def _nested(flat: Sequence[Box]) -> list[Box]:
    """The boxes in one another as their modules are, with those that are alike put together."""
    below: dict[int | None, list[int]] = {}
    for n in range(len(flat)):
        below.setdefault(_around(flat, n), []).append(n)

    def within(around: int | None) -> list[Box]:
        return _joined(
            replace(flat[n], inside=tuple(within(n))) for n in below.get(around, ())
        )

    return within(None)


def _around(flat: Sequence[Box], n: int) -> int | None:
    """The box that holds this one most closely."""
    name = flat[n].modules[0]
    holding = [
        (len(module), m)
        for m, other in enumerate(flat)
        for module in other.modules
        # An empty name is the root's.
        if m != n and name and (not module or name.startswith(f"{module}."))
    ]
    return max(holding)[1] if holding else None


def _joined(boxes: Iterable[Box]) -> list[Box]:
    """Neighbours that are alike but for a number become one."""
    found: list[Box] = []
    for box in boxes:
        last = found[-1] if found else None
        if last and _shape(last) == _shape(box):
            found[-1] = replace(last, until=box.modules[-1], alike=last.alike + 1)
        else:
            found.append(box)
    return found


def _shape(box: Box) -> object:
    modules = tuple(re.sub(r"\d+", "#", name) for name in box.modules)
    inside = tuple(map(_shape, box.inside))
    alike = box.alike if box.until == "" else 1
    return modules, box.kind, box.says, box.parameters, box.odd, alike, inside
