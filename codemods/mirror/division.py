"""Where the division of gradients is switched off, and on what condition."""

from codemods.mirror.nodes import AnyNode, Block, Plain, all_wraps, walk
from codemods.mirror.records import Wishes


def move_division_to_the_end(
    nodes: list[AnyNode], model: str, wishes: Wishes, sums: bool
) -> None:
    """Take the switching-off out of ``nodes`` and put it back as it must be.

    Args:
        nodes: of the whole function; changed in place.
        model: the parameter that is the model.
        wishes: whether a call site must keep averaging, and by what it is switched off.
        sums: whether gradients are to be summed.
    """
    _take_out_of_wrapping(nodes)
    off = [node for node in nodes if _switches_division_off(node)]
    for node in off:
        nodes.remove(node)
    if not sums:
        return
    if not off:
        off = [_switching_off(model, wishes.division_helper)]
    if wishes.averaging_option:
        blank, off[0].blank = off[0].blank, False
        off = [Block([], blank, "if", ["not average_gradients"], off)]
    nodes += off


def _switching_off(model: str, helper: str | None) -> AnyNode:
    if helper:
        return Plain([], True, f"{helper}({model})", effect=True, undivides=True)
    code = "module.set_gradient_divide_factor(1.0)"
    setting = Plain([], False, code, effect=True, undivides=True)
    test = Block([], False, "if", ["isinstance(module, FSDPModule)"], [setting])
    comment = "# The training loop divides by the global token count"
    return Block([comment], True, f"for module in {model}.modules()", [], [test])


def _take_out_of_wrapping(nodes: list[AnyNode]) -> None:
    """Switching division off inside a loop that wraps: it is written after, for all."""
    for node in nodes:
        if isinstance(node, Block) and any(True for _ in all_wraps([node])):
            for block in walk([node]):
                if isinstance(block, Block):
                    block.body = [n for n in block.body if not _is_division(n)]
                    block.orelse = [n for n in block.orelse if not _is_division(n)]


def _is_division(node: AnyNode) -> bool:
    return isinstance(node, Plain) and _switches_division_off(node)


def _switches_division_off(node: AnyNode) -> bool:
    return any(isinstance(inner, Plain) and inner.undivides for inner in walk([node]))
