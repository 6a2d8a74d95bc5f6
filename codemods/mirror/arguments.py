"""What ``fully_shard`` is given, as it is or by a dict, less what only serves sharding."""

import re

import libcst as cst

from codemods import layout
from codemods.mirror.nodes import AnyNode, Dict, Plain, Wrap
from codemods.mirror.records import CannotMirror

SHARDING_KEYWORDS = {"reshard_after_forward", "shard_placement_fn", "offload_policy"}
"""Arguments of ``fully_shard`` that replicate does not take or has no use for."""


def wrap(tree: cst.Module, call: cst.Call, mesh_keyword: str) -> Wrap:
    """A call of ``fully_shard``.

    Args:
        tree: the module that it is in.
        call: as it is.
        mesh_keyword: what replicate calls its mesh.

    Raises:
        CannotMirror: it names no module.
    """
    modules: list[str] = []
    is_list = False
    arguments = []
    for index, arg in enumerate(call.args):
        keyword = arg.keyword.value if arg.keyword else None
        if (index == 0 and not arg.star and keyword is None) or keyword == "module":
            if isinstance(arg.value, (cst.List, cst.Tuple)):
                is_list = True
                modules = [_code(tree, item.value) for item in arg.value.elements]
            else:
                modules = [_code(tree, arg.value)]
        else:
            arguments.append(_argument(tree, arg, mesh_keyword))
    if not modules:
        raise CannotMirror("a call of fully_shard names no module")
    return Wrap([], False, modules, is_list, [*filter(None, arguments)])


def assignment(
    tree: cst.Module, small: cst.Assign | cst.AnnAssign, mesh_keyword: str
) -> AnyNode | None:
    """An assignment, of a dict of arguments or of anything else; None where it goes."""
    target: cst.BaseExpression
    value: cst.BaseExpression | None
    if isinstance(small, cst.Assign):
        if len(small.targets) != 1:
            return Plain([], False, _code(tree, small), effect=True)
        target, value = small.targets[0].target, small.value
        head = f"{_code(tree, target)} = "
    else:
        target, value = small.target, small.value
        annotation = _code(tree, small.annotation.annotation)
        head = f"{_code(tree, target)}: {annotation} = "
    if isinstance(target, cst.Subscript):
        return _item_assignment(tree, small, target, mesh_keyword)
    if not isinstance(target, cst.Name):
        return Plain([], False, _code(tree, small), effect=True)
    if isinstance(value, cst.Dict):
        items = [_dict_item(tree, item, mesh_keyword) for item in value.elements]
        return Dict([], False, f"{head}{{", target.value, [*filter(None, items)], "}")
    if isinstance(value, cst.Call) and _code(tree, value.func) == "dict":
        items = [_argument(tree, arg, mesh_keyword) for arg in value.args]
        kept = [*filter(None, items)]
        return Dict([], False, f"{head}dict(", target.value, kept, ")")
    return Plain([], False, _code(tree, small), target=target.value)


def _item_assignment(
    tree: cst.Module,
    small: cst.Assign | cst.AnnAssign,
    target: cst.Subscript,
    mesh_keyword: str,
) -> Plain | None:
    """``config["mesh"] = ...``."""
    if any(keyword in _code(tree, target) for keyword in SHARDING_KEYWORDS):
        return None
    text = re.sub(
        r"""\[["']mesh["']\] = """, f'["{mesh_keyword}"] = ', _code(tree, small)
    )
    return Plain([], False, text, target=_code(tree, target.value))


def _dict_item(
    tree: cst.Module, item: cst.BaseDictElement, mesh_keyword: str
) -> str | None:
    if not isinstance(item, cst.DictElement):
        return f"**{_code(tree, item.value)}"
    key = _code(tree, item.key).strip("\"'")
    if key in SHARDING_KEYWORDS:
        return None
    key = mesh_keyword if key == "mesh" else key
    return f'"{key}": {layout.flatten(_code(tree, item.value))}'


def _argument(tree: cst.Module, arg: cst.Arg, mesh_keyword: str) -> str | None:
    """An argument of ``fully_shard`` or of ``dict``; None where it goes."""
    value = layout.flatten(_code(tree, arg.value))
    if arg.keyword is None:
        return f"{arg.star}{value}"
    key = arg.keyword.value
    if key in SHARDING_KEYWORDS:
        return None
    return f"{mesh_keyword if key == 'mesh' else key}={value}"


def _code(tree: cst.Module, node: cst.CSTNode) -> str:
    return tree.code_for_node(node).strip()
