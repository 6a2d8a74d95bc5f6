"""What a migration does only from some step on, which a short training does not reach. By parsing alone."""

from __future__ import annotations

import ast
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeGuard

from migrator.verify.judge.names import UNPARSABLE

_COUNTERS = frozenset({"step", "steps", "iteration", "iterations", "iter"})


def unreached(
    base: Path, migrated: Path, files: Sequence[str], steps: int
) -> tuple[str, ...]:
    """Where the migrated tree compares the number of the step, or a remainder of it, with what is beyond those trained, and the base does not.

    Args:
        base, migrated: the trees.
        files: those that differ, from the root of the trees.
        steps: the last step that is trained.

    Returns:
        A phrase for each place: ``torchtitan/train.py:512 asks for self.step > 1000``.
    """
    found = []
    for name in files:
        known = {ast.unparse(node) for node in _conditions(base / name)}
        for node in _conditions(migrated / name):
            said = ast.unparse(node)
            if said not in known and not _reached(node, steps):
                found.append(f"{name}:{node.lineno} asks for {said}")
    return tuple(found)


def _conditions(path: Path) -> Iterator[ast.expr]:
    """The comparisons and remainders of a file in which a step's number stands, each whole."""
    if path.suffix != ".py" or not path.is_file():
        return
    try:
        pending: deque[ast.AST] = deque([ast.parse(path.read_bytes())])
    except UNPARSABLE:
        return
    while pending:
        node = pending.popleft()
        if _asks(node):
            yield node
        else:
            pending.extend(ast.iter_child_nodes(node))


def _asks(node: ast.AST) -> TypeGuard[ast.expr]:
    match node:
        case ast.Compare():
            return any(map(_counts, _operands(node)))
        case ast.BinOp(op=ast.Mod(), left=left):
            # What is on the right of a remainder may be a text's.
            return any(map(_counts, _operands(left)))
    return False


def _operands(node: ast.expr) -> list[ast.expr]:
    """What a comparison, or a computation in one, is made of."""
    match node:
        case ast.Compare(left=left, comparators=others):
            parts = [left, *others]
        case ast.BinOp(left=left, right=right):
            parts = [left, right]
        case ast.UnaryOp(operand=operand):
            parts = [operand]
        case _:
            return [node]
    return [operand for part in parts for operand in _operands(part)]


def _counts(node: ast.expr) -> bool:
    name = getattr(node, "attr", getattr(node, "id", ""))
    return bool(_COUNTERS & set(str(name).split("_")))


def _reached(node: ast.expr, steps: int) -> bool:
    """Whether both outcomes of a condition occur in these steps, as far as its numbers show."""
    others = [n for n in _operands(node) if not _counts(n)]
    return bool(others) and all(
        isinstance(n, ast.Constant) and isinstance(n.value, int) and n.value < steps
        for n in others
    )
