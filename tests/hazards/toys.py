"""What replicate does otherwise than DDP, on a toy and two gloo ranks.

``PYTHONPATH=. python tests/hazards/toys.py`` prints the figures as a table: under DDP, under
replicate, and under replicate with the cure that the rules give.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from torch.distributed._composable.replicate import replicate as composable_ddp
from torch.distributed._composable.replicate_with_fsdp import replicate
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    set_model_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    FSDPModule,
    MixedPrecisionPolicy,
    register_fsdp_forward_method,
)
from torch.nn.parallel import DistributedDataParallel as DDP

PARTIES = ("DDP", "replicate", "cure")
TOYS: dict[str, tuple[str, str, Callable[[str], object]]] = {}
"""Name -> (fact of section 11, code of the rule, toy)."""


def toy(fact: str, code: str):
    def register(function):
        TOYS[function.__name__] = fact, code, function
        return function

    return register


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, hidden):
        return hidden + self.down(torch.tanh(self.up(hidden)))


class Model(nn.Module):
    block = Block

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(32, 8)
        self.layers = nn.ModuleDict({str(n): self.block() for n in range(2)})
        self.norm, self.output = nn.LayerNorm(8), nn.Linear(8, 32)

    def features(self, tokens):
        hidden = self.embed(tokens)
        for block in self.layers.values():
            hidden = block(hidden)
        return self.norm(hidden)

    def forward(self, tokens):
        return self.output(self.features(tokens))


def wrapped(party, kind=Model, bf16=False, alone=(), made=None, **ddp):
    """A model as torchtitan wraps it; ``alone`` are names of parts with a group of their own."""
    torch.manual_seed(0)
    model = made or kind()
    if party == "DDP":
        return DDP(model, **ddp)
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if bf16 else None
    mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("dp_replicate",))
    config = {"mesh": mesh, **({"mp_policy": policy} if policy else {})}
    for name in alone:
        replicate(model.get_submodule(name), **config)
    for part in (
        model.embed,
        *model.layers.values(),
        [model.norm, model.output],
        model,
    ):
        replicate(part, **config)
    return model


def loss_of(model, step):
    """The loss of this rank's own batch of a step."""
    numbers = torch.Generator().manual_seed(100 * step + dist.get_rank())
    tokens = torch.randint(0, 32, (4, 9), generator=numbers)
    logits = model(tokens[:, :-1]).float()
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def mean(loss):
    loss = whole(loss.detach().clone())
    dist.all_reduce(loss)
    return round(loss.item() / 2, 5)


def train(model, optimizer, step):
    loss = loss_of(model, step)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return mean(loss)


def evaluate(model):
    with torch.no_grad():
        return mean(loss_of(model, 99))


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def reshard(model):
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def bare(model):
    return model.module if isinstance(model, DDP) else model


@toy("1", "TM220")
def dtype_after_a_validation(party):
    model = wrapped(party, bf16=True)
    train(model, sgd(model), 0)
    evaluate(model)
    if party == "cure":
        reshard(model)
    return sorted({str(p.dtype).removeprefix("torch.") for p in model.parameters()})


@toy("1", "TM220")
def dtype_after_a_state_dict(party):
    model = wrapped(party, bf16=True)
    evaluate(model)
    values = model.state_dict().values()
    return sorted({str(value.dtype).removeprefix("torch.") for value in values})


@toy("1", "TM220")
def clamped_after_a_validation(party):
    model = wrapped(party)
    optimizer = sgd(model)
    train(model, optimizer, 0)
    evaluate(model)
    if party == "cure":
        reshard(model)
    with torch.no_grad():
        for p in model.parameters():
            p.clamp_(-0.1, 0.1)
    return [train(model, optimizer, step) for step in (1, 2)]


@toy("2", "TM220")
def swapped_around_a_validation(party):
    model = wrapped(party)
    optimizer, held = sgd(model), list(model.parameters())
    average = [p.detach().clone() for p in held]
    for step in range(3):
        train(model, optimizer, step)
    kept = [p.detach().clone() for p in held]
    with torch.no_grad():
        for p, other in zip(held, average):
            p.copy_(other)
    evaluated = evaluate(model)
    if party == "cure":
        reshard(model)
    with torch.no_grad():
        for p, other in zip(held, kept):
            p.copy_(other)
    return [evaluated, train(model, optimizer, 3)]


@toy("3", "TM221")
def optimizer_made_after_a_validation(party):
    model = wrapped(party)
    evaluate(model)
    if party == "cure":
        reshard(model)
    optimizer = sgd(model)
    return [train(model, optimizer, 0) for _ in range(3)]


@toy("4", "TM222")
def hooks_called(party):
    model, calls = wrapped(party), []
    for p in model.parameters():
        if party == "cure":
            p.register_post_accumulate_grad_hook(calls.append)
        else:
            p.register_hook(calls.append)
    train(model, sgd(model), 0)
    return len(calls)


class PartlyUnused(Block):
    def __init__(self):
        super().__init__()
        self.extra = nn.Linear(8, 8)

    def forward(self, hidden):
        out = super().forward(hidden)
        return out + self.extra(hidden) if dist.get_rank() == 0 else out


class WithUnused(Model):
    block = PartlyUnused


def unused_on_one_rank(party):
    """Its own run: without the cure the ranks reduce different tensors, and both abort."""
    model = wrapped(party, WithUnused, find_unused_parameters=True)
    if party == "cure":
        model.set_reduce_scatter_unused_params(True)
    optimizer = sgd(model)
    return [train(model, optimizer, step) for step in range(3)]


@toy("5", "TM203")
def unused_with_the_cure(party):
    return None if party == "replicate" else unused_on_one_rank(party)


@toy("6", "TM223")
def collective_on_a_gradient(party):
    model = wrapped(party)
    loss_of(model, 0).backward()
    total = torch.zeros(())
    for p in model.parameters():
        grad = p.grad.to_local() if party == "cure" else p.grad
        dist.all_reduce(grad)
        total += whole(grad).square().sum()
    return round(total.item(), 4)


@toy("9", "TM223")
def plain_tensor_added(party):
    model = wrapped(party)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.ones_like(p) if party == "cure" else torch.ones(p.shape))
    return evaluate(model)


@toy("6", "TM223")
def collective_on_what_is_made_of_all(party):
    model = wrapped(party)
    loss_of(model, 0).backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    norm = norm.to_local() if party == "cure" else norm
    dist.all_reduce(norm)
    return round(whole(norm).item(), 4)


@toy("9", "TM223")
def weight_by_attribute(party):
    weight = bare(wrapped(party)).output.weight
    weight = weight.full_tensor() if party == "cure" else weight
    return round(weight[torch.tensor([1, 2])].sum().item(), 4)


@toy("9", "TM223")
def weight_set_to_a_number(party):
    model = wrapped(party)
    with torch.no_grad():
        row = bare(model).output.weight
        if party == "cure":
            row[1].fill_(0.0)
        else:
            row[1] = 0.0
    return evaluate(model)


def rates_of(model, known):
    groups = [
        {"params": [p], "lr": 0.1 * known(n, p)} for n, p in model.named_parameters()
    ]
    return torch.optim.SGD(groups, lr=0.1)


@toy("-", "TM205")
def a_rate_set_on_parameters(party):
    """Before they are wrapped; the cure keeps it by the parameter's name."""
    torch.manual_seed(0)
    model, by_name = Model(), {}
    for name, parameter in model.named_parameters():
        parameter.scale = by_name[name] = 10.0 if "embed" in name else 1.0
    model = wrapped(party, made=model)
    if party == "cure":
        optimizer = rates_of(model, lambda name, _: by_name[name])
    else:
        optimizer = rates_of(model, lambda _, p: getattr(p, "scale", 1.0))
    return [train(model, optimizer, step) for step in range(2)]


@toy("-", "TM205")
def parameters_known_by_their_ids(party):
    torch.manual_seed(0)
    model = Model()
    chosen = {id(p) for p in model.embed.parameters()}
    model = wrapped(party, made=model)
    if party == "cure":
        chosen = {id(p) for p in model.embed.parameters()}
    optimizer = rates_of(model, lambda _, p: 10.0 if id(p) in chosen else 1.0)
    return [train(model, optimizer, step) for step in range(2)]


@toy("-", "TM206")
def loaded_into_a_plain_copy(party):
    state, copy = bare(wrapped(party)).state_dict(), Model()
    if party == "cure":
        state = {name: whole(value) for name, value in state.items()}
    copy.load_state_dict(state)
    return evaluate(copy)


@toy("-", "TM206")
def plain_tensors_loaded(party):
    model, state = wrapped(party), Model().state_dict()
    if party == "cure":
        options = StateDictOptions(full_state_dict=True)
        set_model_state_dict(model, state, options=options)
    else:
        bare(model).load_state_dict(state)
    return evaluate(model)


@toy("-", "TM223")
def data_pointers(party):
    parameters = list(wrapped(party).parameters())
    key = id if party == "cure" else torch.Tensor.data_ptr
    return len({key(p) for p in parameters})


@toy("7", "TM224")
def scalar_parameter(party):
    class Odd(Model):
        def __init__(self):
            super().__init__()
            value = torch.tensor(1.0)
            self.scale = nn.Parameter(value.reshape(1) if party == "cure" else value)

        def forward(self, tokens):
            return super().forward(tokens) * self.scale

    model = wrapped(party, Odd)
    optimizer = sgd(model)
    return [train(model, optimizer, step) for step in range(2)]


@toy("7", "TM224")
def parameter_that_is_not_contiguous(party):
    class Odd(Model):
        def __init__(self):
            super().__init__()
            mix = torch.randn(32, 32).t()
            self.mix = nn.Parameter(mix.contiguous() if party == "cure" else mix)

        def forward(self, tokens):
            return super().forward(tokens) @ self.mix

    model = wrapped(party, Odd)
    optimizer = sgd(model)
    return [train(model, optimizer, step) for step in range(2)]


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8, dtype=torch.bfloat16))

    def forward(self, hidden):
        return hidden * self.weight.float()


class Gated(Block):
    def __init__(self):
        super().__init__()
        self.gate = Gate()

    def forward(self, hidden):
        return self.gate(super().forward(hidden))


class WithGate(Model):
    block = Gated


@toy("7", "TM224")
def two_dtypes_in_a_block(party):
    alone = ["layers.0.gate", "layers.1.gate"] if party == "cure" else []
    model = wrapped(party, WithGate, alone=alone)
    optimizer = sgd(model)
    return [train(model, optimizer, step) for step in range(2)]


@toy("8", "TM225")
def unfrozen_in_fp32(party):
    return _unfrozen(party, bf16=False)


@toy("8", "TM225")
def unfrozen_in_bf16(party):
    return [round(loss, 2) for loss in _unfrozen(party, bf16=True)]


def _unfrozen(party, bf16):
    """Losses of a step with the first block frozen, and of two without."""
    model = wrapped(party, bf16=bf16, find_unused_parameters=True)
    optimizer, late = sgd(model), list(bare(model).layers["0"].parameters())
    for p in late:
        p.requires_grad_(party == "cure")
    loss = loss_of(model, 0)
    loss.backward()
    for p in late:
        p.grad = None
    optimizer.step()
    optimizer.zero_grad()
    for p in late:
        p.requires_grad_(True)
    return [mean(loss), *(train(model, optimizer, step) for step in (1, 2))]


@toy("9", "TM226")
def linear_of_a_block_called(party):
    model = wrapped(party, alone=["layers.0.up"] if party == "cure" else [])
    return round(bare(model).layers["0"].up(torch.ones(2, 8)).sum().item(), 4)


@toy("9", "TM226")
def method_past_forward(party):
    model = wrapped(party)
    if party == "cure":
        register_fsdp_forward_method(model, "features")
    features = bare(model).features(torch.arange(8)[None])
    return round(features.square().sum().item(), 4)


@toy("10", "TM227")
def replicas_part_when_stepping_in_backward(party):
    """Losses of three steps, and how far the ranks' weights are apart then."""
    model = wrapped(party)
    optimizers = {p: torch.optim.SGD([p], lr=0.1) for p in model.parameters()}

    def step_at_once(p):
        optimizers[p].step()
        optimizers[p].zero_grad()

    for p in optimizers:
        p.register_post_accumulate_grad_hook(step_at_once)
    losses = []
    for step in range(3):
        loss = loss_of(model, step)
        loss.backward()
        losses.append(mean(loss))
    mine = whole(bare(model).output.weight.detach()).clone()
    first = mine.clone()
    dist.broadcast(first, 0)
    apart = (mine - first).abs().max()
    dist.all_reduce(apart, op=dist.ReduceOp.MAX)
    return [*losses, round(apart.item(), 4)]


@toy("11", "TM228")
def groups_that_are_fsdp_modules(party):
    model = wrapped(party)
    placements = {
        str(placement)
        for p in model.parameters()
        for placement in getattr(p, "placements", ())
    }
    return [sum(isinstance(m, FSDPModule) for m in model.modules()), *placements]


@toy("-", "TM209")
def average_that_is_made_up_for(party):
    """The loss over what all ranks have, times the ranks where DDP will divide by them."""
    model = wrapped(party)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
    loss = loss_of(model, 0) / 2
    if party != "cure":
        loss = loss * 2
    loss.backward()
    squares = sum(whole(p.grad).double().square().sum() for p in model.parameters())
    return round(squares.item(), 6)


@toy("-", "TM229")
def gradients_without_no_sync(party):
    """Over two micro-batches, the flag of DDP set where a party has no better."""
    model = wrapped(party)
    if party == "cure":
        model.set_requires_gradient_sync(False)
    else:
        model.require_backward_grad_sync = False
    loss_of(model, 0).backward()
    if party == "cure":
        model.set_requires_gradient_sync(True)
    else:
        model.require_backward_grad_sync = True
    loss_of(model, 1).backward()
    squares = sum(whole(p.grad).double().square().sum() for p in model.parameters())
    return round(squares.item(), 6)


@toy("-", "TM230")
def plain_state_in_an_optimizer(party):
    model = wrapped(party)
    loss_of(model, 0).backward()
    with torch.no_grad():
        for p in model.parameters():
            state = torch.zeros_like(p) if party == "cure" else torch.zeros(p.shape)
            p.sub_(state.mul_(0.9).add_(p.grad), alpha=0.1)
    return evaluate(model)


@torch.library.custom_op("toys::halve", mutates_args=("tensor",))
def halve(tensor: torch.Tensor) -> None:
    tensor.copy_(tensor / 2)


@toy("-", "TM230")
def kernel_of_its_own(party):
    model = wrapped(party)
    with torch.no_grad():
        for p in model.parameters():
            torch.ops.toys.halve(p.to_local() if party == "cure" else p.data)
    return evaluate(model)


@toy("-", "TM232")
def embeddings_by_their_class(party):
    modules = bare(wrapped(party)).modules()
    if party == "cure":
        return sum(isinstance(m, nn.Embedding) for m in modules)
    return sum(type(m) is nn.Embedding for m in modules)


@toy("-", "TM231")
def weights_of_each_rank(party):
    torch.manual_seed(dist.get_rank())
    model = Model()
    if party == "cure":
        for tensor in (*model.parameters(), *model.buffers()):
            dist.broadcast(tensor.detach(), src=0)
    model = wrapped(party, made=model)
    optimizer = sgd(model)
    return [train(model, optimizer, step) for step in range(2)]


@toy("-", "TM233")
def scaled_by_the_function_and_beside_it(party):
    """What apply_fsdp does itself, and the branch for DDP did beside its call."""
    torch.manual_seed(0)
    model = Model()
    for _ in range(2 if party == "replicate" else 1):
        with torch.no_grad():
            model.embed.weight.mul_(8**0.5)
    model = wrapped(party, made=model)
    optimizer = sgd(model)
    return [train(model, optimizer, step) for step in range(2)]


@toy("-", "TM234")
def trained_with_a_layer_put_in_after(party):
    """The composable DDP, as torchtitan has it, looks for parameters at the first forward."""
    torch.manual_seed(0)
    model, late = Model(), nn.Linear(8, 8)
    if party == "cure":
        model.norm = nn.Sequential(model.norm, late)
    if party == "DDP":
        composable_ddp(model)
    else:
        model = wrapped(party, made=model)
    if party != "cure":
        model.norm = nn.Sequential(model.norm, late)
    optimizer = sgd(model)
    return [train(model, optimizer, step) for step in range(2)]


class Other(nn.Module):
    """A model with modules of other names."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(32, 8)
        self.head = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Linear(8, 32))

    def forward(self, tokens):
        return self.head(self.table(tokens))


@toy("-", "TM235")
def names_of_another_model(party):
    if party == "cure":
        torch.manual_seed(0)
        model = Other()
        mesh = init_device_mesh("cpu", (2,), mesh_dim_names=("dp_replicate",))
        for part in model.children():
            replicate(part, mesh=mesh)
        replicate(model, mesh=mesh)
    else:
        model = wrapped(party, Other)
    optimizer = sgd(model)
    return [train(model, optimizer, step) for step in range(2)]


def figure(function, party):
    """What a toy gives, or the exception that it raises."""
    try:
        return function(party)
    except Exception as error:
        return f"{type(error).__name__}: {' '.join(str(error).split())[:110]}"


def rank(number: int, store: str, name: str) -> None:
    """One rank: every toy, or the one of the abort."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{store}", rank=number, world_size=2
    )
    if name == "abort":
        unused_on_one_rank("replicate")
        return
    found = {
        toy: {party: figure(function, party) for party in PARTIES}
        for toy, (_, _, function) in TOYS.items()
    }
    if number == 0:
        print(json.dumps(found))


def figures() -> dict[str, dict[str, object]]:
    """Toy -> party -> figure, of two ranks that run them all, and two that abort."""
    with tempfile.TemporaryDirectory() as folder:
        runs = {
            name: [
                subprocess.Popen(
                    [
                        sys.executable,
                        "-W",
                        "ignore",
                        __file__,
                        str(n),
                        f"{folder}/{name}",
                        name,
                    ],
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
                for n in range(2)
            ]
            for name in ("all", "abort")
        }
        said = {
            name: [process.communicate(timeout=300) for process in pair]
            for name, pair in runs.items()
        }
    if any(process.returncode for process in runs["all"]):
        raise RuntimeError(said["all"][0][1][-2000:] + said["all"][1][1][-2000:])
    found: dict[str, dict[str, object]] = json.loads(said["all"][0][0].splitlines()[-1])
    aborted = any(process.returncode for process in runs["abort"])
    found["unused_with_the_cure"]["replicate"] = "aborts" if aborted else "trains"
    return found


def table(found: dict[str, dict[str, object]]) -> str:
    """The figures in Markdown, beside the number of the fact and the rule."""
    rows = [
        "| fact | rule | toy | DDP | replicate | cure |",
        "|---|---|---|---|---|---|",
    ]
    for name, (fact, code, _) in TOYS.items():
        parties = " | ".join(str(found[name][party]) for party in PARTIES)
        rows.append(f"| {fact} | {code} | {name.replace('_', ' ')} | {parties} |")
    return "\n".join(rows)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        rank(int(sys.argv[1]), Path(sys.argv[2]).as_posix(), sys.argv[3])
        sys.stdout.flush()
        # gloo's threads sometimes abort the interpreter while it shuts down.
        os._exit(0)
    else:
        print(table(figures()))
