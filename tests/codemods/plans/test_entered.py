"""A call of DDP that is reached by something else than pure replication is left."""

import ast

import pytest

from support import HERE, LOOP_MESHES, migrated, outcome

DIMS = "torchtitan/distributed/parallel_dims.py"
FIELDS = """\
    pp: int
    dp_replicate: int
    dp_shard: int
    cp: int
    tp: int
    world_size: int

"""
PROPERTIES = """
    @property
    def tp_enabled(self):
        return self.tp > 1

    @property
    def cp_enabled(self):
        return self.cp > 1

    @property
    def dp_enabled(self):
        return self.dp_replicate > 1 or self.dp_shard > 1

    @property
    def world_mesh(self):
        return self.build_mesh("cuda")
"""
PLAIN = (
    LOOP_MESHES.replace(
        "class ParallelDims:\n", f"@dataclass\nclass ParallelDims:\n{FIELDS}"
    )
    + PROPERTIES
)
OWN = (
    PLAIN.replace("    tp: int\n", "    tp: int\n    sp: int\n")
    .replace("self.cp, self.tp]", "self.cp, self.sp, self.tp]")
    .replace('"cp", "tp"]', '"cp", "sp", "tp"]')
    + "\n    @property\n    def sp_enabled(self):\n        return self.sp > 1\n"
)
"""A ParallelDims with an axis of the fork's own, over which weights are the same."""

AMP = {
    "torchtitan/distributed/utils.py": """\
import contextlib

import torch


def maybe_enable_amp(parallel_dims, param_dtype, device_type):
    if parallel_dims.fsdp_enabled:
        return contextlib.nullcontext()
    return torch.autocast(device_type, dtype=param_dtype)
"""
}
GUARD = """
        if world_mesh.ndim > 1:
            raise RuntimeError("DDP has not supported > 1D parallelism")
"""
PLAN = """\
from torchtitan.models.llama3.parallelize import apply_ddp, apply_fsdp


def parallelize(model, world_mesh, parallel_dims, config):
    if parallel_dims.fsdp_enabled:
        apply_fsdp(model, world_mesh["dp_shard"], config.param, config.reduce)
    {branch}:{guard}
        apply_ddp(model, {mesh}, False)
    return model
"""
PURE = "elif parallel_dims.dp_replicate_enabled"


def plan(branch=PURE, mesh="world_mesh", guard=""):
    return PLAN.format(branch=branch, mesh=mesh, guard=guard)


def files(source, dims=PLAIN):
    return {DIMS: f"from dataclasses import dataclass\n{dims}", HERE: source, **AMP}


def left(source, dims=PLAIN):
    """The message and the code of what is left in the plan, of one call."""
    result = outcome(files(source, dims))
    assert result.changes == {}
    (found,) = [f for f in result.findings if f.status == "left" and f.path == HERE]
    assert found.code == "TM102" and found.suggestion is not None
    ast.parse(found.suggestion)
    return found.message, found.suggestion


@pytest.mark.parametrize(
    "branch",
    [
        PURE,
        "elif not parallel_dims.fsdp_enabled and parallel_dims.dp_replicate > 1",
        "elif parallel_dims.dp_enabled",
        "elif config.parallelism.data_parallel_replicate_degree > 1",
        "elif not (config.parallelism.data_parallel_replicate_degree == 1)",
        "elif config.parallelism.data_parallel_replicate_degree != 1",
        'elif config.strategy == "ddp"',
        'elif getattr(parallel_dims, "dp_replicate_enabled", False)',
        "elif parallel_dims.dp_replicate_enabled and config.wrap",
    ],
)
def test_pure_replication_is_rewritten(branch):
    for dims in (PLAIN, OWN):
        assert (
            "apply_replicate"
            in migrated(files(plan(branch, 'world_mesh["dp_replicate"]'), dims))[HERE]
        )
    fresh = migrated(files(plan(branch, guard=GUARD)))[HERE]
    assert 'world_mesh["dp_replicate"]' in fresh and "raise" not in fresh


@pytest.mark.parametrize(
    ("branch", "how"),
    [
        ("elif parallel_dims.dp_replicate_enabled or parallel_dims.tp_enabled", "by tp"),
        ("elif parallel_dims.tp > 1 or parallel_dims.dp_replicate > 1", "by tp"),
        ("elif any(d > 1 for d in (parallel_dims.dp_replicate, parallel_dims.pp))", "by pp"),
        ("elif max(parallel_dims.dp_replicate, parallel_dims.pp) > 1", "by pp"),
        ("elif parallel_dims.world_size > 1", "by tp and by pp"),
        ("else", "on one device, by tp and by pp"),
        ("elif parallel_dims.dp_replicate_enabled or config.debug.single", "where config.debug.single"),
        ("elif parallel_dims.dp_replicate_enabled or parallel_dims.vp_enabled", "where parallel_dims.vp_enabled"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("guard", ["", GUARD])
def test_another_way_to_the_call_is_left(branch, how, guard):
    message, code = left(plan(branch, guard=guard))
    assert f"it is reached without dp_replicate too, {how}:" in message
    assert code == (
        "if parallel_dims.dp_replicate_enabled:\n    apply_replicate(\n"
        '        model,\n        world_mesh["dp_replicate"],\n'
        "        param_dtype=config.param,\n        reduce_dtype=config.reduce,\n    )"
    )


WAYS = {
    "a variable": """
        whole = parallel_dims.dp_replicate_enabled or parallel_dims.tp_enabled
        if parallel_dims.fsdp_enabled:
            apply_fsdp(model, world_mesh["dp_shard"], config.param, config.reduce)
        elif whole:
            apply_ddp(model, world_mesh, False)
    """,
    "nested": """
        if not parallel_dims.fsdp_enabled:
            if parallel_dims.dp_replicate_enabled or parallel_dims.tp_enabled:
                apply_ddp(model, world_mesh, False)
        else:
            apply_fsdp(model, world_mesh["dp_shard"], config.param, config.reduce)
    """,
    "an early return": """
        if parallel_dims.fsdp_enabled:
            apply_fsdp(model, world_mesh["dp_shard"], config.param, config.reduce)
            return model
        if parallel_dims.dp_replicate == 1 and parallel_dims.tp == 1:
            return model
        apply_ddp(model, world_mesh, False)
        return model
    """,
    "a clause that refuses": """
        if parallel_dims.fsdp_enabled:
            apply_fsdp(model, world_mesh["dp_shard"], config.param, config.reduce)
            return model
        if not parallel_dims.dp_replicate_enabled and not parallel_dims.tp_enabled:
            raise ValueError("nothing to do")
        apply_ddp(model, world_mesh, False)
        return model
    """,
    "a helper that asks": """
        if parallel_dims.fsdp_enabled:
            apply_fsdp(model, world_mesh["dp_shard"], config.param, config.reduce)
        elif _whole(parallel_dims):
            apply_ddp(model, world_mesh, False)


    def _whole(dims):
        return dims.dp_replicate_enabled or dims.tp_enabled
    """,
    "a helper that wraps": """
        if parallel_dims.fsdp_enabled:
            apply_fsdp(model, world_mesh["dp_shard"], config.param, config.reduce)
        elif parallel_dims.dp_replicate_enabled or parallel_dims.tp_enabled:
            _wrap(model, world_mesh, config)


    def _wrap(model, world_mesh, config):
        apply_ddp(model, world_mesh, False)
    """,
    "a match": """
        match (parallel_dims.fsdp_enabled, parallel_dims.tp > 1 or parallel_dims.dp_replicate > 1):
            case (True, _):
                apply_fsdp(model, world_mesh["dp_shard"], config.param, config.reduce)
            case (_, True):
                apply_ddp(model, world_mesh, False)
    """,
}


def _way(body):
    head = PLAN.partition("    if ")[0]
    return head + "\n".join(line[4:] for line in body.strip("\n").split("\n"))


@pytest.mark.parametrize("body", WAYS.values(), ids=WAYS)
def test_each_way_of_writing_it_is_followed(body):
    assert "without dp_replicate too, by tp:" in left(_way(body))[0]


@pytest.mark.parametrize("body", WAYS.values(), ids=WAYS)
def test_the_same_for_replication_alone_is_rewritten(body):
    alone = body.replace(" or parallel_dims.tp_enabled", "")
    alone = alone.replace(" or dims.tp_enabled", "")
    alone = alone.replace(" and parallel_dims.tp == 1", "")
    alone = alone.replace(" and not parallel_dims.tp_enabled", "")
    alone = alone.replace("parallel_dims.tp > 1 or ", "")
    assert "tp" not in alone
    assert "apply_replicate(" in migrated(files(_way(alone)))[HERE]


def test_a_mesh_that_is_not_there_is_no_way_to_the_call():
    fresh = migrated(files(plan("else", 'world_mesh["dp_replicate"]')))[HERE]
    assert (
        'apply_replicate(\n            model,\n            world_mesh["dp_replicate"],'
        in fresh
    )


def test_a_choice_that_has_nothing_to_do_with_degrees_is_none():
    source = plan("else").replace("parallel_dims.fsdp_enabled", "config.shard")
    assert "apply_replicate(" in migrated(files(source))[HERE]


@pytest.mark.parametrize(
    ("told", "how"), [("self.tp", "by tp"), ("self.cp", "by cp"), ("self.more", None)]
)
def test_a_property_that_means_more_than_replication_is_followed(told, how):
    dims = PLAIN.replace(
        "return self.dp_replicate > 1\n",
        f"return max(self.dp_replicate, {told}) > 1\n",
        1,
    ).replace("self.dp_shard > 1 or self.cp > 1", "self.dp_shard > 1")
    if how is None:
        dims = dims.replace("    cp: int\n", "    cp: int\n    more: int\n")
    assert f"without dp_replicate too, {how or 'by more'}" in left(plan(), dims)[0]


# An axis of the fork's own


@pytest.mark.parametrize("guard", ["", GUARD])
def test_what_an_axis_of_its_own_reaches_is_left(guard):
    branch = f"{PURE} or parallel_dims.sp_enabled"
    message, code = left(plan(branch, guard=guard), OWN)
    assert "without dp_replicate too, by sp:" in message
    assert code.startswith(
        "if parallel_dims.dp_replicate_enabled:\n    if parallel_dims.sp > 1:\n        raise"
    )


def test_a_mesh_that_goes_over_an_axis_of_its_own_is_left():
    for guard in ("", GUARD):
        message, code = left(plan(guard=guard), OWN)
        assert "the mesh that it passes also goes over sp" in message
        assert code.startswith(
            "if parallel_dims.sp > 1:\n    raise NotImplementedError("
        )


@pytest.mark.parametrize(
    "refused",
    [
        "world_mesh.ndim > 1",
        'parallel_dims.world_size != world_mesh["dp_replicate"].size()',
        "parallel_dims.tp_enabled or parallel_dims.sp_enabled",
    ],
)
def test_a_guard_that_refuses_an_axis_of_its_own_is_left(refused):
    guard = GUARD.replace("world_mesh.ndim > 1", refused)
    message, _ = left(plan(mesh='world_mesh["dp_replicate"]', guard=guard), OWN)
    assert "sp beside dp_replicate is refused on the way to it" in message


def test_a_mesh_beside_an_axis_of_its_own_that_nothing_refused_stays():
    """What FSDP goes over is the fork's choice; DDP did not go over that axis."""
    dims = OWN.replace(
        "        return init_device_mesh(device_type, dims, mesh_dim_names=names)",
        "        mesh = init_device_mesh(device_type, dims, mesh_dim_names=names)\n"
        '        both = tuple(n for n in names if n in ("dp_shard", "sp"))\n'
        "        if both:\n"
        '            mesh[both]._flatten(mesh_dim_name="fsdp")\n'
        "        return mesh",
    )
    source = plan(mesh='world_mesh["dp_replicate"]')
    source = source.replace('world_mesh["dp_shard"]', 'world_mesh["fsdp"]')
    fresh = migrated(files(source, dims))[HERE]
    assert 'world_mesh["dp_replicate"]' in fresh


def test_an_axis_that_is_refused_for_itself_keeps_being_refused():
    """The code to write is taken."""
    guard = '\n        if parallel_dims.sp > 1:\n            raise NotImplementedError("not over sp")'
    fresh = migrated(files(plan(guard=guard + GUARD), OWN))[HERE]
    assert 'world_mesh["dp_replicate"]' in fresh and "parallel_dims.sp > 1" in fresh
    assert "ndim" not in fresh


@pytest.mark.parametrize(
    "field", ["sp: int = 1", "sp: int | None = 1", "sp: Optional[int]", '"sp: int"']
)
def test_an_axis_is_told_by_its_kind(field):
    kind = field.strip('"').partition(": ")[2]
    dims = OWN.replace("    sp: int\n", "").replace(
        "    world_size: int\n", f"    world_size: int\n    sp: {kind}\n"
    )
    assert "goes over sp" in left(plan(guard=GUARD), dims)[0]


def test_an_axis_of_a_class_with_a_constructor():
    given = "pp: int, dp_replicate: int, dp_shard: int, cp: int, tp: int, sp: int, world_size: int"
    body = "".join(
        f"        self.{n} = {n}\n"
        for n in ("pp", "dp_replicate", "dp_shard", "cp", "tp", "sp")
    )
    made = f"    def __init__(self, {given}):\n{body}\n"
    start, end = OWN.index("@dataclass"), OWN.index("    def build_mesh")
    dims = f"{OWN[:start]}class ParallelDims:\n{made}{OWN[end:]}"
    assert "goes over sp" in left(plan(guard=GUARD), dims)[0]


def test_an_axis_whose_ranks_are_counted():
    checked = (
        "    def __post_init__(self):\n"
        "        ranks = self.dp_replicate * self.dp_shard * self.cp * self.tp * self.pp\n"
        "        assert ranks * self.sp == self.world_size\n\n"
    )
    dims = OWN.replace("    def build_mesh", f"{checked}    def build_mesh")
    assert "goes over sp" in left(plan(guard=GUARD), dims)[0]


def test_a_number_that_is_no_axis_is_nothing():
    dims = PLAIN.replace("    tp: int\n", "    tp: int\n    chunks: int\n")
    assert "apply_replicate(" in migrated(files(plan(guard=GUARD), dims))[HERE]


# A mesh that stays, and autocast

SHARDS = PLAIN.replace("self.dp_shard > 1 or self.cp > 1", "self.dp_shard > 1")
FLAT = SHARDS.replace(
    "        return init_device_mesh(device_type, dims, mesh_dim_names=names)",
    "        mesh = init_device_mesh(device_type, dims, mesh_dim_names=names)\n"
    '        both = tuple(n for n in names if n in ("dp_replicate", "cp"))\n'
    "        if both:\n"
    '            mesh[both]._flatten(mesh_dim_name="dp_cp")\n'
    "        return mesh",
)
BOTH = f"{PURE} or parallel_dims.cp_enabled"


def test_autocast_that_stays_where_the_policy_casts_is_left():
    message, code = left(plan(BOTH, 'world_mesh["dp_cp"]'), FLAT)
    assert "by cp, and maybe_enable_amp leaves out autocast for dp_replicate" in message
    assert code.startswith("# after autocast is left out by cp too\napply_replicate(")
    assert 'world_mesh["dp_cp"]' in code


def test_a_mesh_that_stays_is_right_without_autocast():
    given = files(plan(BOTH, 'world_mesh["dp_cp"]'), FLAT)
    del given["torchtitan/distributed/utils.py"]
    assert 'world_mesh["dp_cp"]' in migrated(given)[HERE]


OVER_BOTH = OWN.replace(
    "        return init_device_mesh(device_type, dims, mesh_dim_names=names)",
    "        mesh = init_device_mesh(device_type, dims, mesh_dim_names=names)\n"
    '        both = tuple(n for n in names if n in ("dp_replicate", "sp"))\n'
    "        if both:\n"
    '            mesh[both]._flatten(mesh_dim_name="dp_sp")\n'
    "        return mesh",
)


@pytest.mark.parametrize("guard", ["", GUARD])
def test_a_mesh_that_stays_goes_over_an_axis_as_it_did(guard):
    fresh = migrated(files(plan(PURE, 'world_mesh["dp_sp"]', guard), OVER_BOTH))[HERE]
    assert 'world_mesh["dp_sp"]' in fresh and "raise" not in fresh


def test_autocast_that_is_off_there_already_is_not_left():
    given = files(
        plan(f"{PURE} or parallel_dims.sp_enabled", 'world_mesh["dp_sp"]'), OVER_BOTH
    )
    assert "by sp, and maybe_enable_amp" in left(given[HERE], OVER_BOTH)[0]
    utils = "torchtitan/distributed/utils.py"
    given[utils] = given[utils].replace(
        "if parallel_dims.fsdp_enabled:",
        "if parallel_dims.fsdp_enabled or parallel_dims.sp_enabled:",
    )
    assert "parallel_dims.dp_replicate_enabled" in migrated(given)[utils]


# Context parallelism that DDP's guard refused


def hazards(source, dims):
    result = outcome(files(source, dims))
    assert result.problems == ()
    return [f for f in result.findings if (f.code, f.status) == ("TM102", "hazard")]


@pytest.mark.parametrize(
    ("mesh", "what"),
    [
        ("world_mesh", "the mesh that it passes also goes over cp"),
        ('world_mesh["dp_replicate"]', "cp beside dp_replicate is refused on the way to it"),
    ],
)  # fmt: skip
def test_context_parallelism_that_only_ddp_refused_is_a_hazard(mesh, what):
    (found,) = hazards(plan(mesh=mesh, guard=GUARD), SHARDS)
    assert what in found.message and found.severity == "silent"
    assert (found.suggestion or "").startswith("if parallel_dims.cp > 1:\n    raise")


@pytest.mark.parametrize(
    ("source", "dims"),
    [
        (plan(guard=GUARD), PLAIN),
        (plan(guard=GUARD).replace("parallel_dims.fsdp_enabled", "parallel_dims.dp_shard > 1 or parallel_dims.cp_enabled"), SHARDS),
        (plan(guard=GUARD).replace("parallel_dims.fsdp_enabled", "parallel_dims.dp_shard > 1 or parallel_dims.cp > 1"), SHARDS),
        (plan(mesh='world_mesh["dp_replicate"]'), SHARDS),
        (plan(mesh='world_mesh["dp_cp"]', guard=GUARD), FLAT),
        (plan(guard='\n        if parallel_dims.cp > 1:\n            raise ValueError("not over cp")' + GUARD), SHARDS),
        (plan("else").replace("parallel_dims.fsdp_enabled", "config.shard"), SHARDS),
    ],
)  # fmt: skip
def test_context_parallelism_that_is_seen_to_is_none(source, dims):
    assert hazards(source, dims) == []


# Should such a call be taken for one that may be rewritten, executing it tells


@pytest.mark.parametrize(
    ("source", "what"),
    [
        (plan(f"{PURE} or parallel_dims.sp_enabled", guard=GUARD), "sp=13, it would raise KeyError"),
        (plan(guard=GUARD), "dp_replicate=3 x sp=13, it would replicate, where that axis was refused"),
        (plan(), "dp_replicate=3 x sp=13, it would replicate over (dp_replicate=3), and DDP went over (dp_replicate=3, sp=13)"),
        (
            plan(mesh='world_mesh["dp_replicate"]', guard=GUARD),
            "dp_replicate=3 x sp=13, it would replicate, where that axis was refused",
        ),
    ],
)  # fmt: skip
def test_what_would_be_lost_of_an_axis_shows_when_it_is_executed(
    source, what, monkeypatch
):
    monkeypatch.setattr("codemods.plans.calls.otherwise", lambda *_, **__: None)
    result = outcome(files(source, OWN))
    assert result.changes == {}
    assert any(what in problem for problem in result.problems), result.problems
