"""TM225: parameters unfrozen in the middle of training."""

import pytest

from trainers import found, lines, step, trainer


@pytest.mark.parametrize(
    "body",
    [
        "if self.step == 100:\n    p.requires_grad_(True)\n",
        "if step >= warmup:\n    p.requires_grad = True\n",
        "if epoch > 1:\n    for p in model.parameters():\n        p.requires_grad_()\n",
    ],
)
def test_fires_where_the_step_decides(body):
    (one,) = found(step(body), "TM225")
    assert one.severity == "loud" and "p.grad = None" in one.suggestion


def test_fires_in_a_function_that_is_called_so():
    body = "def unfreeze_encoder(model):\n    model.encoder.requires_grad_(True)\n"
    assert lines(trainer(body), "TM225") == ["model.encoder.requires_grad_(True)"]


@pytest.mark.parametrize(
    "body",
    [
        "if step == 100:\n    p.requires_grad_(False)\n",
        "if name in trained:\n    p.requires_grad_(True)\n",
        "for p in adapters:\n    p.requires_grad = True\n",
        "if step == 1:\n    log(p.requires_grad)\n",
    ],
)
def test_does_not_fire(body):
    assert lines(step(body), "TM225") == []


@pytest.mark.parametrize(
    "body",
    [
        "k = self.step // 100\nfor i, p in enumerate(held):\n    p.requires_grad_(i >= k)\n",
        "for p in model.parameters():\n    p.requires_grad = self.step > 100\n",
        "on = epoch > 2\nmodel.encoder.requires_grad_(requires_grad=on)\n",
        "setattr(p, 'requires_grad', progress > 0.5)\n",
        "[p.requires_grad_(step > 9) for p in model.parameters()]\n",
    ],
)
def test_fires_where_the_flag_is_told_by_the_step(body):
    assert len(found(step(body), "TM225")) == 1


HELPED = """
class Trainer:
    def train_step(self, batch):
        {call}
        self.loss(self.model(batch)).backward()

    def set_trainable(self, on=True):
        for p in self.model.parameters():
            p.requires_grad = on
"""


@pytest.mark.parametrize(
    ("call", "number"),
    [
        ("self.set_trainable(self.step > 100)", 1),
        ("late = self.step > 100; self.set_trainable(on=late)", 1),
        ("if self.step == 100: self.set_trainable()", 1),
        ("if self.step == 100: self.set_trainable(True)", 1),
        ("if self.step == 100: self.set_trainable(False)", 0),
        ("self.set_trainable(self.wanted)", 0),
        ("pass", 0),
    ],
)
def test_follows_the_flag_to_those_who_call(call, number):
    assert len(found(trainer(HELPED.format(call=call)), "TM225")) == number


def test_a_number_of_steps_is_a_setting_before_the_first():
    body = "def build(model, config):\n    model.requires_grad_(config.steps > 0)\n"
    assert found(trainer(body), "TM225") == []


@pytest.mark.parametrize(
    ("body", "cure"),
    [
        (
            "if step == 100:\n    model.layers.requires_grad_(True)\n",
            "for p in model.layers.parameters():\n    p.grad = None",
        ),
        (
            "if step == 100:\n    model.head.weight.requires_grad_()\n",
            "weight.grad = None",
        ),
        (
            "for q in model.parameters():\n    q.requires_grad_(step > 1)\n",
            "optimizer.step():\nq.grad = None",
        ),
    ],
)
def test_the_cure_is_of_parameters_and_not_of_a_module(body, cure):
    (one,) = found(step(body), "TM225")
    assert one.suggestion.endswith(cure)
