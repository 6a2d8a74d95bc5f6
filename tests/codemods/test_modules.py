"""What stands for a model by its name, and which classes are modules."""

import ast

import pytest

from codemods.modules import inside_modules, is_block, is_model, methods, modules


def expression(source):
    return ast.parse(source, mode="eval").body


@pytest.mark.parametrize(
    "source",
    [
        "model",
        "self.model",
        "model_parts[0]",
        "self.policy",
        "actor_model",
        "self.models[i]",
    ],
)
def test_a_model(source):
    assert is_model(expression(source))


@pytest.mark.parametrize(
    "source", ["self.teacher_model", "tokenizer", "model.norm", "remodel"]
)
def test_no_model(source):
    assert not is_model(expression(source))


def test_a_block():
    assert is_block(expression("model.layers['0']")) and is_block(expression("layer"))
    assert not is_block(expression("layers")) and not is_block(expression("player"))


def test_a_module_has_a_forward():
    source = "class A:\n    def forward(self): x\n\nclass B:\n    def run(self): y\n"
    tree = ast.parse(source)
    (one,) = modules(tree)
    assert one.name == "A" and set(methods(one)) == {"forward"}
    inside = inside_modules(tree)
    names = {
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) in inside
    }
    assert names == {"x"}
