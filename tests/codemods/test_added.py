"""What puts something new into a model, read alone."""

import pytest

from codemods.added import additions
from codemods.bindings import Checkout
from codemods.source import SourceFile

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
        ("model.loss = nn.CrossEntropyLoss()", False),
        ("model.drop = nn.Dropout(0.1)", False),
        ("setattr()", False),
    ],
)
def test_what_adds_to_a_model(code, adds):
    file = SourceFile("a.py", f"{CLASSES}{code}\n".encode())
    last = file.syntax.body[-1:]
    found = additions(Checkout({"a.py": file}), file, last, {"model"})
    assert bool([*found]) == adds


def test_a_name_that_is_given_to_something_else_is_the_model_no_more():
    code = "model = other()\nmodel.head = Head()\n"
    file = SourceFile("a.py", f"{CLASSES}{code}".encode())
    last = file.syntax.body[-2:]
    assert not [*additions(Checkout({"a.py": file}), file, last, {"model"})]
