"""Guards are taken out where they stand, and nothing besides them."""

import ast

import libcst as cst
import pytest

from codemods.guards import guards, spots
from codemods.unguard import Unguard

from support import text

REFUSAL = 'raise RuntimeError("DDP has not supported > 1D parallelism")'


def without(source: str) -> str:
    """A module less every guard in it."""
    syntax = ast.parse(source)
    where = spots(syntax)
    going = {where[id(guard.node)]: guard for guard in guards(syntax)}
    assert going
    unguard = Unguard(syntax, going, (), ())
    return cst.parse_module(source).visit(unguard).code


@pytest.mark.parametrize(
    "before, after",
    [
        ("a()\nassert mesh.ndim == 1\nb()\n", "a()\nb()\n"),
        ("a(); assert mesh.ndim == 1; b()  # why\n", "a(); b()  # why\n"),
        ("a(); assert mesh.ndim == 1\n", "a()\n"),
        ("assert mesh.ndim == 1; a(); assert mesh.ndim < 2\n", "a()\n"),
        (f"for x in y:\n    if mesh.ndim > 1:\n        {REFUSAL}\nb()\n", "b()\n"),
        (
            f"for x in y:\n    a()\n    if mesh.ndim > 1:\n        {REFUSAL}\n",
            "for x in y:\n    a()\n",
        ),
        # To ask for the items may do something.
        (
            f"for x in y():\n    if mesh.ndim > 1:\n        {REFUSAL}\n",
            "for x in y():\n    pass\n",
        ),
        (
            "if ddp and mesh is not None and mesh.ndim == 1:\n    a()\n"
            f"else:\n    {REFUSAL}\n",
            "if ddp:\n    a()\n",
        ),
        (
            f"if a:\n    b()\n# whole\nelif mesh.ndim == 1:\n    c()\nelse:\n    {REFUSAL}\n",
            "if a:\n    b()\n# whole\nelse:\n    c()\n",
        ),
    ],
)
def test_what_stays(before, after):
    assert without(text(before)) == text(after)
