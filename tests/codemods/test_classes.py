"""Where code asks of which class something is, and by which names a class goes."""

import ast

import pytest

from codemods.bindings import Checkout
from codemods.classes import Names, questions
from codemods.source import SourceFile


@pytest.mark.parametrize(
    "source, subject, asked, how",
    [
        ("isinstance(m, A)", "m", "A", "isinstance"),
        ("issubclass(type(m), (A, B))", "m", "(A, B)", "issubclass"),
        ("type(m) is A", "m", "A", "type"),
        ("A == m.__class__", "m", "A", "type"),
        ("type(m) in (A, B)", "m", "(A, B)", "type"),
        ("type(m).__name__ == 'A'", "m", "'A'", "name"),
        ("self.m._get_name() in ('A', 'B')", "self.m", "('A', 'B')", "name"),
        ("A in type(m).mro()", "m", "A", "bases"),
        ("A in m.__class__.__bases__", "m", "A", "bases"),
    ],
)
def test_a_question(source, subject, asked, how):
    (found,) = questions(ast.parse(source))
    assert (found.subject, ast.unparse(found.asked), found.how, found.negated) == (
        *(subject, asked, how),
        False,
    )


@pytest.mark.parametrize("operator", ["is not", "!=", "not in"])
def test_a_negated_question(operator):
    (found,) = questions(ast.parse(f"type(m) {operator} A"))
    assert found.negated


def test_a_case():
    found = questions(ast.parse("match m:\n    case A() | B(x=1) as c: pass"))
    assert [(q.subject, ast.unparse(q.asked), q.how) for q in found] == [
        ("m", "A", "case"),
        ("m", "B", "case"),
    ]


@pytest.mark.parametrize(
    "source", ["issubclass(Mine, A)", "m.kind is A", "a < b", "type('A', (), {}) is A"]
)
def test_no_question(source):
    assert questions(ast.parse(source)) == ()


FILES = {
    "pack/__init__.py": "",
    "pack/kinds.py": "from torch import Thing as T\nKINDS = frozenset([T, int])\n",
    "pack/use.py": """\
import torch as t
from pack.kinds import KINDS
from torch import Thing as Renamed

MINE = {Renamed: 1}
made = Renamed()


class User:
    kinds = (int, t.Thing)
""",
}


@pytest.mark.parametrize(
    "asked", ["Renamed", "t.Thing", "KINDS", "MINE", "self.kinds", "int | Renamed"]
)
def test_a_class_stands_for_itself(asked):
    assert stands_for(asked)


@pytest.mark.parametrize("asked", ["made", "int", "type(other)", "'Thing'"])
def test_what_is_something_else(asked):
    assert not stands_for(asked)


def stands_for(asked):
    text = f"{FILES['pack/use.py']}\n\nasked = {asked}\n"
    sources = {**FILES, "pack/use.py": text}
    checkout = Checkout({p: SourceFile(p, s.encode()) for p, s in sources.items()})
    file = checkout.files["pack/use.py"]
    last = file.syntax.body[-1]
    names = Names(checkout, "Thing")
    assert {"Thing", "KINDS", "MINE"} <= set(names.words)
    return names.stands_for(file, last.value)
