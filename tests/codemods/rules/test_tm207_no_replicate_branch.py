"""TM207: a plan without a replicate branch that shares AMP."""

import pytest

from codemods.selection import Selection

from rewriting import plan
from support import HERE, IMPORT, findings, outcome

AMP = {
    "torchtitan/distributed/utils.py": """
        def maybe_enable_amp(parallel_dims):
            if parallel_dims.fsdp_enabled:
                return nullcontext()
            return autocast()
    """
}
(AMP_OPTED_OUT,) = (
    text.replace("dims):", "dims):  # titan-migrate: ignore[TM105]")
    for text in AMP.values()
)
SHARDED = f"""
    {IMPORT} apply_fsdp


    def parallelize_flux(model, world_mesh, job_config):
        if job_config.shard:
            apply_fsdp(model, world_mesh["dp_shard"], job_config.a, job_config.b)
"""
BOTH = (
    SHARDED.replace("import apply_fsdp", "import apply_ddp, apply_fsdp")
    + "        else:\n            apply_ddp(model, world_mesh, False)\n"
)


def test_fires_for_a_plan_that_only_shards():
    found = findings({**AMP, HERE: SHARDED}, code="TM207")
    assert [(f.path, f.line, f.status) for f in found] == [(HERE, 6, "hazard")]
    assert "parallelize_flux" in found[0].message


def test_does_not_fire_with_a_replicate_branch():
    assert findings({**AMP, HERE: BOTH}, code="TM207") == []


def test_does_not_fire_for_a_plan_that_calls_replicate_itself():
    inline = SHARDED.replace("    from", "    from torch.distributed._composable.replicate import replicate\n    from", 1)  # fmt: skip
    inline += "        else:\n            replicate(model, device_mesh=world_mesh)\n"
    assert findings({**AMP, HERE: inline}, code="TM207") == []


def test_does_not_fire_where_apply_ddp_is_passed_on():
    passed = BOTH.replace("apply_ddp(model,", "partial(apply_ddp)(model,")
    assert findings({**AMP, HERE: passed}, code="TM207") == []
    passed = SHARDED.replace("import apply_fsdp", "import apply_ddp, apply_fsdp")
    passed += "\n\n    WRAP = apply_ddp\n"
    assert findings({**AMP, HERE: passed}, code="TM207") == []


HELPED = SHARDED.replace("import apply_fsdp", "import apply_ddp, apply_fsdp")


@pytest.mark.parametrize(
    "helpers",
    [
        "def wrap(model, mesh):\n        apply_ddp(model, mesh, False)",
        "def wrap(model, mesh):\n        inner(model, mesh)\n\n"
        "    def inner(model, mesh):\n        apply_ddp(model, mesh, False)",
        "def wrap(model, mesh):\n        wrap(model, mesh)\n"
        "        apply_ddp(model, mesh, False)",
    ],
)
def test_does_not_fire_for_a_plan_that_calls_what_replicates(helpers):
    plan = (
        f"{HELPED}        else:\n            wrap(model, world_mesh)\n\n    {helpers}\n"
    )
    assert not unbranched(plan)
    assert unbranched(plan.replace("wrap(model, world", "shut(model, world"))


def unbranched(plan):
    found = findings({**AMP, HERE: plan}, code="TM207")
    return [one for one in found if "has no branch" in one.message]


def test_does_not_fire_for_a_plan_with_a_function_in_it_that_replicates():
    plan = (
        HELPED
        + "        else:\n            def wrap(part):\n                apply_ddp(part, world_mesh, False)\n            wrap(model)\n"
    )
    assert findings({**AMP, HERE: plan}, code="TM207") == []


def test_names_the_plans_that_stay_on_ddp():
    own = f"""{plan()}

def parallelize_own(model, world_mesh, parallel_dims, job_config):
    if parallel_dims.fsdp_enabled:
        apply_fsdp(model, world_mesh, job_config.a, job_config.b)
    elif parallel_dims.dp_replicate_enabled:
        apply_ddp(model, world_mesh, False)
"""
    files = {**AMP, HERE: BOTH, "torchtitan/models/own/plan.py": own}

    def told(**selected):
        found = outcome(files, selection=Selection(**selected)).findings
        return [one for one in found if one.code == "TM207"]

    excluded = {"exclude": ("torchtitan/models/own/*",)}
    (found,) = told(**excluded)
    assert found.path in AMP and found.severity == "silent"
    assert "parallelize_own (torchtitan/models/own/plan.py) stays" in found.message
    assert told() == []
    files["torchtitan/distributed/utils.py"] = AMP_OPTED_OUT
    assert told(**excluded) == []


HALVES = f"""
    {IMPORT} apply_ddp, apply_fsdp


    def parallelize(model, world_mesh, job_config):
        if job_config.shard:
            shard(model, world_mesh, job_config)
        else:
            replicated(model, world_mesh, job_config)


    def shard(model, world_mesh, job_config):
        apply_fsdp(model, world_mesh["dp_shard"], job_config.a, job_config.b)


    def replicated(model, world_mesh, job_config):
        apply_ddp(model, world_mesh, False)
"""


def test_does_not_fire_for_one_half_of_a_plan():
    assert findings({**AMP, HERE: HALVES}, code="TM207") == []


def test_fires_for_a_half_whose_other_half_is_not_called():
    alone = HALVES.replace("            replicated(", "            print(")
    (found,) = findings({**AMP, HERE: alone}, code="TM207")
    assert found.message.startswith("shard has no branch")


def test_does_not_fire_without_amp():
    assert findings({HERE: SHARDED}, code="TM207") == []


def test_does_not_fire_where_its_own_advice_was_taken():
    (found,) = findings({**AMP, HERE: SHARDED}, code="TM207")
    advised = "".join(f"        {line}\n" for line in found.suggestion.splitlines())
    assert findings({**AMP, HERE: SHARDED + advised}, code="TM207") == []
    other = advised.replace("dp_replicate_enabled", "tp_enabled")
    assert len(findings({**AMP, HERE: SHARDED + other}, code="TM207")) == 1


def test_fires_for_a_plan_that_replicates_its_teacher_alone():
    plan = HELPED.replace("flux(model, ", "flux(model, teacher, ")
    plan += "        wrap(teacher, world_mesh)\n\n    def wrap(model, mesh):\n        apply_ddp(model, mesh, False)\n"
    assert unbranched(plan)
