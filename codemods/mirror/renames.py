"""Local variables named after FSDP get the name of what they hold now."""

import ast
import re

from codemods.mirror.nodes import AnyNode, Dict, Plain, walk

CALL = "__the_new_replicate"
"""Stands for the new function until local variables of its name are renamed."""


def renames_of(nodes: list[AnyNode], called: str) -> dict[str, str]:
    """Local variables named after FSDP -> the same named after replicate.

    Args:
        nodes: of the whole function.
        called: what replicate is called there.
    """
    locals_ = {
        node.target
        for node in walk(nodes)
        if isinstance(node, (Plain, Dict)) and node.target
    }
    renames: dict[str, str] = {}
    for name in sorted(locals_):
        fresh = re.sub("fsdp", "replicate", name)
        while fresh in locals_ - {name} or fresh == called:
            fresh += "_"
        if fresh != name:
            renames[name] = fresh
    return {**renames, CALL: called}


def renamed(lines: list[str], renames: dict[str, str]) -> list[str]:
    """The lines with local variables renamed: names alone, no strings, no keywords."""
    tree = ast.parse("\n".join(["if 1:", *lines]))
    places = [
        (node.lineno - 2, node.col_offset, node.id)
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id in renames
    ]
    changed = [line.encode() for line in lines]
    for number, column, name in sorted(places, reverse=True):
        line = changed[number]
        end = column + len(name.encode())
        changed[number] = line[:column] + renames[name].encode() + line[end:]
    return [line.decode() for line in changed]
