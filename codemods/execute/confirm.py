"""Every function that a migration changes, executed before and after it."""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property

from codemods.bindings import Checkout
from codemods.execute import judge
from codemods.execute.placements import judged as adapter
from codemods.execute.placements import takes_placements
from codemods.execute.records import Mismatch, Place, Record, Verdict
from codemods.execute.run import Run
from codemods.execute.tree import Tree, changed_functions, new_wrappers
from codemods.execute.worlds import REPLICAS, World, few_degrees
from codemods.guards import Guard, guards
from codemods.interpret.values import CannotFollow, Frame, Function, Raised, Unknown
from codemods.interpret.values import Mesh as MeshStandIn
from codemods.meshes import Meshes
from codemods.names import Definition
from codemods.shapes import first_parameter, sharding_in
from codemods.targets import Mesh

_UNCLEAR = "unclear: "
_FAILED = "failed: "
"""It failed before it came to data parallelism: nothing is shown in that world."""


@dataclass(frozen=True)
class Known:
    """What is known of a migration beside the texts.

    Args:
        mesh: of the target.
        ties: pairs of expressions that share a weight, by place of a plan.
        said: path and line of statements that a person is told to take over.
        templates: new functions that are no mirror, which a person is told as well.
        full_precision: calls pass fp32, whatever FSDP is given.
        summed: new functions whose gradients have to be summed over ranks, whatever FSDP does.
        due: functions that have to change, and are executed also where they did not.
        averaging: functions with a loop of their own, whose gradients are averaged.
    """

    mesh: Mesh
    ties: Mapping[Place, Sequence[tuple[str, str]]] = field(default_factory=dict)
    said: Set[tuple[str, int]] = frozenset()
    templates: Set[Place] = frozenset()
    full_precision: bool = False
    summed: Set[Place] = frozenset()
    due: Set[Place] = frozenset()
    averaging: Set[Place] = frozenset()


@dataclass
class Confirmation:
    """Executes what changed, world by world.

    Args:
        before: the checkout as it is.
        after: as it would be.
        known: beside their texts.
        degrees: of parallelism, each combination a world.
        flips: also answer each open question the other way, one at a time.
    """

    before: Tree
    after: Tree
    known: Known
    degrees: Sequence[Mapping[str, int]]
    flips: bool
    verdict: Verdict = field(default_factory=Verdict)
    entered: set[Place] = field(default_factory=set)
    records: dict[tuple[object, ...], Record | None] = field(default_factory=dict)
    reached: bool = False

    @cached_property
    def changed(self) -> list[Place]:
        """The functions that are in both and not the same."""
        return list(changed_functions(self.before, self.after))

    @cached_property
    def fresh(self) -> list[Place]:
        """The functions that wrap with replicate themselves, and did not before."""
        return new_wrappers(self.before, self.after)

    def all(self) -> Verdict:
        # The plans first: what they enter is shown by them.
        for place in dict.fromkeys((*self.changed, *sorted(self.known.due))):
            if place not in self.fresh:
                self._of(place)
        for place in self.fresh:
            if place not in self.entered:
                self.reached = True
                self._conclude(place, self._of_definition(place))
        return self.verdict

    def _of(self, place: Place) -> None:
        self.records.clear()
        self.reached = False
        path, name = place
        old, new = (tree.functions(path)[name] for tree in (self.before, self.after))
        if takes_placements(old[0]):
            found = adapter(self.before.checkout, self.after.checkout, path, old, new)
            self._conclude(place, found)
        elif name.startswith("ParallelDims."):
            self._conclude(place, self._of_parallel_dims(path))
        else:
            self._conclude(
                place,
                (
                    (str(world), difference)
                    for world in self._worlds(place)
                    for difference in self._judged(place, world)
                ),
            )

    def _of_parallel_dims(self, path: str) -> Iterator[tuple[str, str]]:
        """What differs between the meshes that are built."""
        for degrees in self.degrees:
            world = World(degrees)
            try:
                before = self.before.meshes(path, world)
            except Raised:
                continue  # it is refused, and need not be any more
            except CannotFollow as error:
                yield "", f"{_UNCLEAR}{error}"
                return
            try:
                after = self.after.meshes(path, world)
            except Raised as error:
                yield str(world), f"it would raise {error}"
                continue
            except CannotFollow as error:
                yield "", f"{_UNCLEAR}{error}"
                return
            if before.parallel_dims.of is None or after.parallel_dims.of is None:
                yield "", f"{_UNCLEAR}its meshes are not followed"
                return
            yield from self._built(world, before, after)

    def _built(
        self, world: World, before: Meshes, after: Meshes
    ) -> Iterator[tuple[str, str]]:
        """What differs between two sets of meshes; a shard of one rank is 2-D replicate's."""
        if _split(before.world) != _split(after.world):
            yield str(world), f"it would build {after.world}, not {before.world}"
        sharded = self.known.mesh == "2d" and "dp_replicate" in world.degrees
        if not sharded:
            if before.world != after.world:
                yield str(world), f"it would build {after.world}"
        elif world.replicates and "cp" not in world.degrees:
            found = [after.find("dp_replicate", name) for name in ("dp_shard", "fsdp")]
            if not any(f is not None and f.sizes == (REPLICAS, 1) for f in found):
                yield str(world), "it would build no mesh of dp_replicate and a shard"

    def _conclude(self, place: Place, found: Iterable[tuple[str, str]]) -> None:
        unclear: list[str] = []
        failed: list[str] = []
        wrong: list[Mismatch] = []
        line = self.after.functions(place[0])[place[1]][0].lineno
        for world, difference in found:
            if difference.startswith(_UNCLEAR):
                unclear.append(difference.removeprefix(_UNCLEAR))
            elif difference.startswith(_FAILED):
                failed.append(difference.removeprefix(_FAILED))
            else:
                wrong.append(Mismatch(*place, line, world, difference))
        self.verdict.mismatches += wrong
        if not self.reached and self._wraps(place):
            unclear += [*failed, "its replicate is not reached"]
        if unclear:
            self.verdict.unclear[place] = unclear[0]
        elif not wrong:
            self.verdict.confirmed.append(place)

    def _worlds(self, place: Place) -> Iterator[World]:
        """Each combination of degrees, and each open question answered otherwise once.

        Once under pure replication and once elsewhere; a tie that is known of is one of
        these questions, also where the new code does not ask.
        """
        flipped: set[tuple[bool, str]] = set()
        ties = [
            " is ".join(sorted(f"{module}.weight" for module in pair))
            for pair in self.known.ties.get(place, ())
        ]
        for degrees in self.degrees:
            world = World(degrees)
            yield world
            asked = dict.fromkeys(ties, False) if world.replicates else {}
            if self.flips:
                asked |= self._asked(place, world)
            for question, answer in asked.items():
                if (world.replicates, question) not in flipped:
                    flipped.add((world.replicates, question))
                    yield World(degrees, {question: not answer})
        if not self.flips and not self.reached and self._wraps(place):
            degrees = {"dp_replicate": REPLICAS}
            for question, answer in self._asked(place, World(degrees)).items():
                yield World(degrees, {question: not answer})

    def _wraps(self, place: Place) -> bool:
        """Whether a function wraps with replicate, or calls one that does."""
        return self.after.replicates(*place)

    def _asked(self, place: Place, world: World) -> dict[str, bool]:
        asked: dict[str, bool] = {}
        runs = [(self.before, world), (self.after, world)]
        if world.replicates:
            runs.append((self.before, world.sharded))
        for tree, where in runs:
            record = self._run(tree, place, where)
            asked |= record.asked if record else {}
        return asked

    def _run(
        self,
        tree: Tree,
        place: Place,
        world: World,
        passing: frozenset[tuple[str, int]] = frozenset(),
    ) -> Record | None:
        key = (tree is self.after, str(world), world.in_place_of_replicas, passing)
        if key not in self.records:
            self.verdict.runs += 1
            self.records[key] = tree.run(place, world, passing)
        return self.records[key]

    def _judged(self, place: Place, world: World) -> Iterator[str]:
        before = self._run(self.before, place, world)
        after = self._run(self.after, place, world)
        if before is None and after is None:
            return
        before = before or self._refused(place, world)
        if before is None or after is None:
            yield "ParallelDims takes these degrees only before or after"
            return
        for record in (before, after):
            if record.unclear:
                yield f"{_UNCLEAR}{record.unclear}"
                return
        yield from self._compared(place, world, before, after)

    def _refused(self, place: Place, world: World) -> Record | None:
        """What was done where a guard in ParallelDims refused the degrees."""
        raised = self.before.refusal(place[0], world)
        if raised is None or (raised.path, raised.line) not in self.guarded:
            return None
        at = (raised.path, raised.line)
        return Record(raised=(raised.kind, raised.message), raised_at=at)

    def _compared(
        self, place: Place, world: World, before: Record, after: Record
    ) -> Iterator[str]:
        """What differs between two executions that were followed to their end."""
        refused = any(event.place in self.guarded for event in before.events)
        before = judge.without(before, self.guarded)
        refused |= self._was_guarded(before, after)
        failed = before.raised if before.raised_at is None else None
        if failed and world.replicates and not world.answers:
            yield f"{_FAILED}it raises {': '.join(failed)}"
            return
        self.entered |= after.entered if after.of("replicate") else set()
        narrower = judge.narrower(before, after, refused) if world.own else None
        if narrower is not None:
            yield from [narrower] if narrower else []
        elif before.of("ddp") and not world.replicates:
            yield from self._alone(place, world, before, after)
        elif not before.of("ddp") and not after.of("replicate"):
            if not world.replicates and refused:
                return
            yield from self._unwrapped(place, world, before, after)
        elif not world.replicates and refused:
            if after.of("replicate"):
                yield f"{_UNCLEAR}with {world} it was refused, and would replicate now"
        elif not world.replicates:
            yield from judge.same(before, after)
        else:
            self.reached = True
            yield from self._as_sharded(place, world, before, after)

    def _unwrapped(
        self, place: Place, world: World, before: Record, after: Record
    ) -> Iterator[str]:
        """What differs where nothing is wrapped: a choice of autocast, or a guard."""
        if self._was_guarded(before, after):
            before = self._passed(place, world, before)
        differences = list(judge.same(before, after))
        due = place in self.known.due or self._still_guarded(before)
        if world.replicates and (differences or due):
            reference = self._run(self.before, place, world.sharded)
            if reference is None:
                return
            if reference.unclear:
                yield f"{_UNCLEAR}{reference.unclear}"
            elif reference.of("shard"):
                self.reached = True
                yield from judge.as_sharded(reference, after, self.known.mesh)
            elif differences or due:
                chosen = list(judge.as_chosen(reference, after))
                if chosen and judge.open_autocast(reference):
                    chosen = [f"{_UNCLEAR}whether autocast is on is said elsewhere"]
                yield from chosen
        elif differences and judge.open_autocast(before):
            yield f"{_UNCLEAR}whether autocast is on is said elsewhere"
        elif differences and world.shards:
            yield from judge.same(judge.amp_off(before), after)
        else:
            yield from differences

    def _as_sharded(
        self, place: Place, world: World, before: Record, after: Record
    ) -> Iterator[str]:
        """What differs from FSDP over as many ranks."""
        reference = self._reference(place, world)
        if reference is None:
            return
        if reference.unclear:
            yield f"{_UNCLEAR}{reference.unclear}"
            return
        passed = self._passed(place, world, before)
        if passed.of("replicate"):  # it was migrated already, as somebody chose to
            yield from judge.same(passed, after)
            return
        if not reference.of("shard") and (passed.of("ddp") or after.of("replicate")):
            yield from self._alone(place, world, passed, after)
            return
        reason = self._incomparable(place, world, reference, after)
        if reason is not None:
            yield from [f"{_UNCLEAR}{reason}"] if reason else []
            return
        reference = self._divided(place, reference, after)
        if self.known.full_precision:
            reference = judge.in_full_precision(reference)
        tied = [*world.tied, *judge.tied_in(reference)]
        yield from judge.as_sharded(reference, after, self.known.mesh, tied)
        if passed.of("ddp") or not before.raised:
            yield from self._beside(place, world, passed, reference, after)

    def _divided(self, place: Place, reference: Record, after: Record) -> Record:
        """What FSDP does, with the division of gradients as the loop that runs it needs it."""
        if place in self.known.averaging:
            return judge.averaging(reference)
        return judge.dividing(reference, bool(after.entered & self.known.summed))

    def _reference(self, place: Place, world: World) -> Record | None:
        """What the plan does with FSDP over as many ranks."""
        reference = self._run(self.before, place, world.sharded)
        if reference and world.answers and not reference.of("shard"):
            # It is one of the answers that chooses between the two.
            usual = self._run(self.before, place, World(world.degrees).sharded)
            reference = usual if usual and usual.of("shard") else reference
        return reference

    def _incomparable(
        self, place: Place, world: World, reference: Record, after: Record
    ) -> str | None:
        """Why FSDP is no measure here, "" where that need not be said; None: it is one."""
        if after.raised and after.raised_at is None and self._stands_in(place, world):
            return f"it would raise {': '.join(after.raised)}"
        if reference.raised and not after.raised:
            # FSDP's own branch refuses, or fails, where that of DDP did not.
            words = f"with FSDP it raises {': '.join(reference.raised)}"
            return "" if world.answers else words
        if after.entered & self.known.templates:
            return "a template stands in the place of what FSDP does"
        return None

    def _beside(
        self,
        place: Place,
        world: World,
        before: Record,
        reference: Record,
        after: Record,
    ) -> Iterator[str]:
        """What else is lost or new; what a guard said goes with it."""
        alone = World({"dp_replicate": REPLICAS}, world.answers)
        usual = self._run(self.before, place, alone) or before
        yield from judge.beside(before, (reference, usual), after, self.guarded)

    def _passed(self, place: Place, world: World, before: Record) -> Record:
        """What DDP's branch does once its guard is passed over; as it is without one."""
        if before.raised is None or before.raised_at is None:
            return before
        passing = frozenset({before.raised_at})
        passed = self._run(self.before, place, world, passing)
        if passed is None or not (passed.of("ddp") or before.raised_at in self.guarded):
            return before
        return judge.without(passed, self.guarded)

    def _stands_in(self, place: Place, world: World) -> bool:
        """Whether ParallelDims is a stand-in, which may name its dimensions otherwise."""
        return self.after.meshes(place[0], world).parallel_dims.of is None

    def _alone(
        self, place: Place, world: World, before: Record, after: Record
    ) -> Iterator[str]:
        """What differs from the plan that shards beside the function that is called."""
        groups = after.of("replicate")
        if not world.replicates and (before.raised or after.raised):
            return  # a mesh of replicas is asked for where there are none
        if after.raised and after.raised_at is None:
            yield f"{_UNCLEAR}it would raise {': '.join(after.raised)}"
            return
        if not groups:
            yield "it would no longer wrap"
            return
        if len(before.of("ddp")) > 1:
            yield f"{_UNCLEAR}it wraps more than one model"
            return
        called = [p for p in after.entered if p in self.fresh]
        shards = {sharding_in(self.before.checkout, path) for path, _ in called} - {
            None
        }
        if len(shards) != 1:
            yield f"{_UNCLEAR}nothing shards beside it"
            return
        model = Unknown(groups[-1].modules[0])
        reference = self._definition(shards.pop(), model, world.answers)
        if reference.unclear:
            yield f"{_UNCLEAR}{reference.unclear}"
            return
        if reference.raised:
            yield f"{_UNCLEAR}what shards raises {': '.join(reference.raised)}"
            return
        reference = self._divided(place, reference, after)
        yield from judge.same_groups(reference, after, world.tied)
        yield from self._beside(place, world, before, reference, after)

    def _of_definition(self, place: Place) -> Iterator[tuple[str, str]]:
        """What differs between a function that no plan calls and the one that shards."""
        shards = sharding_in(self.before.checkout, place[0])
        if shards is None:
            yield "", f"{_UNCLEAR}nothing shards beside it"
            return
        node, scope = self.after.functions(place[0])[place[1]]
        after = self._given_mesh(self.after, place[0], node, {}, {})
        reference = self._definition(shards, None, {})
        for record in (reference, after):
            if record.unclear:
                yield "", f"{_UNCLEAR}{record.unclear}"
                return
        if reference.raised or after.raised or place in self.known.templates:
            yield "", f"{_UNCLEAR}it cannot be executed by itself"
            return
        reference = judge.dividing(reference, place in self.known.summed)
        for difference in judge.by_itself(reference, after, self.known.mesh):
            yield "by itself", difference

    def _definition(
        self,
        shards: Definition | None,
        model: Unknown | None,
        answers: Mapping[str, bool],
    ) -> Record:
        """What a function that shards does by itself."""
        assert shards is not None
        node, _ = self.before.functions(shards.path)[shards.name]
        first = first_parameter(node)
        given: dict[str, object] = {first: model} if first and model else {}
        return self._given_mesh(self.before, shards.path, node, given, answers)

    def _given_mesh(
        self,
        tree: Tree,
        path: str,
        node: ast.FunctionDef,
        given: dict[str, object],
        answers: Mapping[str, bool],
    ) -> Record:
        two = self.known.mesh == "2d" and tree is self.after
        names = ("dp_replicate", "dp_shard") if two else ("dp_replicate",)
        mesh = MeshStandIn(names, (REPLICAS, 1)[: len(names)])
        plain = node.args.args[: len(node.args.args) - len(node.args.defaults)]
        for arg in (*plain, *node.args.kwonlyargs):
            if "mesh" in arg.arg:
                given[arg.arg] = mesh
        self.verdict.runs += 1
        run = Run(tree.checkout, answers, None, tree.touches)
        return run.start(Function(node, Frame(path, "")), given)

    def _still_guarded(self, record: Record) -> bool:
        """Whether it ended in a guard that the migration has to take out."""
        return any(
            guard.words and record.raised_at in lines_of(path, guard.refusal)
            for path, guard in self.guards
        )

    def _was_guarded(self, before: Record, after: Record) -> bool:
        """Whether it ended in a guard, and does not any more."""
        return before.raised_at in self.guarded and before.raised != after.raised

    @cached_property
    def guards(self) -> list[tuple[str, Guard]]:
        """Every guard of the changed files, with the path of its file."""
        return [
            (path, guard)
            for path in self.before.checkout.differing(self.after.checkout)
            for guard in guards(self.before.checkout.files[path].syntax)
        ]

    @cached_property
    def guarded(self) -> set[tuple[str, int]]:
        """Path and line of everything that a guard does."""
        return {
            place
            for path, guard in self.guards
            for place in lines_of(path, (guard.node, *guard.refusal))
        } | {*self.known.said}


def lines_of(path: str, statements: Iterable[ast.stmt]) -> set[tuple[str, int]]:
    """Path and line of all that statements stand on."""
    return {
        (path, line)
        for statement in statements
        for line in range(statement.lineno, (statement.end_lineno or 0) + 1)
    }


def confirm(
    before: Checkout,
    after: Checkout,
    known: Known,
    degrees: Sequence[Mapping[str, int]] | None = None,
    *,
    flips: bool = True,
) -> Verdict:
    """Execute every changed function before and after, and compare what it does.

    Under pure replication it has to do what it does with FSDP over as many ranks, with
    replicate and its mesh in the place of FSDP's; everywhere else, what it did.

    Args:
        before: the checkout as it is.
        after: as it would be.
        known: what is known of the migration beside that.
        degrees: of parallelism to execute it under; each branch once if left out.
        flips: also answer each open question the other way, one at a time.
    """
    chosen = few_degrees() if degrees is None else degrees
    return Confirmation(Tree(before), Tree(after), known, chosen, flips).all()


def _split(mesh: MeshStandIn) -> list[tuple[str, int]]:
    """The dimensions over which there is more than one rank."""
    return [(name, size) for name, size in zip(mesh.names, mesh.sizes) if size > 1]
