"""What is decided of definitions and calls: whose mirror a function is, and the mesh and the arguments that a call gets."""

import pytest

from rewriting import LOOP, PLAIN, plan, wrapped
from support import (
    APPLY_AC,
    APPLY_FSDP,
    BASE,
    HERE,
    IMPORT,
    NAMED_MESHES,
    PLAN,
    PLAN_IMPORTS,
    assert_formatted,
    assert_left,
    assert_nothing_unused,
    assert_rewrites,
    findings,
    function,
    migrated,
    outcome,
    text,
)

# Several definitions


def test_a_copied_apply_ddp_becomes_the_mirror_of_its_neighbour():
    copied = plan().replace("model.layers.values()", "model.blocks")
    result = migrated({HERE: copied})
    assert "for block in model.layers.values():\n        replicate" in result[PLAN]
    assert "for block in model.blocks:\n        replicate" in result[HERE]
    assert_formatted(HERE, result[HERE])


OWN_PLAN = f"""
    import torch
    import torch.nn as nn
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import fully_shard, MixedPrecisionPolicy

    {IMPORT} apply_ddp


    def parallelize(model, world_mesh, job_config):
        if job_config.shard:
            apply_fsdp(
                model,
                world_mesh["dp_shard"],
                param_dtype=job_config.param,
                reduce_dtype=job_config.reduce,
            )
        else:
            apply_ddp(model, world_mesh, enable_compile=False)


    def apply_fsdp(
        model: nn.Module,
        dp_mesh: DeviceMesh,
        param_dtype: torch.dtype,
        reduce_dtype: torch.dtype,
    ):
        config = {{"mesh": dp_mesh, "mp_policy": MixedPrecisionPolicy(param_dtype)}}
        fully_shard(model.vision, **config)
        fully_shard(model, **config)


    LAST = True
"""


def test_a_folder_with_other_groups_gets_a_function_of_its_own():
    before = text(OWN_PLAN)
    result = migrated({HERE: before})
    after = result[HERE]
    assert "apply_ddp" not in after and IMPORT not in after
    assert function(after, "apply_replicate") == text(
        """
        def apply_replicate(model: nn.Module, dp_mesh: DeviceMesh, param_dtype: torch.dtype):
            config = {"mesh": dp_mesh, "mp_policy": MixedPrecisionPolicy(param_dtype)}
            replicate(model.vision, **config)
            replicate(model, **config)

            logger.info("Applied replicate to the model")
        """
    ) or "    param_dtype: torch.dtype,\n" in function(after, "apply_replicate")
    assert after.index("def apply_fsdp") < after.index("def apply_replicate")
    assert after.index("def apply_replicate") < after.index("LAST = True")
    assert_formatted(HERE, before)
    assert_formatted(HERE, after)
    assert_nothing_unused(before, after)
    assert (
        "gets its own" in findings({HERE: before}, code="TM101", path=HERE)[0].message
    )


def test_a_folder_with_the_same_groups_uses_the_shared_function():
    same = text(OWN_PLAN).split("def apply_fsdp")[0] + APPLY_FSDP
    result = migrated({HERE: same})[HERE]
    assert f"{IMPORT} apply_replicate\n" in result
    assert "def apply_replicate" not in result


def test_apply_ddp_in_a_file_without_apply_fsdp_mirrors_the_one_imported():
    here = f"""
        import torch
        import torch.nn as nn
        from torch.distributed._composable.replicate import replicate

        {IMPORT} apply_fsdp


        def apply_ddp(model: nn.Module, dp_mesh, enable_compile: bool):
            replicate(model, device_mesh=dp_mesh)


        def parallelize(model, world_mesh, job_config):
            if job_config.shard:
                apply_fsdp(model, world_mesh["dp_shard"], torch.bfloat16, torch.float32)
            else:
                apply_ddp(model, world_mesh, False)
    """
    result = migrated({HERE: here})[HERE]
    assert (
        text(
            f"""
        import torch
        import torch.nn as nn
        from torch.distributed._composable.replicate_with_fsdp import replicate
        from torch.distributed.device_mesh import DeviceMesh
        from torch.distributed.fsdp import MixedPrecisionPolicy

        {IMPORT} apply_fsdp


        def apply_replicate(
        """
        )
        in result
    )
    assert_formatted(HERE, text(here))
    assert_formatted(HERE, result)
    assert_nothing_unused(text(here), result)


def test_names_that_the_mirrored_module_defines_itself_are_imported():
    helper = (
        APPLY_FSDP.replace("**fsdp_config)\n", "**fsdp_config)\n    freeze(model)\n", 1)
        + "\n\ndef freeze(model):\n    pass\n"
    )
    here = f"""
        import torch.nn as nn
        from torch.distributed._composable.replicate import replicate

        {IMPORT} apply_fsdp


        def apply_ddp(model: nn.Module, dp_mesh, enable_compile: bool):
            replicate(model, device_mesh=dp_mesh)


        def parallelize(model, world_mesh, job_config):
            if job_config.shard:
                apply_fsdp(model, world_mesh["dp_shard"], job_config.a, job_config.b)
            else:
                apply_ddp(model, world_mesh, False)
    """
    result = migrated({HERE: here, PLAN: plan(helper)})[HERE]
    assert "import apply_fsdp, freeze\n" in result
    assert_formatted(HERE, result)
    assert_nothing_unused(text(here), result)


# The template


def test_template_where_there_is_no_apply_fsdp():
    result = migrated({PLAN: plan(apply_fsdp=APPLY_AC)})[PLAN]
    assert function(result, "apply_replicate") == text(
        """
        def apply_replicate(
            model: nn.Module,
            dp_mesh: DeviceMesh,
            param_dtype: torch.dtype,
            reduce_dtype: torch.dtype,
        ):
            mp_policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
            replicate_config = {"mesh": dp_mesh, "mp_policy": mp_policy}

            for transformer_block in model.layers.children():
                replicate(transformer_block, **replicate_config)
            replicate(model, **replicate_config)

            logger.info("Applied replicate to the model")
        """
    )
    assert_formatted(PLAN, result)


def test_template_in_two_dimensions_under_a_dividing_loop():
    result = migrated({PLAN: plan(apply_fsdp=APPLY_AC), **LOOP}, "2d")[PLAN]
    assert '{"device_mesh": dp_mesh, "mp_policy": mp_policy}' in result
    assert "            module.set_gradient_divide_factor(1.0)\n" in result
    assert_formatted(PLAN, result)


def test_no_template_for_a_model_that_is_not_seen_to_have_layers():
    result = outcome({PLAN: plan(apply_fsdp="")})
    assert result.changes == {}
    (left,) = [f for f in result.findings if f.status == "left"]
    assert (left.path, left.code) == (PLAN, "TM101")
    assert "no apply_fsdp" in left.message and "`layers`" in left.message
    assert left.suggestion.startswith("def apply_replicate(\n")


def test_layers_of_the_model_beside_the_plan_count():
    model = """
        import torch.nn as nn


        class Transformer(nn.Module):
            def __init__(self, n_layers):
                super().__init__()
                self.layers = nn.ModuleList(Block() for _ in range(n_layers))
    """
    files = {
        PLAN: plan(apply_fsdp=""),
        "torchtitan/models/llama3/model.py": model,
    }
    assert "model.layers.children()" in migrated(files)[PLAN]


def test_apply_fsdp_without_a_mesh_or_wraps_falls_back_to_the_template():
    for shape, reason in [
        ("def apply_fsdp(model):\n    fully_shard(model)\n", "takes no mesh"),
        ("def apply_fsdp(model, mesh):\n    wrap(model, mesh)\n", "never calls"),
        (
            "def apply_fsdp(model, mesh):\n    while True:\n        fully_shard(model)\n",
            "inside a While",
        ),
        (
            "def apply_fsdp(model, x):\n    fully_shard(model)\n",
            "none of its parameters",
        ),
    ]:
        found = findings({PLAN: plan(f"{APPLY_AC}\n\n{shape}")}, code="TM210")
        assert len(found) == 1 and reason in found[0].message


DIMS = "torchtitan/distributed/parallel_dims.py"


# What a call becomes


def test_dtypes_come_from_the_call_of_apply_fsdp_beside_it():
    assert_rewrites(
        f"""
        {IMPORT} apply_ddp, apply_fsdp


        def parallelize(model, world_mesh, job_config):
            if job_config.shard:
                apply_fsdp(
                    model,
                    world_mesh["dp_shard"],
                    param_dtype=DTYPES[job_config.training.mixed_precision_param],
                    reduce_dtype=DTYPES[job_config.training.mixed_precision_reduce],
                )
            else:
                apply_ddp(model, world_mesh, enable_compile=job_config.compile)
        """,
        f"""
        {IMPORT} apply_fsdp, apply_replicate


        def parallelize(model, world_mesh, job_config):
            if job_config.shard:
                apply_fsdp(
                    model,
                    world_mesh["dp_shard"],
                    param_dtype=DTYPES[job_config.training.mixed_precision_param],
                    reduce_dtype=DTYPES[job_config.training.mixed_precision_reduce],
                )
            else:
                apply_replicate(
                    model,
                    world_mesh["dp_replicate"],
                    param_dtype=DTYPES[job_config.training.mixed_precision_param],
                    reduce_dtype=DTYPES[job_config.training.mixed_precision_reduce],
                )
        """,
    )


def test_dtypes_in_a_dictionary_are_left():
    assert_left(
        f"""
        {IMPORT} apply_ddp, apply_fsdp


        def parallelize(model, world_mesh, job_config):
            kinds = dict(param_dtype=job_config.a, reduce_dtype=job_config.b)
            if job_config.shard:
                apply_fsdp(model, world_mesh["dp_shard"], **kinds)
            else:
                apply_ddp(model, world_mesh, enable_compile=False)
        """,
        "no value in reach for param_dtype",
    )


def test_names_set_on_the_way_to_apply_fsdp_are_left():
    assert_left(
        f"""
        {IMPORT} apply_ddp, apply_fsdp


        def parallelize(model, world_mesh, job_config):
            if job_config.shard:
                kind = job_config.dtype
                apply_fsdp(model, world_mesh["dp_shard"], kind, kind)
            else:
                apply_ddp(model, world_mesh, enable_compile=False)
        """,
        "needs kind, which is only set on the way to apply_fsdp",
    )


def test_names_set_before_both_branches_are_used():
    result = migrated(
        {
            HERE: f"""
            {IMPORT} apply_ddp, apply_fsdp


            def parallelize(model, world_mesh, job_config):
                kind = job_config.dtype
                if job_config.shard:
                    apply_fsdp(model, world_mesh["dp_shard"], kind, kind)
                else:
                    apply_ddp(model, world_mesh, enable_compile=False)
            """
        }
    )
    assert "param_dtype=kind, reduce_dtype=kind" in result[HERE]


def test_values_for_another_object_are_never_taken():
    assert_left(
        f"""
        {IMPORT} apply_ddp, apply_fsdp


        def parallelize(models, world_mesh, job_config):
            if job_config.shard:
                for model, kind in models:
                    apply_fsdp(model, world_mesh["dp_shard"], kind, kind)
            else:
                apply_ddp(models[0], world_mesh, enable_compile=False)
        """,
        r"ends with model, on line 7, and DDP wraps models\[0\]",
    )


def test_apply_fsdp_in_another_function_of_the_file():
    result = migrated(
        {
            HERE: f"""
            {IMPORT} apply_ddp, apply_fsdp


            def shard(model, world_mesh, job_config):
                apply_fsdp(
                    model,
                    world_mesh["dp_shard"],
                    param_dtype=job_config.a,
                    reduce_dtype=job_config.b,
                )


            def replicate(model, world_mesh, job_config):
                apply_ddp(model, world_mesh, enable_compile=job_config.compile)
            """
        }
    )[HERE]
    assert (
        "        param_dtype=job_config.a,\n        reduce_dtype=job_config.b,\n"
        in result
    )


def test_values_of_another_function_that_are_not_in_reach_here():
    """`config` is a parameter of the one function only."""
    result = outcome(
        {
            HERE: f"""
            {IMPORT} apply_ddp, apply_fsdp


            def shard(model, world_mesh, config):
                apply_fsdp(model, world_mesh["dp_shard"], config.a, config.b)


            def replicate(model, world_mesh, training):
                apply_ddp(model, world_mesh, enable_compile=training.compile)
            """
        }
    )
    assert result.changes == {} and result.problems


def test_values_of_another_function_whose_names_mean_something_else_here():
    result = outcome(
        {
            HERE: f"""
            {IMPORT} apply_ddp, apply_fsdp


            def shard(model, world_mesh, job_config):
                kind = job_config.dtype
                apply_fsdp(model, world_mesh["dp_shard"], kind, kind)


            def replicate(model, world_mesh, kind):
                apply_ddp(model, world_mesh, enable_compile=kind == "compiled")
            """
        }
    )
    assert b"param_dtype=kind" not in result.changes.get(HERE, b"")


def test_a_call_in_a_nested_function_gets_its_names_from_outside():
    result = migrated(
        {
            HERE: f"""
            {IMPORT} apply_ddp, apply_fsdp


            def parallelize(model, world_mesh, job_config):
                def shard():
                    apply_fsdp(model, world_mesh["dp_shard"], job_config.a, job_config.b)

                def replicate():
                    apply_ddp(model, world_mesh, enable_compile=False)

                shard() if job_config.shard else replicate()
            """
        }
    )[HERE]
    assert "            param_dtype=job_config.a,\n" in result


@pytest.mark.parametrize("call", ["apply_ddp(*arguments)", "apply_ddp(**arguments)"])
def test_unpacked_arguments_are_left(call):
    assert_left(
        f"""
        {IMPORT} apply_ddp


        def parallelize(arguments):
            {call}
        """,
        "passes arguments by",
        files=PLAIN,
    )


# The mesh


def assert_mesh(lines, expected, target="1d", files=()):
    before, files, target = wrapped(lines, files, target)
    name = "apply_replicate" if target == "1d" else "apply_ddp"
    after = f"{IMPORT} {name}\n" + before.split("\n", 1)[1].split("    ", 1)[0]
    after += "".join(f"    {line}\n" for line in text(expected).splitlines())
    assert_rewrites(before, after, files=files, target=target)


NAMED = {DIMS: NAMED_MESHES}


@pytest.mark.parametrize(
    "mesh, one, two",
    [
        (
            "world_mesh",
            'world_mesh["dp_replicate"]',
            'world_mesh["dp_replicate", "dp_shard"]',
        ),
        (
            "parallel_dims.world_mesh",
            'parallel_dims.world_mesh["dp_replicate"]',
            'parallel_dims.world_mesh["dp_replicate", "dp_shard"]',
        ),
        (
            'world_mesh["dp_replicate"]',
            'world_mesh["dp_replicate"]',
            'world_mesh["dp_replicate", "dp_shard"]',
        ),
        (
            'world_mesh[("dp_replicate",)]',
            'world_mesh["dp_replicate"]',
            'world_mesh["dp_replicate", "dp_shard"]',
        ),
    ],
)
def test_world_mesh(mesh, one, two):
    assert_mesh(f"apply_ddp(model, {mesh}, False)", f"apply_replicate(model, {one})")
    assert_mesh(f"apply_ddp(model, {mesh}, False)", f"apply_ddp(model, {two})", "2d")


@pytest.mark.parametrize("getter", ["get_mesh", "get_optional_mesh"])
def test_named_mesh(getter):
    call = f"apply_ddp(model, parallel_dims.{getter}('dp_replicate'), 0)".replace(
        "'", '"'
    )
    assert_mesh(
        call,
        f'apply_replicate(model, parallel_dims.{getter}("dp_replicate"))',
        files=NAMED,
    )
    assert_mesh(
        call,
        f'apply_ddp(model, parallel_dims.{getter}(["dp_replicate", "fsdp"]))',
        "2d",
        files=NAMED,
    )


def test_variable_in_the_same_block():
    assert_mesh(
        """
        if parallel_dims.dp_replicate_enabled:
            dp_mesh = parallel_dims.get_mesh("dp_replicate")
            apply_ddp(model, dp_mesh, False)
        """,
        """
        if parallel_dims.dp_replicate_enabled:
            dp_mesh = parallel_dims.get_mesh("dp_replicate")
            apply_replicate(model, dp_mesh)
        """,
        files=NAMED,
    )


def test_variable_in_the_same_block_in_two_dimensions():
    assert_mesh(
        """
        if parallel_dims.dp_replicate_enabled:
            dp_mesh = parallel_dims.get_mesh("dp_replicate")
            apply_ddp(model, dp_mesh, False)
        """,
        """
        if parallel_dims.dp_replicate_enabled:
            dp_mesh = parallel_dims.get_mesh(["dp_replicate", "fsdp"])
            apply_ddp(model, dp_mesh)
        """,
        "2d",
        files=NAMED,
    )


def test_variable_of_the_world_mesh_in_the_same_block():
    assert_mesh(
        """
        dp_mesh = world_mesh
        apply_ddp(model, dp_mesh, False)
        """,
        """
        dp_mesh = world_mesh["dp_replicate"]
        apply_replicate(model, dp_mesh)
        """,
    )


def test_variable_that_something_else_reads_keeps_its_value():
    before, files, _ = wrapped(
        """
        mesh = world_mesh
        apply_ddp(model, mesh, False)
        apply_tp(model, mesh["tp"])
        """
    )
    result = outcome({**files, HERE: before})
    if result.changes:
        assert b"    mesh = world_mesh\n" in result.changes[HERE]


def test_variable_set_again_after_the_call_keeps_that():
    before, files, _ = wrapped(
        """
        mesh = world_mesh
        apply_ddp(model, mesh, False)
        mesh = world_mesh["tp"]
        apply_tp(model, mesh)
        """
    )
    result = outcome({**files, HERE: before})
    if result.changes:
        assert b'    mesh = world_mesh["tp"]\n' in result.changes[HERE]


def test_world_mesh_set_at_the_top():
    assert_mesh(
        """
        world_mesh = parallel_dims.world_mesh
        if parallel_dims.dp_replicate_enabled:
            apply_ddp(model, world_mesh, False)
        """,
        """
        world_mesh = parallel_dims.world_mesh
        if parallel_dims.dp_replicate_enabled:
            apply_replicate(model, world_mesh["dp_replicate"])
        """,
    )


def test_variable_at_the_top_that_only_the_call_read_goes():
    assert_mesh(
        """
        mesh = parallel_dims.world_mesh
        if parallel_dims.dp_replicate_enabled:
            apply_ddp(model, mesh, False)
        """,
        """
        mesh = parallel_dims.world_mesh
        if parallel_dims.dp_replicate_enabled:
            apply_replicate(model, mesh["dp_replicate"])
        """,
    )


def test_variable_set_in_both_branches_is_left_or_right():
    before, files, _ = wrapped(
        """
        if parallel_dims.cp:
            mesh = world_mesh["dp_replicate"]
        else:
            mesh = world_mesh["dp_replicate"]
        apply_ddp(model, mesh, False)
        """
    )
    result = outcome({**files, HERE: before})
    assert result.problems or b"apply_replicate(model, mesh)" in result.changes[HERE]


@pytest.mark.parametrize(
    "mesh", ["self.mesh", 'world_mesh["dp"]', "build_mesh()", "meshes[0]", "dp_mesh"]
)
def test_an_unknown_mesh_is_left(mesh):
    before, files, _ = wrapped(f"apply_ddp(model, {mesh}, False)")
    assert_left(before, "it is not clear which mesh", files=files)


def test_a_mesh_parameter_of_unknown_shape_is_left():
    assert_left(
        f"""
        {IMPORT} apply_ddp


        def helper(model, mesh):
            apply_ddp(model, mesh, False)
        """,
        "comes in as a parameter",
        files=PLAIN,
    )


def test_a_keyword_only_mesh_parameter_is_left():
    assert_left(
        f"""
        {IMPORT} apply_ddp


        def helper(model, *, mesh):
            apply_ddp(model, mesh, False)
        """,
        "which mesh mesh is|comes in as a parameter",
        files=PLAIN,
    )


def test_base_needs_no_dtypes_for_a_call_from_the_definition_on():
    assert "apply_fsdp" in APPLY_FSDP


@pytest.mark.parametrize(
    "calls",
    [
        "apply_fsdp(model, world_mesh, **dtypes)",
        "apply_fsdp(model, world_mesh, *dtypes)",
        "apply_fsdp(model, world_mesh, a, b) if offload else "
        "apply_fsdp(model, world_mesh, c, d)",
    ],
)
def test_dtypes_that_cannot_be_told_are_left(calls):
    result = outcome(
        {
            HERE: f"""
            {IMPORT} apply_ddp, apply_fsdp


            def parallelize(model, world_mesh, dtypes, offload, a, b, c, d):
                if offload:
                    {calls}
                else:
                    apply_ddp(model, world_mesh, False)
            """
        }
    )
    assert not result.changes
    assert any(f.code == "TM102" and f.status == "left" for f in result.findings)


def test_a_dtype_set_again_on_the_way_to_apply_fsdp_is_left():
    result = outcome(
        {
            HERE: f"""
            {IMPORT} apply_ddp, apply_fsdp


            def parallelize(model, world_mesh, job_config):
                kind = job_config.a
                if job_config.shard:
                    kind = job_config.b
                    apply_fsdp(model, world_mesh, kind, kind)
                else:
                    apply_ddp(model, world_mesh, False)
            """
        }
    )
    assert not result.changes


def test_several_calls_are_told_apart_by_line():
    """Two calls in one function, one in a lambda whose parameter hides the name."""
    result = outcome(
        {
            **PLAIN,
            HERE: f"""
            {IMPORT} apply_ddp


            def parallelize(model, world_mesh):
                run = lambda apply_ddp: apply_ddp(model, world_mesh, 1)
                apply_ddp(model, world_mesh, 2)
                return run
            """,
        }
    )
    assert b"lambda apply_ddp: apply_ddp(model, world_mesh, 1)" in result.changes[HERE]
    assert b"    apply_replicate(model, world_mesh[" in result.changes[HERE]


# Parts of a model

PARTS = f"""\
{IMPORT} apply_ddp, apply_fsdp


def parallelize(model, world_mesh, job_config):
    if job_config.shard:
        apply_fsdp(model.vision, world_mesh["dp_shard"], job_config.a, job_config.b)
        apply_fsdp(model.text, world_mesh["dp_shard"], job_config.c, job_config.d)
    else:
        apply_ddp(model.text, world_mesh, False)
        apply_ddp(model.vision, world_mesh, False)
"""


def test_parts_that_are_wrapped_one_by_one_go_one_by_one():
    after = migrated({HERE: PARTS})[HERE]
    (text_, vision) = after.split("apply_replicate(\n")[1:]
    assert "model.text," in text_ and "param_dtype=job_config.c" in text_
    assert "model.vision," in vision and "param_dtype=job_config.a" in vision


def test_a_part_that_ddp_does_not_wrap_is_not_added():
    before = PARTS.replace("        apply_ddp(model.vision, world_mesh, False)\n", "")
    left = assert_left(
        before, "also wraps model.vision, which is not seen to be a part"
    )
    assert "model.text" in left.suggestion


@pytest.mark.parametrize(
    "head, part", [("", "model.vision"), ("    vision = model.vision\n", "vision")]
)
def test_a_part_and_then_the_model(head, part):
    before = PARTS.replace("        apply_ddp(model.vision, world_mesh, False)\n", "")
    before = before.replace("model.text", "model").replace("model.vision", part)
    before = before.replace("    if job", f"{head}    if job")
    after = migrated({HERE: before})[HERE]
    (first, second) = after.split("apply_replicate(\n")[1:]
    assert f" {part}," in first and " model," in second


def test_a_function_for_a_part_does_not_speak_of_the_model():
    encoder = "\n\ndef apply_fsdp_encoder(encoder, mesh):\n    for block in encoder.blocks:\n        fully_shard(block, mesh=mesh)\n"
    before = f"""\
{IMPORT} apply_ddp, apply_fsdp, apply_fsdp_encoder


def parallelize(model, world_mesh, job_config):
    if job_config.shard:
        apply_fsdp_encoder(model.encoder, world_mesh["dp_shard"])
        apply_fsdp(model, world_mesh["dp_shard"], job_config.a, job_config.b)
    else:
        apply_ddp(model, world_mesh, False)
"""
    result = migrated({HERE: before, PLAN: BASE[PLAN] + encoder})
    assert 'apply_replicate_encoder(model.encoder, world_mesh["dp_replicate"])' in result[HERE]  # fmt: skip
    assert result[PLAN].count("Applied replicate to the model") == 1


# The value of a call

VALUE = f"""\
{PLAN_IMPORTS}

def parallelize(model, world_mesh, job_config):
    if job_config.shard:
        apply_fsdp(model, world_mesh["dp_shard"])
    else:
        CALL
    return model


def apply_fsdp(model: nn.Module, dp_mesh: DeviceMesh):
    fully_shard(model, mesh=dp_mesh)
"""
DDP = """

def apply_ddp(model, dp_mesh):
    BODY
"""
WRAPS = "replicate(model, device_mesh=dp_mesh)"


@pytest.mark.parametrize(
    "body",
    [
        f"return {WRAPS}",
        f"model = {WRAPS}\n    return model",
        f"wrapped = {WRAPS}\n    return wrapped",
        f"{WRAPS}\n    return model",
    ],
)
def test_a_value_that_is_used_is_returned(body):
    before = VALUE.replace("CALL", "model = apply_ddp(model, world_mesh)")
    after = migrated({PLAN: before + DDP.replace("BODY", body)})[PLAN]
    assert 'model = apply_replicate(model, world_mesh["dp_replicate"])' in after
    assert function(after, "apply_replicate").endswith("\n    return model\n")


@pytest.mark.parametrize("call", ["model = WRAPS", "return WRAPS"])
def test_the_value_of_a_call_in_a_plan_is_returned(call):
    call = call.replace("WRAPS", "replicate(model, device_mesh=world_mesh)")
    after = migrated({PLAN: VALUE.replace("CALL", call)})[PLAN]
    assert function(after, "apply_replicate").endswith("\n    return model\n")


def test_nothing_is_returned_that_nobody_wants():
    before = VALUE.replace("CALL", "apply_ddp(model, world_mesh)")
    after = migrated({PLAN: before + DDP.replace("BODY", WRAPS)})[PLAN]
    assert "return" not in function(after, "apply_replicate")


def test_another_value_that_is_used_is_left():
    before = VALUE.replace("CALL", "model, handle = apply_ddp(model, world_mesh)")
    before += DDP.replace("BODY", f"{WRAPS}\n    return model, None")
    left = assert_left(before, r"used for its value, \(model, None\)", path=PLAN)
    assert left.suggestion == 'apply_replicate(model, world_mesh["dp_replicate"])'


def test_a_function_that_is_there_has_to_return_what_is_used():
    fresh = "torch.distributed._composable.replicate_with_fsdp import replicate"
    ready = f"from {fresh}\n\n\ndef apply_replicate(model, dp_mesh):\n    replicate(model, mesh=dp_mesh)\n"
    before = "from torchtitan.ready import apply_replicate as apply_ddp\n\n\ndef parallelize(model, world_mesh):\n    model = apply_ddp(model, world_mesh)\n"
    result = outcome({HERE: before, "torchtitan/ready.py": ready})
    left = [f for f in result.findings if f.status == "left"]
    assert [f.path for f in left] == [HERE]
    assert "apply_replicate does not return its model" in left[0].message
