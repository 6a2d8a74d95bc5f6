"""What takes a model's parameters, read alone."""

import ast

import pytest

from codemods.bindings import Checkout
from codemods.captured import captures
from codemods.source import SourceFile


def captured(source):
    """What is captured before ``wrap(model)``."""
    file = SourceFile("a.py", source.encode())

    def wrapped(_, call):
        return call.args[0] if ast.unparse(call.func) == "wrap" else None

    return list(captures(Checkout({file.path: file}), wrapped, [file]))


def read(source):
    """Subject and line of each."""
    return [(one.subject, one.line, one.before) for one in captured(source)]


def test_names_what_is_made_and_where_it_belongs():
    source = "def f(m):\n    held = list(m.parameters())\n    wrap(m)\n"
    assert read(source) == [("held", 2, 3)]


def test_comes_to_an_end_where_functions_call_each_other():
    source = """
def f(m):
    g(m)
    wrap(m)
def g(m):
    h = [*m.parameters()]
    f(m)
"""
    assert read(source) == [("what g(m) keeps", 3, 4), ("h", 6, 7)]


def test_tells_branches_of_one_condition_apart():
    source = """
def f(m, a):
    if not a:
        held = list(m.parameters())
    if a:
        wrap(m)
"""
    assert read(source) == []
    assert read(source.replace("if a:", "if not a:")) == [("held", 4, 6)]


@pytest.mark.parametrize(
    ("lines", "subject"),
    [
        ("for p in m.parameters():\n        p.lr_scale = 0.1", "p.lr_scale is set on"),
        (
            "for n, p in m.named_parameters():\n        if n:\n            p.skip = True",
            "p.skip is set on",
        ),
        (
            "for p in m.parameters():\n        setattr(p, 'lr_scale', 0.1)",
            "what setattr(p, 'lr_scale', 0.1) keeps is made from",
        ),
        ("m.norm.weight.skip = True", "m.norm.weight.skip is set on"),
        (
            "for x in m.modules():\n        x.bias.skip = True",
            "x.bias.skip is set on",
        ),
        ("ids = {id(p) for p in m.parameters()}", "ids is made from"),
        ("ids = {id(p): n for n, p in m.named_parameters()}", "ids is made from"),
    ],
)
def test_what_is_noted_of_parameters_is_gone(lines, subject):
    (one,) = captured(f"def f(m):\n    {lines}\n    wrap(m)\n")
    assert f"{one.subject} {one.verb}" == subject
    assert read(f"def f(m):\n    wrap(m)\n    {lines}\n") == []


@pytest.mark.parametrize(
    "lines",
    [
        "for p in m.parameters():\n        p.requires_grad = False",
        "for p in m.parameters():\n        p.data = p.data.float()",
        "m.head.weight.requires_grad = False",
        "m.head.weight = nn.Parameter(other)",
        "for x in m.modules():\n        x.training = False",
        "count = len({id(p) for p in m.parameters()})",
        "for p in m.parameters():\n        if id(p) not in seen:\n            seen.add(id(p))",
    ],
)
def test_what_the_new_parameters_have_too_is_not(lines):
    assert read(f"def f(m):\n    seen = set()\n    {lines}\n    wrap(m)\n") == []
