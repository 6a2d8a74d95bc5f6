"""TM224: parameters that replicate cannot wrap."""

import pytest

from trainers import found, lines, trainer


def module(line):
    return trainer(f"""
        class Head(nn.Module):
            def __init__(self, weight):
                super().__init__()
                {line}

            def forward(self, hidden):
                return hidden
    """)


@pytest.mark.parametrize(
    "line, says",
    [
        ("self.scale = nn.Parameter(torch.tensor(1.0))", "no dimensions"),
        ("self.scale = nn.Parameter(torch.ones([]) * 0.5)", "no dimensions"),
        ("self.scale = torch.nn.Parameter(torch.zeros(()))", "no dimensions"),
        (
            "self.scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))",
            "no dimensions",
        ),
        ("self.mix = nn.Parameter(weight.t())", "not contiguous"),
        ("self.mix = nn.Parameter(torch.randn(2, 3).T)", "not contiguous"),
        ("self.mix = nn.Parameter(weight.expand(3, 3).detach())", "not contiguous"),
        (
            "self.gate = nn.Parameter(torch.ones(8, dtype=torch.bfloat16))",
            "dtype|in torch",
        ),
        ("self.router.float()", "dtype of their own"),
    ],
)
def test_fires(line, says):
    source = module(line)
    assert lines(source, "TM224") == [line]
    (one,) = found(source, "TM224")
    assert (
        any(word in one.message for word in says.split("|")) and one.severity == "loud"
    )


@pytest.mark.parametrize(
    "line",
    [
        "self.scale = nn.Parameter(torch.ones(1))",
        "self.scale = nn.Parameter(torch.tensor([1.0]))",
        "self.weight = nn.Parameter(torch.empty(width, width))",
        "self.mix = nn.Parameter(weight.t().contiguous())",
        "self.gate = nn.Parameter(torch.ones(8, dtype=torch.float32))",
        "hidden = self.router(weight).float()",
        "weight.float()",
    ],
)
def test_does_not_fire(line):
    assert lines(module(line), "TM224") == []


def test_a_model_that_is_cast_as_a_whole_has_one_dtype():
    assert lines(trainer("def cast(self):\n    self.model.bfloat16()\n"), "TM224") == []
    other = "def cast(self):\n    self.vae.decoder.bfloat16()\n"
    assert lines(trainer(other), "TM224") == []
