"""The order in which trees are planned."""

from migrator.sweep.alike import sketch


def test_trees_that_share_files_are_side_by_side(tree_of):
    one = {f"a/{n}.py": b"one %d" % n for n in range(40)}
    two = {f"a/{n}.py": b"two %d" % n for n in range(40)}
    made = [
        tree_of({**files, "new.py": b"%d" % n})
        for n in range(4)
        for files in (one, two)
    ]
    sketches = [sketch(tree.trees, tree.id, {}) for tree in made]
    order = sorted(range(8), key=lambda n: sketches[n])
    kinds = [n % 2 for n in order]
    assert kinds in ([0] * 4 + [1] * 4, [1] * 4 + [0] * 4)


def test_a_tree_that_is_missing_has_a_place_too(tree_of):
    tree = tree_of({"a.py": b""})
    assert sketch(tree.trees, "0" * 40, {}) == tuple("~" * 8)
