"""Whether a module can be wrapped by the function that its call gets."""

import pytest

from support import (  # fmt: skip
    APPLY_FSDP,
    BASE,
    GLOBAL_TOKENS,
    HERE,
    IMPORT,
    PLAN,
    assert_left,
    findings,
    outcome,
    text,
)

HEAD = """
class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.mlp = nn.Linear(1, 1)


"""
MODEL = HEAD.replace("self.mlp = nn.Linear(1, 1)", "self.layers = nn.ModuleDict()")


def script(lines: str, before: str = HEAD, name: str = "model") -> str:
    """A script that makes a module by some lines, and wraps it."""
    body = "".join(f"    {line}\n" for line in text(lines).splitlines())
    return (
        f"import torch.nn as nn\nimport transformers\n{IMPORT} apply_ddp\n\n\n"
        f"{before.strip()}\n\n\ndef main(dims, spec, given):\n{body}"
        f"    apply_ddp({name}, dims.world_mesh, False)\n"
    )


LACKING = [
    ("Head", "model = Head()", HEAD),
    ("torch.nn.Sequential", "model = nn.Sequential(nn.Linear(1, 1))", HEAD),
    ("Tail", "model = Tail().cuda()", f"{HEAD}class Tail(Head):\n    pass"),
    (
        "Head",
        "model = Head() if given else Model()",
        f"{HEAD}{MODEL.replace('Head', 'Model')}",
    ),  # fmt: skip
    (
        "Head",
        "model = Model()\nmodel = Head()",
        f"{HEAD}{MODEL.replace('Head', 'Model')}",
    ),  # fmt: skip
    ("Head", "model = Head()", HEAD.replace("(nn.Module)", "(nn.Module, Generic[T])")),
    ("Head", "model = make()", f"{HEAD}def make():\n    return Head().eval()"),
]


@pytest.mark.parametrize("name, lines, before", LACKING)
def test_another_model_is_left(name, lines, before):
    left = assert_left(script(lines, before), f"it wraps {name}, which has no layers, and apply_replicate goes by")  # fmt: skip
    assert left.suggestion.splitlines()[-1] == (
        'replicate(model, mesh=dims.world_mesh["dp_replicate"])'
    )


def test_a_model_of_another_library_is_left():
    other = BASE[PLAN].replace(APPLY_FSDP, APPLY_FSDP.replace("layers", "tok_layers"))
    made = "model = transformers.AutoModelForCausalLM.from_pretrained(given)"
    left = assert_left(script(made), "AutoModelForCausalLM, which has no tok_layers", files={PLAN: other})  # fmt: skip
    # What ties weights has to be one group.
    assert "children()" not in left.suggestion


def test_the_parts_of_a_class_that_is_seen_are_groups():
    left = assert_left(script("model = Head()"), "Head")
    assert left.suggestion == text(
        """
        # from torch.distributed._composable.replicate_with_fsdp import replicate
        for part in model.children():
            replicate(part, mesh=dims.world_mesh["dp_replicate"])
        replicate(model, mesh=dims.world_mesh["dp_replicate"])
        """
    ).rstrip("\n")


def test_of_a_list_of_blocks_each_is_a_group():
    blocks = HEAD.replace("nn.Linear(1, 1)", "nn.ModuleList([nn.Linear(1, 1)])")
    left = assert_left(script("model = Head()", blocks), "Head")
    assert "for part in model.mlp.children():" in left.suggestion


def test_of_a_class_that_ties_a_weight_only_the_whole_is_a_group():
    tied = HEAD.replace("nn.Linear(1, 1)", "nn.Linear(1, 1)\n        self.mlp.weight = self.a.weight")  # fmt: skip
    left = assert_left(script("model = Head()", tied), "Head")
    assert "children()" not in left.suggestion


def test_what_has_no_name_gets_one():
    left = assert_left(script("pass", name="Head()"), "Head")
    assert "module = Head()\nfor part in module.children():" in left.suggestion


def test_each_in_a_loop_is_a_group():
    lines = "for part in (Head(), Model()):\n    print(part)"
    source = script(lines, f"{HEAD}{MODEL.replace('Head', 'Model')}", "part")
    source = source.replace("    apply_ddp(", "        apply_ddp(")
    left = assert_left(source, "it wraps Head")
    assert "children()" not in left.suggestion


SPEC = """
    from torchtitan.models.mine.parallelize import Head, parallelize

    SPEC = TrainSpec(model_cls=Head, parallelize_fn=parallelize)
"""
PLAN_OF_IT = f"""
    import torch.nn as nn
    {IMPORT} apply_ddp


    class Head(nn.Module):
        def __init__(self):
            self.mlp = nn.Linear(1, 1)


    def parallelize(model, dims, job_config):
        apply_ddp(model, dims.world_mesh, False)
"""


def test_a_plan_of_another_model_is_told_what_trains_it():
    files = {"torchtitan/models/mine/__init__.py": SPEC, "torchtitan/train.py": GLOBAL_TOKENS}  # fmt: skip
    left = assert_left(PLAN_OF_IT, "it wraps Head", files=files)
    assert left.suggestion == text(
        """
        # from torch.distributed._composable.replicate_with_fsdp import replicate
        # from torchtitan.config import TORCH_DTYPE_MAP
        # from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy
        mp_policy = MixedPrecisionPolicy(
            param_dtype=TORCH_DTYPE_MAP[job_config.training.mixed_precision_param],
            reduce_dtype=TORCH_DTYPE_MAP[job_config.training.mixed_precision_reduce],
        )
        for part in model.children():
            replicate(part, mesh=dims.world_mesh["dp_replicate"], mp_policy=mp_policy)
        replicate(model, mesh=dims.world_mesh["dp_replicate"], mp_policy=mp_policy)
        # the training loop divides by the global token count
        for part in model.modules():
            if isinstance(part, FSDPModule):
                part.set_gradient_divide_factor(1.0)
        """
    ).rstrip("\n")


FITTING = [
    ("model = Head()", MODEL),
    ("model = Tail()", f"{MODEL}class Tail(Head):\n    pass"),
    (
        "model = Head()",
        MODEL.replace("self.layers = nn.ModuleDict()", 'self.add_module("layers", 1)'),
    ),  # fmt: skip
    (
        "model = Head()",
        MODEL.replace("self.layers = nn.ModuleDict()", 'setattr(self, "layers", 1)'),
    ),  # fmt: skip
    (
        "model = Head()",
        f"{HEAD.rstrip()}\n\n    @property\n    def layers(self):\n        return {{}}",
    ),  # fmt: skip
    (
        "model = Head()",
        HEAD.replace("def __init__", "layers: nn.ModuleDict\n\n    def __init__"),
    ),  # fmt: skip
]
UNTOLD = [
    ("model = given()", HEAD),
    ("model = spec.model_cls(1)", HEAD),
    ("model = transformers.AutoModel.from_pretrained(given)", HEAD),
    ("model = nn.TransformerEncoder(given, 2)", HEAD),
    (
        "model = Head()",
        f"{HEAD.rstrip()}\n\n    def __getattr__(self, name):\n        return 1",
    ),  # fmt: skip
    (
        "model = Head()",
        HEAD.replace("self.mlp =", "setattr(self, given, 1)\n        self.mlp ="),
    ),  # fmt: skip
    ("model = Head()", HEAD.replace("nn.Module", "own.Base")),
]


@pytest.mark.parametrize("lines, before", FITTING)
def test_a_model_of_the_plan_needs_no_word(lines, before):
    files = {HERE: script(lines, before)}
    assert outcome(files).problems == ()
    assert findings(files, code="TM235") == []


def test_what_is_set_from_outside_is_there():
    files = {HERE: script("model = Head()\nmodel.layers = nn.ModuleDict()")}
    found = findings(files, code="TM102", path=HERE)
    assert not any("goes by these names" in finding.message for finding in found)


@pytest.mark.parametrize("lines, before", UNTOLD)
def test_what_cannot_be_told_is_rewritten_and_said(lines, before):
    files = {HERE: script(lines, before)}
    assert outcome(files).problems == ()
    (one,) = findings(files, code="TM235")
    assert one.path == HERE and "wraps layers of it by name" in one.message


def test_an_annotation_may_be_of_a_base_class():
    declared = script("pass", name="head").replace("spec, given", "head: Head")
    assert outcome({HERE: declared}).problems == ()
    assert len(findings({HERE: declared}, code="TM235")) == 1
    fitting = declared.replace("self.mlp", "self.layers")
    assert findings({HERE: fitting}, code="TM235") == []


def test_what_a_function_asks_for_first_is_not_needed():
    asking = APPLY_FSDP.replace(
        "    for block in", '    if hasattr(model, "layers"):\n        for block in'
    ).replace("        fully_shard(block", "            fully_shard(block")
    files = {PLAN: BASE[PLAN].replace(APPLY_FSDP, asking), HERE: script("model = Head()")}  # fmt: skip
    found = [f.message for f in outcome(files).findings if f.path == HERE]
    assert not any("goes by these names" in message for message in found)
