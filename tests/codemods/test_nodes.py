"""The nodes of a tree, against the standard library's walk."""

import ast
import gc
import weakref

import pytest

from codemods.nodes import nodes, of_kind

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
    monkeypatch.setattr("codemods.nodes._add_children", None)
    assert list(nodes(tree)) == found


@pytest.mark.parametrize(
    "kinds",
    [(ast.Name,), (ast.Name, ast.arg), (ast.Module,), (ast.For, ast.While), (ast.Set,)],
)
def test_those_of_a_kind_come_in_the_same_order(kinds):
    tree = ast.parse(SOURCE)
    for part in nodes(tree):
        expected = [node for node in nodes(part) if isinstance(node, kinds)]
        assert list(of_kind(part, *kinds)) == expected


def test_a_tree_is_freed_without_the_garbage_collector():
    tree = ast.parse(SOURCE)
    list(nodes(tree))
    of_kind(tree, ast.Name)
    gone = weakref.ref(tree)
    gc.disable()
    try:
        del tree
        assert gone() is None
    finally:
        gc.enable()
