"""TM229: code that leaves out a reduction by what only DDP's wrapper has."""

import pytest

from trainers import found, lines, step


@pytest.mark.parametrize(
    "line",
    [
        'if hasattr(model, "no_sync"): pass',
        'context = getattr(model, "no_sync", nullcontext)',
        "model.require_backward_grad_sync = last",
    ],
)
def test_fires(line):
    assert lines(step(line), "TM229") == [line]
    (one,) = found(step(line), "TM229")
    assert (
        one.severity == "note" and "model.set_requires_gradient_sync(" in one.suggestion
    )


@pytest.mark.parametrize(
    "line", ['hasattr(model, "layers")', "model.set_requires_gradient_sync(last)"]
)
def test_does_not_fire(line):
    assert lines(step(line), "TM229") == []
