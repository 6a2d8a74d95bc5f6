"""TM233: what a plan does beside FSDP, or twice with the new function."""

import pytest

from rewriting import plan
from support import APPLY_FSDP, HERE, IMPORT, PLAN, findings

DEFINED = APPLY_FSDP.replace("    for block", "    apply_ac(model)\n    for block", 1)


def plan_of(fsdp: str, ddp: str = "", before: str = "") -> str:
    return f"""{IMPORT} apply_ddp, apply_fsdp


def parallelize(model, parallel_dims, config):
    {before or "pass"}
    if parallel_dims.fsdp_enabled:
        names = ["dp_shard"]
        names.append("cp")
        {fsdp or "pass"}
        apply_fsdp(model, parallel_dims.world_mesh, config.param, config.reduce)
    elif parallel_dims.dp_replicate_enabled:
        apply_ddp(model, parallel_dims.world_mesh, config.compile)
        {ddp or "pass"}
    return model
"""


def told(source: str, files=None) -> list[tuple[str, str | None]]:
    found = findings({HERE: source, **(files or {})}, code="TM233")
    lines = source.split("\n")
    return [(lines[f.line - 1].strip(), f.severity) for f in found]


@pytest.mark.parametrize(
    "line",
    [
        "model.router.float()",
        "freeze(model.tower)",
        "for block in model.layers.values(): block.moe.router.float()",
        "frozen = freeze(model.tower)",
    ],
)
def test_what_is_done_for_fsdp_alone_is_a_note(line):
    assert told(plan_of(line)) == [(line, "note")]


@pytest.mark.parametrize(
    "line",
    [
        'logger.info("Applied FSDP")',
        "total = sum(p.numel() for p in model.parameters())",
        'if parallel_dims.cp_enabled: model.set_cp_mesh(parallel_dims.world_mesh["cp"])',
        "model.set_requires_all_reduce(False)",
        "model.set_reshard_after_backward(False)",
    ],
)
def test_what_only_says_or_shards_is_none(line):
    assert told(plan_of(line)) == []


def test_what_both_branches_do_is_none():
    assert told(plan_of("freeze(model.tower)", "freeze(model.tower)")) == []


def test_what_the_new_function_does_itself_is_done_twice():
    files = {PLAN: plan(DEFINED)}
    twice = plan_of("", "apply_ac(model)")
    assert told(twice, files) == [("apply_ac(model)", "silent")]
    assert told(plan_of("", "apply_compile(model)"), files) == []
    assert told(plan_of("", "", "apply_ac(model)"), files) == []
