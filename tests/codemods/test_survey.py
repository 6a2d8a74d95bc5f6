"""What a checkout is found to be."""

import pytest

from codemods.source import SourceFile
from codemods.survey import divides_by_global_tokens, survey

from support import (
    APPLY_DDP,
    BASE,
    GLOBAL_TOKENS,
    NAMED_MESHES,
    PLAN,
    checkout,
    migrated,
)

DIMS = "torchtitan/distributed/parallel_dims.py"


def kind(files=None, name="apply_replicate"):
    return survey(checkout(files), name).kind


def test_kinds():
    assert kind() == "ddp"
    assert kind(migrated()) == "migrated"
    assert kind(migrated(target="2d"), "apply_ddp") == "migrated"
    assert kind({PLAN: BASE[PLAN].replace(APPLY_DDP, "")}) == "past"
    assert survey({}).kind == "foreign"
    assert survey({"x.py": SourceFile("x.py", b"import torch\n")}).kind == "foreign"


def test_half_migrated_is_still_to_do():
    copy = "torchtitan/models/mine/parallelize.py"
    assert kind({**migrated(), copy: BASE[PLAN]}) == "ddp"


@pytest.mark.parametrize(
    "files, generation",
    [
        ({DIMS: NAMED_MESHES}, "0.2.1"),
        ({DIMS: NAMED_MESHES, "torchtitan/train.py": GLOBAL_TOKENS}, "0.2.2"),
        (
            {
                DIMS: "class ParallelDims:\n    @property\n    def world_mesh(self): pass\n",
                PLAN: None,
                "torchtitan/models/llama3/infra/parallelize.py": BASE[PLAN],
            },
            "0.2.0",
        ),
        (
            {PLAN: None, "torchtitan/models/llama3/infra/parallelize.py": BASE[PLAN]},
            "0.1",
        ),
        (
            {PLAN: None, "torchtitan/parallelisms/parallelize_llama.py": BASE[PLAN]},
            "2024",
        ),
    ],
)
def test_generation(files, generation):
    if generation in ("0.2.1", "0.2.2"):
        files = {
            **files,
            PLAN: None,
            "torchtitan/models/llama3/infra/parallelize.py": BASE[PLAN],
        }
    assert survey(checkout(files)).generation == generation


def test_flat_layout():
    assert survey(checkout({DIMS: NAMED_MESHES})).generation == "main, spring 2026"


@pytest.mark.parametrize(
    "line, divides",
    [
        ("loss = loss_sum / global_valid_tokens", True),
        ("loss = self.loss_fn(pred) / self.global_num_tokens", True),
        ("loss = loss / num_tokens_global", True),
        ("loss = loss / global_batch_tokens.float()", True),
        ("loss = loss / accumulation_steps", False),
        ("rate = tokens / global_tokens", False),
        ("loss = loss / valid_tokens", False),
        ("loss = loss * global_valid_tokens", False),
    ],
)
def test_division_by_global_tokens(line, divides):
    loop = f"{line}\nloss.backward()\n".encode()
    assert divides_by_global_tokens(SourceFile("x.py", loop)) == divides


def test_a_metric_by_global_tokens_scales_no_gradient():
    loop = (
        b"loss.backward()\nself.rate = loss.item() / max(self.global_tokens_seen, 1)\n"
    )
    assert not divides_by_global_tokens(SourceFile("x.py", loop))


def test_ties():
    model = "def tie(self):\n    self.output.weight = self.tok_embeddings.weight\n"
    ties = survey(checkout({"torchtitan/models/llama3/model.py": model})).ties
    assert [(t.line, t.left, t.right) for t in ties] == [
        (2, "output", "tok_embeddings")
    ]


def test_several_definitions():
    copy = "torchtitan/models/mine/parallelize.py"
    found = survey(checkout({copy: BASE[PLAN]}))
    assert {d.path for d in found.definitions} == {PLAN, copy}


def test_ddp_through_the_class_is_another_definition():
    other = "torchtitan/models/mine/parallelize.py"
    source = "def apply_ddp(model):\n    return DDP(model)\n"
    assert [d.path for d in survey(checkout({other: source})).other_definitions] == [
        other
    ]
