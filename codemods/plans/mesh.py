"""Which mesh a call passes, and what it becomes."""

import ast
import re
from collections.abc import Iterator
from dataclasses import replace

from codemods import meshes
from codemods.guards import is_guard
from codemods.nodes import nodes, taken
from codemods.plans.arguments import argument, passes_by_star, written
from codemods.plans.dimension import Spelling, spelling
from codemods.plans.flow import block_of, last_assignment, reaches
from codemods.plans.records import Facts, MeshEdit
from codemods.source import SourceFile
from codemods.survey import CallSite, function_of

_OF_ONE_DIMENSION = {"get_group", "get_local_rank", "get_rank"}
"""Methods that raise, or mean something else, on a mesh of several dimensions."""

_FOR_DATA = re.compile(r"(^|_)d?dp(_|$)|ddp|replica|data_parallel")


def mesh_edit(facts: Facts, site: CallSite, file: SourceFile) -> MeshEdit | str:
    """The change to the mesh argument; a sentence where it cannot be followed."""
    wanted = spelling(facts, file.path)
    if isinstance(wanted, str):
        return wanted
    looked_up = _looked_up_inside(facts, site)
    if looked_up is not None:
        return _Meshes(facts, site, file, wanted).inside(*looked_up)
    node = _mesh_argument(facts, site)
    if node is None and passes_by_star(site.node):
        return "it passes arguments by * or **, which cannot be followed"
    if node is None:
        return "it passes no mesh"
    return _Meshes(facts, site, file, wanted).edit(node)


def mesh_is_right(facts: Facts, site: CallSite, file: SourceFile) -> bool:
    """Whether a call that is migrated already passes a mesh that would not change."""
    mesh = mesh_edit(facts, site, file)
    if isinstance(mesh, str):
        return True  # a mesh of the fork's own; nothing is known against it
    return is_kept(mesh, site, file)


def is_kept(mesh: MeshEdit, site: CallSite, file: SourceFile) -> bool:
    """Whether a call goes on passing the mesh that it passes."""
    passed = (*site.node.args, *(keyword.value for keyword in site.node.keywords))
    given = [written(file, node) for node in passed]
    return mesh.variable is None and mesh.argument in given


def suggested_mesh(facts: Facts, path: str) -> str:
    """The mesh as a person would write it in a plan of this checkout."""
    wanted = spelling(facts, path)
    if isinstance(wanted, str):
        return "dp_mesh"
    if facts.survey.mesh_api == "get_mesh":
        return wanted.got("parallel_dims.get_mesh")
    return wanted.sliced("world_mesh")


def _mesh_argument(facts: Facts, site: CallSite) -> ast.expr | None:
    definition = function_of(facts.checkout, site.reference.definition)
    if definition is not None:
        position, keyword = _mesh_parameter(definition)
        node = argument(site.node, position, keyword)
        if node is not None:
            return node
    named = (k.value for k in site.node.keywords if k.arg and "mesh" in k.arg)
    return next(named, None)


def _mesh_parameter(definition: ast.FunctionDef) -> tuple[int, str | None]:
    """The position and name of the parameter that a function passes as its mesh."""
    names = [a.arg for a in (*definition.args.posonlyargs, *definition.args.args)]
    for node in nodes(definition):
        if isinstance(node, ast.keyword) and node.arg in ("device_mesh", "mesh"):
            if isinstance(node.value, ast.Name) and node.value.id in names[1:]:
                return names.index(node.value.id), node.value.id
    return 1, names[1] if len(names) > 1 else None


def _looked_up_inside(
    facts: Facts, site: CallSite
) -> tuple[ast.FunctionDef, ast.expr] | None:
    """An ``apply_ddp`` that takes its mesh out of something else, and how it does."""
    definition = site.reference.definition
    node = function_of(facts.checkout, definition)
    if node is None or definition not in facts.survey.definitions:
        return None
    passed = [
        inner.value
        for inner in nodes(node)
        if isinstance(inner, ast.keyword) and inner.arg in ("device_mesh", "mesh")
    ]
    if len(passed) != 1:
        return None
    value, parameters = passed[0], set(_parameters(node))
    set_to = {
        inner.targets[0].id: inner.value
        for inner in node.body
        if isinstance(inner, ast.Assign) and isinstance(inner.targets[0], ast.Name)
    }
    if isinstance(value, ast.Name) and value.id not in parameters:
        value = set_to.get(value.id, value)
    read = {n.id for n in nodes(value) if isinstance(n, ast.Name)}
    if isinstance(value, ast.Name) or not read or not read <= parameters:
        return None
    return node, value


def _parameters(node: ast.FunctionDef) -> list[str]:
    every = taken(node.args)
    return [arg.arg for arg in every]


class _Meshes:
    """What the meshes in reach of one call are, and how they are written afterwards."""

    def __init__(
        self, facts: Facts, site: CallSite, file: SourceFile, wanted: Spelling
    ) -> None:
        self.facts, self.site, self.file, self.wanted = facts, site, file, wanted

    def edit(self, node: ast.expr) -> MeshEdit | str:
        """The change to a mesh that the call passes."""
        text = written(self.file, node)
        changed = self._as_replicate_mesh(node)
        if changed is not None:
            return self._unless_used_as_one(node, changed)
        if not isinstance(node, ast.Name):
            return f"it is not clear which mesh {text} is"
        assignment = last_assignment(self.site, node.id)
        if assignment is None:
            return self._from_outside(node.id)
        return self._of_variable(node.id, *assignment)

    def inside(self, definition: ast.FunctionDef, value: ast.expr) -> MeshEdit | str:
        """The mesh that a definition looks up itself, as the call has to pass it."""
        path = self.site.reference.definition.path
        home = self.facts.survey.files[path]
        inner = _Meshes(
            self.facts, replace(self.site, function=definition), home, self.wanted
        )
        text = inner._as_replicate_mesh(value)
        if text is None:
            return f"it is not clear which mesh {written(home, value)} is"
        names = _parameters(definition)
        for name in sorted({n.id for n in nodes(value) if isinstance(n, ast.Name)}):
            given = argument(self.site.node, names.index(name), name)
            if not isinstance(given, (ast.Name, ast.Attribute)):
                return f"it does not say what {name} is, which its mesh is taken from"
            fresh = written(self.file, given)
            text = re.sub(rf"(?<![\w.\"']){name}\b(?![\"'])", fresh, text)
        return MeshEdit(text)

    def _from_outside(self, name: str) -> MeshEdit | str:
        """The change to a mesh that the function around the call does not set itself."""
        function = self.site.function
        if function and name in {a.arg for a in function.args.args}:
            if self.facts.target.mesh == "1d" and re.search(r"replicate|ddp", name):
                return MeshEdit(name)
            return f"its mesh, `{name}`, comes in as a parameter, of a shape not known here"
        return f"it is not clear which mesh {name} is"

    def _of_variable(
        self, name: str, value: ast.expr, in_block: bool
    ) -> MeshEdit | str:
        """The change to a mesh in a local variable, last set to ``value``."""
        source = written(self.file, value)
        changed = self._as_replicate_mesh(value)
        if changed is None and isinstance(value, ast.Name):
            changed = self._of_other_variable(value)
        if changed is None:
            return f"it is not clear which mesh {name} = {source} is"
        if changed == source:
            return MeshEdit(name)
        others = list(self._other_uses(name, value))
        breaking = [
            u for u in others if _breaks_on_several(u) and self._runs_with_the_call(u)
        ]
        if breaking and self.facts.target.mesh == "2d":
            return (
                f"`{name}` is used beside it as a mesh of one dimension, and replicate takes "
                f"one of two here: give what follows it {self._alone(value)}"
            )
        if in_block and all(map(_wants_one_dimension, others)):
            if not others or _FOR_DATA.search(name):
                return MeshEdit(name, name, changed, source)
        if breaking:
            return (
                f"`{name}` is used for several meshes once more dimensions are allowed: "
                f"give the call and what follows it {changed}"
            )
        if source.rpartition(".")[2] == "world_mesh" and self._sliced:
            return MeshEdit(self.wanted.sliced(name))
        return MeshEdit(changed)

    def _of_other_variable(self, variable: ast.Name) -> str | None:
        """What a mesh becomes that was taken from another variable; None if not known."""
        assignment = last_assignment(self.site, variable.id)
        if assignment is None:
            return None
        changed = self._as_replicate_mesh(assignment[0])
        if changed is None:
            return None
        if changed == written(self.file, assignment[0]):
            return variable.id
        return self.wanted.sliced(variable.id) if self._sliced else changed

    def _unless_used_as_one(self, node: ast.expr, changed: str) -> MeshEdit | str:
        """The change, unless the mesh is used beside the call as if it had one dimension."""
        text = written(self.file, node)
        if changed == text or self.site.function is None:
            return MeshEdit(changed)
        for use in _chains(self.site.function):
            if not _breaks_on_several(use) or not self._beside_the_call(use):
                continue
            assert isinstance(use, ast.Attribute)
            if ast.unparse(use.value) == ast.unparse(node):
                return (
                    f"{text}.{use.attr}() beside it breaks once {text} has more "
                    f"dimensions: write {self._alone(node)}.{use.attr}()"
                )
        return MeshEdit(changed)

    def _beside_the_call(self, node: ast.expr) -> bool:
        """Whether code runs only where the call does: in the same branch, after it."""
        assert self.site.function is not None
        last = block_of(self.site.function, self.site.node)[-1]
        return self.site.node.lineno < node.lineno <= (last.end_lineno or 0)

    def _runs_with_the_call(self, node: ast.expr) -> bool:
        """Whether code can run in one go with the call: not in a sibling branch."""
        assert self.site.function is not None
        return self._beside_the_call(node) or reaches(
            self.site.function, node, self.site.node
        )

    def _other_uses(self, name: str, value: ast.expr) -> Iterator[ast.expr]:
        """What reads a variable once it is set, besides the call and guards.

        Each with what is asked of it: ``x.size()`` is one use, ``x["tp"]`` another.
        """
        assert self.site.function is not None
        first, last = self.site.node.lineno, self.site.node.end_lineno or 0
        passed_over = [
            (node.lineno, node.end_lineno or 0)
            for node in nodes(self.site.function)
            if isinstance(node, (ast.If, ast.Assert)) and is_guard(node)
        ]
        for node in _chains(self.site.function):
            owner = (
                node.value if isinstance(node, (ast.Attribute, ast.Subscript)) else node
            )
            if not isinstance(owner, ast.Name) or owner.id != name:
                continue
            if owner.lineno <= value.lineno or not isinstance(owner.ctx, ast.Load):
                continue
            spans = [(first, last), *passed_over]
            if not any(start <= node.lineno <= end for start, end in spans):
                yield node

    def _alone(self, node: ast.expr) -> str:
        """A mesh as the dimension of replication alone."""
        one = _Meshes(self.facts, self.site, self.file, self.wanted.alone)
        return one._as_replicate_mesh(node) or written(self.file, node)

    # What a mesh is

    def _as_replicate_mesh(self, node: ast.expr) -> str | None:
        """``node`` as the mesh that replicate takes; None if it is no known mesh."""
        text = written(self.file, node)
        if _is_world_mesh(node):
            return self.wanted.sliced(text) if self._sliced else self._got(node)
        if isinstance(node, ast.IfExp):
            return self._of_conditional(node)
        names = _names_in(node)
        if names is not None:
            return self._of_names(node, names)
        if isinstance(node, ast.Call):
            return self._of_helper(node)
        return None

    @property
    def _sliced(self) -> bool:
        """Whether the dimension of replication can be taken from the mesh of all ranks."""
        name = self.wanted.names[0]
        return meshes.of_world(self.facts.checkout, self.file.path, name)

    def _got(self, world: ast.expr) -> str | None:
        """The mesh from the ``get_mesh`` of what owns the mesh of all ranks; None if it is not known."""
        gets = self.facts.survey.mesh_api == "get_mesh"
        if not gets or not isinstance(world, ast.Attribute):
            return None
        return self.wanted.got(f"{written(self.file, world.value)}.get_mesh")

    def _of_conditional(self, node: ast.IfExp) -> str | None:
        """Followed where both branches are: one mesh where they come out the same."""
        body, orelse = (
            self._as_replicate_mesh(node.body),
            self._as_replicate_mesh(node.orelse),
        )
        if body is None or orelse is None:
            return None
        if body == orelse:
            return body
        return f"{body} if {written(self.file, node.test)} else {orelse}"

    def _of_names(self, node: ast.expr, names: list[str]) -> str | None:
        """A mesh taken by names from the world mesh, or from ``get_mesh``."""
        text = written(self.file, node)
        if isinstance(node, ast.Subscript):
            fresh = self.wanted.sliced(written(self.file, node.value))
        else:
            assert isinstance(node, ast.Call)
            fresh = self.wanted.got(written(self.file, node.func))
        if ast.dump(ast.parse(fresh)) == ast.dump(ast.parse(text)):
            return text
        if self.wanted.names[0] in names:
            known = {*self.wanted.names, "fsdp", "dp_shard"}
            return fresh if set(names) <= known else None
        sizes = (3,) if self.facts.target.mesh == "1d" else (3, 1)
        if meshes.gives(self.facts.checkout, self.file.path, names, sizes):
            return text
        return None

    def _of_helper(self, node: ast.Call) -> str | None:
        """The mesh that a function of the checkout returns, for each of its returns."""
        found = self._called(node)
        if found is None:
            return None
        path, function = found
        inner = _Meshes(
            self.facts,
            CallSite(self.site.reference, node, function),
            self.facts.survey.files[path],
            self.wanted,
        )
        returned = [
            n.value
            for n in nodes(function)
            if isinstance(n, ast.Return) and n.value is not None
        ]
        changed = [inner._as_replicate_mesh(value) for value in returned]
        if returned and changed == [written(inner.file, value) for value in returned]:
            return written(self.file, node)
        if returned and all(map(_is_world_mesh, returned)) and self._sliced:
            return self.wanted.sliced(written(self.file, node))
        return None

    def _called(self, node: ast.Call) -> tuple[str, ast.FunctionDef] | None:
        checkout = self.facts.checkout
        for use in checkout.names(self.file.path).uses:
            if use.call is node:
                found = checkout.resolve(self.file.path, use.scope, use.spelling)
                function = function_of(checkout, found) if found else None
                if found and function:
                    return found.path, function
        return None


def _chains(function: ast.FunctionDef) -> Iterator[ast.expr]:
    """Every name of a function with the attribute or key that is asked of it, if any."""
    owned = set()
    for node in nodes(function):
        if isinstance(node, (ast.Attribute, ast.Subscript)):
            owned.add(id(node.value))
            yield node
        elif isinstance(node, ast.Name) and id(node) not in owned:
            yield node


def _wants_one_dimension(use: ast.expr) -> bool:
    """Whether a use is content with the mesh of data parallelism alone."""
    if isinstance(use, ast.Attribute):
        return use.attr in {*_OF_ONE_DIMENSION, "size"}
    return isinstance(use, ast.Name)  # handed on under a name that says what it is


def _breaks_on_several(use: ast.expr) -> bool:
    return isinstance(use, ast.Attribute) and use.attr in _OF_ONE_DIMENSION


def _is_world_mesh(node: ast.expr | None) -> bool:
    """Whether an expression is the mesh of all ranks, by the name torchtitan gives it."""
    names = ("world_mesh", "_world_mesh")
    if isinstance(node, ast.Attribute):
        return node.attr in names
    return isinstance(node, ast.Name) and node.id in names


def _names_in(node: ast.expr) -> list[str] | None:
    """The names of dimensions by which a mesh is taken, None if it is not so taken."""
    if isinstance(node, ast.Subscript):
        key: ast.expr | None = node.slice
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        gets = node.func.attr in ("get_mesh", "get_optional_mesh")
        key = node.args[0] if gets and len(node.args) == 1 else None
    else:
        key = None
    elements = key.elts if isinstance(key, (ast.Tuple, ast.List)) else [key]
    names = [
        element.value
        for element in elements
        if isinstance(element, ast.Constant) and isinstance(element.value, str)
    ]
    return names if names and len(names) == len(elements) else None
