"""What to write where apply_ddp is passed on."""

import pytest

from rewriting import PLAIN, plan
from support import HERE, IMPORT, PLAN, assert_left, outcome

BRANCHES = f"""\
from functools import partial

{IMPORT} apply_ddp, apply_fsdp


def parallelize(model, world_mesh, job_config):
    if job_config.shard:
        apply_fsdp(model, world_mesh["dp_shard"], job_config.a, job_config.b)
    else:
        if world_mesh.ndim > 1:
            raise RuntimeError("DDP has not supported > 1D parallelism")
        USE
"""
CALL = """\
apply_replicate(
    model,
    world_mesh["dp_replicate"],
    param_dtype=job_config.a,
    reduce_dtype=job_config.b,
)"""


@pytest.mark.parametrize(
    "use",
    [
        "partial(apply_ddp, enable_compile=False)(model, world_mesh)",
        "wrap = apply_ddp; wrap(model, world_mesh)",
    ],
)
def test_in_a_branch_it_is_the_call(use):
    files = {PLAN: plan()}
    left = assert_left(BRANCHES.replace("USE", use), "passed on", files=files)
    assert left.suggestion == CALL


@pytest.mark.parametrize(
    "use, code",
    [
        ("PLANS = {'ddp': apply_ddp}", "PLANS = {'ddp': apply_replicate}"),
        ("@wraps(apply_ddp)\ndef f():\n    pass", "apply_replicate"),
    ],
)
def test_elsewhere_it_is_the_new_name(use, code):
    left = assert_left(f"{IMPORT} apply_ddp\n\n{use}\n", "passed on", files=PLAIN)
    assert left.suggestion == code


def test_an_opt_out_is_not_asked_again():
    use = "PLANS = {'ddp': apply_ddp}  # titan-migrate: ignore[TM102]"
    result = outcome({**PLAIN, HERE: f"{IMPORT} apply_ddp\n\n{use}\n"})
    assert not any("passed on" in finding.message for finding in result.findings)
