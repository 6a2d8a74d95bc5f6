"""Which mesh a call passes, and what it becomes."""

import ast
import re

from codemods.guards import is_guard
from codemods.plans.arguments import argument, written
from codemods.plans.flow import last_assignment
from codemods.plans.records import Facts, MeshEdit
from codemods.source import SourceFile
from codemods.survey import CallSite, function_of
from codemods.targets import Target


def mesh_expression(target: Target, get_mesh: str, world_mesh: str) -> str:
    """The mesh that replicate takes, by ``get_mesh`` or from the world mesh."""
    if get_mesh:
        if target.mesh == "1d":
            return f'{get_mesh}("dp_replicate")'
        return f'{get_mesh}(["dp_replicate", "fsdp"])'
    if target.mesh == "1d":
        return f'{world_mesh}["dp_replicate"]'
    return f'{world_mesh}["dp_replicate", "dp_shard"]'


def mesh_edit(facts: Facts, site: CallSite, file: SourceFile) -> MeshEdit | str:
    """The change to the mesh argument; a sentence where it cannot be followed."""
    node = _mesh_argument(facts, site)
    if node is None:
        return "it passes no mesh"
    text = written(file, node)
    changed = _replicate_mesh(facts.target, node, text)
    if changed is not None:
        return MeshEdit(changed)
    if not isinstance(node, ast.Name):
        return f"it is not clear which mesh {text} is"
    assignment = last_assignment(site, node.id)
    if assignment is None:
        return _from_outside(facts.target, site, node.id)
    return _of_variable(facts.target, site, file, node.id, *assignment)


def mesh_is_right(facts: Facts, site: CallSite, file: SourceFile) -> bool:
    """Whether a call that is migrated already passes a mesh that would not change."""
    mesh = mesh_edit(facts, site, file)
    if isinstance(mesh, str):
        return True  # a mesh of the fork's own; nothing is known against it
    passed = (*site.node.args, *(keyword.value for keyword in site.node.keywords))
    given = [written(file, node) for node in passed]
    return mesh.variable is None and mesh.argument in given


def _mesh_argument(facts: Facts, site: CallSite) -> ast.expr | None:
    definition = function_of(facts.checkout, site.reference.definition)
    if definition is not None:
        names = definition.args.args
        keyword = names[1].arg if len(names) > 1 else None
        node = argument(site.node, 1, keyword)
        if node is not None:
            return node
    named = (k.value for k in site.node.keywords if k.arg and "mesh" in k.arg)
    return next(named, None)


def _from_outside(target: Target, site: CallSite, name: str) -> MeshEdit | str:
    """The change to a mesh that the function around the call does not set itself."""
    if _is_world_mesh(name):
        return MeshEdit(mesh_expression(target, "", name))
    if site.function and name in {a.arg for a in site.function.args.args}:
        if target.mesh == "1d" and re.search(r"replicate|ddp", name):
            return MeshEdit(name)
        return f"its mesh, `{name}`, comes in as a parameter, of a shape not known here"
    return f"it is not clear which mesh {name} is"


def _of_variable(
    target: Target,
    site: CallSite,
    file: SourceFile,
    name: str,
    value: ast.expr,
    in_block: bool,
) -> MeshEdit | str:
    """The change to a mesh in a local variable, last set to ``value``."""
    source = written(file, value)
    changed = _replicate_mesh(target, value, source)
    if changed is None and isinstance(value, ast.Name):
        changed = _of_other_variable(target, site, file, value)
    if changed is None:
        return f"it is not clear which mesh {name} = {source} is"
    if changed == source:
        return MeshEdit(name)
    if in_block and not _is_world_mesh(name) and _only_for_the_call(site, name, value):
        return MeshEdit(name, name, changed, source)
    if source.rpartition(".")[2] == "world_mesh":
        return MeshEdit(mesh_expression(target, "", name))
    return MeshEdit(changed)


def _of_other_variable(
    target: Target, site: CallSite, file: SourceFile, variable: ast.Name
) -> str | None:
    """What a mesh becomes that was taken from another variable; None if not known."""
    assignment = last_assignment(site, variable.id)
    if assignment is None:
        return None
    value, _ = assignment
    source = written(file, value)
    if _replicate_mesh(target, value, source) == source:
        return written(file, variable)
    if _is_world_mesh(source.rpartition(".")[2]):
        return mesh_expression(target, "", written(file, variable))
    return None


def _only_for_the_call(site: CallSite, name: str, value: ast.expr) -> bool:
    """Whether only the call, and guards, read a variable once it is set to ``value``."""
    assert site.function is not None
    first, last = site.node.lineno, site.node.end_lineno or 0
    guards = [
        (node.lineno, node.end_lineno or 0)
        for node in ast.walk(site.function)
        if isinstance(node, (ast.If, ast.Assert)) and is_guard(node)
    ]
    return all(
        any(start <= node.lineno <= end for start, end in [(first, last), *guards])
        for node in ast.walk(site.function)
        if isinstance(node, ast.Name)
        and node.id == name
        and isinstance(node.ctx, ast.Load)
        and node.lineno > value.lineno
    )


def _is_world_mesh(name: str) -> bool:
    return name in ("world_mesh", "_world_mesh")


def _replicate_mesh(target: Target, node: ast.expr, text: str) -> str | None:
    """``node`` as the mesh that replicate takes; None if it is no known mesh."""
    if isinstance(node, ast.Attribute) and _is_world_mesh(node.attr):
        return mesh_expression(target, "", text)
    if isinstance(node, ast.Name) and _is_world_mesh(node.id):
        return mesh_expression(target, "", text)
    names = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
    if "dp_replicate" not in names or names - {"dp_replicate", "fsdp", "dp_shard"}:
        return None
    if isinstance(node, ast.Subscript):
        fresh = mesh_expression(target, "", ast.unparse(node.value))
    elif isinstance(node, ast.Call) and _gets_mesh(node.func):
        fresh = mesh_expression(target, ast.unparse(node.func), "")
    else:
        return None
    return text if _same(fresh, text) else fresh


def _gets_mesh(function: ast.expr) -> bool:
    return isinstance(function, ast.Attribute) and function.attr in (
        "get_mesh",
        "get_optional_mesh",
    )


def _same(left: str, right: str) -> bool:
    return ast.dump(ast.parse(left)) == ast.dump(ast.parse(right))
