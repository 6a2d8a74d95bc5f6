"""TM223: what plain tensors can do and DTensors cannot."""

import pytest

from trainers import found, lines, step

DIST = "import torch.distributed as dist\nfrom torch.distributed import all_reduce"


def loop(use):
    return step(f"for p in model.parameters():\n    {use}\n", DIST)


@pytest.mark.parametrize(
    "use",
    [
        "dist.all_reduce(p.grad)",
        "all_reduce(p.grad.data, group=group)",
        "torch.distributed.broadcast(p.data, 0)",
        "dist.broadcast(p.detach(), src=0)",
        "p.add_(torch.randn(p.shape))",
        "p.data.copy_(torch.from_numpy(values))",
        "p.grad += torch.zeros(p.shape)",
        "values = p.detach().cpu().numpy()",
        "pointer = p.data_ptr()",
    ],
)
def test_fires(use):
    assert lines(loop(use), "TM223") == [use]


@pytest.mark.parametrize(
    "use",
    [
        "dist.all_reduce(p.grad.to_local())",
        "dist.all_reduce(count)",
        "queue.reduce(p.grad)",
        "p.grad.mul_(0.5)",
        "p.add_(torch.randn_like(p))",
        "p.mul_(torch.tensor(0.5))",
        "count += p.numel()",
        "values = p.full_tensor().numpy()",
        "buffer = torch.zeros(p.shape)",
        "dist.all_reduce(whole(p.grad))",
    ],
)
def test_does_not_fire(use):
    assert lines(loop(use), "TM223") == []


def test_what_was_computed_from_a_gradient_is_a_dtensor_too():
    body = """
        for p in model.parameters():
            flat = p.grad.flatten()
            dist.all_reduce(flat)
    """
    assert lines(step(body, DIST), "TM223") == ["dist.all_reduce(flat)"]


def test_a_sum_over_gradients_is_reduced_after_the_loop():
    body = """
        total = 0.0
        for p in model.parameters():
            total += p.grad.norm() ** 2
        dist.all_reduce(total)
    """
    assert lines(step(body, DIST), "TM223") == ["dist.all_reduce(total)"]
    numbers = step(
        body.replace("** 2", "** 2).item()").replace("p.grad", "(p.grad"), DIST
    )
    assert lines(numbers, "TM223") == []


def test_a_local_tensor_is_plain():
    body = """
        for p in model.parameters():
            grad = p.grad.square()
            if isinstance(grad, DTensor):
                grad = grad.to_local()
            dist.all_reduce(grad)
    """
    assert lines(step(body, DIST), "TM223") == []


def test_a_tensor_that_is_made_whole_where_it_is_a_dtensor_is_plain():
    body = """
        for name, p in model.named_parameters():
            t = p.detach()
            t = t.full_tensor() if isinstance(t, DTensor) else t
            full[name] = t.cpu().numpy()
    """
    assert lines(step(body), "TM223") == []


def test_only_data_ptr_is_silent():
    (pointer,) = found(loop("seen.add(p.data_ptr())"), "TM223")
    (reduced,) = found(loop("dist.all_reduce(p.grad)"), "TM223")
    assert (pointer.severity, reduced.severity) == ("silent", "loud")
    assert reduced.suggestion == "dist.all_reduce(p.grad.to_local())"
