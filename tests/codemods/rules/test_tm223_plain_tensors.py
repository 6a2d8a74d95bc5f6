"""TM223: what plain tensors can do and DTensors cannot."""

import pytest

from trainers import found, lines, step, trainer

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
        "values = p.norm().tolist()",
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


HEAD = f"{DIST}\nimport numpy as np\nimport torch.nn.functional as F"


@pytest.mark.parametrize(
    "body",
    [
        "bad = torch.stack([p.grad.isnan().any() for p in model.parameters()]).any()\n"
        "dist.all_reduce(bad)",
        "total = sum(p.grad.norm() ** 2 for p in model.parameters())\n"
        "dist.all_reduce(total)",
        "dist.all_reduce(max(p.grad.abs().max() for p in model.parameters()))",
        "grads = [p.grad for p in model.parameters() if p.grad is not None]\n"
        "flat = torch.cat([g.flatten() for g in grads])\ndist.all_reduce(flat)",
        "flat = _flatten_dense_tensors([p.grad for p in model.parameters()])\n"
        "dist.all_reduce(flat)",
        "for g in [p.grad for p in model.parameters()]:\n    dist.all_reduce(g)",
        "vector = torch.nn.utils.parameters_to_vector(model.parameters())\n"
        "dist.broadcast(vector, src=0)",
        "norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
        "dist.all_reduce(norm)",
    ],
)
def test_a_collective_on_what_is_made_of_all(body):
    source = step(body, HEAD)
    assert lines(source, "TM223") == [body.split("\n")[-1].strip()]
    (one,) = found(source, "TM223")
    assert one.severity == "loud" and ".to_local()" in one.suggestion


@pytest.mark.parametrize(
    "body",
    [
        "total = sum(p.grad.norm().item() for p in model.parameters())",
        "total = sum(p.numel() for p in model.parameters())",
        "total = sum(p.grad.to_local().norm() for p in model.parameters())",
        "total = torch.stack([p.grad.norm() for p in model.parameters()]).full_tensor()",
        "total = sum(p.grad.norm() for p in model.parameters())\ntotal = total.full_tensor()",
        "total = len([p.grad for p in model.parameters()])",
        "total = {n: p.grad.norm() for n, p in model.named_parameters()}",
        "total = dist_utils.clip_grad_norm_(model.parameters(), 1.0)",
        "total = whole([p.grad for p in model.parameters()])",
    ],
)
def test_a_collective_on_something_else(body):
    assert found(step(f"{body}\ndist.all_reduce(total)", HEAD), "TM223") == []


def weights(body):
    """The lines named of a method beside a trainer, and the first finding."""
    inner = body.replace("\n", "\n        ")
    source = (
        f"{HEAD}\nimport torch\n\n\nclass Lab:\n    def __init__(self):\n"
        "        self.proj = torch.randn(16, 8).cuda()\n\n"
        "    def run(self, i, ids, rows, new: torch.Tensor):\n"
        "        model = self.model_parts[0]\n        w = model.output.weight\n"
        f"        {inner}\n"
    )
    return lines(trainer(source), "TM223"), found(trainer(source), "TM223")


@pytest.mark.parametrize(
    "line, cure",
    [
        ("return w[ids].norm(dim=-1)", "w.full_tensor()[ids]"),
        ("return w[rows, 0]", "w.full_tensor()[(rows, 0)]"),
        ("return w[[0, 1]]", "w.full_tensor()[[0, 1]]"),
        ("return model.layers['0'].wq.bias[new]", ".bias.full_tensor()[new]"),
        ("return self.proj @ w.t()", "w.t().full_tensor()"),
        ("return w + torch.randn(8, 4)", "w.full_tensor()"),
        ("return torch.matmul(self.proj, w.detach())", "w.detach().full_tensor()"),
        ("return torch.cat([w, torch.zeros(1, 4)])", "w.full_tensor()"),
        ("self.proj.copy_(w.detach())", "w.detach().full_tensor()"),
        ("w.data.copy_(new)", "distribute_tensor(new, w.device_mesh, w.placements)"),
        ("w.data.lerp_(torch.load('w.pt'), 0.1)", "distribute_tensor("),
        ("w.data[i] = 0.0", "w.data[i].fill_(0.0)"),
        ("w.data[:2] = new", "w.data[:2] = distribute_tensor(new, w.device_mesh"),
        ("return w.detach().cpu().tolist()", "w.full_tensor().detach().cpu().tolist()"),
        ("return w.grad.norm().tolist()", "w.grad.full_tensor().norm().tolist()"),
        ("return w.numpy()", "w.full_tensor().detach().cpu().numpy()"),
        ("return np.asarray(w.detach())", "np.asarray(w.full_tensor().detach())"),
        ("dist.all_reduce(w.grad)", "dist.all_reduce(w.grad.to_local())"),
        ("dist.broadcast(model.output.bias.data, src=0)", ".to_local()"),
    ],
)
def test_a_weight_by_attribute(line, cure):
    named, (first, *_) = weights(line)
    assert named == [line]
    advice = " ".join(first.suggestion.split()).replace("( ", "(").replace(" )", ")")
    assert first.severity == "loud" and cure in advice.replace(", )", ")")


@pytest.mark.parametrize(
    "line",
    [
        "return w[i].norm()",
        "return w[:8].mean()",
        "return w.norm().item()",
        "return w.full_tensor()[ids]",
        "w.data[-8:] = w.data[:-8].mean(dim=0, keepdim=True)",
        "w.data[i].zero_()",
        "w.data.mul_(0.5)",
        "w.data.add_(torch.randn_like(w))",
        "return w + torch.zeros(1)",
        "return F.linear(hidden, w)",
        "return w.shape[0], w.dtype",
        "w = w.to_local()\nreturn w[ids]",
        "return self.teacher.output.weight[ids]",
        "return export(w)",
        "return self.proj[ids]",
    ],
)
def test_what_can_be_done_with_a_weight(line):
    assert weights(line)[0] == []
