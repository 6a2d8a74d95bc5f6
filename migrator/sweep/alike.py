"""Bring trees into an order in which those that share most files come one after another."""

from migrator.sweep.objects import Unreadable
from migrator.sweep.tree import Trees

Sketch = tuple[str, ...]
"""The least part of any blob's id, for several parts: trees that share files mostly share these (MinHash)."""

_PARTS = [(at, at + 8) for at in range(0, 32, 4)]
_NONE = tuple("~" for _ in _PARTS)
_DEEPEST = 200


def sketch(trees: Trees, tree: str, known: dict[str, Sketch], depth: int = 0) -> Sketch:
    """What to sort a tree by.

    Args:
        trees: of its repository.
        tree: its id.
        known: those of folders that were looked at, which is filled.
        depth: how far below the top it lies.
    """
    if tree not in known:
        found = list(_NONE)
        try:
            entries = trees.folder(tree).values() if depth < _DEEPEST else ()
        except Unreadable:  # it will be said when it is planned
            entries = ()
        for entry in entries:
            least = (
                sketch(trees, entry.id, known, depth + 1)
                if entry.is_folder and not entry.is_submodule
                else tuple(entry.id[start:end] for start, end in _PARTS)
            )
            found = list(map(min, found, least))
        known[tree] = tuple(found)
    return known[tree]
