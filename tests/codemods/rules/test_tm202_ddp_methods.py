"""TM202: methods of DDP that replicate does not have."""

import pytest

from support import HERE, findings


@pytest.mark.parametrize(
    "use",
    [
        "with model.no_sync():\n        loss.backward()",
        "model.register_comm_hook(None, hook)",
        "context = self.model.no_sync() if accumulate else nullcontext()",
    ],
)
def test_fires(use):
    found = findings({HERE: f"def step(self, model, loss):\n    {use}\n"}, code="TM202")
    assert [(f.path, f.line, f.status) for f in found] == [(HERE, 2, "hazard")]
    assert found[0].suggestion


@pytest.mark.parametrize(
    "other",
    [
        "no_sync()",
        "model.no_sync_at_all()",
        "# model.no_sync()",
        'print("model.no_sync()")',
        "model.set_requires_gradient_sync(False)",
    ],
)
def test_does_not_fire(other):
    assert (
        findings({HERE: f"def step(model):\n    pass\n    {other}\n"}, code="TM202")
        == []
    )
