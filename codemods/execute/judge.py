"""What two executions have to have in common, and where they have not."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace

from codemods.execute.records import Event, Record
from codemods.execute.worlds import REPLICAS
from codemods.targets import Mesh

SHARDING_ONLY = {"reshard_after_forward", "shard_placement_fn", "offload_policy"}
"""Arguments of ``fully_shard`` that replicate does not take, or has no use for."""

GRADIENTS = re.compile(r"\.set_\w*(gradient|reduc|divi|all_reduce)\w*$")
_MESH = re.compile(r"Mesh\(([^()]*)\)")
_DDPS_OWN = re.compile(r"optimize_ddp|compiled_autograd|\.(static_graph|ddp_)")
_WORDS = re.compile(r"\b(DDP|FSDP2?|HSDP|fully_shard|replicate)\b", re.I)
_DTYPE = re.compile(r"\b(param|reduce)_dtype=[^,()]+")
_SUM = (("", "1.0"),)
_RENAMED = re.compile(r"\b_?apply_(ddp|replicate)\b")
_ADDED = re.compile(r"(, | or )replicate\b")
DATA_PARALLEL = "the mesh of data parallelism"


def same(before: Record, after: Record) -> Iterator[str]:
    """What differs where nothing may."""
    for one, other in _zipped(before.events, after.events):
        if one is None or other is None or _told(one) != _told(other):
            yield f"it would {_does(other)}, where it {_did(one)}"
            return
    if before.raised != after.raised:
        yield f"it would {_ends(after)}, where it {_ended(before)}"
    elif before.returned != after.returned:
        yield f"it would return {after.returned}, where it returned {before.returned}"


def as_chosen(reference: Record, after: Record) -> Iterator[str]:
    """What differs from FSDP where nothing is wrapped, as in a choice of autocast."""
    events = []
    for event in reference.events:
        # torchtitan's own gives this under FSDP; it is not called under replicate.
        if event.kind == "call" and event.name.endswith(".maybe_enable_amp"):
            event = Event("call", "contextlib.nullcontext", place=event.place)
        events.append(event)
    yield from same(replace(reference, events=events), after)


def in_full_precision(record: Record) -> Record:
    """The same with a policy of fp32 in each group."""
    return replace(
        record,
        events=[
            replace(
                event,
                arguments=tuple(
                    (k, _DTYPE.sub(r"\1_dtype=torch.float32", v))
                    for k, v in event.arguments
                ),
            )
            for event in record.events
        ],
    )


def as_sharded(
    reference: Record, after: Record, mesh: Mesh, tied: Sequence[tuple[str, str]] = ()
) -> Iterator[str]:
    """What differs between groups that replicate and those that shard the same model.

    Args:
        reference: with FSDP over as many ranks.
        after: with replicate.
        mesh: of the target.
        tied: pairs of modules that share their weight in this world.
    """
    if reference.raised != after.raised:
        yield f"it would {_ends(after)}, where with FSDP it {_ended(reference)}"
        return
    wanted = [_group(event, "1d") for event in _about_groups(reference)]
    for pair in tied:
        wanted = _tied(wanted, pair)
    got = [_group(event, mesh) for event in _about_groups(after)]
    if tied:
        wanted, got = _in_no_order(wanted), _in_no_order(got)
    for one, other in _zipped(wanted, got):
        if one != other:
            yield f"it would {_does(other)}, where FSDP {_did(one, 'has')}"
            return
    if reference.returned != after.returned:
        yield f"it would return {after.returned}, where with FSDP it returns {reference.returned}"


def dividing(reference: Record, summed: bool) -> Record:
    """What FSDP does, with the division of gradients as it has to be.

    Args:
        reference: with FSDP.
        summed: the training loop divides by the tokens of all ranks, so that gradients
            must be summed, whether FSDP sees to that or not.
    """
    division = [e for e in _about_groups(reference) if not e.modules]
    if all(event.arguments == _SUM for event in division) and (division or not summed):
        return reference
    # Any other factor is applied twice by replicate, and so is not taken over.
    events = [event for event in reference.events if event not in division]
    modules = dict.fromkeys(m for event in events for m in event.modules)
    if summed:
        name = "set_gradient_divide_factor"
        events += [Event("call", f"{m}.{name}", arguments=_SUM) for m in modules]
    return replace(reference, events=events)


def by_itself(reference: Record, after: Record, mesh: Mesh) -> Iterator[str]:
    """What differs between two functions that no plan calls, their meshes aside."""
    wanted = [_apart(event, "mesh") for event in _about_groups(reference)]
    keyword = "device_mesh" if mesh == "2d" else "mesh"
    got = [_apart(event, keyword) for event in _about_groups(after)]
    for one, other in _zipped(wanted, got):
        if one != other:
            yield f"it would {_does(other)}, where FSDP {_did(one, 'has')}"
            return


def _apart(event: Event, keyword: str) -> Event:
    if not event.modules:
        return event
    kept = tuple(
        ("mesh", "") if key in (keyword, "1") else (key, value)
        for key, value in event.arguments
        if key not in SHARDING_ONLY
    )
    return Event("shard", "group", event.modules, tuple(sorted(kept)), event.place)


def same_groups(
    reference: Record, after: Record, tied: Sequence[tuple[str, str]] = ()
) -> Iterator[str]:
    """What differs between the modules of the groups, where nothing says more of them.

    Gradients are divided as there, or as by default everywhere.
    """
    events = [e for e in reference.events if e.modules]
    for pair in tied:
        events = _tied(events, pair)
    wanted = [e.modules for e in events]
    got = [e.modules for e in after.events if e.modules]
    if tied:
        wanted = [tuple(sorted(modules)) for modules in wanted]
        got = [tuple(sorted(modules)) for modules in got]
    if wanted != got:
        yield f"it would wrap {got}, where FSDP wraps {wanted}"
    divided = [e for e in _about_groups(after) if not e.modules]
    if (
        divided
        and not tied
        and divided != [e for e in _about_groups(reference) if not e.modules]
    ):
        yield "it would divide gradients for other groups than FSDP"


def beside(
    before: Record,
    reference: Record,
    after: Record,
    said: Set[tuple[str, int]] = frozenset(),
) -> Iterator[str]:
    """What else is lost or new where DDP became replicate.

    Args:
        before: with DDP, as far as it came.
        reference: with FSDP.
        after: with replicate.
        said: path and line of statements that a person is told to take over.
    """
    kept, new = Counter(map(_told, _else(before))), Counter(map(_told, _else(after)))
    allowed = kept | Counter(map(_told, _else(reference)))
    for event in new - allowed:
        yield f"it would {_does(event)}, which neither DDP nor FSDP does here"
    for event in kept - new:
        if not _DDPS_OWN.search(event.name) and event.place not in said:
            yield f"it would no longer {_does(event)}"


def _about_groups(record: Record) -> list[Event]:
    return [
        event
        for event in record.events
        if event.modules or (event.kind == "call" and GRADIENTS.search(event.name))
    ]


def _else(record: Record) -> list[Event]:
    return [
        event
        for event in record.events
        if not event.modules
        and not (event.kind == "call" and GRADIENTS.search(event.name))
    ]


def _group(event: Event, mesh: Mesh) -> Event:
    """A group in terms that FSDP and replicate share."""
    if event.kind not in ("shard", "replicate"):
        return event
    keyword = "device_mesh" if event.kind == "replicate" and mesh == "2d" else "mesh"
    arguments = []
    for key, value in event.arguments:
        if key in SHARDING_ONLY and event.kind == "shard":
            continue
        if key in (keyword, "1") and _is_data_parallel(event, value, mesh):
            key, value = "mesh", DATA_PARALLEL
        arguments.append((key, value))
    return Event("shard", "group", event.modules, tuple(sorted(arguments)), event.place)


def _is_data_parallel(event: Event, value: str, mesh: Mesh) -> bool:
    found = _MESH.fullmatch(value)
    if not found:
        return False
    dims = dict(part.split("=") for part in found[1].split(", ") if part)
    if event.kind == "replicate" and mesh == "2d":
        return [*dims.values()] == [str(REPLICAS), "1"]
    sizes = [size for size in dims.values() if size != "1"]
    if event.kind == "replicate" and len(dims) > 1:
        return False
    return sizes == [str(REPLICAS)]


def _tied(groups: list[Event], pair: tuple[str, str]) -> list[Event]:
    """The groups with those of a pair of modules that are one parameter in one."""
    holding = [g for g in groups if g.kind == "shard" and set(g.modules) & set(pair)]
    if len(holding) != 2:
        return groups
    first, last = holding
    merged = Event(
        "shard", "group", (*first.modules, *last.modules), last.arguments, last.place
    )
    return [merged if g is last else g for g in groups if g is not first]


def _in_no_order(events: list[Event]) -> list[Event]:
    """Groups in order, each with its modules in none, and then what is done to them."""
    groups = [replace(e, modules=tuple(sorted(e.modules))) for e in events if e.modules]
    return [*groups, *sorted((e for e in events if not e.modules), key=str)]


def _told(event: Event) -> Event:
    """An event without what the migration says in other words."""
    if event.kind in ("call", "set"):
        return Event(
            event.kind,
            event.name,
            (),
            tuple((key, _RENAMED.sub("apply_dp", v)) for key, v in event.arguments),
            event.place,
        )
    if event.kind != "log":
        return event
    words = tuple(
        (key, _WORDS.sub("DP", _ADDED.sub("", value))) for key, value in event.arguments
    )
    return Event("log", event.name, (), words, event.place)


def _zipped(
    left: Sequence[Event], right: Sequence[Event]
) -> Iterator[tuple[Event | None, Event | None]]:
    for index in range(max(len(left), len(right))):
        yield (
            left[index] if index < len(left) else None,
            right[index] if index < len(right) else None,
        )


def _does(event: Event | None) -> str:
    return f"do {event}" if event else "do nothing more"


def _did(event: Event | None, verb: str = "did") -> str:
    return f"{verb} {event}" if event else f"{verb} nothing more"


def _ends(record: Record) -> str:
    return f"raise {': '.join(record.raised)}" if record.raised else "go through"


def _ended(record: Record) -> str:
    return f"raised {': '.join(record.raised)}" if record.raised else "went through"
