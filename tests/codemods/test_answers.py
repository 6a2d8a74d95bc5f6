"""What is done where a question for a class is answered with yes."""

import ast

import pytest

from codemods.answers import answered
from codemods.classes import questions


def answer(source):
    tree = ast.parse(source)
    (question, *_) = questions(tree)
    return answered(tree, question)


ASKS = "isinstance(m, A)"


@pytest.mark.parametrize(
    "source, known",
    [
        (f"if {ASKS}: m.b()", ("b",)),
        (f"while not {ASKS}: c()\nelse: b()", ("b",)),
        (f"for m in x:\n    if not {ASKS}: continue\n    m.b()", ("b",)),
        (f"if not {ASKS}: c()", ("?",)),
        (f"if {ASKS}: x = 1", ("?",)),
        (f"if {ASKS} and y: m.b(), logger.info('b')", ("b",)),
        (f"{ASKS} and m.b()", ("b",)),
        (f"assert {ASKS}\nm.b()", ("b",)),
        (f"if any({ASKS} for m in x): b()", ("b",)),
        (f"[m.b() for m in x if {ASKS}]", ("b",)),
        (f"for m in list(m for m in x if {ASKS}): m.b()", ("b",)),
        (f"y = [m for m in x if {ASKS}]\nfor m in y: m.b()", ("b",)),
        (f"y = [m for m in x if {ASKS}]\nfor m in y: m.b()\nc(y)", ("b", "?")),
        (f"for m in filter(lambda m: {ASKS}, x): m.b()", ("b",)),
        (f"y = {ASKS}", ("?",)),
        (f"y = m.b() if {ASKS} else m.c()", ("?",)),
        (f"y = [m.b() for m in x if {ASKS}]", ("b", "?")),
        ("match m:\n    case A(): m.b()", ("b",)),
    ],
)
def test_what_is_called_where_it_is_true(source, known):
    assert answer(source).known == known


def test_a_function_that_only_asks():
    assert answer(f"def f(m):\n    'Text.'\n    return {ASKS}").function == "f"
    assert answer(f"def f(m):\n    m.b()\n    return {ASKS}").function is None


@pytest.mark.parametrize(
    "source, whole",
    [
        (f"if x and not {ASKS}: pass", f"x and (not {ASKS})"),
        (f"y = any({ASKS} for m in x)", f"any(({ASKS} for m in x))"),
        (f"y = 1 if {ASKS} else 2", f"1 if {ASKS} else 2"),
        (f"f({ASKS})", ASKS),
    ],
)
def test_what_it_is_part_of(source, whole):
    assert ast.unparse(answer(source).whole) == whole
