"""Write nodes as lines of code, and the head of the function above them."""

from collections.abc import Sequence

import libcst as cst

from codemods import layout
from codemods.mirror.nodes import AnyNode, Block, Dict, Plain, Wrap
from codemods.mirror.records import Parameter
from codemods.mirror.renames import CALL


def emit(nodes: Sequence[AnyNode], depth: int) -> list[str]:
    """The lines of nodes, ``depth`` steps indented; one may hold line ends of its own."""
    lines: list[str] = []
    for index, node in enumerate(nodes):
        if node.blank and index:
            lines.append("")
        lines += [layout.indented(comment, depth) for comment in node.comments]
        if isinstance(node, Wrap):
            modules = ", ".join(node.modules)
            shown = node.variable or (f"[{modules}]" if node.is_list else modules)
            text = layout.bracketed(f"{CALL}(", [shown, *node.arguments], ")")
            lines.append(layout.indented(text, depth))
        elif isinstance(node, Dict):
            text = layout.bracketed(node.head, node.items, node.tail)
            lines.append(layout.indented(text, depth))
        elif isinstance(node, Plain):
            lines.append(layout.indented(node.text, depth))
        else:
            lines += _emit_block(node, depth, node.keyword)
    return lines


def _emit_block(node: Block, depth: int, keyword: str) -> list[str]:
    asked = f" {layout.joined(node.terms)}" if node.terms else ""
    body: list[AnyNode] = node.body or [Plain([], False, "pass")]
    lines = [layout.indented(f"{keyword}{asked}:", depth), *emit(body, depth + 1)]
    if len(node.orelse) == 1:
        only = node.orelse[0]
        if isinstance(only, Block) and only.keyword == "if" and not only.comments:
            return [*lines, *_emit_block(only, depth, "elif")]
    if node.orelse:
        lines += [layout.indented("else:", depth), *emit(node.orelse, depth + 1)]
    return lines


def signature(
    tree: cst.Module,
    apply_fsdp: cst.FunctionDef,
    name: str,
    parameters: Sequence[Parameter],
) -> str:
    """The head of the new function, laid out and annotated as ``apply_fsdp`` has it."""
    returns = apply_fsdp.returns
    tail = "):"
    if returns:
        tail = f") -> {tree.code_for_node(returns.annotation).strip()}:"
    return layout.bracketed(
        f"def {name}(",
        [parameter.text for parameter in parameters],
        tail,
        exploded=_has_trailing_comma(apply_fsdp.params),
    )


def _has_trailing_comma(params: cst.Parameters) -> bool:
    every = [*params.posonly_params, *params.params, *params.kwonly_params]
    return bool(every) and isinstance(every[-1].comma, cst.Comma)
