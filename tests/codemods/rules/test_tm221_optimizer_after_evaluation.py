"""TM221: an optimizer made while an evaluation's copies are in place of the weights."""

import pytest

from trainers import found, lines, trainer

STAGES = """
@torch.no_grad()
def baseline(model):
    return model(batch)


def run(model):
    {first}
    {second}
"""
MADE = "optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)"


def test_made_after_an_evaluation():
    source = trainer(STAGES.format(first="baseline(model)", second=MADE))
    assert lines(source, "TM221") == [MADE]
    assert found(source, "TM221")[0].severity == "silent"


@pytest.mark.parametrize(
    "first, second",
    [
        (MADE, "baseline(model)"),
        ("baseline(model)", f"reshard(model); {MADE}"),
        ("baseline(model)", "scheduler = cosine(optimizer)"),
    ],
)
def test_does_not_fire(first, second):
    assert lines(trainer(STAGES.format(first=first, second=second)), "TM221") == []
