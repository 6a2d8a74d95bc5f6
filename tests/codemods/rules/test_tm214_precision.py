"""TM214: what the model computes in changes with the move to a policy."""

import dataclasses

import pytest

from codemods.engine import migrate

from support import HERE, PLAN, aim, checkout, findings, text

PARALLELIZE = """
    from torchtitan.config import TORCH_DTYPE_MAP
    from torchtitan.models.llama3.parallelize import apply_ddp, apply_fsdp


    def parallelize(model, parallel_dims, job_config):
        training = job_config.training
        if parallel_dims.fsdp_enabled:
            apply_fsdp(
                model,
                parallel_dims.world_mesh["dp_shard"],
                param_dtype=TORCH_DTYPE_MAP[training.mixed_precision_param],
                reduce_dtype=TORCH_DTYPE_MAP[training.mixed_precision_reduce],
            )
        elif parallel_dims.dp_replicate_enabled:
            apply_ddp(model, parallel_dims.world_mesh, enable_compile=False)
"""
KEPT = """
    import torch

    from torchtitan.config import TORCH_DTYPE_MAP
    from torchtitan.models.llama3.parallelize import apply_fsdp, apply_replicate


    def parallelize(model, parallel_dims, job_config):
        training = job_config.training
        if parallel_dims.fsdp_enabled:
            apply_fsdp(
                model,
                parallel_dims.world_mesh["dp_shard"],
                param_dtype=TORCH_DTYPE_MAP[training.mixed_precision_param],
                reduce_dtype=TORCH_DTYPE_MAP[training.mixed_precision_reduce],
            )
        elif parallel_dims.dp_replicate_enabled:
            apply_replicate(
                model,
                parallel_dims.world_mesh["dp_replicate"],
                param_dtype=torch.float32,
                reduce_dtype=torch.float32,
            )
"""
CONFIG = {
    "torchtitan/config.py": 'TORCH_DTYPE_MAP = {}\nmixed_precision_param: str = "bfloat16"\n'
}
AMP = """
    import contextlib
    import torch

    def maybe_enable_amp(parallel_dims):
        if parallel_dims.fsdp_enabled:
            return contextlib.nullcontext()
        return torch.autocast("cuda")
"""


def messages(files):
    found = findings(files, code="TM214")
    assert {f.status for f in found} <= {"hazard"}
    return [(f.path, f.message, f.suggestion) for f in found]


def test_without_autocast_fp32_becomes_bf16():
    ((path, message, suggestion),) = messages({HERE: PARALLELIZE, **CONFIG})
    assert path == PLAN
    assert "no autocast" in message and "bfloat16 by default" in message
    assert suggestion == '[training]\nmixed_precision_param = "float32"'


def test_said_once_for_two_definitions():
    mine = checkout()[PLAN].text
    assert len(messages({HERE: PARALLELIZE, "torchtitan/a/plan.py": mine})) == 1


def test_autocast_becomes_a_policy():
    ((_, message, _),) = messages({HERE: PARALLELIZE, "torchtitan/utils.py": AMP})
    assert "norms and softmax" in message and "becomes a policy" in message


def test_autocast_without_a_condition_stays():
    loop = "def step(model):\n    with torch.autocast('cuda'):\n        model()\n"
    ((_, message, _),) = messages({HERE: PARALLELIZE, "torchtitan/loop.py": loop})
    assert "autocast stays" in message


@pytest.mark.parametrize("folder", ["tests", "torchtitan/tests"])
def test_autocast_in_a_test_does_not_count(folder):
    ((_, message, _),) = messages({HERE: PARALLELIZE, f"{folder}/test_amp.py": AMP})
    assert "no autocast" in message


def test_no_call_no_finding():
    assert messages({}) == []


def test_fp32_by_the_call_needs_no_word():
    fp32 = PARALLELIZE.replace(
        "TORCH_DTYPE_MAP[training.mixed_precision_param]", "torch.float32"
    )
    fp32 = fp32.replace(
        "TORCH_DTYPE_MAP[training.mixed_precision_reduce]", "torch.float32"
    )
    assert messages({HERE: fp32}) == []


def test_opting_out():
    plan = checkout()[PLAN].text.replace(
        "bool):", "bool):  # titan-migrate: ignore[TM214]"
    )
    (found,) = findings({HERE: PARALLELIZE, PLAN: plan}, code="TM214")
    assert found.status == "opted-out"


# --keep-precision


KEEPING = dataclasses.replace(aim(), keep_precision=True)


def test_keeping_the_precision():
    result = migrate(checkout({HERE: PARALLELIZE}), KEEPING)
    assert result.problems == ()
    assert result.changes[HERE].decode() == text(KEPT)
    assert not [f for f in result.findings if f.code == "TM214"]


def test_keeping_it_where_the_plan_makes_its_policy_itself():
    plan = checkout()[PLAN].text
    plan = plan.replace(
        "    param_dtype: torch.dtype,\n    reduce_dtype: torch.dtype,\n", ""
    )
    plan = plan.replace(
        "(param_dtype=param_dtype, reduce_dtype=reduce_dtype)",
        "(param_dtype=torch.bfloat16)",
    )
    mine = PARALLELIZE.replace(
        "param_dtype=TORCH_DTYPE_MAP[training.mixed_precision_param],", ""
    )
    mine = mine.replace(
        "reduce_dtype=TORCH_DTYPE_MAP[training.mixed_precision_reduce],", ""
    )
    result = migrate(checkout({HERE: mine, PLAN: plan}), KEEPING)
    assert result.changes == {}
    assert [f.code for f in result.findings if f.status == "left"] == ["TM214"]
