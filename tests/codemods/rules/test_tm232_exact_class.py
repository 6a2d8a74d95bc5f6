"""TM232: code that asks a module of the trained model for its very class."""

import pytest

from support import HERE, findings
from trainers import found, lines, trainer

HEAD = "from torch.nn.parallel import DistributedDataParallel as DDP"


def source(body, head=HEAD):
    """A trainer with a method over the modules of its model."""
    inner = body.replace("\n", "\n        ")
    method = f"class Lab:\n    def run(self):\n        {inner}\n"
    return trainer(method, head)


def over(body):
    """The same for each module."""
    inner = body.replace("\n", "\n    ")
    return source(f"for name, m in self.model_parts[0].named_modules():\n    {inner}")


@pytest.mark.parametrize(
    "line, cure",
    [
        ("if type(m) is nn.Embedding: use(m)", "isinstance(m, nn.Embedding)"),
        ("if nn.Embedding == m.__class__: use(m)", "isinstance(m, nn.Embedding)"),
        ("x = type(m) is type(other)", "isinstance(m, type(other))"),
        ("if type(m) is not nn.Linear: use(m)", "not isinstance(m, nn.Linear)"),
        (
            "x = type(m) in (nn.Embedding, nn.RMSNorm)",
            "(m, (nn.Embedding, nn.RMSNorm))",
        ),
        (
            "x = type(m) in {nn.Embedding, nn.RMSNorm}",
            "(m, (nn.Embedding, nn.RMSNorm))",
        ),
        ("x = type(m) not in NORMS", "not isinstance(m, tuple(NORMS))"),
        (
            "x = m.__class__.__name__ == 'Block'",
            "m.__class__.__name__.removeprefix('Replicate') == 'Block'",
        ),
        (
            "x = type(m).__name__ in ('Block', 'Head')",
            "type(m).__name__.removeprefix('Replicate') in ('Block', 'Head')",
        ),
        (
            "x = type(m).__qualname__.startswith('Llama')",
            "type(m).__qualname__.removeprefix('Replicate').startswith('Llama')",
        ),
        ("x = m._get_name() == 'Block'", "m._get_name().removeprefix('Replicate') =="),
        (
            "x = DECAY[type(m)]",
            "next(DECAY[c] for c in type(m).__mro__ if c in DECAY)",
        ),
        (
            "x = DECAY.get(type(m), 0.1)",
            "for c in type(m).__mro__ if c in DECAY), 0.1)",
        ),
        (
            "stats[type(m).__name__] += 1",
            "stats[type(m).__name__.removeprefix('Replicate')]",
        ),
    ],
)
def test_fires(line, cure):
    assert lines(over(line), "TM232") == [line]
    (one,) = found(over(line), "TM232")
    advice = " ".join(one.suggestion.split()).replace("( ", "(").replace(" )", ")")
    assert one.severity == "silent" and cure.replace(
        "next((", "next("
    ) in advice.replace("next((", "next(").replace('"', "'")


@pytest.mark.parametrize(
    "body",
    [
        "blocks = [m for m in self.model_parts[0].modules() if type(m) is Block]",
        "n = sum(type(m) is Block for p in self.model_parts for m in p.modules())",
        "first = type(self.model_parts[0].layers['0']) is Block",
        "for b in self.model_parts[0].layers.values():\n    x = type(b) is Block",
        "for b in self.model_parts[0].layers:\n    x = type(b) is Block",
        "every = list(self.model_parts[0].modules())\n"
        "for i, m in enumerate(every):\n    x = type(m) is Block",
        "for m in self.model_parts[0].modules():\n    kind = type(m)\n    x = kind is Block",
        "for m in self.model_parts[0].modules():\n    kind = type(m).__name__\n"
        "    x = kind == 'Block'",
    ],
)
def test_fires_for_modules_by_any_name(body):
    (line,) = lines(source(body), "TM232")
    assert line == body.split("\n")[-1].strip()


def test_fires_in_a_match():
    body = "match type(m):\n    case nn.Linear:\n        pass"
    (one,) = found(over(body), "TM232")
    assert one.suggestion.startswith("match m:")
    (one,) = found(over(body.replace("(m)", "(m).__name__")), "TM232")
    assert one.suggestion.startswith("match type(m).__name__.removeprefix(")


def test_fires_where_a_function_is_handed_the_model_or_a_module():
    head = f"""{HEAD}

def groups(net):
    return [p for m in net.modules() if is_norm(m) for p in m.parameters()]

def is_norm(module):
    return type(module) in (nn.RMSNorm, nn.LayerNorm)

def not_called(module):
    return type(module) in (nn.RMSNorm, nn.LayerNorm)
"""
    text = source("self.groups = groups(self.model_parts[0])", head)
    (one,) = found(text, "TM232")
    before, line = text.split("\n")[one.line - 2 : one.line]
    assert "def is_norm" in before and "return type(module) in" in line


@pytest.mark.parametrize(
    "line",
    [
        "x = isinstance(m, nn.Embedding)",
        "x = 'Norm' in type(m).__name__",
        "x = type(m).__name__.endswith('Block')",
        "print(type(m).__name__)",
        "x = type(m) is type(self.model_parts[0].norm)",
        "x = type(name) is str",
        "x = type(self.teacher) is Block",
        "x = type(m) is DDP",
        "x = type(m).__name__ == 'DistributedDataParallel'",
        "x = type(self.model_parts[0]) is Transformer",
        "x = type(self.model_parts[0]).__name__ == 'Transformer'",
    ],
)
def test_does_not_fire(line):
    assert found(over(line), "TM232") == []


@pytest.mark.parametrize(
    "line, cure",
    [
        ("x = type(model).__name__.startswith('DDP')", ".startswith('Replicate')"),
        ("x = type(model).__name__.removeprefix('DDP')", ".removeprefix('Replicate')"),
        ("x = type(model).__name__.replace('DDP', '')", ".replace('Replicate', '')"),
        ("x = 'DDP' in model.__class__.__name__", "'Replicate' in model.__class__"),
        ("x = type(model).__name__ == 'DDPTransformer'", "'ReplicateTransformer'"),
    ],
)
def test_fires_for_the_name_that_ddp_gave_the_model(line, cure):
    text = source(f"model = self.model_parts[0]\n{line}")
    assert lines(text, "TM232") == [line]
    (one,) = found(text, "TM232")
    assert cure in one.suggestion.replace('"', "'") and "begins with" in one.message


def test_does_not_fire_for_what_blocks_have_inside_of_them():
    model = """\
class Attention(nn.Module):
    def forward(self, x):
        return x


class Block(nn.Module):
    def __init__(self):
        self.attention = Attention()
        self.norm = nn.RMSNorm(8)

    def forward(self, x):
        return self.attention(x)


class Model(nn.Module):
    def __init__(self):
        self.layers = nn.ModuleList([Block()])
        self.norm = nn.RMSNorm(8)

    def forward(self, x):
        return self.norm(x)


"""
    body = "for m in self.model_parts[0].modules():\n    x = type(m) is {0}"
    for kind, count in (("Attention", 0), ("Block", 1), ("nn.RMSNorm", 1)):
        text = source(body.format(kind), f"{HEAD}\n{model}")
        assert len(found(text, "TM232")) == count, kind


def test_the_class_has_another_name_in_torch_2_9():
    (one,) = findings(
        {HERE: over("x = type(m).__name__ == 'Block'")}, "2d", code="TM232"
    )
    assert "FSDPBlock for Block" in one.message and "removeprefix" in one.suggestion
    assert "FSDP" in one.suggestion


def test_the_whole_model_counts_where_the_wrapper_was_used():
    wraps = """
        from torch.nn.parallel import DistributedDataParallel as DDP

        from torchtitan.models.llama3.parallelize import apply_fsdp


        def parallelize(model, parallel_dims, job_config):
            if parallel_dims.fsdp_enabled:
                apply_fsdp(model, job_config.a, job_config.b, job_config.c)
            else:
                model = DDP(model)
            return model


        def kind(model_parts):
            return type(model_parts[0].module) is Transformer
    """
    assert len(findings({HERE: wraps}, code="TM232")) == 1
