"""From ``apply_fsdp`` to ``apply_replicate``: read, change, write."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import libcst as cst

from codemods import layout
from codemods.mirror.arguments import SHARDING_KEYWORDS
from codemods.mirror.division import move_division_to_the_end
from codemods.mirror.docstring import docstring_of
from codemods.mirror.live import live
from codemods.mirror.names import names_in
from codemods.mirror.nodes import AnyNode, Dict, Plain, Wrap, all_wraps, walk
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
    mesh = _mesh_parameter(nodes, params, wishes.mesh_keyword)
    sums = wishes.sum_gradients or divides_off
    nodes = live(nodes)
    for left, right in wishes.ties:
        nodes = in_one_group(nodes, (f"{model}.{left}", f"{model}.{right}"))
    move_division_to_the_end(nodes, model, wishes, sums)
    lines = _lines(_ended(nodes, model, wishes))
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
    )


def _mesh_parameter(
    nodes: Sequence[AnyNode], params: Iterable[cst.Param], keyword: str
) -> str:
    """The parameter that ``fully_shard`` gets as its mesh."""
    names = {param.name.value for param in params}
    for node in walk(nodes):
        for passed in _passed_as(keyword, node):
            if passed in names:
                return passed
    raise CannotMirror("the mesh it wraps on is none of its parameters")


def _passed_as(keyword: str, node: AnyNode) -> Iterator[str]:
    """The variables that a node passes by a keyword, or puts into a dict for it."""
    if isinstance(node, (Dict, Wrap)):
        for item in node.items if isinstance(node, Dict) else node.arguments:
            found = re.fullmatch(rf'"?{keyword}"?\s*[:=]\s*(\w+)', item)
            if found:
                yield found[1]
    if isinstance(node, Plain):
        found = re.search(rf'\["{keyword}"\] = (\w+)$', node.text)
        if found:
            yield found[1]


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


def _lines(nodes: list[AnyNode]) -> list[str]:
    """The body of the new function."""
    if nodes:
        nodes[0].blank = False
    renames = renames_of(nodes)
    lines = "\n".join(emit(nodes, 1)).split("\n")
    for keyword in SHARDING_KEYWORDS:
        if any(keyword in line for line in lines):
            raise CannotMirror(f"it passes {keyword} in a way that is not followed")
    return renamed(lines, renames)


def _parameters(
    tree: cst.Module, params: Sequence[cst.Param], mesh: str, lines: Sequence[str]
) -> list[Parameter]:
    """The parameters that stay: the model, the mesh, and what the body reads."""
    used = names_in("\n".join(layout.indented(line, 0) for line in ["if 1:", *lines]))
    return [
        Parameter(
            name=param.name.value,
            text=_text(tree, param),
            required=param.default is None,
        )
        for index, param in enumerate(params)
        if index == 0 or param.name.value == mesh or param.name.value in used
    ]


def _or_none(parameter: Parameter) -> Parameter:
    """A parameter of a dtype for which None may be passed, and its annotation says so."""
    text = re.sub(r"^(\w+: torch\.dtype)(?= =|$)", r"\1 | None", parameter.text)
    return replace(parameter, text=text)


def _text(tree: cst.Module, param: cst.Param) -> str:
    alone = param.with_changes(comma=cst.MaybeSentinel.DEFAULT)
    return layout.flatten(tree.code_for_node(alone).strip())
