"""From ``apply_fsdp`` to ``apply_replicate``: read, change, write."""

import re
from collections.abc import Sequence
from dataclasses import replace

import libcst as cst

from codemods import layout
from codemods.mirror.arguments import SHARDING_KEYWORDS
from codemods.mirror.division import move_division_to_the_end
from codemods.mirror.docstring import docstring_of
from codemods.mirror.live import live
from codemods.mirror.mesh import OneMesh, one_mesh, refuse_other_uses
from codemods.mirror.names import names_in
from codemods.mirror.nodes import AnyNode, Plain, all_wraps, walk
from codemods.mirror.read import read
from codemods.mirror.records import CannotMirror, Parameter, Plan, Wishes
from codemods.mirror.renames import renamed, renames_of
from codemods.mirror.ties import in_one_group
from codemods.mirror.write import emit, signature


def derive(tree: cst.Module, apply_fsdp: cst.FunctionDef, wishes: Wishes) -> Plan:
    """The plan that mirrors ``apply_fsdp``.

    Args:
        tree: the module that defines it.
        apply_fsdp: its definition.
        wishes: what else the new function must do.

    Raises:
        CannotMirror: it wraps nothing, or in a way this does not follow.
    """
    params = [
        *apply_fsdp.params.posonly_params,
        *apply_fsdp.params.params,
        *apply_fsdp.params.kwonly_params,
    ]
    if len(params) < 2:
        raise CannotMirror("it takes no mesh")
    model = params[0].name.value
    nodes, divides_off = read(tree, apply_fsdp, params, wishes)
    wraps = list(all_wraps(nodes))
    if not wraps:
        raise CannotMirror("it never calls fully_shard")
    names = {param.name.value for param in params}
    optional = {param.name.value for param in params if _is_none(param.default)}
    nodes, mesh = one_mesh(
        nodes, model, names, wishes.mesh_keyword, wishes.is_replicate_mesh, optional
    )
    sums = wishes.sum_gradients or divides_off
    nodes = live(nodes)
    refuse_other_uses(nodes, mesh)
    if wishes.only_wraps:
        _refuse_effects(nodes)
    for left, right in wishes.ties:
        pair = (f"{model}.{left}", f"{model}.{right}")
        nodes = in_one_group(nodes, pair, model, wishes.stand_ins)
    move_division_to_the_end(nodes, model, wishes, sums)
    lines = _lines(_ended(nodes, model, wishes), wishes)
    parameters = _parameters(tree, params, mesh, lines)
    if sums and wishes.averaging_option:
        parameters.append(
            Parameter("average_gradients", "average_gradients: bool = False", False)
        )
    if wishes.without_dtypes:
        parameters = [_or_none(parameter) for parameter in parameters]
    head = signature(tree, apply_fsdp, wishes.name, parameters)
    docstring = docstring_of(apply_fsdp, {p.name for p in parameters})
    return Plan(
        name=wishes.name,
        parameters=tuple(parameters),
        text="\n".join([head, *([docstring] if docstring else []), *lines]),
        sums_gradients=sums,
        as_apply_fsdp=sums == divides_off,
        wraps=tuple(module for wrap in wraps for module in wrap.modules),
        mesh=mesh.name,
    )


def _refuse_effects(nodes: Sequence[AnyNode]) -> None:
    """Raise where a branch of a plan does something besides wrapping."""
    for node in walk(nodes):
        if isinstance(node, Plain) and node.effect and not node.undivides:
            head = node.text.splitlines()[0]
            if not head.startswith(("print(", "raise ")):
                raise CannotMirror(f"it also does `{head}`")


def _is_none(default: cst.BaseExpression | None) -> bool:
    return isinstance(default, cst.Name) and default.value == "None"


def _ended(nodes: list[AnyNode], model: str, wishes: Wishes) -> list[AnyNode]:
    """The nodes with the log of success at the end, and what is returned after it."""
    returned: list[AnyNode] = [
        n for n in nodes if isinstance(n, Plain) and n.text.startswith("return")
    ]
    nodes = [node for node in nodes if node not in returned]
    if wishes.log:
        nodes.append(Plain([], True, wishes.log, effect=True))
    if wishes.returns_model and not returned:
        returned = [Plain([], True, f"return {model}", effect=True)]
    return nodes + returned


def _lines(nodes: list[AnyNode], wishes: Wishes) -> list[str]:
    """The body of the new function."""
    if nodes:
        nodes[0].blank = False
    renames = renames_of(nodes, wishes.replicate)
    lines = "\n".join(emit(nodes, 1)).split("\n")
    for keyword in SHARDING_KEYWORDS:
        if any(keyword in line for line in lines):
            raise CannotMirror(f"it passes {keyword} in a way that is not followed")
    return renamed(lines, renames)


def _parameters(
    tree: cst.Module, params: Sequence[cst.Param], mesh: OneMesh, lines: Sequence[str]
) -> list[Parameter]:
    """The parameters that stay: the model, the mesh, and what the body reads.

    A mesh that was looked up stands where the parameter stood that it came from, if
    nothing else reads that. A function that looks it up itself keeps its signature.
    """
    used = names_in("\n".join(layout.indented(line, 0) for line in ["if 1:", *lines]))
    kept = [
        Parameter(
            name=param.name.value,
            text=_text(tree, param),
            required=param.default is None,
        )
        for index, param in enumerate(params)
        if index == 0
        or param.name.value in used | {mesh.name}
        or (mesh.name is None and param.default is None)
    ]
    if mesh.name is not None and not mesh.given:
        annotated = params[0].annotation is not None
        text = f"{mesh.name}: DeviceMesh" if annotated else mesh.name
        at = next(
            (
                index
                for index, param in enumerate(params)
                if index and param.name.value in mesh.sources - used
            ),
            1,
        )
        before = [p.name.value for p in params[:at]]
        place = sum(parameter.name in before for parameter in kept)
        kept.insert(place, Parameter(mesh.name, text, True))
    return kept


def _or_none(parameter: Parameter) -> Parameter:
    """A parameter of a dtype for which None may be passed, and its annotation says so."""
    text = re.sub(r"^(\w+: torch\.dtype)(?= =|$)", r"\1 | None", parameter.text)
    return replace(parameter, text=text)


def _text(tree: cst.Module, param: cst.Param) -> str:
    alone = param.with_changes(comma=cst.MaybeSentinel.DEFAULT)
    return layout.flatten(tree.code_for_node(alone).strip())
