"""What puts something new into a model, read alone."""

import ast

import pytest

from codemods.added import additions, behind
from codemods.bindings import Checkout
from codemods.nodes import of_kind
from codemods.source import SourceFile

SOURCE = """
def f(model, a):
    one()
    if a:
        wrap(model)
        two()
    else:
        three()
    for x in y:
        four()
"""


def test_what_runs_behind_a_call_is_in_no_other_branch():
    (function,) = ast.parse(SOURCE).body
    (call,) = [c for c in of_kind(function, ast.Call) if ast.unparse(c.func) == "wrap"]
    found = [ast.unparse(s) for s in behind(function, call)]
    assert found == ["for x in y:\n    four()", "four()", "two()"]


CLASSES = """import torch.nn as nn
class Head(nn.Module): pass
class Other: pass
def put(model):
    model.head = Head()
def give(model):
    return Head()
"""


@pytest.mark.parametrize(
    ("code", "adds"),
    [
        ("model.head = Head()", True),
        ("model.head = Other()", False),
        ("m = put(model)", True),
        ("m = give(model)", False),
        ("model = Head()", False),
        ("setattr(model, name, Head())", True),
        ("setattr(other, name, Head())", False),
        ("model.layers.register_module('x', nn.Linear(1, 1))", True),
        ("model.scale = nn.Parameter(x)", True),
        ("model.scale = nn.functional.relu(x)", False),
    ],
)
def test_what_adds_to_a_model(code, adds):
    file = SourceFile("a.py", f"{CLASSES}{code}\n".encode())
    last = file.syntax.body[-1:]
    found = additions(Checkout({"a.py": file}), file, last, {"model"})
    assert bool([*found]) == adds
