"""TM103: the guard against more than one dimension goes."""

import pytest

from support import (
    APPLY_DDP,
    HERE,
    IMPORT,
    PLAN,
    PLAN_IMPORTS,
    assert_noop,
    assert_rewrites,
    findings,
    outcome,
)

FILES = {
    PLAN: f"""{PLAN_IMPORTS}

def apply_fsdp(model: nn.Module, dp_mesh: DeviceMesh):
    fully_shard(model, mesh=dp_mesh)


{APPLY_DDP}"""
}
REFUSAL = 'raise RuntimeError("DDP has not supported > 1D parallelism")'
CALL = 'apply_ddp(model, world_mesh["dp_replicate"], False)'
FRESH = 'apply_replicate(model, world_mesh["dp_replicate"])'


def plan(*lines):
    head = "def parallelize(model, world_mesh, parallel_dims, job_config):\n"
    return head + "".join(f"    {line}".rstrip() + "\n" for line in lines)


def assert_goes(before, after):
    assert_rewrites(
        f"{IMPORT} apply_ddp\n\n\n{plan(*before)}",
        f"{IMPORT} apply_replicate\n\n\n{plan(*after)}",
        files=FILES,
    )


@pytest.mark.parametrize(
    "test",
    [
        "world_mesh.ndim > 1",
        "parallel_dims.world_mesh.ndim > 1",
        "parallel_dims.tp_enabled or parallel_dims.pp_enabled",
        "len(world_mesh.mesh_dim_names) != 1",
    ],
)
def test_guard_goes(test):
    assert_goes([f"if {test}:", f"    {REFUSAL}", CALL], [FRESH])


def test_message_over_several_lines():
    assert_goes(
        [
            "if world_mesh.ndim > 1:",
            "    raise RuntimeError(",
            '        "DDP has not supported > 1D parallelism, and this message is too long "',
            '        "for one line"',
            "    )",
            CALL,
        ],
        [FRESH],
    )


def test_variable_that_the_call_needs_stays():
    assert_goes(
        [
            "if parallel_dims.dp_replicate_enabled:",
            '    dp_mesh = parallel_dims.get_mesh("dp_replicate")',
            "    if dp_mesh is not None and dp_mesh.ndim > 1:",
            f"        {REFUSAL}",
            "    apply_ddp(model, dp_mesh, False)",
        ],
        [
            "if parallel_dims.dp_replicate_enabled:",
            '    dp_mesh = parallel_dims.get_mesh("dp_replicate")',
            "    apply_replicate(model, dp_mesh)",
        ],
    )


def test_variables_that_only_the_guard_needed_go():
    assert_goes(
        [
            'replicas = parallel_dims.get_mesh("dp_replicate")',
            "size = replicas.size()",
            "if parallel_dims.world_size != size:",
            f"    {REFUSAL}",
            CALL,
        ],
        [FRESH],
    )


def test_a_variable_whose_value_may_matter_stays():
    """A call that is not known to be harmless is kept, unused or not."""
    result = outcome(
        {
            **FILES,
            HERE: f"{IMPORT} apply_ddp\n\n\n"
            + plan(
                "rank = start_something()",
                "if rank > 1:",
                f"    {REFUSAL}",
                CALL,
            ),
        }
    )
    assert b"rank = start_something()" in result.changes[HERE]


def test_assert():
    assert_goes(
        ['assert world_mesh.ndim == 1, "DDP has not supported > 1D parallelism"', CALL],
        [FRESH],
    )


def test_comments_around_stay():
    assert_goes(
        [
            "# Above the call",
            CALL,
            "",
            "if world_mesh.ndim > 1:",
            f"    {REFUSAL}",
            "# Below the guard",
            "return model",
        ],
        ["# Above the call", FRESH, "", "# Below the guard", "return model"],
    )


def test_the_only_statement_of_a_block():
    assert_goes(
        [
            "if job_config.strict:",
            "    if world_mesh.ndim > 1:",
            f"        {REFUSAL}",
            CALL,
        ],
        ["if job_config.strict:", "    pass", FRESH],
    )


def test_elif_guard():
    assert_goes(
        [
            "if job_config.shard:",
            "    return model",
            "elif world_mesh.ndim > 1:",
            f"    {REFUSAL}",
            CALL,
        ],
        ["if job_config.shard:", "    return model", FRESH],
    )


def accounted(lines):
    """Rewritten, left or reported: but never passed over in silence."""
    result = outcome({**FILES, HERE: f"{IMPORT} apply_ddp\n\n\n{plan(*lines)}"})
    if result.changes:
        return b"has not supported" not in result.changes[HERE] or [
            f for f in result.findings if f.code == "TM103" and f.path == HERE
        ]
    return [f for f in result.findings if f.status == "left" and f.path == HERE]


@pytest.mark.parametrize(
    "lines",
    [
        ["if world_mesh.ndim > 1:", f"    {REFUSAL}", "else:", f"    {CALL}"],
        [
            "if world_mesh.ndim > 1:",
            f"    {REFUSAL}",
            "elif job_config.ddp:",
            f"    {CALL}",
        ],
        [
            "if world_mesh.ndim > 1:",
            '    logger.error("sorry")',
            f"    {REFUSAL}",
            CALL,
        ],
        ["if world_mesh.ndim == 1:", f"    {CALL}", "else:", f"    {REFUSAL}"],
        [
            'message = "DDP has not supported > 1D parallelism"',
            "if world_mesh.ndim > 1:",
            "    raise RuntimeError(message)",
            CALL,
        ],
        [f"if world_mesh.ndim > 1: {REFUSAL}", CALL],
    ],
    ids=["else", "elif", "logs first", "in the else", "message apart", "one line"],
)
def test_other_shapes_are_accounted_for(lines):
    assert accounted(lines)


@pytest.mark.parametrize(
    "lines",
    [
        [
            "if world_mesh.ndim > 3:",
            '    raise RuntimeError("more than three dimensions")',
        ],
        ["if job_config.ddp:", '    raise ValueError("DDP takes no such option")'],
        ["if world_mesh.ndim > 1:", "    return model"],
    ],
)
def test_an_unrelated_refusal_stays(lines):
    assert_noop(plan(*lines), files=FILES)


def test_a_guard_of_something_else_in_words_alike_stays():
    assert_noop(
        plan(
            "if world_mesh.ndim > 1:",
            '    raise RuntimeError("SimpleFSDP has not supported > 1D parallelism")',
        ),
        files=FILES,
    )


def test_opting_out():
    lines = [
        "if world_mesh.ndim > 1:  # titan-migrate: ignore[TM103]",
        f"    {REFUSAL}",
    ]
    assert_noop(plan(*lines), files=FILES)
    found = findings({**FILES, HERE: plan(*lines)}, code="TM103")
    assert [f.status for f in found] == ["opted-out"]


def test_nothing_goes_where_the_definition_stays():
    kept = FILES[PLAN].replace("bool):", "bool):  # titan-migrate: ignore[TM101]")
    guard = plan("if world_mesh.ndim > 1:", f"    {REFUSAL}")
    assert outcome({PLAN: kept, HERE: guard}).changes == {}


def test_a_decorated_function_and_a_method():
    body = "        if world_mesh.ndim > 1:\n            " + REFUSAL + "\n"
    assert_rewrites(
        f"class Plan:\n    def check(self, world_mesh):\n{body}        return True\n",
        "class Plan:\n    def check(self, world_mesh):\n        return True\n",
        files=FILES,
    )


def test_a_guard_that_refuses_more_than_the_mesh_is_left():
    result = outcome(
        {
            **FILES,
            HERE: f"{IMPORT} apply_ddp\n\n\n"
            + plan(
                "if world_mesh.ndim > 1 or not model.supports_replicate:",
                f"    {REFUSAL}",
                CALL,
            ),
        }
    )
    assert not result.changes
    assert any(f.code == "TM103" and f.status == "left" for f in result.findings)
