"""Rehearses a fixture's llama3, whose imports are quick, right and with defects planted."""

from __future__ import annotations

import math
import shutil

import pytest

from migrator.apply import plan, resolve_target
from migrator.checkout import Checkout
from migrator.verify.choose.models import Model
from migrator.verify.rehearse.layouts import layout
from migrator.verify.rehearse.run import Asked, rehearse
from migrator.verify.train.worktrees import Trees

from places import TOP
from releases import release

PLAN = "torchtitan/models/llama3/infra/parallelize.py"


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A fixture before and after the migration."""
    top = tmp_path_factory.mktemp("trees")
    for name in ("base", "migrated"):
        shutil.copytree(TOP / "fixtures" / "v0_2_1", top / name)
    plan(Checkout(top / "migrated", is_git=False), resolve_target("1d")).write()
    return Trees(top / "base", top / "migrated", "", "", ())


def test_a_right_migration_passes_and_what_cannot_be_made_has_its_reason(
    trees, tmp_path
):
    shown = []
    wanted = [
        (
            Model("llama3"),
            [
                layout(dp_replicate=64),
                layout(dp_replicate=2, tp=2),
                layout(dp_replicate=2, pp=2),
                layout(dp_replicate=2, dp_shard=2),
            ],
        ),
        (Model("llama3", flavor="8B"), [layout(dp_replicate=2), layout(tp=2)]),
        (Model("models/qwen3", reason="it registers nothing"), [layout(tp=2)]),
    ]
    found = rehearse(trees, wanted, tmp_path, Asked(), shown.append)
    assert shown == list(found.scenes)
    assert [scene.word for scene in shown] == ["passed"] * 2 + ["not run"] + [
        "passed"
    ] + ["not run"] * 2
    right, lifted, staged, _, flavor, unregistered = shown
    groups = right.records["migrated"]["groups"]
    assert {tuple(one["mesh"]["sizes"]) for one in groups if one["mesh"]} == {(64,)}
    assert "the migration lifts that" in lifted.notes[0]
    assert staged.not_run.endswith("its train spec has no pipelining_fn")
    assert "there are debugmodel, debugmodel_deep" in flavor.not_run
    assert "no train spec was found" in unregistered.not_run


def test_a_step_is_counted(trees, tmp_path):
    """Every parameter is reduced once in fp32, by replicate as by FSDP, which gathers it besides."""
    asked = [(Model("llama3"), [layout(dp_replicate=4)])]
    (scene,) = rehearse(trees, asked, tmp_path, Asked(step=True)).scenes
    whole = 4 * sum(
        math.prod(one["shape"])
        for one in scene.records["baseline"]["parameters"].values()
    )
    migrated, reference = (
        scene.records[party]["step"] for party in ("migrated", "reference")
    )
    groups = [g for g in scene.records["migrated"]["groups"] if g["parameters"]]
    assert migrated["collectives"] == {"all-reduce": [len(groups), whole]}
    assert reference["collectives"]["reduce-scatter"] == [len(groups), whole]
    assert migrated["memory"] == {
        "parameters": whole,
        "gradients": whole,
        "optimizer": 2 * whole,
        # In bf16.
        "unsharded": whole // 2,
    }
    assert 4 * reference["memory"]["parameters"] == whole


AMP = "torchtitan/distributed/utils.py"
TIES = "torchtitan/models/qwen3/infra/parallelize.py"

# What is wrong -> the file, the last place of a text and what it becomes, what is said.
DEFECTS = {
    "a block skipped": (
        PLAN,
        "in model.layers.items():",
        "in list(model.layers.items())[1:]:",
        "layers.0: no group of its own here, and one in FSDP.",
    ),
    "root only": (
        PLAN,
        "    if model.tok_embeddings is not None:",
        "    return replicate(model, **replicate_config)\n    if model.tok_embeddings is not None:",
        "tok_embeddings, layers.0 and ",
    ),
    "a parameter ignored": (
        PLAN,
        "replicate(transformer_block, **replicate_config)",
        "replicate(transformer_block, **replicate_config, ignored_params={transformer_block.attention_norm.weight})",
        "attention_norm.weight",
    ),
    "param_dtype left out": (
        PLAN,
        "MixedPrecisionPolicy(param_dtype=param_dtype, ",
        "MixedPrecisionPolicy(",
        "param_dtype is None here, and torch.bfloat16 in FSDP.",
    ),
    "a divide factor": (
        PLAN,
        "    replicate(model, **replicate_config)",
        "    replicate(model, **replicate_config)\n    model.layers['0'].set_gradient_divide_factor(2.0)",
        "layers.0: the gradient divide factor is 2.0 here, and unset in FSDP.",
    ),
    "the wrong mesh": (
        PLAN,
        'parallel_dims.get_mesh("dp_replicate")',
        'parallel_dims.get_mesh("batch")',
        "its mesh is (batch=2), and not dp_replicate.",
    ),
    "autocast left on": (
        AMP,
        " or parallel_dims.dp_replicate_enabled:",
        ":",
        "the forward pass: under autocast to bfloat16 here, and without autocast in FSDP.",
    ),
}


def sentences(trees, top, path, old, new, model, *layouts):
    """What is said of the trees with one place of the migrated one made wrong, below the last that fits."""
    shutil.copytree(trees.migrated, top / "wrong")
    source = (top / "wrong" / path).read_text()
    at = source.rindex(old)
    (top / "wrong" / path).write_text(source[:at] + new + source[at + len(old) :])
    (top / "scratch").mkdir()
    wrong = Trees(trees.base, top / "wrong", "", "", ())
    found = rehearse(wrong, [(model, layouts)], top / "scratch")
    return " ".join(sentence for scene in found.scenes for sentence in scene.failures)


@pytest.mark.parametrize("defect", DEFECTS)
def test_what_is_planted_is_told_where_it_is(trees, tmp_path, defect):
    *planted, sentence = DEFECTS[defect]
    told = sentences(trees, tmp_path, *planted, Model("llama3"), layout(dp_replicate=2))
    assert sentence in told


@pytest.mark.release
def test_a_model_that_verify_does_not_train_is_told_too(tmp_path):
    """0.2.2: the dtypes swapped at one call site."""
    for name in ("base", "migrated"):
        shutil.copytree(release("0.2.2"), tmp_path / name)
    plan(Checkout(tmp_path / "migrated", is_git=False), resolve_target("1d")).write()
    right = Trees(tmp_path / "base", tmp_path / "migrated", "", "", ())
    told = sentences(
        right,
        tmp_path,
        TIES,
        "param_dtype=TORCH_DTYPE_MAP[job_config.training.mixed_precision_param]",
        "param_dtype=TORCH_DTYPE_MAP[job_config.training.mixed_precision_reduce]",
        Model("qwen3", overrides={"enable_weight_tying": False}),
        layout(dp_replicate=2),
        layout(dp_replicate=2, tp=2),
    )
    assert "param_dtype is torch.float32 here, and torch.bfloat16 in FSDP." in told
