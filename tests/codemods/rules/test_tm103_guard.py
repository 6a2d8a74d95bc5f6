"""TM103: the guard against more than one dimension goes."""

import ast

import pytest

from support import (
    APPLY_DDP,
    HERE,
    IMPORT,
    LOOP_MESHES,
    PLAN,
    PLAN_IMPORTS,
    assert_noop,
    assert_nothing_unused,
    assert_rewrites,
    findings,
    migrated,
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


def test_the_degrees_that_a_guard_asks_for_go_with_it():
    assert_goes(
        [
            'others = {"TP": parallel_dims.tp, "PP": parallel_dims.pp}',
            "if any(d > 1 for d in others.values()):",
            '    raise ValueError("DDP only")',
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
        [FRESH],
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


@pytest.mark.parametrize(
    "message",
    [
        "expected a 1D mesh",
        "not every rank is a replica",
        "other parallelisms are not supported here yet",
        "unsupported",
        "",
    ],
)
def test_a_guard_that_says_nothing_of_its_own_goes(message):
    guard = ["if world_mesh.ndim > 1:", f'    raise RuntimeError("{message}")']
    assert_goes([*guard, CALL], [FRESH])


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


# Every shape


REFUSES = [
    ['if world_mesh.ndim > 1:', '    msg = "DDP has not supported > 1D parallelism"', '    raise RuntimeError(msg)'],
    ['if world_mesh.ndim > 1:', '    msg = f"DDP has not supported > 1D parallelism: {world_mesh}"', '    raise NotImplementedError(msg)'],
    ['if world_mesh.ndim > 1:', '    error = ValueError("DDP does not support > 1D parallelism")', '    raise error'],
    ['message = "DDP has not supported > 1D parallelism"', 'if world_mesh.ndim > 1:', '    raise RuntimeError(message)'],
    ['error = RuntimeError("DDP has not supported > 1D parallelism")', 'if world_mesh.ndim > 1:', '    raise error'],
    ['if not (world_mesh.ndim == 1):', f'    {REFUSAL}'],
    ['if not world_mesh.ndim == 1:', '    raise AssertionError("DDP has not supported > 1D parallelism")'],
    ['if world_mesh.ndim > 1:', '    logger.error("DDP has not supported > 1D parallelism")', '    raise RuntimeError("see the log")'],
    ['if parallel_dims.tp_enabled or parallel_dims.pp_enabled:', '    raise RuntimeError("DDP does not go with TP or PP")'],
    ['if parallel_dims.tp > 1 or parallel_dims.pp > 1:', '    raise ValueError("DDP cannot be combined with tensor or pipeline parallelism")'],
    ['assert not parallel_dims.tp_enabled, "data parallel replication needs a 1-D mesh"'],
    ['assert world_mesh.ndim == 1'],
    ['assert len(world_mesh.mesh_dim_names) == 1, "one dimension only"'],
    ['if parallel_dims.dp_replicate_enabled and world_mesh.ndim > 1:', f'    {REFUSAL}'],
    ['# if world_mesh.ndim > 1:', '#     raise RuntimeError("DDP has not supported > 1D parallelism")'],
    ['# DDP takes a mesh of one dimension', 'if world_mesh.ndim > 1:', f'    {REFUSAL}'],
    ['if world_mesh.ndim > 1:', '    logger.warning("DDP has not supported > 1D parallelism")'],
    ['if world_mesh.ndim > 1:', '    sys.exit("DDP has not supported > 1D parallelism")'],
    ['if world_mesh.ndim > 1:', '    logger.error("DDP has not supported > 1D parallelism")', '    return None'],
    ['if not (parallel_dims.tp == 1 and parallel_dims.pp == 1):', '    raise NotImplementedError("data parallel (DDP) only")'],
    ['if world_mesh.ndim > 1: raise RuntimeError("DDP has not supported > 1D parallelism")'],
    ['if world_mesh.ndim > 1:', f'    {REFUSAL}', 'if parallel_dims.tp_enabled:', '    raise RuntimeError("DDP has not supported > 1D parallelism, TP")'],
    ['if any(d > 1 for d in (parallel_dims.tp, parallel_dims.pp)):', '    raise NotImplementedError("DDP + TP/PP/CP is not supported")'],
    ['if any([parallel_dims.tp_enabled, parallel_dims.pp_enabled]):', '    raise ValueError("DDP + TP/PP is not supported, use FSDP instead")'],
    ['if any(getattr(parallel_dims, f"{d}_enabled") for d in ("tp", "pp")):', '    raise ValueError("DDP is not supported with TP or PP")'],
    ['assert max(parallel_dims.tp, parallel_dims.pp) == 1, "DDP goes with no TP, no PP"'],
    ['if world_mesh.ndim > 1:', '    raise RuntimeError("DDP does not support TP or PP, use FSDP")'],
    ['if world_mesh["dp_replicate"].size() < parallel_dims.world_size:', '    raise DDPNotComposable(f"{parallel_dims.world_size} ranks")'],
    ['if world_mesh["dp_replicate"].size() < parallel_dims.world_size:', '    raise ValueError("not every rank is a replica")'],
    ['if parallel_dims.dp_replicate != parallel_dims.world_size:', '    raise ValueError'],
    ['assert torch.distributed.get_world_size() == parallel_dims.dp_replicate'],
]  # fmt: skip


def raw(before):
    """The file as it comes out, without a word about how it is formatted."""
    files = {**FILES, HERE: f"{IMPORT} apply_ddp\n\n\n{plan(*before)}"}
    after = migrated(files)[HERE]
    assert not any(line != line.rstrip() for line in after.split("\n"))
    assert_nothing_unused(files[HERE], after)
    return after


@pytest.mark.parametrize("lines", REFUSES, ids=[" ".join(x)[:60] for x in REFUSES])
def test_each_spelling(lines):
    assert raw([*lines, CALL]).endswith(plan(FRESH))


@pytest.mark.parametrize("lines", REFUSES, ids=[" ".join(x)[:60] for x in REFUSES])
def test_each_spelling_between_others(lines):
    block = ["    " + line for line in lines]
    before = ["if parallel_dims.dp_replicate_enabled:", "    model.train()", "", *block]
    after = ["if parallel_dims.dp_replicate_enabled:", "    model.train()", ""]
    assert raw([*before, f"    {CALL}", "return model"]).endswith(
        plan(*after, f"    {FRESH}", "return model")
    )


def test_what_is_said_of_something_else_above_a_guard_stays():
    assert_goes(
        ["# Whole replicas", "if world_mesh.ndim > 1:", f"    {REFUSAL}", CALL],
        ["# Whole replicas", FRESH],
    )


@pytest.mark.parametrize(
    ("said", "stays"),
    [
        ("so that hooks are the same everywhere: DDP on every model", True),
        ("DDP hooks are set by the trainer", True),
        ("DDP takes a mesh of its own", False),
        ("DDP cannot do more", False),
        ("DDP alone", False),
        ("not with TP", False),
    ],
)
def test_what_is_said_of_the_branch_stays_when_its_first_statement_goes(said, stays):
    branch = "if parallel_dims.dp_replicate_enabled:"
    guard = ["    if world_mesh.ndim > 1:", f"        {REFUSAL}"]
    comment = [f"    # {said}"]
    assert_goes(
        [branch, *comment, *guard, f"    {CALL}"],
        [branch, *(comment if stays else []), f"    {FRESH}"],
    )
    source = plan(branch, *comment, *guard, f"    {CALL}")
    named = findings({**FILES, HERE: f"{IMPORT} apply_ddp\n\n\n{source}"}, code="TM215")
    assert [f.line for f in named] == ([6] if stays else [])


@pytest.mark.parametrize(
    "before, after",
    [
        pytest.param(
            ["if world_mesh.ndim > 1:", f"    {REFUSAL}", "else:", f"    {CALL}"],
            [FRESH],
            id="the call in the else",
        ),
        pytest.param(
            ["if world_mesh.ndim > 1:", f"    {REFUSAL}", "elif job_config.ddp:", f"    {CALL}", "else:", "    return None"],
            ["if job_config.ddp:", f"    {FRESH}", "else:", "    return None"],
            id="the call in an elif",
        ),
        pytest.param(
            ["if world_mesh.ndim == 1:", f"    {CALL}", "else:", f"    {REFUSAL}"],
            [FRESH],
            id="the refusal in the else",
        ),
        pytest.param(
            ["one = world_mesh.ndim == 1", "if one:", f"    {CALL}", "    model.train()", "else:", f"    {REFUSAL}"],
            [FRESH, "model.train()"],
            id="the refusal in the else of a variable",
        ),
        pytest.param(
            ["if job_config.shard:", "    return model", "elif world_mesh.ndim > 1:", f"    {REFUSAL}", "else:", f"    {CALL}"],
            ["if job_config.shard:", "    return model", "else:", f"    {FRESH}"],
            id="an elif before the else",
        ),
        pytest.param(
            ["if job_config.shard:", "    return model", "else:", "    if world_mesh.ndim > 1:", f"        {REFUSAL}", CALL],
            ["if job_config.shard:", "    return model", FRESH],
            id="an else that is all guard",
        ),
        pytest.param(
            ["if not job_config.shard:", "    if world_mesh.ndim > 1:", f"        {REFUSAL}", "else:", "    return model", CALL],
            ["if job_config.shard:", "    return model", FRESH],
            id="an if that is all guard, with an else",
        ),
        pytest.param(
            ["if world_mesh.ndim == 1:", f"    {CALL}", "    return model", REFUSAL],
            [FRESH, "return model"],
            id="an early return",
        ),
        pytest.param(
            ["if job_config.ddp:", "    if world_mesh.ndim > 1:", f"        {REFUSAL}", "if job_config.ddp:", f"    {CALL}"],
            ["if job_config.ddp:", f"    {FRESH}"],
            id="in a block before",
        ),
        pytest.param(
            ["if job_config.shard:", "    return model", "elif world_mesh.ndim == 1:", f"    {CALL}", "else:", f"    {REFUSAL}"],
            ["if job_config.shard:", "    return model", "else:", f"    {FRESH}"],
            id="the refusal in the else of an elif",
        ),
        pytest.param(
            ["if parallel_dims.dp_replicate_enabled and world_mesh.ndim == 1:", f"    {CALL}", "else:", f"    {REFUSAL}"],
            ["if parallel_dims.dp_replicate_enabled:", f"    {FRESH}"],
            id="the refusal in the else of replication in one dimension",
        ),
        pytest.param(
            ["if job_config.shard:", "    return model", "elif (", "    world_mesh.ndim == 1", "    and parallel_dims.dp_replicate_enabled", "):", f"    {CALL}", "else:", f"    {REFUSAL}"],
            ["if job_config.shard:", "    return model", "elif parallel_dims.dp_replicate_enabled:", f"    {FRESH}"],
            id="the same in an elif",
        ),
        pytest.param(
            ["if (", "    world_mesh is not None", "    and job_config.ddp", "    and world_mesh.ndim == 1", "):", f"    {CALL}", "elif job_config.ddp:", f"    {REFUSAL}"],
            ["if job_config.ddp:", f"    {FRESH}"],
            id="the refusal in an elif of replication",
        ),
        pytest.param(
            ["if world_mesh.ndim == 1:", f"    {CALL}", "elif parallel_dims.tp_enabled:", "    raise RuntimeError('DDP + TP')", "else:", f"    {REFUSAL}"],
            [FRESH],
            id="refused one by one",
        ),
        pytest.param(
            ["for dim in ('tp', 'pp'):", "    if getattr(parallel_dims, dim) > 1:", f"        {REFUSAL}", CALL],
            [FRESH],
            id="in a loop over the other dimensions",
        ),
        pytest.param(
            ['assert world_mesh.ndim == 1, "DDP has not supported > 1D parallelism"; x = 1', CALL],
            ["x = 1", FRESH],
            id="on one line with another statement",
        ),
        pytest.param(
            [f"assert world_mesh.ndim == 1; {CALL}"], [FRESH], id="on one line with the call"
        ),
        pytest.param(
            ["message = 'DDP has not supported > 1D parallelism'; assert world_mesh.ndim == 1, message", CALL],
            [FRESH],
            id="on one line with its message",
        ),
        pytest.param(
            ['torch._check(world_mesh.ndim == 1, lambda: "DDP has not supported > 1D parallelism")', CALL],
            [FRESH],
            id="a check of torch",
        ),
        pytest.param(["torch._check(world_mesh.ndim == 1)", CALL], [FRESH], id="a check without words"),
    ],
)  # fmt: skip
def test_each_shape(before, after):
    assert raw(before).endswith(plan(*after))


# Helpers that only refuse


CHECK = """\
def _check_1d(mesh):
    if mesh.ndim > 1:
        raise RuntimeError("DDP has not supported > 1D parallelism")
"""
RETURNS = """\
def _check_1d(mesh):
    \"\"\"DDP goes with nothing.\"\"\"
    ndim = mesh.ndim
    if ndim == 1:
        return
    msg = "DDP has not supported > 1D parallelism"
    raise RuntimeError(msg)
"""


def helped(helper, *lines, name="_check_1d", more=""):
    helper = helper.replace("_check_1d", name)
    return f"{IMPORT} apply_ddp\n\n\n{helper}\n\n{plan(*lines)}{more}"


@pytest.mark.parametrize("helper", [CHECK, RETURNS])
@pytest.mark.parametrize("name", ["_check_1d", "ensure_ddp_supported"])
def test_a_helper_goes_with_its_calls(helper, name):
    before = helped(helper, f"{name}(world_mesh)", CALL, name=name)
    after = migrated({**FILES, HERE: before})[HERE]
    assert after == f"{IMPORT} apply_replicate\n\n\n{plan(FRESH)}"


def test_a_helper_of_another_module():
    """Its calls go; it stays where others may have it, and is named."""
    utils = "torchtitan/distributed/utils.py"
    helper = CHECK.replace("_check_1d", "ensure_ddp_supported")
    before = (
        f"from torchtitan.distributed.utils import ensure_ddp_supported\n{IMPORT} apply_ddp"
        f"\n\n\n{plan('ensure_ddp_supported(world_mesh)', CALL)}"
    )
    files = {**FILES, utils: helper, HERE: before}
    after = migrated(files)
    assert after[HERE] == f"{IMPORT} apply_replicate\n\n\n{plan(FRESH)}"
    assert utils not in after
    assert [(f.line, f.status) for f in findings(files, code="TM103", path=utils)] == [
        (1, "hazard")
    ]
    private = {
        **files,
        utils: CHECK + "\n\nLEVELS = 2\n",
        HERE: before.replace("ensure_ddp_supported", "_check_1d"),
    }
    assert migrated(private)[utils] == "LEVELS = 2\n"


def test_a_helper_that_goes_by_another_name_here():
    """The file that calls it does not hold its own name."""
    checks, again = "torchtitan/checks.py", "torchtitan/again.py"
    helper = CHECK.replace("_check_1d", "refuse_both")
    before = f"{IMPORT} apply_ddp\nfrom torchtitan.again import check\n\n\n" + plan(
        "check(world_mesh)", CALL
    )
    through = "from torchtitan.checks import refuse_both as check\n"
    files = {**FILES, checks: helper, again: through, HERE: before}
    assert "check(world_mesh)" not in migrated(files)[HERE]


def test_a_method_that_only_refuses():
    body = "        if mesh.ndim > 1:\n            " + REFUSAL
    before = f"""\
{IMPORT} apply_ddp


class Plan:
    def check(self, mesh):
{body}

    def parallelize(self, model, world_mesh):
        self.check(world_mesh)
        {CALL}
"""
    after = migrated({**FILES, HERE: before})[HERE]
    assert (
        after
        == f"""\
{IMPORT} apply_replicate


class Plan:
    def parallelize(self, model, world_mesh):
        {FRESH}
"""
    )


def test_a_helper_that_something_else_needs_stays():
    more = "\n\ndef other(mesh, backend):\n    _check_1d(mesh)\n    backend.run(mesh)\n"
    before = helped(CHECK, "_check_1d(world_mesh)", CALL, more=more)
    result = outcome({**FILES, HERE: before})
    assert not result.changes
    assert {f.line for f in result.findings if f.status == "left"} == {4, 15}


def test_a_helper_that_nobody_calls_is_named():
    before = "class Plan:\n    def check(self, world_mesh):\n        if world_mesh.ndim > 1:\n            " + REFUSAL + "\n        return True\n"  # fmt: skip
    assert_noop(before, files=FILES)
    found = findings({**FILES, HERE: before}, code="TM103")
    assert [(f.path, f.line, f.status) for f in found] == [(HERE, 2, "hazard")]


def test_a_message_of_the_module_goes_with_its_guards():
    message = '_MESSAGE = "DDP has not supported > 1D parallelism"\n'
    before = helped(message, "if world_mesh.ndim > 1:", "    raise RuntimeError(_MESSAGE)", CALL)  # fmt: skip
    after = migrated({**FILES, HERE: before})[HERE]
    assert after == f"{IMPORT} apply_replicate\n\n\n{plan(FRESH)}"


@pytest.mark.parametrize(
    "lines",
    [
        ["match world_mesh.ndim:", "    case 1:", "        pass", "    case _:", f"        {REFUSAL}"],
        ["if world_mesh.ndim > 1:", "    give_up('DDP has not supported > 1D parallelism')"],
        ["if model.whole and world_mesh.ndim == 1:", "    model.train()", "else:", f"    {REFUSAL}"],
    ],
)  # fmt: skip
def test_a_shape_that_is_not_followed_is_left(lines):
    result = outcome({**FILES, HERE: f"{IMPORT} apply_ddp\n\n\n{plan(*lines, CALL)}"})
    assert not result.changes
    left = [f for f in result.findings if f.status == "left"]
    assert [(f.path, f.code, f.suggestion) for f in left] == [(HERE, "TM103", FRESH)]


# Only with its call


def test_a_guard_before_the_apply_ddp_of_another_package_is_left():
    before = "from mylib.plans import apply_ddp\n\n\n" + plan(
        "if world_mesh.ndim > 1:", f"    {REFUSAL}", "apply_ddp(model, world_mesh)"
    )
    result = outcome({**FILES, HERE: before})
    assert not result.changes
    (left,) = [f for f in result.findings if f.status == "left"]
    assert (left.line, left.code) == (5, "TM103")
    assert "mylib.plans.apply_ddp, and this checkout does not hold that" in left.message


@pytest.mark.parametrize(
    "call",
    [
        "backend.apply_ddp(model, world_mesh)",
        "apply_ddp(*everything)",
        "apply_ddp(model, world_mesh, False)  # titan-migrate: ignore[TM102]",
    ],
)
def test_a_guard_stays_with_its_call(call):
    before = f"{IMPORT} apply_ddp\n\n\n" + plan(
        "if world_mesh.ndim > 1:", f"    {REFUSAL}", call
    )
    result = outcome({**FILES, HERE: before})
    assert HERE not in result.changes
    found = [f for f in result.findings if f.path == HERE]
    assert not any(f.code == "TM103" and f.status == "rewrite" for f in found)
    assert any(f.line == 7 for f in found), found


@pytest.mark.parametrize(
    "call, imports",
    [
        ("replicate(model, device_mesh=world_mesh)", "from torch.distributed._composable.replicate import replicate"),
        ("DDP(model)", "from torch.nn.parallel import DistributedDataParallel as DDP"),
    ],
)  # fmt: skip
def test_a_guard_of_other_ddp_stays(call, imports):
    before = f"{imports}\n\n\n" + plan(
        "if world_mesh.ndim > 1:", f"    {REFUSAL}", call
    )
    assert_noop(before, files=FILES)
    found = findings({**FILES, HERE: before}, code="TM103")
    assert [(f.line, f.status) for f in found] == [(5, "hazard")]
    assert "line 7, which stays DDP's" in found[0].message


def test_a_guard_before_no_call_is_left():
    before = plan("if world_mesh.ndim > 1:", f"    {REFUSAL}", "return spec.run(model)")
    result = outcome({**FILES, HERE: before})
    assert not result.changes
    assert [(f.line, f.code) for f in result.findings if f.status == "left"] == [
        (2, "TM103")
    ]


def test_a_guard_before_a_function_that_calls_it():
    before = f"{IMPORT} apply_ddp\n\n\n" + plan(
        "if world_mesh.ndim > 1:", f"    {REFUSAL}", "wrap(model, world_mesh)"
    )
    before += f"\n\ndef wrap(model, world_mesh):\n    {CALL}\n"
    after = migrated({**FILES, HERE: before})[HERE]
    assert plan("wrap(model, world_mesh)") in after and "ndim" not in after


def test_the_mesh_that_replicate_takes_may_be_asserted():
    lines = ['dp_mesh = parallel_dims.get_mesh("dp_replicate")', "assert dp_mesh.ndim == 1"]  # fmt: skip
    assert raw([*lines, "apply_ddp(model, dp_mesh, False)"]).endswith(
        plan(*lines, "apply_replicate(model, dp_mesh)")
    )


@pytest.mark.parametrize(
    "guard",
    [
        ["if parallel_dims.dp_shard_enabled and world_mesh.ndim > 1:", '    raise RuntimeError("FSDP and DDP do not go together")'],
        ["if parallel_dims.cp_enabled:", '    raise RuntimeError("context parallel needs sharding, not data parallel")'],
        ["if parallel_dims.tp_enabled:", '    raise NotImplementedError("this model has no TP plan")'],
        ["assert world_mesh.ndim > 0"],
        ["if world_mesh.ndim == 3:", '    raise RuntimeError("no 3-D meshes with EP")'],
    ],
)  # fmt: skip
def test_another_refusal_before_the_call_stays(guard):
    assert "".join(f"    {line}\n" for line in guard) in raw([*guard, CALL])


@pytest.mark.parametrize(
    "test, rest",
    [
        (
            "world_mesh.ndim > 1 or not model.supports_replicate",
            "not model.supports_replicate",
        ),
        ("parallel_dims.tp > 1 or parallel_dims.cp > 1", "parallel_dims.cp > 1"),
        (
            "any(d > 1 for d in (parallel_dims.tp, parallel_dims.pp, parallel_dims.cp))",
            "parallel_dims.cp > 1",
        ),
        (
            "parallel_dims.tp * parallel_dims.pp * parallel_dims.cp != 1",
            "parallel_dims.cp != 1",
        ),
        (
            "parallel_dims.ddp and (parallel_dims.tp > 1 or parallel_dims.cp > 1)",
            "parallel_dims.ddp and parallel_dims.cp > 1",
        ),
    ],
)
@pytest.mark.parametrize(
    "message", ["DDP has not supported > 1D parallelism", "DDP takes no TP, no CP"]
)
def test_a_guard_that_refuses_more_than_the_mesh_is_left(test, rest, message):
    lines = [f"if {test}:", f'    raise RuntimeError("{message}")', CALL]
    result = outcome({**FILES, HERE: f"{IMPORT} apply_ddp\n\n\n{plan(*lines)}"})
    assert not result.changes
    (left,) = [f for f in result.findings if f.code == "TM103" and f.status == "left"]
    code = f"if {rest}:\n    raise RuntimeError('not supported: {rest}')"
    assert left.suggestion == code


@pytest.mark.parametrize(
    "test",
    [
        "all(d == 1 for d in (parallel_dims.tp, parallel_dims.cp))",
        "parallel_dims.tp == 1 and parallel_dims.cp == 1",
    ],
)
def test_an_assertion_that_refuses_more_than_the_mesh_is_left(test):
    lines = [f'assert {test}, "DDP takes no TP, no CP"', CALL]
    result = outcome({**FILES, HERE: f"{IMPORT} apply_ddp\n\n\n{plan(*lines)}"})
    assert not result.changes
    (left,) = [f for f in result.findings if f.code == "TM103" and f.status == "left"]
    assert left.suggestion == (
        "if parallel_dims.cp != 1:\n"
        "    raise RuntimeError('not supported: parallel_dims.cp != 1')"
    )


def stays(lines):
    """The hazards of TM103 in a plan that is migrated: (line of the plan, code to write)."""
    before = f"{IMPORT} apply_fsdp, apply_ddp\n\n\n{plan(*lines)}"
    result = outcome({**FILES, HERE: before})
    assert result.problems == () and HERE in result.changes
    found = [f for f in result.findings if (f.code, f.path) == ("TM103", HERE)]
    named = [f for f in found if f.status != "rewrite"]
    assert all((f.status, f.severity) == ("hazard", "loud") for f in named)
    return [(f.line - 4, f.suggestion) for f in named]


@pytest.mark.parametrize(
    "line, refusal",
    [
        (1, ["if world_mesh.ndim > 1:", '    raise RuntimeError("ring kernels take one dimension")', CALL]),
        (1, ['assert world_mesh.ndim == 1, "the loader shards by rank"', CALL]),
        (1, ["if model.moe and parallel_dims.ep > 1:", '    raise RuntimeError("DDP has no EP")', CALL]),
        (1, ["if parallel_dims.cp > 1:", '    raise RuntimeError("DDP takes no CP")', CALL]),
        (1, ["if parallel_dims.tp_enabled:", '    raise ValueError("no plan for TP")', CALL]),
        (1, ["if not parallel_dims.only_dp:", '    raise ValueError("DDP alone")', CALL]),
        (1, ["if model.frozen:", '    raise ValueError("DDP wants gradients")', CALL]),
        (2, ["for d in (parallel_dims.tp, parallel_dims.pp):", "    if d > 1:", '        raise ValueError("DDP does not go with it")', CALL]),
        (3, ["if world_mesh.ndim > 1:", f"    {REFUSAL}", "elif parallel_dims.ep > 1:", '    raise ValueError("DDP has no EP")', CALL]),
        (5, ["match parallel_dims.tp:", "    case 1:", "        pass", "    case _:", '        raise ValueError("DDP + TP")', CALL]),
        (2, ["if parallel_dims.tp > 1:", '    die("DDP + TP is not supported")', CALL]),
        (4, ["if alone(parallel_dims):", f"    {CALL}", "else:", '    raise ValueError("DDP goes alone")']),
        (4, ["if alone(parallel_dims):", f"    {CALL}", "    return", 'raise ValueError("DDP goes alone")']),
        (3, ["if parallel_dims.fsdp_enabled:", "    apply_fsdp(model, world_mesh)", "elif parallel_dims.ep > 1:", '    raise ValueError("DDP has no EP")', "else:", f"    {CALL}"]),
        (1, ["if parallel_dims.dp_replicate_enabled and parallel_dims.ep > 1:", '    raise ValueError("DDP has no EP")', "if parallel_dims.fsdp_enabled:", "    apply_fsdp(model, world_mesh)", "else:", f"    {CALL}"]),
    ],
)  # fmt: skip
def test_a_refusal_that_stays_in_replicates_branch_is_named(line, refusal):
    ((named, code),) = stays(refusal)
    assert named == line
    assert "DDP" not in code


@pytest.mark.parametrize(
    "lines",
    [
        ["assert world_mesh.ndim > 0", CALL],
        ['assert "dp_replicate" in world_mesh.mesh_dim_names', CALL],
        ["if job_config.training.steps == 0:", '    raise ValueError("no steps")', CALL],
        ["if parallel_dims.fsdp_enabled:", "    apply_fsdp(model, world_mesh)", "elif parallel_dims.dp_replicate_enabled:", f"    {CALL}", "else:", '    raise ValueError("neither FSDP nor DDP")'],
        ["if parallel_dims.ep > 1 and not model.moe:", '    raise ValueError("no experts")', "if parallel_dims.fsdp_enabled:", "    apply_fsdp(model, world_mesh)", "else:", f"    {CALL}"],
        ["if parallel_dims.cp > 1:  # titan-migrate: ignore[TM103]", '    raise ValueError("DDP takes no CP")', CALL],
    ],
)  # fmt: skip
def test_a_refusal_of_another_kind_is_not_named(lines):
    before = f"{IMPORT} apply_fsdp, apply_ddp\n\n\n{plan(*lines)}"
    found = findings({**FILES, HERE: before}, code="TM103", path=HERE)
    assert [f for f in found if f.status == "hazard"] == []


def test_a_refusal_of_what_replicate_does_not_do_stays():
    lines = ["if parallel_dims.cp > 1:", '    raise RuntimeError("DDP takes no CP")']
    assert_goes([*lines, CALL], [*lines, FRESH])


DIMS = "torchtitan/distributed/parallel_dims.py"


def dims(*lines, method="__post_init__"):
    head = f"class ParallelDims:\n    def {method}(self):\n"
    body = "".join(f"        {line}\n" for line in lines)
    return LOOP_MESHES.replace("class ParallelDims:\n", f"{head}{body}\n")


REFUSED = [
    "if self.dp_replicate > 1 and self.dp_shard == 1 and (self.tp > 1 or self.pp > 1):",
    '    raise ValueError("DDP cannot be combined with TP or PP")',
]


def test_a_guard_in_parallel_dims_goes_with_all_ddp():
    before = f"{IMPORT} apply_ddp\n\n\n{plan(CALL)}"
    after = migrated({**FILES, DIMS: dims(*REFUSED), HERE: before})
    assert after[DIMS] == LOOP_MESHES
    kept = ["self.ranks = self.dp_replicate * self.tp"]
    after = migrated({**FILES, DIMS: dims(*REFUSED, *kept), HERE: before})
    assert after[DIMS] == dims(*kept)


def validating(*lines):
    """A ParallelDims that is executed, with this in the method that validates it."""
    head = "class ParallelDims:\n"
    init = """\
    def __init__(self, pp, dp_replicate, dp_shard, cp, tp):
        self.pp, self.cp, self.tp = pp, cp, tp
        self.dp_replicate, self.dp_shard = dp_replicate, dp_shard
        self.world_size = pp * dp_replicate * dp_shard * cp * tp
        self._validate()

    def _validate(self):
        dp_replicate, dp_shard, cp, tp, pp = (
            self.dp_replicate,
            self.dp_shard,
            self.cp,
            self.tp,
            self.pp,
        )
"""
    body = "".join(f"        {line}\n" for line in (*lines, "assert dp_shard >= 1"))
    return LOOP_MESHES.replace(head, f"{head}{init}{body}\n")


@pytest.mark.parametrize(
    "guard",
    [
        ["if dp_replicate > 1 and dp_shard == 1 and cp == 1:", '    assert tp == 1 and pp == 1, "DDP has not supported > 1D parallelism"'],
        ["if dp_replicate > 1 and dp_shard == 1 and cp == 1 and (tp > 1 or pp > 1):", '    raise ValueError("DDP has not supported > 1D parallelism")'],
        ["if dp_replicate > 1 and dp_shard * cp == 1:", '    assert tp * pp == 1, "DDP goes with no TP, no PP"'],
        ["if dp_replicate > 1 and not (dp_shard > 1 or cp > 1):", "    if tp > 1:", '        raise ValueError("DDP + TP")', "    if pp > 1:", '        raise ValueError("DDP + PP")'],
        ['assert not (dp_replicate > 1 and dp_shard == 1 and cp == 1 and tp * pp > 1), "DDP + TP"'],
        ["if dp_replicate > 1 and dp_shard == 1 and cp == 1 and tp * pp > 1:", '    raise ValueError("replicas do not compose with model parallelism")'],
    ],
)  # fmt: skip
def test_a_guard_in_what_validates_the_degrees_goes(guard):
    before = f"{IMPORT} apply_ddp\n\n\n{plan(CALL)}"
    after = migrated({**FILES, DIMS: validating(*guard), HERE: before})
    assert after[DIMS] == validating()


def test_a_comparison_with_all_ranks_in_parallel_dims_is_left():
    guard = ["if dp_replicate > 1 and dp_shard == cp == 1:", '    assert dp_replicate == self.world_size, "all ranks"']  # fmt: skip
    before = f"{IMPORT} apply_ddp\n\n\n{plan(CALL)}"
    result = outcome({**FILES, DIMS: validating(*guard), HERE: before})
    assert not result.changes
    left = [f for f in result.findings if f.status == "left"]
    assert [(f.path, f.code) for f in left] == [(DIMS, "TM103")]


def test_a_guard_in_parallel_dims_is_left_while_some_ddp_stays():
    before = f"{IMPORT} apply_ddp\n\n\n{plan('backend.apply_ddp(model)')}"
    other = "from torch.distributed._composable.replicate import replicate\n\nreplicate(x)\n"
    files = {**FILES, DIMS: dims(*REFUSED), HERE: before, "torchtitan/x.py": other}
    result = outcome(files)
    assert not result.changes
    left = [f for f in result.findings if f.status == "left"]
    assert [(f.path, f.code) for f in left] == [(DIMS, "TM103")]


def test_what_parallel_dims_refuses_without_a_word_of_ddp_is_left():
    init = "def __init__(self, pp, dp_replicate, dp_shard, cp, tp):"
    refusing = LOOP_MESHES.replace(
        "class ParallelDims:\n",
        f"""class ParallelDims:
    {init}
        self.pp, self.cp, self.tp = pp, cp, tp
        self.dp_replicate, self.dp_shard = dp_replicate, dp_shard
        assert self.tp == 1 or self.dp_shard > 1
        if self.dp_replicate > 1 and self.pp > 1:
            raise ValueError("stages want sharded data")
        self.ready = True

""",
    )
    before = f"{IMPORT} apply_ddp\n\n\n{plan(CALL)}"
    result = outcome({**FILES, DIMS: refusing, HERE: before})
    assert not result.changes
    left = {f.line: f for f in result.findings if f.status == "left"}
    assert {line: f.message.split(" here")[0] for line, f in left.items()} == {
        8: "ParallelDims refuses tp beside dp_replicate",
        10: "ParallelDims refuses pp beside dp_replicate",
    }
    assert left[10].suggestion == "self.ready = True"


METHOD = f"""\
{IMPORT} apply_ddp


class Backend:
    def apply_ddp(self, model, world_mesh):
        {CALL}

    def prepare(self, model, other, world_mesh):
        if world_mesh.ndim > 1:
            {REFUSAL}
        WHO.apply_ddp(model, world_mesh)
"""


def test_a_guard_before_a_method_that_calls_it():
    after = migrated({**FILES, HERE: METHOD.replace("WHO", "self")})[HERE]
    assert "ndim" not in after and "self.apply_ddp(model, world_mesh)" in after


@pytest.mark.parametrize("target", ["1d", "2d"])
def test_a_guard_before_a_method_of_something(target):
    result = outcome({**FILES, HERE: METHOD.replace("WHO", "other")}, target)
    left = [f for f in result.findings if f.status == "left"]
    assert [(f.line, f.code) for f in left] == [(11, "TM211")]
    assert "perhaps Backend.apply_ddp" in left[0].message


def of_hsdp(*lines):
    source = f"{IMPORT} apply_ddp\n\n\n{plan(*lines, CALL)}"
    found = findings({**FILES, HERE: source}, code="TM103")
    assert any(one.status == "rewrite" for one in found)
    return [one for one in found if one.status == "hazard"]


@pytest.mark.parametrize(
    ("guard", "alone"),
    [
        (
            "assert dp_replicate == 1 or tp == 1, 'DDP does not go with TP'",
            "assert dp_shard == 1 or (dp_replicate == 1 or tp == 1), 'DDP does not go with TP'",
        ),
        (
            "assert not (dims.dp_replicate > 1 and dims.tp > 1), 'no DDP with TP'",
            "assert dims.dp_shard == 1 or not (dims.dp_replicate > 1 and dims.tp > 1), "
            "'no DDP with TP'",
        ),
        (
            "if parallel_dims.dp_replicate_enabled and parallel_dims.tp_enabled: "
            "raise ValueError('DDP does not go with TP')",
            "if parallel_dims.fsdp_enabled and (parallel_dims.dp_replicate_enabled and "
            "parallel_dims.tp_enabled): raise ValueError('DDP does not go with TP')",
        ),
    ],
)
def test_of_a_guard_that_refuses_hsdp_too_it_is_said(guard, alone):
    (found,) = of_hsdp(guard)
    assert found.severity == "note" and "HSDP" in found.message
    assert ast.unparse(ast.parse(found.suggestion)) == ast.unparse(ast.parse(alone))


@pytest.mark.parametrize(
    "lines",
    [
        [
            "assert dp_shard > 1 or dp_replicate == 1 or tp == 1, 'DDP does not go with TP'"
        ],
        [
            "if not parallel_dims.fsdp_enabled:",
            "    assert dp_replicate == 1 or tp == 1, 'DDP does not go with TP'",
        ],
        ["if world_mesh.ndim > 1:", f"    {REFUSAL}"],
    ],
)
def test_of_one_that_refuses_ddp_alone_it_is_not(lines):
    assert of_hsdp(*lines) == []


@pytest.mark.parametrize("at", ["par", "self", "job_config.parallelism"])
def test_a_guard_by_degrees_of_the_configuration_is_named(at):
    guard = (
        f"class Config:\n    def check(self, par, job_config):\n"
        f"        if {at}.data_parallel_replicate_degree > 1 and {at}.data_parallel_shard_degree == 1 "
        f"and {at}.tensor_parallel_degree > 1:\n"
        "            raise ValueError('DDP does not compose with TP')\n"
        "        self.build(par)\n"
    )
    tree = {**FILES, HERE: f"{IMPORT} apply_ddp\n\n\n{plan(CALL)}"}
    (found,) = [
        one
        for one in findings({**tree, "torchtitan/config.py": guard}, code="TM103")
        if one.path == "torchtitan/config.py"
    ]
    assert (found.line, found.status) == (3, "left")
