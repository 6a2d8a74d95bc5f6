"""Who calls a function."""

import ast

import pytest

from codemods.bindings import Checkout
from codemods.callers import callers, holder

from support import HERE, checkout

FILE = """\
import logging


def wrap(model):
    return model


class Actor:
    def __init__(self, model):
        def inner(part):
            return part

        self.model = wrap(inner(model))
        self.ready()

    def ready(self):
        pass


def ready():
    pass


actor = Actor(1)
"""
OTHER = "torchtitan/other.py"
CALLS = """\
from torchtitan.models.mine.parallelize import Actor, ready
from torchtitan.models.mine import parallelize as plan
from torchtitan.models.mine.parallelize import wrap as enclose


def main():
    plan.wrap(2)
    enclose(3)
    ready()
    return Actor(4)


def other(wrap):
    wrap(5)
"""


def sought(scope: str) -> list[tuple[str, str, str]]:
    """(file, function, call) of each call of a function of FILE."""
    files = Checkout(checkout({HERE: FILE, OTHER: CALLS}))
    file = files.files[HERE]
    function = next(
        h
        for line in range(1, len(file.lines) + 1)
        for h in [holder(file, line)]
        if h.scope == scope
    )
    return [
        (found.file.path, found.holder.scope, ast.unparse(found.call))
        for found in callers(files, file, function)
    ]


@pytest.mark.parametrize(
    "scope, calls",
    [
        (
            "wrap",
            [
                (HERE, "Actor.__init__", "wrap(inner(model))"),
                (OTHER, "main", "plan.wrap(2)"),
                (OTHER, "main", "enclose(3)"),
            ],
        ),
        ("ready", [(OTHER, "main", "ready()")]),
        ("Actor.ready", [(HERE, "Actor.__init__", "self.ready()")]),
        ("Actor.__init__", [(HERE, "", "Actor(1)"), (OTHER, "main", "Actor(4)")]),
        ("Actor.__init__.inner", [(HERE, "Actor.__init__", "inner(model)")]),
    ],
)
def test_calls_are_found_by_binding(scope, calls):
    assert sorted(sought(scope)) == sorted(calls)


def test_a_line_of_no_function():
    file = checkout({HERE: FILE})[HERE]
    assert holder(file, 1).function is None and holder(file, 1).scope == ""
    cls = holder(file, 9).cls
    assert cls is not None and cls.name == "Actor"
