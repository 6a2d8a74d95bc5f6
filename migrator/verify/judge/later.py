"""What a migration does only from some step on, which a short training does not reach. By parsing alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from pathlib import Path

from migrator.verify.judge.names import UNPARSABLE

_COUNTERS = frozenset({"step", "steps", "iteration", "iterations", "iter"})


def unreached(
    base: Path, migrated: Path, files: Sequence[str], steps: int
) -> tuple[str, ...]:
    """Where the migrated tree compares the number of the step with what is beyond those trained, and the base does not.

    Args:
        base, migrated: the trees.
        files: those that differ, from the root of the trees.
        steps: the last step that is trained.

    Returns:
        A phrase for each place: ``torchtitan/train.py:512 asks for self.step > 1000``.
    """
    found = []
    for name in files:
        known = {ast.unparse(node) for node in _comparisons(base / name)}
        for node in _comparisons(migrated / name):
            said = ast.unparse(node)
            if said not in known and not _reached(node, steps):
                found.append(f"{name}:{node.lineno} asks for {said}")
    return tuple(found)


def _comparisons(path: Path) -> Iterator[ast.Compare]:
    """Those of a file in which a step's number stands."""
    if path.suffix != ".py" or not path.is_file():
        return
    try:
        tree = ast.parse(path.read_bytes())
    except UNPARSABLE:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare) and any(
            map(_counts, (node.left, *node.comparators))
        ):
            yield node


def _counts(node: ast.expr) -> bool:
    name = getattr(node, "attr", getattr(node, "id", ""))
    return bool(_COUNTERS & set(str(name).split("_")))


def _reached(node: ast.Compare, steps: int) -> bool:
    """Whether both outcomes of a comparison occur in these steps, as far as its numbers show."""
    others = [n for n in (node.left, *node.comparators) if not _counts(n)]
    return bool(others) and all(
        isinstance(n, ast.Constant) and isinstance(n.value, int) and n.value < steps
        for n in others
    )
