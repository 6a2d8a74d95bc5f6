"""What two executions have to have in common, and where they have not."""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import replace

from codemods.execute.records import Event, Record
from codemods.execute.worlds import REPLICAS
from codemods.targets import Mesh

SHARDING_ONLY = {"reshard_after_forward", "shard_placement_fn", "offload_policy"}
"""Arguments of ``fully_shard`` that replicate does not take, or has no use for."""

GRADIENTS = re.compile(r"\.set_\w*(gradient|reduc|divi|all_reduce)\w*$")
_DIVISION = re.compile(r"\.set_\w*(divi|sum_reduction)\w*$")
_OF_HSDP = ".set_requires_all_reduce"
"""What says nothing of shards alone, and would keep replicas from being reduced."""

_MESH = re.compile(r"Mesh\(([^()]*)\)")
_DDPS_OWN = re.compile(r"optimize_ddp|compiled_autograd|\.(static_graph|ddp_)")
_WORDS = re.compile(r"\b(DDP|FSDP2?|HSDP|fully_shard|replicate)\b", re.I)
_DTYPE = re.compile(r"\b(param|reduce)_dtype=[^,()]+")
_AMP = "maybe_enable_amp"
_CONTEXTS = ("nullcontext", "autocast")
_SUM = (("", "1.0"),)
_NUMBER = re.compile(r"\d+")
_RENAMED = re.compile(r"\b_?apply_(ddp|replicate)\b")
_ADDED = re.compile(r"(, | or )replicate\b")
DATA_PARALLEL = "the mesh of data parallelism"


def same(before: Record, after: Record) -> Iterator[str]:
    """What differs where nothing may."""
    for one, other in _zipped(before.events, after.events):
        if one is None or other is None or _told(one) != _told(other):
            yield f"it would {_does(other)}, where it {_did(one)}"
            return
    if _raised(before) != _raised(after):
        yield f"it would {_ends(after)}, where it {_ended(before)}"
    elif before.returned != after.returned:
        yield f"it would return {after.returned}, where it returned {before.returned}"


def _raised(record: Record) -> tuple[str, str] | None:
    """What a record ended with; only what a statement raises has words of its own."""
    if record.raised is None or record.raised_at is not None:
        return record.raised
    return record.raised[0], ""


def without(record: Record, places: Set[tuple[str, int]]) -> Record:
    """The same without what is done in these lines, groups aside."""
    events = [e for e in record.events if e.modules or e.place not in places]
    return replace(record, events=events)


def open_autocast(record: Record) -> bool:
    """Whether autocast is on or off by a value that is not known."""
    return any(
        event.name.endswith("autocast")
        and dict(event.arguments).get("enabled", "True") not in ("True", "False")
        for event in record.events
    )


def as_chosen(reference: Record, after: Record) -> Iterator[str]:
    """What differs from FSDP where nothing is wrapped, as in a choice of autocast."""
    wanted, got = _contexts(reference), _contexts(after)
    if wanted != got:
        yield f"it would run under {got}, where with FSDP under {wanted}"
    if _bare_name(reference.returned) != _bare_name(after.returned):
        yield f"it would return {after.returned}, where with FSDP {reference.returned}"


def amp_off(record: Record) -> Record:
    """The same where torchtitan's own choice of autocast is not asked: nothing, under FSDP."""
    return replace(record, events=[_with_amp_off(event) for event in record.events])


def _with_amp_off(event: Event) -> Event:
    if event.kind == "call" and event.name.endswith(_AMP):
        return Event("call", "contextlib.nullcontext")
    kept = tuple(
        (key, "contextlib.nullcontext()" if f"{_AMP}(" in value else value)
        for key, value in event.arguments
    )
    return replace(event, arguments=kept)


def _contexts(record: Record) -> list[str]:
    """Autocast, or nothing, as it is made in a run."""
    return [
        # torchtitan's own choice gives nothing under FSDP; here it is not made.
        "nullcontext()" if event.name.endswith(_AMP) else _bare_name(str(event))
        for event in record.events
        if event.kind == "call" and event.name.endswith((*_CONTEXTS, _AMP))
    ]


def _bare_name(text: str) -> str:
    return text.replace("contextlib.", "")


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
    yield from _groups_differ(wanted, got)
    if reference.returned != after.returned:
        yield f"it would return {after.returned}, where with FSDP it returns {reference.returned}"


def dividing(reference: Record, summed: bool) -> Record:
    """What FSDP does, with the division of gradients as it has to be.

    Args:
        reference: with FSDP.
        summed: the training loop divides by the tokens of all ranks, so that gradients
            must be summed, whether FSDP sees to that or not.
    """
    events = [e for e in reference.events if not e.name.endswith(_OF_HSDP)]
    reference = replace(reference, events=events)
    division = _division(reference)
    if all(event.arguments == _SUM for event in division) and (division or not summed):
        return reference
    # Any other factor is applied twice by replicate, and so is not taken over.
    events = [event for event in reference.events if event not in division]
    modules = dict.fromkeys(m for event in events for m in event.modules)
    if summed:
        name = "set_gradient_divide_factor"
        events += [Event("call", f"{m}.{name}", arguments=_SUM) for m in modules]
    return replace(reference, events=events)


def _division(record: Record) -> list[Event]:
    """What is said of the division of gradients, to any group."""
    return [e for e in record.events if e.kind == "call" and _DIVISION.search(e.name)]


def by_itself(reference: Record, after: Record, mesh: Mesh) -> Iterator[str]:
    """What differs between two functions that no plan calls, their meshes aside."""
    wanted = [_apart(event, "mesh") for event in _about_groups(reference)]
    keyword = "device_mesh" if mesh == "2d" else "mesh"
    got = [_apart(event, keyword) for event in _about_groups(after)]
    yield from _groups_differ(wanted, got)


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
    """What differs between the modules of the groups, where nothing says more of them."""
    events = _about_groups(reference)
    for pair in tied:
        events = _tied(events, pair)
    wanted = [_bare(event) for event in events]
    got = [_bare(event) for event in _about_groups(after)]
    yield from _groups_differ(wanted, got)


def _bare(event: Event) -> Event:
    """A group without its mesh and policy."""
    return Event("shard", "group", event.modules) if event.modules else event


def tied_in(record: Record) -> list[tuple[str, str]]:
    """The pairs of modules that get one weight before anything is wrapped."""
    found = []
    for event in record.events:
        if event.modules:
            break
        if event.kind == "set" and event.name.endswith(".weight"):
            value = event.arguments[0][1]
            if value.endswith(".weight"):
                pair = (event.name, value)
                found.append((pair[0][: -len(".weight")], pair[1][: -len(".weight")]))
    return found


def averaging(record: Record) -> Record:
    """The same with gradients divided, as by default."""
    division = _division(record)
    return replace(record, events=[e for e in record.events if e not in division])


def beside(
    before: Record,
    others: Iterable[Record],
    after: Record,
    said: Set[tuple[str, int]] = frozenset(),
) -> Iterator[str]:
    """What else is lost or new where DDP became replicate.

    Args:
        before: with DDP, as far as it came.
        others: what it may do besides: with FSDP, and with DDP alone.
        after: with replicate.
        said: path and line of statements that a person is told to take over.
    """
    kept, new = (Counter(map(_aside, _else(record))) for record in (before, after))
    allowed = kept.copy()
    for record in others:
        allowed |= Counter(map(_aside, _else(record)))
    for event in new - allowed:
        if event.kind == "log":
            continue  # said once more, or by the new function
        yield f"it would {_does(event)}, which neither DDP nor FSDP does here"
    words = {event.arguments for event in new if event.kind == "log"}
    for event in kept - new:
        if event.kind == "log" and event.arguments in words:
            continue  # said by the logger of the file that it is in now
        if not _DDPS_OWN.search(event.name) and event.place not in said:
            yield f"it would no longer {_does(event)}"


def narrower(before: Record, after: Record, refused: bool) -> str | None:
    """What is lost of an axis of a fork's own, in a world that has one.

    "" if nothing is, and None where nothing is wrapped. FSDP is no measure: whether that
    goes over such an axis is the fork's choice.

    Args:
        before: with DDP.
        after: with replicate.
        refused: DDP's branch was not to be reached there.
    """
    if before.of("ddp") and after.raised and not before.raised:
        return f"it would {_ends(after)}, where DDP wrapped"
    if not after.of("replicate"):
        return "" if before.of("ddp") else None
    old, new = (
        {m for e in events for _, v in e.arguments for m in _MESH.findall(v)}
        for events in (before.of("ddp"), after.of("replicate"))
    )
    ranks = [math.prod(map(int, re.findall(r"=(\d+)", mesh))) for mesh in new]
    if refused and any(count <= REPLICAS for count in ranks):
        return "it would replicate, where that axis was refused"
    if refused or not old or old == new:
        return ""
    return f"it would replicate over ({', '.join(new)}), and DDP went over ({', '.join(old)})"


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
    if event.kind == "replicate":
        return [*dims.values()] == [str(REPLICAS)]
    return str(REPLICAS) in dims.values()  # of FSDP nothing is judged


def _tied(groups: list[Event], pair: tuple[str, str]) -> list[Event]:
    """The groups with those of a pair of modules that are one parameter in one."""
    holding = [g for g in groups if g.kind == "shard" and set(g.modules) & set(pair)]
    if len(holding) == 1 and not set(pair) <= set(holding[0].modules):
        # The other is in the root's group, so this has to be as well.
        (held,) = holding
        rest = tuple(module for module in held.modules if module not in pair)
        kept = [replace(held, modules=rest)] if rest else []
        return [g for group in groups for g in (kept if group is held else [group])]
    if len(holding) != 2:
        return groups
    first, last = holding
    merged = Event(
        "shard", "group", (*first.modules, *last.modules), last.arguments, last.place
    )
    return [merged if g is last else g for g in groups if g is not first]


def _groups_differ(wanted: list[Event], got: list[Event]) -> Iterator[str]:
    """What differs between two lists of groups, and of what is done to them.

    Which of two groups comes first matters only where one is within the other.
    """
    missing = [*(Counter(map(_unordered, wanted)) - Counter(map(_unordered, got)))]
    extra = [*(Counter(map(_unordered, got)) - Counter(map(_unordered, wanted)))]
    if missing or extra:
        one, other = (next(iter(events), None) for events in (missing, extra))
        yield f"it would {_does(other)}, where FSDP {_did(one, 'has')}"
    elif before := _before_their_parts(got) - _before_their_parts(wanted):
        outer, inner = min(before)
        yield f"it would wrap {outer} before {inner}, which is within it"


def _unordered(event: Event) -> Event:
    return replace(event, modules=tuple(sorted(event.modules)))


def _before_their_parts(events: list[Event]) -> set[tuple[str, str]]:
    """(module, one within it) of groups, where the outer one comes first."""
    modules = [m for event in events for m in event.modules]
    return {
        (outer, inner)
        for index, outer in enumerate(modules)
        for inner in modules[index + 1 :]
        if inner.startswith((f"{outer}.", f"{outer}["))
    }


def _aside(event: Event) -> Event:
    """An event beside the groups, which mesh it is about aside."""
    told = _told(event)
    if event.kind == "set":  # what DDP's function returned is not what this returns
        return replace(told, arguments=())
    arguments = tuple((k, _MESH.sub("the mesh", v)) for k, v in told.arguments)
    if event.kind == "log":  # how many ranks a mesh has is another number now
        arguments = tuple((k, _NUMBER.sub("N", v)) for k, v in arguments)
    return replace(told, name=_MESH.sub("the mesh", told.name), arguments=arguments)


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
