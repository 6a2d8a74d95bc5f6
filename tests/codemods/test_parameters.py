"""Loops over the parameters of a model, however they are written."""

import ast

import pytest

from codemods.parameters import are_parameters, loops


def names(source):
    return {name for loop in loops(ast.parse(source)) for name in loop.names}


@pytest.mark.parametrize(
    "source",
    [
        "for p in model.parameters(): pass",
        "for name, p in self.model.named_parameters(): pass",
        "for i, p in enumerate(model.parameters()): pass",
        "for s, p in zip(shadow, model.parameters()): pass",
        "for p, s in zip(list(model.parameters()), shadow): pass",
        "for i, (n, p) in enumerate(model.named_parameters()): pass",
        "[p for m in parts for p in m.parameters() if p.requires_grad]",
        "{n: p.clone() for n, p in model.named_parameters()}",
        "held = list(model.parameters())\nfor p in held: pass",
        "self.held = dict(model.named_parameters())\nfor n, p in self.held.items(): pass",
        "for group in optimizer.param_groups:\n    for p in group['params']: pass",
        "def update(params):\n    for p in params: pass",
    ],
)
def test_a_parameter_is_found_under_its_name(source):
    assert names(source) == {"p"}


@pytest.mark.parametrize(
    "source",
    [
        "for b in model.buffers(): pass",
        "for p in self.shadow: pass",
        "shadow = [p.clone() for p in model.buffers()]\nfor p in shadow: pass",
        "for p in signature(f).parameters: pass",
        "for key in groups['names']: pass",
    ],
)
def test_what_is_no_parameter(source):
    assert names(source) == set()


def test_copies_are_not_the_parameters():
    source = "self.shadow = [q.clone() for q in model.parameters()]\nfor p in self.shadow: pass"
    assert names(source) == {"q"}


def test_what_stands_for_parameters():
    assert are_parameters(ast.parse("list(model.parameters())", mode="eval").body)
    assert not are_parameters(ast.parse("model.children()", mode="eval").body)
