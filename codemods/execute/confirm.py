"""Every function that a migration changes, executed before and after it."""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property

from codemods import meshes
from codemods.autocast import of_a_test
from codemods.bindings import Checkout
from codemods.execute import judge, stand_ins
from codemods.execute.placements import judged as adapter
from codemods.execute.placements import takes_placements
from codemods.execute.records import Record
from codemods.execute.run import Run, wraps
from codemods.execute.worlds import REPLICAS, World, few_degrees
from codemods.guards import guards
from codemods.interpret.values import (
    CannotFollow,
    Frame,
    Function,
    Raised,
    Unknown,
)
from codemods.interpret.values import Mesh as MeshStandIn
from codemods.meshes import Meshes
from codemods.names import Definition
from codemods.shapes import first_parameter, sharding_in, wraps_with_replicate
from codemods.targets import Mesh

Place = tuple[str, str]
"""A path, and the qualified name of a function in it."""

_UNCLEAR = "unclear: "


@dataclass(frozen=True)
class Mismatch:
    """Something that the migrated code does and should not.

    Args:
        path: of the function.
        function: its qualified name.
        line: where it is, from 1.
        world: the degrees and answers under which it shows.
        what: what differs.
    """

    path: str
    function: str
    line: int
    world: str
    what: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.function} ({self.world}): {self.what}"


@dataclass
class Verdict:
    """What executing the changed functions has shown.

    Args:
        confirmed: those that do what they should.
        mismatches: what is wrong.
        unclear: those that could not be followed, each with the reason.
        runs: how many executions it took.
    """

    confirmed: list[Place] = field(default_factory=list)
    mismatches: list[Mismatch] = field(default_factory=list)
    unclear: dict[Place, str] = field(default_factory=dict)
    runs: int = 0


class Tree:
    """A checkout in which functions can be executed."""

    def __init__(self, checkout: Checkout) -> None:
        self.checkout = checkout
        self._functions: dict[str, dict[str, tuple[ast.FunctionDef, str]]] = {}
        self._touching: dict[tuple[str, str], bool] = {}
        self._homes: dict[str, str | None] = {}
        self._meshes: dict[tuple[object, ...], Meshes] = {}

    def functions(self, path: str) -> dict[str, tuple[ast.FunctionDef, str]]:
        """Qualified name -> function and the scope around it."""
        if path in self._functions:
            return self._functions[path]
        found: dict[str, tuple[ast.FunctionDef, str]] = {}

        def within(body: Iterable[ast.stmt], scope: str) -> None:
            for node in body:
                if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                    name = f"{scope}.{node.name}".lstrip(".")
                    if isinstance(node, ast.FunctionDef):
                        found[name] = (node, scope)
                    within(node.body, name)
                elif isinstance(node, (ast.If, ast.Try, ast.With, ast.For)):
                    within(node.body, scope)
                    within(getattr(node, "orelse", ()), scope)

        within(self.checkout.files[path].syntax.body, "")
        self._functions[path] = found
        return found

    def run(
        self,
        place: Place,
        world: World,
        passing: frozenset[tuple[str, int]] = frozenset(),
    ) -> Record | None:
        """Execute a function, or None where there is no such ParallelDims."""
        path, name = place
        node, scope = self.functions(path)[name]
        try:
            built = self.meshes(path, world)
        except Raised:
            return None
        except CannotFollow as error:
            return Record(unclear=str(error))
        run = Run(self.checkout, world.answers, built, self.touches, passing)
        return run.start(Function(node, Frame(path, scope)))

    def meshes(self, path: str, world: World) -> Meshes:
        """ParallelDims and its meshes, for a function of a file.

        Raises:
            CannotFollow: it cannot be evaluated.
            Raised: it refuses these degrees, or has no such dimensions.
        """
        if path not in self._homes:
            self._homes[path] = meshes.parallel_dims_of(self.checkout, path)
        home = self._homes[path]
        key = (home or "", *sorted(world.degrees.items()))
        if key not in self._meshes:
            if home is None:
                built = stand_ins.parallel_dims(world.degrees)
            else:
                built = meshes.build(self.checkout, home, world.degrees)
            if world.in_place_of_replicas:
                stand_ins.with_names_of_fsdp(built, REPLICAS)
            self._meshes[key] = built
        built = self._meshes[key]
        apart = {"dp_replicate", "dp_shard"} <= set(world.degrees)
        has = built.parallel_dims.attributes
        if (apart and "dp_type" in has) or ("ep" in world.degrees and "ep" not in has):
            raise Raised("ValueError", "it has no such dimension")
        return built

    def touches(self, function: Function) -> bool:
        """Whether a function wraps, or calls one that does, as far as names tell."""
        node = function.node
        if isinstance(node, ast.Lambda):
            return True
        scope = f"{function.frame.scope}.{node.name}".lstrip(".")
        return self._touches(function.frame.path, scope, node)

    def _touches(self, path: str, scope: str, node: ast.FunctionDef) -> bool:
        key = (path, scope)
        if key not in self._touching:
            self._touching[key] = False  # of itself, while it is asked
            self._touching[key] = self._mentions(path, node)
        return self._touching[key]

    def _mentions(self, path: str, node: ast.FunctionDef) -> bool:
        last = node.end_lineno or node.lineno
        for use in self.checkout.names(path).uses:
            if not node.lineno <= use.node.lineno <= last:
                continue
            full = self.checkout.external(path, use.scope, use.spelling) or ""
            if wraps(full) or judge.GRADIENTS.search(f".{use.spelling}"):
                return True
            found = self.checkout.resolve(path, use.scope, use.spelling)
            if found is None or found == Definition(path, node.name):
                continue
            if found.path in self.checkout.files:
                inner = self.functions(found.path).get(found.name)
                if inner and self._touches(found.path, found.name, inner[0]):
                    return True
        return False


def changed_functions(before: Tree, after: Tree) -> Iterator[Place]:
    """The functions that are in both and not the same; not what is within another."""
    for path, file in after.checkout.files.items():
        old = before.checkout.files.get(path)
        if old is None or old is file or old.raw == file.raw or of_a_test(path):
            continue
        old_ones, new_ones = before.functions(path), after.functions(path)
        seen: set[str] = set()
        for name, (node, scope) in new_ones.items():
            if name not in old_ones or any(
                scope == outer or scope.startswith(f"{outer}.") for outer in seen
            ):
                continue
            if ast.dump(node) != ast.dump(old_ones[name][0]):
                seen.add(name)
                yield path, name


def new_wrappers(before: Tree, after: Tree) -> list[Place]:
    """Every function of a changed file that only wraps, and with replicate."""
    return [
        (path, name)
        for path, file in after.checkout.files.items()
        if before.checkout.files.get(path) is not file
        for name, (node, _) in after.functions(path).items()
        if wraps_with_replicate(after.checkout, file, node) and not _plans(node)
    ]


def _split(mesh: MeshStandIn) -> list[tuple[str, int]]:
    """The dimensions over which there is more than one rank."""
    return [(name, size) for name, size in zip(mesh.names, mesh.sizes) if size > 1]


def _plans(node: ast.FunctionDef) -> bool:
    """Whether a function is a plan that also shards, and not one that only wraps."""
    return "parallel_dims" in ast.unparse(node)


@dataclass
class Confirmation:
    """Executes what changed, world by world.

    Args:
        before: the checkout as it is.
        after: as it would be.
        mesh: of the target.
        degrees: of parallelism, each combination a world.
        ties: pairs of expressions that share a weight, by place of a plan.
        flips: also answer each open question the other way, one at a time.
        said: path and line of statements that a person is told to take over.
        templates: new functions that are no mirror, which a person is told as well.
        full_precision: calls pass fp32, whatever FSDP is given.
        summed: gradients have to be summed over ranks, whatever FSDP does.
    """

    before: Tree
    after: Tree
    mesh: Mesh
    degrees: Sequence[Mapping[str, int]]
    ties: Mapping[Place, Sequence[tuple[str, str]]]
    flips: bool
    said: Set[tuple[str, int]]
    templates: Set[Place]
    full_precision: bool
    summed: bool
    verdict: Verdict = field(default_factory=Verdict)
    entered: set[Place] = field(default_factory=set)
    records: dict[tuple[object, ...], Record | None] = field(default_factory=dict)

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
        for place in self.changed:
            if place not in self.fresh:
                self._of(place)
        for place in self.fresh:
            if place not in self.entered:
                self._conclude(place, self._of_definition(place))
        return self.verdict

    def _of(self, place: Place) -> None:
        self.records.clear()
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
                after = self.after.meshes(path, world)
            except Raised:
                continue
            except CannotFollow as error:
                yield "", f"{_UNCLEAR}{error}"
                return
            if _split(before.world) != _split(after.world):
                yield str(world), f"it would build {after.world}, not {before.world}"
            if not world.replicates or "cp" in degrees:
                if "dp_replicate" not in degrees and before.world != after.world:
                    yield str(world), f"it would build {after.world}"
                continue
            for name in ("dp_shard", "fsdp"):
                found = after.find("dp_replicate", name)
                if found is not None and found.sizes == (REPLICAS, 1):
                    break
            else:
                yield str(world), "it would build no mesh of dp_replicate and a shard"

    def _conclude(self, place: Place, found: Iterable[tuple[str, str]]) -> None:
        unclear: list[str] = []
        wrong: list[Mismatch] = []
        line = self.after.functions(place[0])[place[1]][0].lineno
        for world, difference in found:
            if difference.startswith(_UNCLEAR):
                unclear.append(difference.removeprefix(_UNCLEAR))
            else:
                wrong.append(Mismatch(*place, line, world, difference))
        self.verdict.mismatches += wrong
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
            for pair in self.ties.get(place, ())
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
        if before is None or after is None:
            yield "ParallelDims takes these degrees only before or after"
            return
        for record in (before, after):
            if record.unclear:
                yield f"{_UNCLEAR}{record.unclear}"
                return
        failed = before.raised if before.raised_at is None else None
        if failed and world.replicates and not world.answers:
            yield f"{_UNCLEAR}it raises {': '.join(failed)}"
            return
        self.entered |= after.entered if after.of("replicate") else set()
        if before.of("ddp") and not world.replicates:
            yield from self._alone(place, world, before, after)
        elif not before.of("ddp") and not after.of("replicate"):
            yield from self._unwrapped(place, world, before, after)
        elif not world.replicates:
            yield from judge.same(before, after)
        else:
            yield from self._as_sharded(place, world, before, after)

    def _unwrapped(
        self, place: Place, world: World, before: Record, after: Record
    ) -> Iterator[str]:
        """What differs where nothing is wrapped: a choice of autocast, or a guard."""
        differences = list(judge.same(before, after))
        if world.replicates and (differences or self._still_guarded(before)):
            reference = self._run(self.before, place, world.sharded)
            if reference is None:
                return
            if reference.unclear:
                yield f"{_UNCLEAR}{reference.unclear}"
            elif reference.of("shard"):
                yield from judge.as_sharded(reference, after, self.mesh)
            else:
                yield from judge.as_chosen(reference, after)
        elif differences and world.shards:
            yield from judge.as_chosen(before, after)
        else:
            yield from differences

    def _as_sharded(
        self, place: Place, world: World, before: Record, after: Record
    ) -> Iterator[str]:
        """What differs from FSDP over as many ranks."""
        reference = self._run(self.before, place, world.sharded)
        if reference is None:
            return
        if reference.unclear:
            yield f"{_UNCLEAR}{reference.unclear}"
            return
        if before.of("ddp") and not reference.of("shard"):
            yield from self._alone(place, world, before, after)
            return
        if reference.raised and not after.raised:
            # FSDP's own branch refuses, or fails, where that of DDP did not.
            if not world.answers:
                yield f"{_UNCLEAR}with FSDP it raises {': '.join(reference.raised)}"
            return
        if after.entered & self.templates:
            yield f"{_UNCLEAR}a template stands in the place of what FSDP does"
            return
        reference = judge.dividing(reference, self.summed)
        if self.full_precision:
            reference = judge.in_full_precision(reference)
        yield from judge.as_sharded(reference, after, self.mesh, world.tied)
        if before.raised and before.raised_at:
            passed = self._run(self.before, place, world, frozenset({before.raised_at}))
            if not passed or not passed.of("ddp"):
                return
            before = passed
        yield from judge.beside(before, reference, after, self.said)

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
        reference = judge.dividing(reference, self.summed)
        yield from judge.same_groups(reference, after, world.tied)
        yield from judge.beside(before, reference, after, self.said)

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
        if reference.raised or after.raised or place in self.templates:
            yield "", f"{_UNCLEAR}it cannot be executed by itself"
            return
        reference = judge.dividing(reference, self.summed)
        for difference in judge.by_itself(reference, after, self.mesh):
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
        two = self.mesh == "2d" and tree is self.after
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
        """Whether it ended in a guard that the migration should have taken out."""
        if record.raised_at is None:
            return False
        return record.raised_at in self.guarded

    @cached_property
    def guarded(self) -> set[tuple[str, int]]:
        """Path and line of every refusal that goes with the migration."""
        return {
            (path, part.lineno)
            for path in {path for path, _ in self.changed}
            for guard in guards(self.before.checkout.files[path].syntax)
            if guard.words
            for part in guard.refusal
        }


def confirm(
    before: Checkout,
    after: Checkout,
    mesh: Mesh,
    *,
    degrees: Sequence[Mapping[str, int]] | None = None,
    ties: Mapping[Place, Sequence[tuple[str, str]]] | None = None,
    flips: bool = True,
    said: Set[tuple[str, int]] = frozenset(),
    templates: Set[Place] = frozenset(),
    full_precision: bool = False,
    summed: bool = False,
) -> Verdict:
    """Execute every changed function before and after, and compare what it does.

    Under pure replication it has to do what it does with FSDP over as many ranks, with
    replicate and its mesh in the place of FSDP's; everywhere else, what it did.
    """
    chosen = few_degrees() if degrees is None else degrees
    return Confirmation(
        Tree(before),
        Tree(after),
        mesh,
        chosen,
        ties or {},
        flips,
        said,
        templates,
        full_precision,
        summed,
    ).all()
