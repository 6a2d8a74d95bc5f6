"""A branch of a plan that shards in place, made into the ``apply_fsdp`` it could be."""

import ast
import textwrap

import libcst as cst

from codemods.mirror import CannotMirror
from codemods.nodes import nodes, taken
from codemods.source import SourceFile
from codemods.survey import CallSite


def branch_function(file: SourceFile, site: CallSite) -> cst.FunctionDef:
    """The branch beside a call as a function of the model and of all that it reads.

    Args:
        file: that holds both.
        site: the call of DDP.

    Raises:
        CannotMirror: it does not wrap one model known by name.
    """
    branch, outer = site.sibling.branch, site.function
    if not branch or outer is None:
        raise CannotMirror("nothing shards beside it")
    model = ast.unparse(site.node.args[0]) if site.node.args else ""
    if not model.isidentifier():
        raise CannotMirror("it wraps a part of a model")
    names = [model, *(n for n in _read(branch, outer) if n != model)]
    annotations = _annotations(file, outer)
    parameters = [annotations.get(name, name) for name in names]
    lines = file.lines[branch[0].lineno - 1 : branch[-1].end_lineno]
    body = textwrap.indent(textwrap.dedent("\n".join(lines)), "    ")
    text = f"def apply_fsdp({', '.join(parameters)}):\n{body}\n"
    try:
        same = list(map(ast.unparse, ast.parse(text).body[0].body)) == list(  # type: ignore[attr-defined]  # a function has one
            map(ast.unparse, branch)
        )
    except SyntaxError:
        same = False
    if not same:
        raise CannotMirror("it shares its lines with something else")
    found = cst.parse_module(text).body[0]
    assert isinstance(found, cst.FunctionDef)
    return found


def _read(branch: tuple[ast.stmt, ...], outer: ast.FunctionDef) -> list[str]:
    """The variables of the function around a branch that it reads, parameters first."""
    inside = {id(node) for statement in branch for node in nodes(statement)}
    named = [n for s in branch for n in nodes(s) if isinstance(n, ast.Name)]
    read = [n.id for n in named if isinstance(n.ctx, ast.Load)]
    own = {n.id for n in named if isinstance(n.ctx, ast.Store)}
    arguments = [a.arg for a in taken(outer.args)]
    around = {
        n.id
        for n in nodes(outer)
        if isinstance(n, ast.Name)
        and isinstance(n.ctx, ast.Store)
        and id(n) not in inside
    }
    free = [n for n in dict.fromkeys(read) if n in around or n in arguments]
    if set(free) & own:
        raise CannotMirror("it sets again what it reads")
    return sorted(free, key=lambda n: arguments.index(n) if n in arguments else 10**6)


def _annotations(file: SourceFile, outer: ast.FunctionDef) -> dict[str, str]:
    """The parameters of a function, as they are written on one line."""
    every = taken(outer.args)
    return {arg.arg: " ".join(file.segment(arg).split()) for arg in every}
