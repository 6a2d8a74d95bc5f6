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


@pytest.mark.parametrize(
    ("made", "cure"),
    [
        ("torch.ones([]) * np.log(1 / 0.07)", "(torch.ones([]) * np.log(1 / 0.07))"),
        ("0.5 * torch.ones(())", "(0.5 * torch.ones(()))"),
        ("-torch.ones(())", "(-torch.ones(()))"),
        ("torch.tensor(INIT)", "torch.tensor(INIT)"),
        ("torch.tensor(1 / width**2)", "torch.tensor(1 / width ** 2)"),
        ("torch.tensor(gain)", "torch.tensor(gain)"),
        ("torch.tensor(bias)", "torch.tensor(bias)"),
        ("data=torch.tensor(1.0), requires_grad=True", "torch.tensor(1.0)"),
        ("torch.zeros(1)[0]", "torch.zeros(1)[0]"),
        ("torch.zeros(1).squeeze()", "torch.zeros(1).squeeze()"),
        ("torch.full((), 0.1)", "torch.full((), 0.1)"),
        ("torch.full(size=(), fill_value=2.0)", "torch.full(size=(), fill_value=2.0)"),
        ("torch.empty(torch.Size([]))", "torch.empty(torch.Size([]))"),
        ("torch.log(torch.tensor(10.0))", "torch.log(torch.tensor(10.0))"),
        (
            "torch.tensor(0.0).to(device).clone()",
            "torch.tensor(0.0).to(device).clone()",
        ),
        ("torch.randn(4).mean()", "torch.randn(4).mean()"),
        ("torch.ones(1).reshape(())", "torch.ones(1).reshape(())"),
        ("start", "start"),
    ],
)
def test_fires_for_what_has_no_dimensions_and_keeps_its_value(made, cure):
    source = scalars(f"self.scale = nn.Parameter({made})")
    (one,) = found(source, "TM224")
    assert one.suggestion.endswith(f"nn.Parameter({cure}.reshape(1))")


def scalars(line):
    return f"""\
INIT = math.log(1 / 0.07)
TABLE = [0.0, 1.0]
{module(line)}""".replace(
        "(self, weight):",
        "(self, weight, device, width, values, gain: float, bias=0.1, rest=None):\n"
        "        start = torch.tensor(1.0)\n        many = torch.zeros(3)",
    )


@pytest.mark.parametrize(
    "held",
    [
        "nn.ParameterDict({'k': torch.tensor(0.5)})",
        "nn.ParameterList([torch.tensor(0.5), torch.ones(2)])",
        "nn.ParameterList([torch.tensor(0.5) for _ in range(3)])",
        "nn.ParameterDict({k: torch.tensor(0.5) for k in values})",
    ],
)
def test_fires_for_lists_and_dicts_of_parameters(held):
    (one,) = found(scalars(f"self.scales = {held}"), "TM224")
    assert one.suggestion.endswith("nn.Parameter(torch.tensor(0.5).reshape(1))")


@pytest.mark.parametrize(
    "made",
    [
        *("torch.tensor(TABLE)", "torch.tensor(values)", "torch.tensor(rest)", "many"),
        *("torch.zeros(3)[:2]", "torch.zeros(3, 2)[0]", "torch.zeros((3, 2))[0]"),
        *(
            "torch.ones([]) * torch.ones(3)",
            "weight.mean(0)",
            "torch.zeros(3).squeeze()",
        ),
        *(
            "torch.tensor([INIT])",
            "torch.tensor([0.0] * width)",
            "weight",
            "torch.ones(1)",
        ),
        *("torch.zeros(8, dtype=torch.int8), requires_grad=False",),
    ],
)
def test_does_not_fire_for_what_has_dimensions_or_is_not_known(made):
    assert found(scalars(f"self.scale = nn.Parameter({made})"), "TM224") == []
