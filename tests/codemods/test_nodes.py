"""The nodes of a tree, against the standard library's walk."""

import ast
import gc
import weakref

from codemods.nodes import nodes

SOURCE = """\
@decorated
async def f(a, *b: int, c=1, **d) -> None:
    for x, y in [z for z in a if z]:
        x.y[1:2] += await g(*b, **d)
    match a:
        case {"k": [1, *rest]} if rest:
            raise E from None
"""


def test_they_come_as_the_standard_library_gives_them():
    tree = ast.parse(SOURCE)
    assert list(nodes(tree)) == [
        node for node in ast.walk(tree) if not isinstance(node, ast.expr_context)
    ]


def test_they_are_found_once(monkeypatch):
    tree = ast.parse(SOURCE)
    found = list(nodes(tree))
    assert found[0] is tree and next(nodes(tree.body[0])) is tree.body[0]
    monkeypatch.setattr("codemods.nodes.children", None)
    assert list(nodes(tree)) == found


def test_a_tree_is_freed_without_the_garbage_collector():
    tree = ast.parse(SOURCE)
    list(nodes(tree))
    gone = weakref.ref(tree)
    gc.disable()
    try:
        del tree
        assert gone() is None
    finally:
        gc.enable()
