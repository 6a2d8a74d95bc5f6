"""How the records of two plans differ, a sentence for each difference that names the modules. Pure functions; no torch.

A record is what `in_world/read.py` makes.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

Record = dict[str, Any]
Group = dict[str, Any]
Difference = tuple[str, str]
"""(module or parameter, what is different there)."""

_WRAPPER = "_checkpoint_wrapped_module"


def moved(migrated: Record, reference: Record) -> list[str]:
    """Where a plan that replicates is not the reference's with replicate's mesh for FSDP's; empty where it is.

    A reference that has lost ties, as some of torchtitan's do, is held to have
    one group of those that share a parameter.
    """
    ties = migrated["ties"]
    expected = _with_ties(reference, ties) if reference["ties"] != ties else reference
    return told(
        [
            *_left_on_ddp(migrated),
            *_groups(migrated, expected, "FSDP"),
            *_replicating(migrated, expected),
            *_parameters(migrated, expected, _across_replicas),
            *_rest(migrated, expected, "FSDP"),
        ]
    )


def left_to_the_root(migrated: Record, reference: Record) -> list[str]:
    """A note on what replicate reduces with the root, and FSDP has groups of: right, and without overlap."""
    left = [_shown(modules) for modules in _left_to_the_root(migrated, reference)]
    if not left:
        return []
    return [
        f"{_named(left)}: left to the root's group, where FSDP has one of its own, so that its all-reduce does not"
        " overlap with the backward pass."
    ]


def _left_to_the_root(left: Record, right: Record) -> list[frozenset[str]]:
    """The groups that only the second has; none where a block, `layers.3` say, is among them."""
    lacking = _besides(_by_modules(right), _by_modules(left))
    blocks = any(of_a_block(name) for modules in lacking for name in modules)
    return [] if blocks or frozenset({""}) in lacking else lacking


def of_a_block(name: str) -> bool:
    """Whether a module is one of several alike, or in one: `layers.3`."""
    return any(part.isdigit() for part in name.split("."))


def unchanged(after: Record, before: Record) -> list[str]:
    """Where a plan differs from what it was in the base revision, in anything; empty where it does not."""
    whose = "the base revision"
    return told(
        [
            *_groups(after, before, whose),
            *_same_meshes(after, before, whose),
            *_parameters(after, before, _as_it_is),
            *_listed(after, before, "ddp", "is wrapped by DDP", whose),
            *_rest(after, before, whose),
        ]
    )


def untied(record: Record, ties: list[list[str]]) -> list[str]:
    """Which of these parameters are no longer one."""
    kept = [set(names) for names in record["ties"]]
    there = set(record["parameters"]).union(*kept)
    return [
        f"{' and '.join(names)}: tied weights, and wrapped apart."
        for names in ties
        if not any(set(names) <= one for one in kept) and there & set(names)
    ]


def without_autocast(record: Record) -> Record:
    return {**record, "autocast": None}


def told(differences: Iterable[Difference]) -> list[str]:
    """A sentence for each thing that is different, which names the modules; two by name, the others counted."""
    places: dict[str, list[str]] = {}
    for place, what in differences:
        places.setdefault(what, []).append(place)
    return [f"{_named(where)}: {what}." for what, where in places.items()]


def _named(places: list[str]) -> str:
    places = list(dict.fromkeys(place or "the root" for place in places))
    more = f" and {len(places) - 2} more" if len(places) > 2 else ""
    return ", ".join(places[:2]) + more


def _besides(mine: Iterable[T], others: Container[T]) -> list[T]:
    """What only the first has, in its order."""
    return [one for one in mine if one not in others]


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part != _WRAPPER)


def _modules(group: Group) -> frozenset[str]:
    return frozenset(_plain(name) for name in group["modules"])


def _shown(modules: Iterable[str]) -> str:
    names = [name or "the root" for name in sorted(modules)]
    return names[0] if len(names) == 1 else f"[{', '.join(names)}]"


def _by_modules(record: Record) -> dict[frozenset[str], Group]:
    return {_modules(group): group for group in record["groups"]}


def _paired(left: Record, right: Record) -> Iterator[tuple[str, Group, Group]]:
    """The groups of the same modules, and their name."""
    others = _by_modules(right)
    for modules, group in _by_modules(left).items():
        if modules in others:
            yield _shown(modules), group, others[modules]


def _left_on_ddp(record: Record) -> Iterator[Difference]:
    for name in record["ddp"]:
        yield name, "is still wrapped by DDP"


def _groups(left: Record, right: Record, whose: str) -> Iterator[Difference]:
    """Groups that one has and the other has not, and how those of both differ, but for their mesh."""
    mine, others = _by_modules(left), _by_modules(right)
    left_over = _left_to_the_root(left, right) if whose == "FSDP" else []
    for modules in _besides(_besides(others, mine), left_over):
        yield _shown(modules), f"no group of its own here, and one in {whose}"
    for modules in _besides(mine, others):
        if not left_over or modules != {""}:
            yield _shown(modules), f"a group of its own here, and none in {whose}"
    for name, group, other in _paired(left, right):
        for field, value in other["policy"].items():
            had = group["policy"].get(field)
            if had != value:
                yield name, f"{field} is {had} here, and {value} in {whose}"
        if group["divide"] != other["divide"]:
            had, has = (one["divide"] or "unset" for one in (group, other))
            yield (
                name,
                f"the gradient divide factor is {had} here, and {has} in {whose}",
            )
        if group["sum"] != other["sum"]:
            side = "here" if group["sum"] else f"in {whose}"
            yield name, f"reductions are forced to sums {side} only"
        for mine_, theirs in zip(sorted(group["modules"]), sorted(other["modules"])):
            if mine_ != theirs:
                inside = _WRAPPER in mine_
                side, other_side = (
                    ("below", "around") if inside else ("around", "below")
                )
                yield (
                    name,
                    f"the group lies {side} activation checkpointing here, and {other_side} it in {whose}",
                )
    yield from _held(left, right, whose)


def _held(left: Record, right: Record, whose: str) -> Iterator[Difference]:
    """Parameters that lie in another group, where the groups are the same, or in none."""
    places: list[dict[str, frozenset[str]]] = [
        {
            name: _modules(group)
            for group in one["groups"]
            for name in group["parameters"]
        }
        for one in (left, right)
    ]
    mine, others = places
    same = _by_modules(left).keys() == _by_modules(right).keys()
    for name in left["parameters"]:
        if name in others and name not in mine:
            yield name, f"in no group here, and in one in {whose}"
        elif name in mine and name not in others:
            yield name, f"in a group here, and in none in {whose}"
        elif same and mine.get(name) != others.get(name):
            yield (
                name,
                f"in the group {_shown(mine[name])} here, and in {_shown(others[name])} in {whose}",
            )


def _replicating(migrated: Record, reference: Record) -> Iterator[Difference]:
    """Groups whose mesh is not the one that replicates, over the ranks that FSDP has there."""
    world = migrated["world_mesh"] or {"names": []}
    dimension = "dp" if "dp" in world["names"] else "dp_replicate"
    for name, group, other in _paired(migrated, reference):
        mesh, expected = group["mesh"], other["mesh"]
        if mesh is None or expected is None:
            continue
        named = [(n, size) for n, size in zip(mesh["names"], mesh["sizes"]) if size > 1]
        if [n for n, _ in named] != [dimension]:
            yield name, f"its mesh is {_mesh(mesh)}, and not {dimension}"
        elif mesh["ranks"] != expected["ranks"]:
            yield (
                name,
                f"its mesh {_mesh(mesh)} is over ranks {_ranks(mesh)}, and FSDP's over {_ranks(expected)}",
            )


def _same_meshes(left: Record, right: Record, whose: str) -> Iterator[Difference]:
    for name, group, other in _paired(left, right):
        mesh, expected = group["mesh"], other["mesh"]
        if mesh != expected:
            yield (
                name,
                f"its mesh is {_mesh(mesh)} here, and {_mesh(expected)} in {whose}",
            )
        if group["reshard"] != other["reshard"]:
            yield (
                name,
                f"reshard after forward is {group['reshard']} here, and {other['reshard']} in {whose}",
            )
        if group["class"] != other["class"]:
            yield (
                name,
                f"wrapped by {group['class']} here, by {other['class']} in {whose}",
            )


def _mesh(mesh: dict[str, Any] | None) -> str:
    if mesh is None:
        return "none"
    pairs = zip(mesh["names"] or ["?"] * len(mesh["sizes"]), mesh["sizes"])
    return "(" + ", ".join(f"{name}={size}" for name, size in pairs) + ")"


def _ranks(mesh: dict[str, Any]) -> str:
    ranks = [str(rank) for rank in mesh["ranks"]]
    return ", ".join(ranks[:4]) + (" …" if len(ranks) > 4 else "")


def _parameters(left: Record, right: Record, placed: Any) -> Iterator[Difference]:
    mine, others = left["parameters"], right["parameters"]
    whose = "FSDP" if placed is _across_replicas else "the base revision"
    for name in _besides(others, mine):
        yield name, f"no parameter here, and one in {whose}"
    for name in _besides(mine, others):
        yield name, f"a parameter here, and none in {whose}"
    for name in (n for n in mine if n in others):
        one, other = mine[name], others[name]
        for field in ("shape", "dtype", "trains"):
            if one[field] != other[field]:
                yield (
                    name,
                    f"{field} is {one[field]} here, and {other[field]} in {whose}",
                )
        had, expected = placed(one, other)
        if had != expected:
            yield name, f"placed {_dims(had)} here, where {_dims(expected)} is right"


def _as_it_is(one: Record, other: Record) -> tuple[list[Any], list[Any]]:
    return _placements(one), _placements(other)


def _across_replicas(one: Record, other: Record) -> tuple[list[Any], list[Any]]:
    """Placements of a parameter, and those that it has to have: FSDP's, but whole on every replica."""
    expected = [
        ("replicas", size, "R") if name in _SHARDING else (name, size, placement)
        for name, size, placement in _placements(other)
    ]
    had = [
        ("replicas" if name in _REPLICATING else name, size, placement)
        for name, size, placement in _placements(one)
        if size > 1
    ]
    return had, [dim for dim in expected if dim[1] > 1]


# What ParallelDims calls them, from 2024 to 0.2.2.
_SHARDING = ("dp", "dp_shard", "dp_shard_cp", "fsdp")
_REPLICATING = ("dp", "dp_replicate")


def _placements(parameter: Record) -> list[tuple[str, int, str]]:
    mesh = parameter.get("mesh")
    if mesh is None:
        return []
    return list(zip(mesh["names"], mesh["sizes"], parameter["placements"]))


def _dims(dims: list[tuple[str, int, str]]) -> str:
    shown = ", ".join(f"{placement} over {name}={n}" for name, n, placement in dims)
    return f"({shown})" if shown else "as a plain tensor"


def _rest(left: Record, right: Record, whose: str) -> Iterator[Difference]:
    """Ties, autocast, activation checkpointing, compile, optimizers."""
    if left["ties"] != right["ties"]:
        had, has = (
            "; ".join(" = ".join(tie) for tie in one["ties"]) or "none"
            for one in (left, right)
        )
        yield "tied weights", f"{had} here, and {has} in {whose}"
    if left["autocast"] != right["autocast"]:
        had, has = (_autocast(one["autocast"]) for one in (left, right))
        yield "the forward pass", f"{had} here, and {has} in {whose}"
    yield from _listed(left, right, "checkpointed", "recomputes activations", whose)
    yield from _listed(left, right, "compiled", "is compiled", whose)
    yield from _optimizers(left["optimizers"], right["optimizers"], whose)


def _autocast(found: dict[str, Any] | None) -> str:
    if not found or not found["enabled"]:
        return "without autocast"
    return f"under autocast to {found['dtype']}"


def _listed(
    left: Record, right: Record, key: str, does: str, whose: str
) -> Iterator[Difference]:
    mine, others = dict.fromkeys(left[key]), dict.fromkeys(right[key])
    for name in _besides(mine, others):
        yield name, f"{does} here, and not in {whose}"
    for name in _besides(others, mine):
        yield name, f"{does} in {whose}, and not here"


def _optimizers(
    mine: list[dict[str, Any]], others: list[dict[str, Any]], whose: str
) -> Iterator[Difference]:
    if len(mine) != len(others):
        yield "the optimizers", f"{len(mine)} here, and {len(others)} in {whose}"
        return
    for one, other in zip(mine, others):
        if one["class"] != other["class"]:
            yield "the optimizer", f"{one['class']} here, {other['class']} in {whose}"
        held, expected = (
            {name: g["settings"] for g in each["groups"] for name in g["parameters"]}
            for each in (one, other)
        )
        for name in _besides(expected, held):
            yield name, f"in no optimizer here, and in one in {whose}"
        for name in _besides(held, expected):
            yield name, f"in an optimizer here, and in none in {whose}"
        for name in (one for one in held if one in expected):
            if held[name] != expected[name]:
                yield (
                    name,
                    f"in a group of the optimizer with other settings than in {whose}",
                )


def _with_ties(reference: Record, ties: list[list[str]]) -> Record:
    """The reference as it were if parameters that are one for the migrated tree were one there: in one group, under one name."""
    again = {name for names in ties for name in names[1:]}
    tied = {name for names in ties for name in names}

    def once(names: Iterable[str]) -> list[str]:
        return [name for name in names if name not in again]

    joined = [g for g in reference["groups"] if tied & set(g["parameters"])]
    groups = []
    for group in reference["groups"]:
        if group in joined[1:]:
            continue
        if group in joined:
            modules = [name for one in joined for name in one["modules"]]
            names = [name for one in joined for name in one["parameters"]]
            group = {**group, "modules": modules, "parameters": once(names)}
        groups.append(group)
    parameters = reference["parameters"]
    return {
        **reference,
        "ties": ties,
        "groups": groups,
        "parameters": {name: parameters[name] for name in once(parameters)},
        "optimizers": [
            {
                **optimizer,
                "groups": [
                    {**g, "parameters": once(g["parameters"])}
                    for g in optimizer["groups"]
                ],
            }
            for optimizer in reference["optimizers"]
        ],
    }
