"""Whether a function comes to wrap a model, read alone."""

import ast

import pytest

from codemods.bindings import Checkout
from codemods.source import SourceFile
from codemods.wrapping import Search

FILES = {
    "plans.py": """
def apply_plan(m):
    def inner():
        wrap(m)
    inner()
def counts(m):
    return lambda: wrap(m)
""",
    "base.py": """
from plans import apply_plan as plan
class Base:
    def __init__(self, m):
        plan(m)
    def step(self):
        return self.loss()
""",
    "train.py": """
from base import Base
class Trainer(Base):
    def __init__(self, m):
        super().__init__(m)
    def loss(self):
        return 0
def run(m):
    trainer = Trainer(m)
    trainer.step()
def evaluate(trainer):
    trainer.step()
class Loud(Trainer):
    def step(self):
        return self.wrapped()
    def wrapped(self):
        wrap(self.model)
""",
}


def wrapped(_, call):
    return call.args[0] if ast.unparse(call.func) == "wrap" else None


def found(path, name, of=None):
    files = {path: SourceFile(path, text.encode()) for path, text in FILES.items()}
    tree = files[path].syntax
    class_ = next((n for n in tree.body if getattr(n, "name", "") == of), None)
    body = (class_ or tree).body
    function = next(n for n in body if getattr(n, "name", "") == name)
    search = Search(Checkout(files), wrapped)
    within = (files[path], class_) if class_ is not None else None
    return search.wraps((files[path], function.body), within)


@pytest.mark.parametrize(
    ("path", "name", "of"),
    [
        ("plans.py", "apply_plan", None),
        ("base.py", "__init__", "Base"),
        ("train.py", "__init__", "Trainer"),
        ("train.py", "run", None),
        ("train.py", "step", "Loud"),
    ],
)
def test_what_wraps_by_calls_does(path, name, of):
    assert found(path, name, of)


@pytest.mark.parametrize(
    ("path", "name", "of"),
    [
        ("plans.py", "counts", None),
        ("base.py", "step", "Base"),
        ("train.py", "loss", "Trainer"),
        ("train.py", "evaluate", None),
    ],
)
def test_what_comes_to_no_wrapping_does_not(path, name, of):
    assert not found(path, name, of)
