"""Whether a call of DDP is reached by pure replication alone."""

import ast
import math
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from codemods import meshes
from codemods.autocast import FUNCTION as AUTOCAST
from codemods.autocast import REPLICATED, mixed_precision, of_a_test
from codemods.bindings import Checkout
from codemods.execute.arrival import Arrivals
from codemods.execute.confirm import lines_of
from codemods.execute.worlds import REPLICAS, World
from codemods.guards import guards
from codemods.interpret import CannotFollow, Raised
from codemods.names import Definition
from codemods.nodes import nodes, spelled
from codemods.once import once
from codemods.plans.records import Facts
from codemods.survey import CallSite

_ALONE = {"dp_replicate": REPLICAS}
_SHARDED = {"dp_shard": 11}
_CONTEXT = 7
_OWN = 13
"""The degree of an axis of a fork's own; no other degree is a factor of it."""

_OTHERS: Mapping[str, Mapping[str, int]] = {
    "on one device": {},
    "by tp": {"tp": 2},
    "by pp": {"pp": 5},
    "by cp": {"cp": _CONTEXT},
    "by ep": {"tp": 2, "ep": 2},
}
"""Worlds that are not to replicate."""

_BY_NAME = ".get_mesh('dp_replicate')"
_DEPTH = 3
"""Through how many functions of the checkout a call is looked for from outside."""


@dataclass(frozen=True)
class Otherwise:
    """How a call is reached by something else than pure replication.

    Args:
        reason: as the end of a sentence about the call.
        before: the code that has to stand before the new call.
        inside: the new call stands within that.
        also: what stands before it besides.
    """

    reason: str
    before: str
    inside: bool = False
    also: "Otherwise | None" = None

    def around(self, call: str) -> str:
        """The new call where it may stand."""
        rest = self.also.around(call) if self.also else call
        return (
            f"{self.before}\n{textwrap.indent(rest, '    ') if self.inside else rest}"
        )


def otherwise(facts: Facts, site: CallSite, *, kept: bool) -> Otherwise | None:
    """Why a call may not simply replicate over dp_replicate; None where nothing is against it.

    Args:
        facts: about the checkout.
        site: the call of DDP.
        kept: replicate would take the mesh that DDP takes.

    The plan is executed up to the call, in worlds of torchtitan's dimensions and of the
    fork's own, by what the checkout's ParallelDims answers and builds. None too where it is
    not seen to come to the call under pure replication.
    """
    if site.function is None or _asks_for_replication(facts, site):
        return None
    own = (site.reference.path, site.reference.scope)
    found = [_arrivals(facts, site, place) for place in _entries(facts, own, _DEPTH)]
    ways = [*filter(None, found)] or [*filter(None, [_arrivals(facts, site, own)])]
    reasons = (_judged(facts, site, arrivals, kept) for arrivals in ways)
    return next(filter(None, reasons), None)


def with_context(facts: Facts, site: CallSite, *, kept: bool) -> Otherwise | None:
    """Why a call must not replicate beside context parallelism; None where that is FSDP's, or was not refused.

    The ranks of cp are torchtitan's for FSDP: it shards over them. A plan that asks for
    dp_shard alone comes to DDP with them, and there they were refused.
    """
    if site.function is None or _is_fsdps(facts, site):
        return None
    own = (site.reference.path, site.reference.scope)
    for place in _entries(facts, own, _DEPTH):
        arrivals = _arrivals(facts, site, place)
        if arrivals is not None and arrivals.comes(_SHARDED) is None:
            found = _beside(arrivals, _dims(site), "cp", _CONTEXT, kept)
            if found is not None:
                return found
    return None


def _asks_for_replication(facts: Facts, site: CallSite) -> bool:
    """Whether nothing but replication reaches a call, and there is no axis of the fork's own.

    As in every release: it is in the branch of ``dp_replicate_enabled``, or asks ParallelDims
    for the mesh of that name, which there is with no other degree.
    """
    home = meshes.parallel_dims_of(facts.checkout, site.reference.path)
    if home is None or meshes.own_degrees(facts.checkout, home):
        return False
    given = (*site.node.args, *(k.value for k in site.node.keywords))
    named = any(ast.unparse(node).endswith(_BY_NAME) for node in given)
    if named and _is_with_replicas_alone(facts.checkout, home):
        return True
    return any(
        isinstance(part, ast.Attribute) and part.attr == REPLICATED
        for node in nodes(site.function or ast.Pass())
        if isinstance(node, ast.If) and _holds(node.body, site.node)
        for part in _parts(node.test, ast.And)
    ) and _is_of_replication(facts.checkout, home)


def _is_fsdps(facts: Facts, site: CallSite) -> bool:
    """Whether a branch before that of a call takes ranks of cp by a property, as in every release."""
    home = meshes.parallel_dims_of(facts.checkout, site.reference.path)
    return home is not None and any(
        isinstance(part, ast.Attribute)
        and _answers(facts.checkout, home, part.attr, "cp") is True
        for node in nodes(site.function or ast.Pass())
        if isinstance(node, ast.If) and node.orelse and _holds(node.orelse, site.node)
        for part in _parts(node.test, ast.Or)
    )


@once
def _answers(checkout: Checkout, home: str, name: str, beside: str) -> object:
    """What a property of a ParallelDims is beside replication; None where it is not followed."""
    try:
        built = meshes.build(checkout, home, {**_ALONE, beside: _CONTEXT})
        return built.interpreter.attribute(built.parallel_dims, name, ast.Pass())
    except (CannotFollow, Raised):
        return None


@once
def _is_with_replicas_alone(checkout: Checkout, home: str) -> bool:
    """Whether a ParallelDims has a mesh called dp_replicate where that is on, and only there."""
    try:
        worlds = [_ALONE, *_OTHERS.values()]
        found = [meshes.build(checkout, home, w).got("dp_replicate") for w in worlds]
    except (CannotFollow, Raised):
        return False
    return found[0] is not None and not any(found[1:])


def _holds(block: list[ast.stmt], call: ast.Call) -> bool:
    return block[0].lineno <= call.lineno <= (block[-1].end_lineno or 0)


def _parts(test: ast.expr, operator: type[ast.boolop]) -> list[ast.expr]:
    """What ``and`` or ``or`` joins; the condition alone where it does not."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, operator):
        return test.values
    return [test]


@once
def _is_of_replication(checkout: Checkout, home: str) -> bool:
    """Whether ``dp_replicate_enabled`` of a ParallelDims is about dp_replicate alone."""
    for degrees in _OTHERS.values():
        try:
            built = meshes.build(checkout, home, degrees)
            dims = built.parallel_dims
            asked = built.interpreter.attribute(dims, REPLICATED, ast.Pass())
        except CannotFollow:
            return False
        except Raised:
            continue  # it refuses these degrees, or somebody else has the answer
        if asked is not False:
            return False
    return True


def _arrivals(facts: Facts, site: CallSite, place: tuple[str, str]) -> Arrivals | None:
    """The executions of a function, where it comes to the call by pure replication."""
    if place[1] not in facts.tree.functions(place[0]):
        return None
    passing = {
        line
        for path in {place[0], site.reference.path}
        for guard in guards(facts.survey.files[path].syntax)
        for line in lines_of(path, (guard.node, *guard.refusal))
    }
    arrivals = Arrivals(facts.tree, place, site.node, frozenset(passing))
    return arrivals if arrivals.finds_the_way(_ALONE) else None


def _entries(
    facts: Facts, place: tuple[str, str], depth: int
) -> Iterator[tuple[str, str]]:
    """The functions by which one is reached from outside: those that call it, and are not called."""
    path, name = place
    calling: dict[tuple[str, str], None] = {}
    if depth and "." not in name:
        for file in facts.checkout.mentioning(name):
            for use in file.names.uses if not of_a_test(file.path) else ():
                if use.call is None or not use.scope or use.scope == name:
                    continue
                if use.spelling.rpartition(".")[2] != name and name in use.spelling:
                    continue
                found = facts.checkout.resolve(file.path, use.scope, use.spelling)
                if found == Definition(path, name):
                    calling[file.path, use.scope] = None
    if not calling:
        yield place
    for caller in calling:
        yield from _entries(facts, caller, depth - 1)


def _judged(
    facts: Facts, site: CallSite, arrivals: Arrivals, kept: bool
) -> Otherwise | None:
    home = meshes.parallel_dims_of(facts.checkout, arrivals.place[0])
    own = [*meshes.own_degrees(facts.checkout, home)] if home else []
    worlds: dict[str, Mapping[str, int]] = {f"by {name}": {name: _OWN} for name in own}
    if arrivals.comes(_SHARDED) is None:  # so it goes by the degrees
        worlds |= _OTHERS
    by = [how for how, world in worlds.items() if arrivals.comes(world)]
    dims = _dims(site)
    if kept:
        by = [how for how in by if _casts(facts, worlds[how])]
    found = (_beside(arrivals, dims, name, _OWN, kept) for name in own)
    beside = next(filter(None, found), None)
    if not by:
        return beside
    question = arrivals.decided_by({}, _ALONE) if "on one device" in by else None
    by = [how for how in by if how not in _OTHERS] if question else by
    return _reached(
        by + ([f"where {question}"] if question else []), dims, beside, kept
    )


def _casts(facts: Facts, degrees: Mapping[str, int]) -> bool:
    """Whether autocast is on under some degrees; True where it cannot be told."""
    if mixed_precision(facts.checkout) == "none":
        return False
    chosen = [
        facts.tree.run((file.path, name), World(degrees))
        for file in facts.checkout.mentioning(f"def {AUTOCAST}")
        for name, (node, _) in facts.tree.functions(file.path).items()
        if node.name == AUTOCAST
    ]
    return not chosen or any(
        record is None
        or record.unclear is not None
        or any(event.name.endswith("autocast") for event in record.events)
        for record in chosen
    )


def _dims(site: CallSite) -> str:
    """What the function around a call has ParallelDims under."""
    for node in nodes(site.function) if site.function else ():
        if isinstance(node, ast.Attribute) and node.attr == REPLICATED:
            return spelled(node.value)
    return "parallel_dims"


def _reached(
    by: list[str], dims: str, beside: Otherwise | None, kept: bool
) -> Otherwise:
    *first, last = by
    ways = f"{', '.join(first)} and {last}" if first else last
    reached = f"it is reached without dp_replicate too, {ways}"
    alone = f"{AUTOCAST} leaves out autocast for dp_replicate alone"
    if kept:
        return Otherwise(
            f"{reached}, and {alone}: leave it out there as well, so that it is not on top "
            "of the policy",
            f"# after autocast is left out {ways} too",
        )
    return Otherwise(
        f"{reached}: there is no mesh of dp_replicate then, and {alone}. Replicate where that "
        "is on, and see to the rest in a branch of its own",
        f"if {dims}.{REPLICATED}:",
        inside=True,
        also=beside,
    )


def _beside(
    arrivals: Arrivals, dims: str, name: str, degree: int, kept: bool
) -> Otherwise | None:
    """Why replication may not go beside another axis; None where nothing speaks of it."""
    passed = arrivals.comes({**_ALONE, name: degree})
    if passed is None:
        return None
    over = any(math.prod(m.sizes) % degree == 0 for m in passed.meshes)
    if over and kept:
        return None  # replicate goes over it as well
    if over:
        has = f"the mesh that it passes also goes over {name}"
    elif passed.guarded:
        has = f"{name} beside dp_replicate is refused on the way to it"
    else:
        return None
    return Otherwise(
        f"{has}, and to replicate over dp_replicate alone would leave the gradients of its "
        f"ranks apart: go on refusing {name} there, or pass a mesh of all ranks that hold "
        "the same weights",
        f"if {dims}.{name} > 1:\n"
        f'    raise NotImplementedError("replicate goes over dp_replicate, and not over {name}")',
    )
