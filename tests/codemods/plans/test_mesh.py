"""The mesh that a call passes: which one it is, how it is named, who else uses it."""

import pytest

from support import (
    APPLY_DDP,
    IMPORT,
    LOOP_MESHES,
    NAMED_MESHES,
    PLAN,
    PLAN_IMPORTS,
    assert_left,
    assert_rewrites,
)

DIMS = "torchtitan/distributed/parallel_dims.py"

# The dtypes of apply_fsdp are beside the point here.
PLAIN = {
    PLAN: f"""{PLAN_IMPORTS}

def apply_fsdp(model: nn.Module, dp_mesh: DeviceMesh):
    fully_shard(model, mesh=dp_mesh)


{APPLY_DDP}"""
}

INIT = """\
class ParallelDims:
    def __init__(self, pp, dp_replicate, dp_shard, cp, tp):
        self.pp, self.cp, self.tp = pp, cp, tp
        self.dp_replicate, self.dp_shard = dp_replicate, dp_shard

"""


def named(rule: str) -> dict[str, str]:
    """A ParallelDims in which `rule` is what a dimension `name` is called."""
    dims = LOOP_MESHES.replace("class ParallelDims:\n", INIT)
    return {DIMS: dims.replace("names.append(name)", f"names.append({rule})")}


AUTUMN_2024 = (
    '"dp" if (name, self.dp_shard) == ("dp_replicate", 1) or '
    '(name, self.dp_replicate) == ("dp_shard", 1) else name'
)


def plan(body: str, more: str = "", function: str = "apply_ddp") -> str:
    lines = "\n".join(f"    {line}" if line else "" for line in body.split("\n"))
    return (
        f"{IMPORT} {function}\n{more}\n\n"
        f"def parallelize(model, world_mesh, parallel_dims):\n{lines}\n"
    )


def assert_becomes(before: str, after: str, **files: str) -> None:
    """The body of a plan, written with DDP, becomes `after`."""
    more = files.pop("more", "")
    others = {**PLAIN, **files}
    assert_rewrites(
        plan(before, more), plan(after, more, "apply_replicate"), files=others
    )


@pytest.mark.parametrize(
    "rule, name",
    [
        ("name", "dp_replicate"),
        (AUTUMN_2024, "dp"),
        ('{"dp_replicate": "data"}.get(name, name)', "data"),
    ],
)
def test_the_dimension_has_the_name_that_parallel_dims_gives_it(rule, name):
    assert_becomes(
        "apply_ddp(model, world_mesh, enable_compile=False)",
        f'apply_replicate(model, world_mesh["{name}"])',
        **named(rule),
    )


def test_a_name_that_depends_on_the_other_degrees_is_left():
    assert_left(
        plan("apply_ddp(model, world_mesh, enable_compile=False)"),
        "depends on the other degrees",
        files={**PLAIN, **named("name if self.tp == 1 else name + '_tp'")},
    )


def test_the_2d_target_is_left_where_there_is_one_data_parallel_dimension():
    assert_left(
        plan("apply_ddp(model, world_mesh, enable_compile=False)"),
        "take --target 1d",
        files={**PLAIN, **named(AUTUMN_2024)},
        target="2d",
    )


@pytest.mark.parametrize(
    "mesh", ['world_mesh["dp"]', 'world_mesh["dp"] if x else world_mesh']
)
def test_a_mesh_that_is_the_right_one_already_keeps_its_name(mesh):
    assert_becomes(
        f"apply_ddp(model, {mesh}, enable_compile=False)",
        'apply_replicate(model, world_mesh["dp"])',
        more="\nx = 1\n",
        **named(AUTUMN_2024),
    )


def test_a_conditional_is_followed_where_each_branch_is():
    assert_becomes(
        'dp_mesh = world_mesh if world_mesh.ndim == 1 else world_mesh["dp_replicate"]\n'
        "apply_ddp(model, dp_mesh, enable_compile=False)",
        'dp_mesh = world_mesh["dp_replicate"]\napply_replicate(model, dp_mesh)',
    )


def test_a_conditional_with_an_unknown_branch_is_left():
    assert_left(
        plan(
            "apply_ddp(model, world_mesh if x else other(), enable_compile=False)",
            "x = 1\n",
        ),
        "not clear which mesh",
        files=PLAIN,
    )


@pytest.mark.parametrize(
    "returned, after",
    [
        ("dims.world_mesh", 'mesh_of(parallel_dims)["dp_replicate"]'),
        ('dims.world_mesh["dp_replicate"]', "mesh_of(parallel_dims)"),
    ],
)
def test_a_helper_is_followed(returned, after):
    assert_becomes(
        "apply_ddp(model, mesh_of(parallel_dims), enable_compile=False)",
        f"apply_replicate(model, {after})",
        more=f"\n\ndef mesh_of(dims):\n    return {returned}\n",
    )


def test_a_helper_that_returns_now_this_now_that_is_left():
    helper = (
        "\n\ndef mesh_of(dims):\n    if dims.tp_enabled:\n        return dims.world_mesh\n"
        '    return dims.world_mesh["dp_replicate"]\n'
    )
    assert_left(
        plan("apply_ddp(model, mesh_of(parallel_dims), enable_compile=False)", helper),
        "not clear which mesh",
        files=PLAIN,
    )


# Who else uses it


@pytest.mark.parametrize(
    "use",
    [
        "group = dp_mesh.get_group()\nreturn group",
        "return dp_mesh.size()",
        "return broadcast(model, dp_mesh)",
    ],
)
def test_a_temporary_becomes_the_mesh_where_every_use_wants_that(use):
    more = "\n\ndef broadcast(model, mesh):\n    return model, mesh\n"
    assert_becomes(
        f"dp_mesh = world_mesh\napply_ddp(model, dp_mesh, enable_compile=False)\n{use}",
        f'dp_mesh = world_mesh["dp_replicate"]\napply_replicate(model, dp_mesh)\n{use}',
        more=more,
    )


def test_a_temporary_that_is_sliced_later_stays_and_the_call_gets_its_own():
    assert_becomes(
        "mesh = world_mesh\napply_ddp(model, mesh, enable_compile=False)\n"
        'return mesh["tp"]',
        "mesh = world_mesh\n"
        'apply_replicate(model, mesh["dp_replicate"])\nreturn mesh["tp"]',
    )


@pytest.mark.parametrize(
    "body",
    [
        "dp_mesh = world_mesh\napply_ddp(model, dp_mesh, enable_compile=False)\n"
        'return dp_mesh.get_group(), dp_mesh["tp"]',
        "apply_ddp(model, world_mesh, enable_compile=False)\nreturn world_mesh.get_group()",
    ],
)
def test_a_mesh_that_is_wanted_as_two_is_left(body):
    found = assert_left(plan(body), "breaks|several meshes", files=PLAIN)
    assert 'world_mesh["dp_replicate"]' in found.message


def test_a_use_in_another_branch_is_nothing_to_this_one():
    body = """\
if parallel_dims.fsdp_enabled:
    return world_mesh.get_group()
if parallel_dims.dp_replicate_enabled:
    {}"""
    assert_becomes(
        body.format("apply_ddp(model, world_mesh, enable_compile=False)"),
        body.format('apply_replicate(model, world_mesh["dp_replicate"])'),
    )


def test_get_mesh_is_asked_by_name():
    assert_becomes(
        'dp_mesh = parallel_dims.get_mesh("dp_replicate")\n'
        "apply_ddp(model, dp_mesh, enable_compile=False)",
        'dp_mesh = parallel_dims.get_mesh("dp_replicate")\napply_replicate(model, dp_mesh)',
        **{DIMS: NAMED_MESHES},
    )


@pytest.mark.parametrize(
    "body",
    [
        "dp_mesh = world_mesh\n"
        "apply_ddp(model, dp_mesh, enable_compile=False)\n"
        "model.group = dp_mesh.get_group()",
        "apply_ddp(model, world_mesh, enable_compile=False)\n"
        "model.group = world_mesh.get_group()",
    ],
)
def test_a_mesh_of_two_dimensions_serves_nobody_who_wants_one(body):
    left = assert_left(plan(body), "beside it", files=PLAIN, target="2d")
    assert 'world_mesh["dp_replicate"]' in left.message


INSIDE = f"""{PLAN_IMPORTS}

def apply_fsdp(model: nn.Module, dp_mesh: DeviceMesh):
    fully_shard(model, mesh=dp_mesh)


def apply_ddp(model, dims):
    if dims.world_mesh.ndim > 1:
        raise RuntimeError("DDP has not supported > 1D parallelism")
    LOOKUP
"""


@pytest.mark.parametrize(
    "lookup, mesh",
    [
        (
            "replicate(model, device_mesh=dims.world_mesh)",
            '.world_mesh["dp_replicate"]',
        ),
        (
            "mesh = dims.world_mesh\n    replicate(model, device_mesh=mesh)",
            '.world_mesh["dp_replicate"]',
        ),
        (
            'replicate(model, device_mesh=dims.get_mesh("dp_replicate"))',
            '.get_mesh("dp_replicate")',
        ),
    ],
)
@pytest.mark.parametrize(
    "passed, owner",
    [
        ("parallel_dims", "parallel_dims"),
        ("dims=self.parallel_dims", "self.parallel_dims"),
    ],
)
def test_a_mesh_that_apply_ddp_looks_up_is_passed(lookup, mesh, passed, owner):
    assert_becomes(
        f"apply_ddp(model, {passed})",
        f"apply_replicate(model, {owner}{mesh})",
        more="\nself = None\n",
        **{PLAN: INSIDE.replace("LOOKUP", lookup)},
    )


@pytest.mark.parametrize(
    "lookup, call, reason",
    [
        ("replicate(model, device_mesh=dims.mine)", "apply_ddp(model, parallel_dims)", "not clear which mesh dims.mine"),
        ("replicate(model, device_mesh=dims.world_mesh)", "apply_ddp(model, build())", "does not say what dims is"),
    ],
)  # fmt: skip
def test_a_mesh_that_apply_ddp_looks_up_in_the_dark_is_left(lookup, call, reason):
    files = {**PLAIN, PLAN: INSIDE.replace("LOOKUP", lookup)}
    assert_left(plan(call), reason, files=files)
