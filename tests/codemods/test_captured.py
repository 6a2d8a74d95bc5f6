"""What takes a model's parameters, read alone."""

import ast

from codemods.bindings import Checkout
from codemods.captured import captures
from codemods.source import SourceFile


def read(source):
    """Subject and line of what is captured before ``wrap(model)``."""
    file = SourceFile("a.py", source.encode())

    def wrapped(_, call):
        return call.args[0] if ast.unparse(call.func) == "wrap" else None

    found = captures(Checkout({file.path: file}), wrapped, [file])
    return [(one.subject, one.line, one.before) for one in found]


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
