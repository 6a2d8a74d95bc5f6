"""The nodes of a syntax tree, found once: most rules go through the same trees."""

import ast

from codemods.once import once


@once
def nodes(tree: ast.AST) -> tuple[ast.AST, ...]:
    """Every node of a tree that nobody changes, as ``ast.walk`` gives them, ``ctx`` apart."""
    found = [tree]
    for node in found:  # grows
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, list):
                found += [child for child in value if isinstance(child, ast.AST)]
            elif isinstance(value, ast.AST) and name != "ctx":
                found.append(value)
    return tuple(found)
