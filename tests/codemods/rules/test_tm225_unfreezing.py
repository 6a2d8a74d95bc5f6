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
