"""TM234: modules that come after a model is wrapped."""

import pytest

from support import HERE, IMPORT, findings

HEAD = """
def add_head(model):
    model.head = nn.Linear(8, 1)


def inject(model, rank):
    for module in model.modules():
        module.add_module("adapter", nn.Linear(8, rank))


def adapt(model, rank):
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.lora = nn.Linear(module.in_features, rank)


def compile_blocks(model):
    for name, block in model.layers.named_children():
        model.layers.register_module(name, torch.compile(block))


def reset(model):
    model.step = torch.zeros(())
"""


def plan_of(before: str = "", after: str = "", end: str = "") -> str:
    return f"""import torch
import torch.nn as nn
{IMPORT} apply_ddp, apply_fsdp
{HEAD}

def parallelize(model, parallel_dims, config):
    if parallel_dims.fsdp_enabled:
        add_head(model)
        apply_fsdp(model, parallel_dims.world_mesh, config.param, config.reduce)
    elif parallel_dims.dp_replicate_enabled:
        {before or "pass"}
        apply_ddp(model, parallel_dims.world_mesh, config.compile)
        {after or "pass"}
    {end or "pass"}
    return model
"""


def told(source: str) -> list[str]:
    found = findings({HERE: source}, code="TM234")
    assert all(one.severity == "silent" for one in found)
    return [source.split("\n")[one.line - 1].strip() for one in found]


ADDS = [
    "model.head = nn.Linear(8, 1)",
    'setattr(model, "head", nn.Linear(8, 1))',
    'model.add_module("head", nn.Linear(8, 1))',
    "model.scale = nn.Parameter(torch.ones(1))",
    'model.layers["0"].adapter = nn.Linear(8, 8)',
    "add_head(model)",
    "inject(model, rank=8)",
    "adapt(model, 8)",
]


@pytest.mark.parametrize("line", ADDS)
def test_fires_in_the_branch_and_at_the_end(line):
    assert told(plan_of(after=line)) == [line]
    assert told(plan_of(end=line)) == [line]


@pytest.mark.parametrize("line", ADDS)
def test_does_not_fire_before(line):
    assert told(plan_of(before=line)) == []


@pytest.mark.parametrize(
    "line",
    [
        "compile_blocks(model)",
        "reset(model)",
        "model.train()",
        "model.started = True",
        "nn.init.zeros_(model.output.weight)",
        "other.head = nn.Linear(8, 1)",
        "add_head(other)",
    ],
)
def test_does_not_fire_on_what_adds_nothing(line):
    assert told(plan_of(after=line)) == []


def trainer_of(*lines: str, before: str = "pass") -> str:
    body = "".join(f"            {line}\n" for line in lines)
    return f"""import torch.nn as nn
from torchtitan.models.mine.adapters import add_lora, freeze
{HEAD}

class Lora(nn.Linear):
    pass


class Wide(Lora):
    pass


class Trainer:
    def __init__(self, config, spec):
        model = spec.build()
        {before}
        if config.pipeline:
            parts = spec.split(model)
            model.other = nn.Linear(1, 1)
        else:
            model = self.spec.parallelize_fn(model, config)
{body}            self.parts = [model]
        self.ready = True
"""


IN_TRAINERS = [
    *("model.head = nn.Linear(8, 1).to(device)", "add_head(model)", "add_lora(model)"),
    "model.table = nn.Embedding.from_pretrained(rows)",
    "model.layers.wq = Wide(model.layers.wq)",
]
ADAPTERS = """import torch.nn as nn


def add_lora(model):
    for block in model.layers.values():
        block.lora = nn.Linear(8, 8)


def freeze(model):
    for parameter in model.parameters():
        parameter.requires_grad = False
"""


def told_of_trainer(source: str) -> list[str]:
    plan = "torchtitan/models/mine/plan.py"
    files = {
        HERE: source,
        plan: plan_of(),
        "torchtitan/models/mine/adapters.py": ADAPTERS,
    }
    found = [one for one in findings(files, code="TM234") if one.path == HERE]
    return [source.split("\n")[one.line - 1].strip() for one in found]


@pytest.mark.parametrize("line", IN_TRAINERS)
def test_fires_where_a_plan_is_called(line):
    assert told_of_trainer(trainer_of("model.train()", line)) == [line]
    assert told_of_trainer(trainer_of(before=line)) == []


@pytest.mark.parametrize(
    ("lines", "which"),
    [
        (["for b in model.layers.values():", "    b.wq = Lora(8, 8)"], 1),
        (
            [
                "self.parts = [model]",
                "for m in self.parts:",
                "    m.head = nn.Linear(1, 1)",
            ],
            2,
        ),
        (["self.parts = [model]", "add_head(self.parts[0])"], 1),
        (["net = model", "net.head = nn.Linear(1, 1)"], 1),
    ],
)
def test_the_model_is_followed_by_its_other_names(lines, which):
    assert told_of_trainer(trainer_of(*lines)) == [lines[which].strip()]


@pytest.mark.parametrize(
    "line",
    [
        *("freeze(model)", "self.loss = nn.CrossEntropyLoss()", "model = Wide(model)"),
        *("self.critic = Wide(8, 1)", "model.started = Clock()", "reset(model)"),
    ],
)
def test_does_not_fire_where_a_plan_is_called_on_what_adds_nothing(line):
    assert told_of_trainer(trainer_of(line)) == []
