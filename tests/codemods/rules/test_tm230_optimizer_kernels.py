"""TM230: optimizers with kernels or state of their own."""

import pytest

from trainers import found, lines, trainer


def optimizer(line, base="torch.optim.Optimizer"):
    return trainer(f"""
        class Mine({base}):
            def step(self):
                for group in self.param_groups:
                    for p in group["params"]:
                        {line}
    """)


@pytest.mark.parametrize(
    "line, instead",
    [
        ("m = torch.zeros(p.shape)", "torch.zeros_like(p)"),
        (
            'state["m"] = torch.empty(p.grad.shape, device=p.device)',
            "torch.empty_like(p)",
        ),
        (
            "kernel[grid](p, p.grad, n)",
            "kernel[grid](p.to_local(), p.grad.to_local(), n)",
        ),
        ("torch.ops.mine.step(p.data)", "torch.ops.mine.step(p.data.to_local())"),
    ],
)
def test_fires(line, instead):
    source = optimizer(line)
    assert lines(source, "TM230") == [line]
    (one,) = found(source, "TM230")
    assert one.severity == "loud" and instead in one.suggestion


@pytest.mark.parametrize(
    "line",
    [
        "m = torch.zeros_like(p)",
        "update = p.grad @ p.grad.T",
        "kernel[grid](p.to_local(), n)",
        "torch.ops.aten.mul_(p, 0.5)",
        "scale = torch.zeros(1)",
    ],
)
def test_does_not_fire(line):
    assert lines(optimizer(line), "TM230") == []


def test_does_not_fire_outside_of_optimizers():
    assert lines(optimizer("kernel[grid](p)", "Metrics"), "TM230") == []
