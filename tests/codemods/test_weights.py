"""Which expressions of a function are parameters or gradients, beside loops over them."""

import pytest

from codemods.source import SourceFile
from codemods.trained import Place
from codemods.weights import tensors


def known(body, expression, attributes=""):
    text = (
        f"class Lab:\n    def __init__(self):\n        {attributes or 'pass'}\n\n"
        f"    def run(self, x: torch.Tensor, n: int):\n        {body}\n        return {expression}\n"
    )
    file = SourceFile("lab.py", text.encode())
    function = file.syntax.body[0].body[1]
    here = tensors(file, function, Place(file, function, None, {"model": 0}))
    return here, function.body[-1].value


@pytest.mark.parametrize(
    "body, expression",
    [
        ("pass", "model.output.weight"),
        ("pass", "model.get.bias.grad.detach()"),
        ("w = model.output.weight", "w[0].float()"),
        ("self.w = model.output.weight", "self.w + 1"),
        ("pass", "torch.stack([p.grad.norm() for p in model.parameters()])"),
        ("g = [p.grad for p in model.parameters()]", "sum(x.norm() for x in g)"),
        ("pass", "parameters_to_vector(model.parameters())"),
        ("pass", "nn.utils.clip_grad_norm_(model.parameters(), 1.0)"),
    ],
)
def test_it_is_of_the_model(body, expression):
    here, value = known(body, expression)
    assert here.holds(value) and not here.is_plain(value)


@pytest.mark.parametrize(
    "body, expression",
    [
        ("pass", "teacher.output.weight"),
        ("pass", "model.output.weight.shape"),
        ("pass", "model.output.weight.to_local()"),
        ("pass", "helper(model.output.weight)"),
        ("w = model.output.weight.full_tensor()", "w"),
        ("pass", "[p.numel() for p in model.parameters()]"),
        ("pass", "dist_utils.clip_grad_norm_(model.parameters(), 1.0)"),
    ],
)
def test_it_is_something_else(body, expression):
    here, value = known(body, expression)
    assert not here.holds(value)


@pytest.mark.parametrize(
    "body, expression, plain",
    [
        ("pass", "torch.randn(8, 4)", True),
        ("pass", "torch.zeros(n).cuda()", True),
        ("pass", "torch.tensor([1, 2])", True),
        ("y = torch.load('a')", "y['w']", True),
        ("pass", "self.proj", True),
        ("pass", "torch.zeros(1)", False),
        ("pass", "torch.tensor(n)", False),
        ("pass", "torch.zeros(())", False),
        ("y = torch.zeros(n); y = place(y)", "y", False),
        ("pass", "torch.randn_like(x)", False),
    ],
)
def test_a_tensor_is_made_here(body, expression, plain):
    body = f"w = model.output.weight; {body}"
    here, value = known(body, expression, "self.proj = torch.randn(2, 8)")
    assert here.is_plain(value) is plain
    assert here.given == {"x"}
