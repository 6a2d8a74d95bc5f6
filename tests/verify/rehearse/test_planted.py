"""Each way of migrating wrongly that we can think of, planted in a right migration: a rehearsal alone tells it, where it is."""

from __future__ import annotations

import pytest

from migrator.verify.choose.models import Model
from migrator.verify.rehearse.layouts import layout

from rehearsing import edit

LLAMA3 = "models/llama3/infra/parallelize.py"
LLAMA4 = "models/llama4/infra/parallelize.py"
QWEN3 = "models/qwen3/infra/parallelize.py"
AMP = "distributed/utils.py"
OPTIMIZER = "components/optimizer.py"
DP = layout(dp_replicate=2)
DP_TP = layout(dp_replicate=2, tp=2)
HSDP = layout(dp_replicate=2, dp_shard=2)
TIED = Model("qwen3", overrides={"enable_weight_tying": True})

BLOCK = "        replicate(transformer_block, **replicate_config)\n"
ROOT = "    replicate(model, **replicate_config)\n"
ENDS = '    logger.info("Applied replicate to the model")\n'
PARAM = "param_dtype=TORCH_DTYPE_MAP[job_config.training.mixed_precision_param]"
REDUCE = "reduce_dtype=TORCH_DTYPE_MAP[job_config.training.mixed_precision_reduce]"
MESH = 'parallel_dims.get_mesh("dp_replicate")'
POLICY = "MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)"

# What is wrong -> model, layout, file, (a text's last place, what it becomes) ..., what is said.
LLAMA3_DEFECTS = {
    "param_dtype left out": (
        [(POLICY, "MixedPrecisionPolicy(reduce_dtype=reduce_dtype)")],
        "the root, tok_embeddings and 3 more: param_dtype is None here, and torch.bfloat16 in FSDP.",
    ),
    "a block skipped": (
        [("model.layers.items():", "list(model.layers.items())[1:]:")],
        "layers.0: no group of its own here, and one in FSDP.",
    ),
    "the root only": (
        [
            (
                "    if model.tok_embeddings is not None and not weights_tied:",
                "    return replicate(model, **replicate_config)\n"
                "    if model.tok_embeddings is not None and not weights_tied:",
            )
        ],
        "tok_embeddings, layers.0 and 2 more: no group of its own here, and one in FSDP.",
    ),
    "a parameter ignored": (
        [
            (
                BLOCK,
                BLOCK.replace(
                    ")\n",
                    ", ignored_params={transformer_block.ffn_norm.weight})\n",
                ),
            )
        ],
        "layers.0.ffn_norm.weight, layers.1.ffn_norm.weight: in no group here, and in one in FSDP.",
    ),
    "divided where the loop has divided": (
        [("        disable_fsdp_gradient_division(model)\n", "        pass\n")],
        "the gradient divide factor is unset here, and 1.0 in FSDP.",
    ),
    "another divide factor": (
        [(ENDS, "    model.layers['0'].set_gradient_divide_factor(2.0)\n" + ENDS)],
        "layers.0: the gradient divide factor is 2.0 here, and 1.0 in FSDP.",
    ),
    "sums forced": (
        [
            (
                ENDS,
                "    model.layers['0'].set_force_sum_reduction_for_comms(True)\n"
                + ENDS,
            )
        ],
        "layers.0: reductions are forced to sums here only.",
    ),
    "activation checkpointing after wrapping": (
        [
            (
                'job_config.activation_checkpoint.mode != "none":',
                "parallel_dims.fsdp_enabled:",
            ),
            (
                "        )\n\n    return model\n",
                "        )\n        apply_ac(model, job_config.activation_checkpoint)\n    return model\n",
            ),
        ],
        "layers.0, layers.1: the group lies below activation checkpointing here, and around it in FSDP.",
    ),
}


@pytest.mark.parametrize("defect", LLAMA3_DEFECTS)
def test_a_wrong_plan_is_told_where_it_is(planted, defect):
    changes, sentence = LLAMA3_DEFECTS[defect]
    found = planted(
        lambda tree: edit(tree, LLAMA3, *changes),
        Model("llama3"),
        DP,
        arguments=("--activation_checkpoint.mode=full",),
    )
    assert found.exit_code == 1 and sentence in told(found)


# In a model that `verify` does not train unless it is asked to.
ELSEWHERE = {
    "dtypes swapped at one call site": (
        Model("qwen3"),
        DP,
        QWEN3,
        [
            (PARAM, PARAM.replace("precision_param", "precision_reduce")),
            (REDUCE, REDUCE.replace("precision_reduce", "precision_param")),
        ],
        "param_dtype is torch.float32 here, and torch.bfloat16 in FSDP.",
    ),
    "the wrong mesh at one call site": (
        Model("qwen3"),
        DP,
        QWEN3,
        [(MESH, 'parallel_dims.get_mesh("batch")')],
        "its mesh is (batch=2), and not dp_replicate.",
    ),
    "the world's mesh for that of the replicas": (
        Model("qwen3"),
        DP_TP,
        QWEN3,
        [(MESH, "parallel_dims.world_mesh")],
        "migrated tree, replicate: ",
    ),
    "all dimensions for that of the replicas": (
        Model("qwen3"),
        layout(dp_replicate=4),
        QWEN3,
        [(MESH, "parallel_dims.world_mesh")],
        "its mesh is (world=4), and not dp_replicate.",
    ),
    "tied weights wrapped apart": (
        TIED,
        DP,
        LLAMA3,
        [
            (
                "        and model.output.weight is model.tok_embeddings.weight\n",
                "        and False\n",
            )
        ],
        "tok_embeddings.weight and output.weight: tied weights, and wrapped apart.",
    ),
    "FSDP's mesh changed": (
        Model("llama4"),
        HSDP,
        LLAMA4,
        [('["dp_replicate", "fsdp"]', '["fsdp"]')],
        "This layout, which the migration must not touch, is not what it was: ",
    ),
    "a guard that is still there": (
        Model("llama4"),
        layout(dp_replicate=2),
        LLAMA4,
        [
            (
                "        apply_replicate(",
                "        raise RuntimeError('1D')\n        dict(",
            )
        ],
        "migrated tree, replicate: RuntimeError: 1D",
    ),
    "autocast left on": (
        Model("llama4"),
        DP,
        AMP,
        [(" or parallel_dims.dp_replicate_enabled:", ":")],
        "the forward pass: under autocast to bfloat16 here, and without autocast in FSDP.",
    ),
}


@pytest.mark.parametrize("defect", ELSEWHERE)
def test_it_is_told_in_models_that_are_not_trained_too(planted, defect):
    model, where, path, changes, sentence = ELSEWHERE[defect]
    found = planted(lambda tree: edit(tree, path, *changes), model, where)
    assert found.exit_code == 1 and sentence in told(found)


def test_a_guard_that_is_gone_with_ddp_left_behind_it_is_told(planted, right):
    def unguarded(tree):
        before = (right.base / "torchtitan" / LLAMA3).read_text()
        (tree / "torchtitan" / LLAMA3).write_text(before)
        edit(tree, LLAMA3, ("world_size != replica_mesh.size()", "world_size < 0"))

    found = planted(unguarded, Model("llama3"), DP, DP_TP)
    assert [scene.word for scene in found.scenes] == ["failed"] * 2
    for scene in found.scenes:
        assert "the root: is still wrapped by DDP." in scene.failures


def test_an_optimizer_that_misses_a_group_is_told(planted):
    found = planted(
        lambda tree: edit(tree, OPTIMIZER, ("if p.ndim == 1", "if p.ndim == 0")),
        Model("llama3"),
        DP,
        HSDP,
    )
    assert [scene.word for scene in found.scenes] == ["failed"] * 2
    assert ".ffn_norm.weight and 3 more: in no optimizer here, and in one in" in told(
        found
    )


def told(found):
    return " ".join(sentence for scene in found.scenes for sentence in scene.failures)
