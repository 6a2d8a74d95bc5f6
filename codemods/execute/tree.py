"""A checkout in which functions can be executed, and which of them a migration changes."""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping

from codemods import meshes
from codemods.autocast import of_a_test
from codemods.bindings import Checkout
from codemods.execute import judge, stand_ins
from codemods.execute.records import Place, Record
from codemods.execute.run import Run, wraps
from codemods.execute.worlds import REPLICAS, World
from codemods.interpret.values import CannotFollow, Frame, Function, Raised
from codemods.meshes import Meshes
from codemods.names import Definition
from codemods.once import once
from codemods.shapes import uses_within, wraps_with_replicate
from codemods.source import SourceFile

_BLOCKS = (ast.If, ast.Try, ast.With, ast.For)
_PROSE = re.compile(r"""(?<=value=)('[^']* [^']*'|"[^"]* [^"]*")""")


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
        found = {
            f"{scope}.{node.name}".lstrip("."): (node, scope)
            for node, scope in _functions(self.checkout.files[path].syntax.body, "")
        }
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

    def refusal(self, path: str, world: World) -> Raised | None:
        """What ParallelDims raises of these degrees, where it raises by a statement."""
        try:
            self.meshes(path, world)
        except Raised as raised:
            return raised if raised.path else None
        except CannotFollow:
            pass
        return None

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
            built = self._built(home, world.degrees)
            if world.in_place_of_replicas:
                stand_ins.with_names_of_fsdp(built, REPLICAS)
            self._meshes[key] = built
        built = self._meshes[key]
        apart = {"dp_replicate", "dp_shard"} <= set(world.degrees)
        has = built.parallel_dims.attributes
        if (apart and "dp_type" in has) or ("ep" in world.degrees and "ep" not in has):
            raise Raised("ValueError", "it has no such dimension")
        return built

    def _built(self, home: str | None, degrees: Mapping[str, int]) -> Meshes:
        """What the checkout's own ParallelDims builds, or one that is like torchtitan's."""
        if home is None:
            return stand_ins.parallel_dims(degrees)
        try:
            return meshes.build(self.checkout, home, degrees)
        except Raised as raised:
            if raised.path or raised.kind != "AttributeError":
                raise
            # Its fields come from somewhere else.
            return stand_ins.parallel_dims(degrees)

    def replicates(self, path: str, name: str) -> bool:
        """Whether a function wraps with replicate, or calls one of the checkout that does."""
        node, _ = self.functions(path)[name]
        file = self.checkout.files[path]
        if wraps_with_replicate(self.checkout, file, node):
            return True
        for use in uses_within(self.checkout, path, node):
            found = self.checkout.resolve(path, use.scope, use.spelling)
            if found and found.path in self.checkout.files:
                inner = self.functions(found.path).get(found.name)
                if inner and wraps_with_replicate(
                    self.checkout, self.checkout.files[found.path], inner[0]
                ):
                    return True
        return False

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


def _functions(
    body: Iterable[ast.stmt], scope: str
) -> Iterator[tuple[ast.FunctionDef, str]]:
    """Every function, also within another or a class, with the scope around it."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            if isinstance(node, ast.FunctionDef):
                yield node, scope
            yield from _functions(node.body, f"{scope}.{node.name}".lstrip("."))
        elif isinstance(node, _BLOCKS):
            yield from _functions(node.body, scope)
            yield from _functions(getattr(node, "orelse", ()), scope)


def changed_functions(before: Tree, after: Tree) -> Iterator[Place]:
    """The functions that are in both and not the same; not what is within another."""
    for path in after.checkout.differing(before.checkout):
        file, old = after.checkout.files[path], before.checkout.files.get(path)
        if old is None or old.raw == file.raw or of_a_test(path):
            continue
        old_ones, new_ones = before.functions(path), after.functions(path)
        seen: set[str] = set()
        for name, (node, scope) in new_ones.items():
            if name not in old_ones or any(
                scope == outer or scope.startswith(f"{outer}.") for outer in seen
            ):
                continue
            was = old_ones[name][0]
            if _lines(file, node) != _lines(old, was) and _code(node) != _code(was):
                seen.add(name)
                yield path, name


def _lines(file: SourceFile, node: ast.FunctionDef) -> list[str]:
    decorated = [decorator.lineno for decorator in node.decorator_list]
    start = min([node.lineno, *decorated])
    return file.lines[start - 1 : node.end_lineno]


@once
def _code(node: ast.FunctionDef) -> str:
    """A function without what it says: a change of words alone does nothing."""
    return _PROSE.sub("''", ast.dump(node))


def new_wrappers(before: Tree, after: Tree) -> list[Place]:
    """Every function of a changed file that only wraps, and with replicate."""
    return [
        (path, name)
        for path in after.checkout.differing(before.checkout)
        for file in [after.checkout.files[path]]
        for name, (node, _) in after.functions(path).items()
        if wraps_with_replicate(after.checkout, file, node) and not _plans(node)
    ]


def _plans(node: ast.FunctionDef) -> bool:
    """Whether a function is a plan that also shards, and not one that only wraps."""
    return "parallel_dims" in ast.unparse(node)
