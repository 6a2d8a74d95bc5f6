"""Which expressions stand for the model that is trained, in the code around it."""

import ast

import pytest

from codemods.survey import survey

from support import IMPORT, checkout

LAB = "torchtitan/experiments/lab/train.py"
TRAINER = {
    "torchtitan/train.py": f"""
        {IMPORT} parallelize_llama


        class Trainer:
            def __init__(self, config):
                self.model_parts = [parallelize_llama(config)]
    """,
    "torchtitan/experiments/__init__.py": "",
    "torchtitan/experiments/lab/__init__.py": "",
}


def place(source, name="run"):
    """What is known of the function of that name in a file beside the trainer."""
    known = survey(checkout({**TRAINER, LAB: source})).trained
    return next((p for p in known if p.function.name == name), None)


def stands(body, expression):
    """Whether an expression at the end of a method stands for the model."""
    indented = body.replace("\n", "\n        ")
    source = (
        "from torchtitan.train import Trainer\n\n\nclass Lab(Trainer):\n"
        f"    def run(self, x):\n        {indented}\n        return {expression}\n"
    )
    here = place(source)
    (last,) = [n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Return)]
    return here is not None and here.is_model(last.value)


@pytest.mark.parametrize(
    "body, expression",
    [
        ("pass", "self.model_parts[0]"),
        ("pass", "x.trainer.model_parts[i]"),
        ("m = self.model_parts[0]", "m"),
        ("m = unwrap(self.model_parts[0])", "m._orig_mod"),
        ("(m,) = self.model_parts", "m"),
        ("parts = list(self.model_parts)", "parts[0]"),
        ("for i, m in enumerate(self.model_parts):\n    pass", "m"),
        ("y = [m for m in self.model_parts]", "m"),
        ("model = parallelize_llama(x)", "model.module"),
        ("model = PLANS[x.name](model, parallel_dims, x)", "model"),
        ("apply_ddp(x.model, mesh)", "x.model"),
    ],
)
def test_the_model_goes_by(body, expression):
    assert stands(body, expression)


@pytest.mark.parametrize(
    "body, expression",
    [
        ("pass", "self.model"),
        ("m = self.model_parts[0].output", "m"),
        ("m = self.teacher", "m"),
        ("m = len(self.model_parts)", "m"),
        ("m = copy(self.model_parts[0])", "m"),
        ("for i, m in enumerate(self.model_parts):\n    pass", "i"),
        ("parallelize_module(x.model, mesh)", "x.model"),
        ("apply_cp(model, parallel_dims)", "self.model"),
    ],
)
def test_something_else_goes_by(body, expression):
    assert not stands(body, expression)


def test_what_is_in_it():
    source = "def run(model_parts):\n    return model_parts[0].layers['0'].weight\n"
    head = "from torchtitan.train import Trainer\n\n\n"
    here = place(head + source)
    (last,) = [
        n for n in ast.walk(ast.parse(head + source)) if isinstance(n, ast.Return)
    ]
    assert here.is_in_model(last.value) and not here.is_model(last.value)
    assert not here.is_in_model(ast.parse("1", mode="eval").body)


def test_it_is_followed_through_arguments_classes_and_their_attributes():
    source = """
        from torchtitan.train import Trainer


        class Average:
            def __init__(self, net, *, decay):
                self.net = net

            def run(self):
                return self.net

        class Later(Average):
            def again(self):
                return self.net

        def helper(parts, m=None):
            return parts, m

        class Lab(Trainer):
            def step(self):
                self.average = Average(self.model_parts[0], decay=1)
                helper(self.model_parts, m=self.model_parts[0])
    """
    assert place(source).models == {"self.net": 0}
    assert place(source, "again").models == {"self.net": 0}
    helper = place(source, "helper")
    assert (helper.models, helper.lists) == ({"m": 0}, {"parts": 0})


def test_it_is_not_the_model_before_it_is_wrapped():
    source = """
        from torchtitan.train import Trainer

        def run(model, parallel_dims):
            early = model
            model = parallelize_llama(model, parallel_dims)
    """
    assert place(source).models == {"model": 5}


def test_a_model_is_not_around_itself():
    source = """
        from torchtitan.train import Trainer

        class Net(nn.Module):
            def forward(self, x):
                return x

            def run(self, model_parts):
                return model_parts
    """
    assert place(source) is None
