"""What is taken for a guard against more than one dimension."""

import ast

import pytest

from codemods.guards import is_guard, refuses

REFUSAL = 'raise RuntimeError("DDP has not supported > 1D parallelism")'


def statement(source: str) -> ast.stmt:
    (found,) = ast.parse(source).body
    return found


@pytest.mark.parametrize(
    "source, guard",
    [
        (f"if mesh.ndim > 1: {REFUSAL}", True),
        (f"if dims.tp_enabled or not wide: {REFUSAL}", True),
        ('assert mesh.ndim == 1, "DDP takes a 1D mesh"', True),
        # It does more, asks for something else, or refuses something else.
        (f"if mesh.ndim > 1:\n    log()\n    {REFUSAL}", False),
        (f"if mesh.ndim > 1: {REFUSAL}\nelse: wrap()", False),
        (f"if job.checkpoint.enabled(): {REFUSAL}", False),
        ('if mesh.ndim > 1: raise RuntimeError("no mesh")', False),
        ("assert mesh.ndim == 1", False),
        (REFUSAL, False),
    ],
)
def test_a_guard_only_refuses_and_only_asks_for_the_mesh(source, guard):
    assert is_guard(statement(source)) == guard


@pytest.mark.parametrize(
    "source, says_so",
    [
        ('"DDP has not supported > 1D parallelism"', True),
        ('"replicate is for one dimension"', True),
        ('"DDP"', False),
        ("1", False),
    ],
)
def test_a_string_that_says_so(source, says_so):
    assert refuses(ast.parse(source, mode="eval").body) == says_so
