"""Which plan is mirrored, by what it does: names, meshes, parts and branches of forks."""

from textwrap import dedent

import pytest
from test_cases import (
    APPLY_DDP,
    APPLY_FSDP,
    CALL,
    IMPORTS,
    PLAN,
    left,
    plan,
    run,
    written,
)

MIRROR = """\
def apply_replicate(model, dp_mesh, param_dtype, reduce_dtype):
    mp_policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
    replicate_config = {"mesh": dp_mesh, "mp_policy": mp_policy}
    for block in model.layers.values():
        replicate(block, **replicate_config)
    replicate(model, **replicate_config)
"""


# Names


@pytest.mark.parametrize("ddp", ["enable_ddp", "wrap_whole", "apply_ddp_to_model"])
@pytest.mark.parametrize("fsdp", ["apply_fsdp", "shard_model", "_wrap_it"])
def test_functions_under_other_names(ddp, fsdp):
    after = written({PLAN: plan(("apply_fsdp", fsdp), ("apply_ddp", ddp))})
    assert CALL in after and MIRROR in after


def test_a_private_function_stays_private():
    after = written({PLAN: plan(("apply_ddp", "_apply_ddp"))})
    assert CALL.replace("apply_rep", "_apply_rep") in after
    assert MIRROR.replace("apply_rep", "_apply_rep") in after


def test_a_function_imported_under_another_name():
    ddp = (
        "from torch.distributed._composable.replicate import replicate\n\n\n"
        + APPLY_DDP.replace("apply_ddp", "enable_ddp")
    )
    here = plan(
        ("from torch.distributed._composable.replicate import replicate", "from pkg.ddp import enable_ddp as wrap"),
        ("apply_ddp(model, world", "wrap(model, world"),
        ddp="",
    )  # fmt: skip
    after = written({PLAN: here, "pkg/ddp.py": ddp})
    assert "from pkg.ddp import apply_replicate as wrap\n" in after
    assert CALL.replace("apply_replicate(", "wrap(") in after


def test_two_of_them_in_one_module_get_two_names():
    second = """

def enable_ddp(model, dp_mesh):
    replicate(model, device_mesh=dp_mesh)


def parallelize_b(model, world_mesh, parallel_dims):
    if parallel_dims.dp_shard_enabled:
        apply_fsdp(model, world_mesh["dp_shard"], torch.bfloat16, torch.float32)
    elif parallel_dims.dp_replicate_enabled:
        enable_ddp(model, world_mesh)
"""
    after = written({PLAN: plan() + second})
    assert MIRROR in after
    assert MIRROR.replace("def apply_", "def enable_") in after
    assert "        enable_replicate(\n            model,\n" in after


def test_a_function_that_no_plan_calls_is_not_meant():
    other = "\n\ndef teacher(model, mesh):\n    replicate(model, device_mesh=mesh)\n"
    after = written({PLAN: plan() + other})
    assert other in after and "replicate_with_fsdp(model, **" in after


# Where the mesh comes from


LOOKED_UP = [
    '    dp_mesh = parallel_dims.get_mesh("fsdp")\n',
    '    dp_mesh = parallel_dims.world_mesh["dp_shard_cp"]\n',
    '    names = ("dp_replicate", "dp_shard") if parallel_dims.hsdp else ("dp_shard",)\n    dp_mesh = parallel_dims.world_mesh[names]\n',
    '    if parallel_dims.dp_replicate_enabled:\n        dp_mesh = parallel_dims.mesh["dp_replicate", "dp_shard"]\n    else:\n        dp_mesh = parallel_dims.mesh["dp_shard"]\n',
]


@pytest.mark.parametrize("lines", LOOKED_UP)
def test_a_mesh_that_is_looked_up_inside(lines):
    fsdp = APPLY_FSDP.replace("dp_mesh, param", "parallel_dims, param")
    fsdp = fsdp.replace("    mp_policy", f"{lines}    mp_policy", 1)
    changed = plan(
        ('            world_mesh["dp_shard"],\n', "            parallel_dims,\n"),
        fsdp=fsdp,
    )
    after = written({PLAN: changed})
    assert CALL in after and MIRROR in after


def test_a_mesh_that_is_looked_up_in_the_call():
    fsdp = APPLY_FSDP.replace("dp_mesh, param", "parallel_dims, param").replace(
        '"mesh": dp_mesh', '"mesh": parallel_dims.get_mesh("fsdp")'
    )
    changed = plan(
        ('            world_mesh["dp_shard"],\n', "            parallel_dims,\n"),
        fsdp=fsdp,
    )
    assert MIRROR in written({PLAN: changed})


def test_a_slice_of_the_mesh_that_is_passed():
    """What is passed now is that slice already."""
    fsdp = APPLY_FSDP.replace(
        "    mp_policy", '    dp_mesh = dp_mesh["dp_shard"]\n    mp_policy', 1
    )
    assert MIRROR in written({PLAN: plan(fsdp=fsdp)})


EXPERTS = """\
def apply_fsdp(model, dp_mesh, param_dtype, reduce_dtype, moe_mesh=None):
    mp_policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
    fsdp_config = {"mesh": dp_mesh, "mp_policy": mp_policy}
    for block in model.layers.values():
        if moe_mesh is not None and block.is_moe:
            fully_shard(block.experts, mesh=moe_mesh, mp_policy=mp_policy)
        fully_shard(block, **fsdp_config)
    fully_shard(model, **fsdp_config)
"""


def test_a_mesh_of_experts_that_need_not_be_passed_is_not():
    assert MIRROR in written({PLAN: plan(fsdp=EXPERTS)})


def test_a_mesh_of_experts_that_serves_something_else_is_not_followed():
    fsdp = EXPERTS.replace("=None", "").replace("is not None", ".size() > 1")
    fsdp = fsdp.replace("moe_mesh .size", "moe_mesh.size")
    changed = plan(
        ('            world_mesh["dp_shard"],\n', '            world_mesh["dp_shard"],\n            moe_mesh=world_mesh["moe"],\n'),
        ("model.layers.values()", "model.stages"),
        fsdp=fsdp,
    )  # fmt: skip
    ((_, message, code),) = left({PLAN: changed})
    assert "uses moe_mesh for more than wrapping" in message
    assert code.startswith("def apply_replicate(")


# Parts of a model


def test_a_part_and_the_whole_by_the_same_function():
    part = """\
        apply_fsdp(
            model.vision,
            world_mesh["dp_shard"],
            param_dtype=torch.float32,
            reduce_dtype=torch.float32,
        )
"""
    after = written({PLAN: plan(("        apply_fsdp(\n            model,", f"{part}        apply_fsdp(\n            model,"))})  # fmt: skip
    fresh = part.replace("apply_fsdp", "apply_replicate").replace(
        "_shard", "_replicate"
    )
    assert fresh + CALL in after


@pytest.mark.parametrize(
    "before, reason",
    [
        ("        for block in model.vision.blocks:\n            fully_shard(block, mesh=world_mesh[\"dp_shard\"])\n", "also wraps block, under a condition or in a loop"),
        ("        policy = MixedPrecisionPolicy(torch.float32)\n        fully_shard(model.vision, mesh=world_mesh[\"dp_shard\"], mp_policy=policy)\n", "only set on the way there"),
    ],
)  # fmt: skip
def test_parts_that_are_not_followed_are_left_with_the_branch_to_write(before, reason):
    ((_, message, code),) = left({PLAN: plan(("        apply_fsdp(\n            model,", f"{before}        apply_fsdp(\n            model,"))})  # fmt: skip
    assert reason in message
    assert 'mesh=world_mesh["dp_replicate"]' in code and "apply_replicate(\n" in code


MESH_BEFORE = """\
        if parallel_dims.dp_replicate_enabled:
            names = ("dp_replicate", "dp_shard")
        else:
            names = ("dp_shard",)
        dp_mesh = world_mesh[names]
        kind = torch.float32
        apply_fsdp(model.text, dp_mesh, kind, reduce_dtype=kind)  # größer
        logger.info("Applied FSDP")
"""


def test_the_branch_to_write_is_without_what_made_the_mesh():
    head, _, rest = plan().partition("        apply_fsdp(\n            model,")
    _, _, rest = rest.partition("        )\n")
    ((_, _, code),) = left({PLAN: head + MESH_BEFORE + rest})
    assert code == (
        "kind = torch.float32\napply_replicate(\n"
        '    model.text, world_mesh["dp_replicate"], kind, reduce_dtype=kind\n)  # größer'
    )


def test_ddp_of_the_whole_beside_fsdp_of_a_part_is_left():
    ((_, message, _),) = left({PLAN: plan(("            model,\n            world_mesh[", "            model.text,\n            world_mesh["))})  # fmt: skip
    assert "ends with model.text" in message and "DDP wraps model" in message


# In the plan itself


IN_PLACE = """\
def parallelize(model, world_mesh, parallel_dims, job_config):
    if parallel_dims.dp_shard_enabled:
        dtype = TORCH_DTYPE_MAP[job_config.training.mixed_precision_param]
        mp_policy = MixedPrecisionPolicy(param_dtype=dtype)
        for block in model.layers.values():
            fully_shard(block, mesh=world_mesh["dp_shard"], mp_policy=mp_policy)
        fully_shard(model, mesh=world_mesh["dp_shard"], mp_policy=mp_policy)
    elif parallel_dims.dp_replicate_enabled:
        CALL
    return model
"""

FROM_THE_BRANCH = """\
def apply_replicate(model, dp_mesh, job_config):
    dtype = TORCH_DTYPE_MAP[job_config.training.mixed_precision_param]
    mp_policy = MixedPrecisionPolicy(param_dtype=dtype)
    for block in model.layers.values():
        replicate(block, mesh=dp_mesh, mp_policy=mp_policy)
    replicate(model, mesh=dp_mesh, mp_policy=mp_policy)
"""


@pytest.mark.parametrize(
    "call, ddp",
    [
        ("apply_ddp(model, world_mesh, enable_compile=False)", f"\n\n{APPLY_DDP}"),
        ("replicate(model, device_mesh=world_mesh, bucket_cap_mb=100)", ""),
    ],
)
def test_a_branch_that_shards_in_place(call, ddp):
    before = f"{IMPORTS}\n\n{IN_PLACE.replace('CALL', call)}{ddp}"
    after = written({PLAN: before})
    assert FROM_THE_BRANCH in after
    assert (
        '        apply_replicate(model, world_mesh["dp_replicate"], job_config=job_config)\n'
        in after
    )


def test_a_branch_that_does_something_else_too_is_not_copied():
    branch = IN_PLACE.replace("    elif", "        model.init_weights()\n    elif")
    before = f"{IMPORTS}\n\n{branch.replace('CALL', 'replicate(model, device_mesh=world_mesh)')}"
    ((_, message, _),) = left({PLAN: before})
    assert "also does `model.init_weights()`" in message


def test_an_inline_call_beside_an_imported_plan():
    sharding = f"{IMPORTS}\n\n{APPLY_FSDP}".replace(
        "from torch.distributed._composable.replicate import replicate\n", ""
    )
    here = plan(
        ("from torch.distributed._composable.fsdp import fully_shard, MixedPrecisionPolicy", "from pkg.sharding import apply_fsdp"),
        ("apply_ddp(model, world_mesh, enable_compile=False)", "replicate(model, device_mesh=world_mesh)"),
        fsdp="",
        ddp="",
    )  # fmt: skip
    result = run({PLAN: here, "pkg/sharding.py": sharding})
    assert result.problems == ()
    assert MIRROR in result.changes["pkg/sharding.py"].decode()
    after = result.changes[PLAN].decode()
    assert CALL in after and "import apply_fsdp, apply_replicate\n" in after


@pytest.mark.parametrize("name", ["apply_ddp", "wrap"])
def test_the_class_is_left(name):
    """What it returns is not the model."""
    changed = plan(
        ("apply_ddp(model, world_mesh, enable_compile=False)", f"model = {name}(model)"),
        ("import torch\n", "import torch\nfrom torch.nn.parallel import DistributedDataParallel as DDP\n"),
        ddp=f"def {name}(model):\n    return DDP(model)\n",
    )  # fmt: skip
    ((line, message, code),) = left({PLAN: changed})
    assert "DDP(model)" in changed.splitlines()[line - 1] and ".module" in message
    assert code == dedent(CALL).strip()


# Words


def test_words_of_the_mirror_are_true_of_replicate():
    fsdp = APPLY_FSDP.replace(
        """\
    for block in model.layers.values():
        fully_shard(block, **fsdp_config)
""",
        """\
    blocks = getattr(model, "layers", None)
    if blocks is None:
        logger.warning("nothing to shard")
    else:
        # FSDP prefetches the next block
        for block in blocks.values():
            fully_shard(block, **fsdp_config)
    if model.embed is None:
        raise ValueError("FSDP needs an embedding")
    # tied weights: FSDP has to shard both modules in one group
    fully_shard([model.embed, model.head], **fsdp_config)
""",
    )
    after = written(
        {
            PLAN: plan(
                ("import torch\n", "import torch\nfrom pkg.log import logger\n"),
                fsdp=fsdp,
            )
        }
    )
    fresh = """\
    blocks = getattr(model, "layers", None)
    if blocks is not None:
        for block in blocks.values():
            replicate(block, **replicate_config)
    if model.embed is None:
        raise ValueError("replicate needs an embedding")
    # tied weights: replicate has to wrap both modules in one group
    replicate([model.embed, model.head], **replicate_config)
    replicate(model, **replicate_config)
"""
    assert fresh in after


@pytest.mark.parametrize(
    "name", ["apply_ddp", "enable_ddp", "_apply_ddp", "wrap_whole"]
)
def test_under_a_target_that_keeps_the_name(name):
    after = written({PLAN: plan(("apply_ddp", name))}, target="2d")
    fresh = name if "ddp" in name else "apply_ddp"
    mirror = MIRROR.replace("apply_replicate", fresh)
    assert mirror.replace('"mesh"', '"device_mesh"') in after


def test_two_plans_of_one_module_that_share_apply_ddp():
    other = APPLY_FSDP.replace("apply_fsdp", "apply_vla_fsdp").replace(
        "model.layers.values()", "model.stages"
    )
    second = f"""

def parallelize_b(model, world_mesh, parallel_dims):
    if parallel_dims.dp_shard_enabled:
        apply_vla_fsdp(model, world_mesh["dp_shard"], torch.bfloat16, torch.float32)
    elif parallel_dims.dp_replicate_enabled:
        apply_ddp(model, world_mesh, enable_compile=False)


{other}"""
    after = written({PLAN: plan() + second})
    own = MIRROR.replace("apply_replicate", "apply_vla_replicate").replace(
        "model.layers.values()", "model.stages"
    )
    assert MIRROR in after and own in after
    assert "        apply_vla_replicate(\n            model,\n" in after
