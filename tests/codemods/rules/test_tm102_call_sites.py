"""TM102: every import and every call of ``apply_ddp``."""

import pytest

from support import (
    APPLY_DDP,
    APPLY_FSDP,
    GLOBAL_TOKENS,
    HERE,
    IMPORT,
    NAMED_MESHES,
    PLAN,
    PLAN_IMPORTS,
    assert_left,
    assert_noop,
    assert_rewrites,
    findings,
    migrated,
    outcome,
    text,
)

DIMS = "torchtitan/distributed/parallel_dims.py"

# In BASE apply_fsdp wants dtypes. Where these are beside the point, a test takes this.
PLAIN = {
    PLAN: f"""{PLAN_IMPORTS}

def apply_fsdp(model: nn.Module, dp_mesh: DeviceMesh):
    fully_shard(model, mesh=dp_mesh)


{APPLY_DDP}"""
}


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


def test_two_dimensional_target():
    assert_rewrites(
        f"""
        {IMPORT} apply_ddp, apply_fsdp


        def parallelize(model, world_mesh, job_config):
            if job_config.shard:
                apply_fsdp(model, world_mesh["dp_shard"], torch.bfloat16, torch.float32)
            else:
                apply_ddp(model, world_mesh, enable_compile=job_config.compile)
        """,
        f"""
        {IMPORT} apply_ddp, apply_fsdp


        def parallelize(model, world_mesh, job_config):
            if job_config.shard:
                apply_fsdp(model, world_mesh["dp_shard"], torch.bfloat16, torch.float32)
            else:
                apply_ddp(
                    model,
                    world_mesh["dp_replicate", "dp_shard"],
                    param_dtype=torch.bfloat16,
                    reduce_dtype=torch.float32,
                )
        """,
        target="2d",
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


def test_keyword_arguments():
    assert_rewrites(
        f"""
        {IMPORT} apply_ddp


        def parallelize(net, world_mesh, job_config):
            apply_ddp(enable_compile=job_config.compile, dp_mesh=world_mesh, model=net)
        """,
        f"""
        {IMPORT} apply_replicate


        def parallelize(net, world_mesh, job_config):
            apply_replicate(net, world_mesh["dp_replicate"])
        """,
        files=PLAIN,
    )


def test_positional_arguments_only():
    assert_rewrites(
        f"""
        {IMPORT} apply_ddp


        def parallelize(model, world_mesh, config):
            apply_ddp(model, world_mesh, False)
        """,
        f"""
        {IMPORT} apply_replicate


        def parallelize(model, world_mesh, config):
            apply_replicate(model, world_mesh["dp_replicate"])
        """,
        files=PLAIN,
    )


@pytest.mark.parametrize("call", ["apply_ddp(*arguments)", "apply_ddp(**arguments)"])
def test_unpacked_arguments_are_left(call):
    assert_left(
        f"""
        {IMPORT} apply_ddp


        def parallelize(arguments):
            {call}
        """,
        "passes no",
        files=PLAIN,
    )


def test_magic_trailing_comma_stays():
    assert_rewrites(
        f"""
        {IMPORT} apply_ddp


        def parallelize(model, world_mesh, config):
            apply_ddp(
                model,
                world_mesh,
                enable_compile=False,
            )
        """,
        f"""
        {IMPORT} apply_replicate


        def parallelize(model, world_mesh, config):
            apply_replicate(
                model,
                world_mesh["dp_replicate"],
            )
        """,
        files=PLAIN,
    )


def test_comments_around_the_call_stay():
    assert_rewrites(
        f"""
        {IMPORT} apply_ddp  # the wrapper


        def parallelize(model, world_mesh, config):
            # before
            apply_ddp(model, world_mesh, False)  # beside
            # after
        """,
        f"""
        {IMPORT} apply_replicate  # the wrapper


        def parallelize(model, world_mesh, config):
            # before
            apply_replicate(model, world_mesh["dp_replicate"])  # beside
            # after
        """,
        files=PLAIN,
    )


def test_comments_inside_the_call_are_not_lost():
    result = outcome(
        {
            **PLAIN,
            HERE: f"""
            {IMPORT} apply_ddp


            def parallelize(model, world_mesh, config):
                apply_ddp(
                    model,  # the vision tower stays out
                    world_mesh,
                    False,
                )
            """,
        }
    )
    assert not result.changes or b"# the vision tower stays out" in result.changes[HERE]


def test_the_value_of_a_call_can_be_used():
    result = migrated(
        {
            **PLAIN,
            HERE: f"""
            {IMPORT} apply_ddp

            wrap = lambda model, world_mesh: apply_ddp(model, world_mesh, False)
            """,
        }
    )[HERE]
    assert "wrap = lambda model, world_mesh: apply_replicate(" in result


def test_several_calls_in_one_function():
    assert_rewrites(
        f"""
        {IMPORT} apply_ddp


        def parallelize(first, second, world_mesh, config):
            apply_ddp(first, world_mesh, False)
            apply_ddp(second, world_mesh, True)
        """,
        f"""
        {IMPORT} apply_replicate


        def parallelize(first, second, world_mesh, config):
            apply_replicate(first, world_mesh["dp_replicate"])
            apply_replicate(second, world_mesh["dp_replicate"])
        """,
        files=PLAIN,
    )


def test_deep_calls_are_laid_out_for_their_depth():
    assert_rewrites(
        f"""
        {IMPORT} apply_ddp


        class Trainer:
            def build(self, parallel_dims, config):
                if self.ready:
                    for model_part in self.model_parts:
                        with self.context(model_part.very_own_context):
                            if model_part.replicas:
                                apply_ddp(model_part, parallel_dims.world_mesh, False)
        """,
        f"""
        {IMPORT} apply_replicate


        class Trainer:
            def build(self, parallel_dims, config):
                if self.ready:
                    for model_part in self.model_parts:
                        with self.context(model_part.very_own_context):
                            if model_part.replicas:
                                apply_replicate(
                                    model_part, parallel_dims.world_mesh["dp_replicate"]
                                )
        """,
        files=PLAIN,
    )


# The mesh


def wrapped(lines, files=(), target="1d"):
    """A function with these lines, before (and hopefully after)."""
    before = f"{IMPORT} apply_ddp\n\n\ndef parallelize(model, world_mesh, parallel_dims, config):\n"
    before += "".join(f"    {line}\n" for line in text(lines).splitlines())
    return before, {**PLAIN, **dict(files)}, target


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


def test_left_calls_suggest_what_to_write():
    before, files, _ = wrapped("apply_ddp(model, self.mesh, False)")
    left = assert_left(before, "which mesh", files=files)
    assert left.suggestion == 'apply_replicate(model, world_mesh["dp_replicate"])'


# Spellings


CALL = "(model, world_mesh, False)"
FRESH = '(model, world_mesh["dp_replicate"])'


@pytest.mark.parametrize(
    "imported, called, after_imported, after_called",
    [
        (
            f"{IMPORT} apply_ddp",
            "apply_ddp",
            f"{IMPORT} apply_replicate",
            "apply_replicate",
        ),
        (
            f"{IMPORT} apply_ddp as wrap",
            "wrap",
            f"{IMPORT} apply_replicate as wrap",
            "wrap",
        ),
        (
            f"{IMPORT} apply_ddp as apply_ddp",
            "apply_ddp",
            f"{IMPORT} apply_replicate",
            "apply_replicate",
        ),
        (
            "import torchtitan.models.llama3.parallelize",
            "torchtitan.models.llama3.parallelize.apply_ddp",
            "import torchtitan.models.llama3.parallelize",
            "torchtitan.models.llama3.parallelize.apply_replicate",
        ),
        (
            "import torchtitan.models.llama3.parallelize as plan",
            "plan.apply_ddp",
            "import torchtitan.models.llama3.parallelize as plan",
            "plan.apply_replicate",
        ),
        (
            "from torchtitan.models.llama3 import parallelize as plan",
            "plan.apply_ddp",
            "from torchtitan.models.llama3 import parallelize as plan",
            "plan.apply_replicate",
        ),
        (
            "from torchtitan.models import llama3",
            "llama3.parallelize.apply_ddp",
            "from torchtitan.models import llama3",
            "llama3.parallelize.apply_replicate",
        ),
        (
            "from ..llama3.parallelize import apply_ddp",
            "apply_ddp",
            "from ..llama3.parallelize import apply_replicate",
            "apply_replicate",
        ),
        (
            "from ..llama3 import parallelize",
            "parallelize.apply_ddp",
            "from ..llama3 import parallelize",
            "parallelize.apply_replicate",
        ),
        (
            f"{IMPORT} *",
            "apply_ddp",
            f"{IMPORT} *",
            "apply_replicate",
        ),
    ],
)
def test_spelling(imported, called, after_imported, after_called):
    function = "\n\n\ndef parallelize(model, world_mesh, config):\n    "
    after_call = f"{after_called}{FRESH}"
    if len(after_call) > 84:
        after_call = f"{after_called}(\n        {FRESH[1:-1]}\n    )"
    assert_rewrites(
        f"{imported}{function}{called}{CALL}\n",
        f"{after_imported}{function}{after_call}\n",
        files=PLAIN,
    )


def test_parenthesised_import_is_sorted_again():
    assert_rewrites(
        f"""
        {IMPORT} (
            apply_ac,
            apply_ddp,
            apply_fsdp,
            apply_tensor_parallel,
        )


        def parallelize(model, world_mesh, config):
            apply_ac(model)
            apply_tensor_parallel(model)
            if model.small:
                apply_ddp(model, world_mesh, False)
            else:
                apply_fsdp(model, world_mesh["dp_shard"])
        """,
        f"""
        {IMPORT} (
            apply_ac,
            apply_fsdp,
            apply_replicate,
            apply_tensor_parallel,
        )


        def parallelize(model, world_mesh, config):
            apply_ac(model)
            apply_tensor_parallel(model)
            if model.small:
                apply_replicate(model, world_mesh["dp_replicate"])
            else:
                apply_fsdp(model, world_mesh["dp_shard"])
        """,
        files=PLAIN,
    )


def test_comments_in_a_parenthesised_import_stay():
    result = migrated(
        {
            **PLAIN,
            HERE: f"""
            {IMPORT} (
                apply_ac,  # checkpointing
                apply_ddp,  # replicas
                # the sharded one
                apply_fsdp,
            )


            def parallelize(model, world_mesh, config):
                apply_ac(model), apply_fsdp(model, world_mesh["dp_shard"])
                apply_ddp(model, world_mesh, False)
            """,
        }
    )[HERE]
    for comment in ("# checkpointing", "# replicas", "# the sharded one"):
        assert comment in result


def test_function_local_import():
    assert_rewrites(
        f"""
        def parallelize(model, world_mesh, config):
            {IMPORT} apply_ddp

            apply_ddp(model, world_mesh, False)
        """,
        f"""
        def parallelize(model, world_mesh, config):
            {IMPORT} apply_replicate

            apply_replicate(model, world_mesh["dp_replicate"])
        """,
        files=PLAIN,
    )


def test_function_local_import_beside_another_function_without():
    assert_rewrites(
        f"""
        def parallelize(model, world_mesh, config):
            {IMPORT} apply_ddp

            apply_ddp(model, world_mesh, False)


        def elsewhere(apply_ddp, model, world_mesh):
            apply_ddp(model, world_mesh, False)
        """,
        f"""
        def parallelize(model, world_mesh, config):
            {IMPORT} apply_replicate

            apply_replicate(model, world_mesh["dp_replicate"])


        def elsewhere(apply_ddp, model, world_mesh):
            apply_ddp(model, world_mesh, False)
        """,
        files=PLAIN,
    )


def test_conditional_import_in_the_call_branch():
    assert_rewrites(
        f"""
        def parallelize(model, world_mesh, job_config):
            if job_config.replicas > 1:
                {IMPORT} apply_ddp

                apply_ddp(model, world_mesh, False)
        """,
        f"""
        def parallelize(model, world_mesh, job_config):
            if job_config.replicas > 1:
                {IMPORT} apply_replicate

                apply_replicate(model, world_mesh["dp_replicate"])
        """,
        files=PLAIN,
    )


def test_type_checking_import():
    assert_rewrites(
        f"""
        from typing import TYPE_CHECKING

        if TYPE_CHECKING:
            {IMPORT} apply_ddp


        def parallelize(model, world_mesh, config):
            apply_ddp(model, world_mesh, False)
        """,
        f"""
        from typing import TYPE_CHECKING

        if TYPE_CHECKING:
            {IMPORT} apply_replicate


        def parallelize(model, world_mesh, config):
            apply_replicate(model, world_mesh["dp_replicate"])
        """,
        files=PLAIN,
    )


def test_import_in_try_with_another_place_in_except():
    """Both imports bind one name, so both have to bind the new one."""
    result = outcome(
        {
            **PLAIN,
            HERE: f"""
            try:
                from somewhere.else_ import apply_ddp
            except ImportError:
                {IMPORT} apply_ddp


            def parallelize(model, world_mesh, config):
                apply_ddp(model, world_mesh, False)
            """,
        }
    )
    if result.changes:
        after = result.changes[HERE].decode()
        assert (
            "apply_replicate(model" not in after
            or "else_ import apply_ddp\n" not in after
        )


def test_import_in_try_with_none_in_except():
    result = outcome(
        {
            **PLAIN,
            HERE: f"""
            try:
                {IMPORT} apply_ddp
            except ImportError:
                apply_ddp = None


            def parallelize(model, world_mesh, config):
                if apply_ddp is not None:
                    apply_ddp(model, world_mesh, False)
            """,
        }
    )
    assert result.problems or b"apply_ddp" not in result.changes[HERE]


def test_reexport_through_a_package():
    package = "torchtitan/models/llama3/__init__.py"
    files = {
        **PLAIN,
        package: """
            from .parallelize import apply_ddp, apply_fsdp

            __all__ = ["apply_ddp", "apply_fsdp"]
        """,
        HERE: """
            from torchtitan.models.llama3 import apply_ddp


            def parallelize(model, world_mesh, config):
                apply_ddp(model, world_mesh, False)
        """,
    }
    result = migrated(files)
    assert result[package] == text(
        """
        from .parallelize import apply_fsdp, apply_replicate

        __all__ = ["apply_replicate", "apply_fsdp"]
        """
    )
    assert result[HERE] == text(
        """
        from torchtitan.models.llama3 import apply_replicate


        def parallelize(model, world_mesh, config):
            apply_replicate(model, world_mesh["dp_replicate"])
        """
    )


def test_reexport_by_star():
    package = "torchtitan/models/llama3/__init__.py"
    assert_rewrites(
        """
        from torchtitan.models.llama3 import apply_ddp


        def parallelize(model, world_mesh, config):
            apply_ddp(model, world_mesh, False)
        """,
        """
        from torchtitan.models.llama3 import apply_replicate


        def parallelize(model, world_mesh, config):
            apply_replicate(model, world_mesh["dp_replicate"])
        """,
        files={**PLAIN, package: "from .parallelize import *  # noqa\n"},
    )


@pytest.mark.parametrize(
    "before, after",
    [
        ('__all__ = ("apply_ddp",)\n', '__all__ = ("apply_replicate",)\n'),
        (
            '__all__: list[str] = ["apply_ddp"]\n',
            '__all__: list[str] = ["apply_replicate"]\n',
        ),
        (
            '__all__ = []\n__all__ += ["apply_ddp"]\n',
            '__all__ = []\n__all__ += ["apply_replicate"]\n',
        ),
        ("__all__ = ['apply_ddp']\n", "__all__ = ['apply_replicate']\n"),
    ],
)
def test_dunder_all_of_the_defining_module(before, after):
    plan = PLAIN[PLAN].replace(
        "\n\n\ndef apply_fsdp", f"\n\n{before}\n\ndef apply_fsdp"
    )
    assert after in migrated({PLAN: plan})[PLAN]


def test_dunder_all_extended_by_method_is_not_forgotten():
    plan = PLAIN[PLAN] + '\n\n__all__ = ["apply_fsdp"]\n__all__.extend(["apply_ddp"])\n'
    result = outcome({PLAN: plan})
    assert (
        not result.changes
        or b'"apply_ddp"' not in result.changes[PLAN]
        or [f for f in result.findings if f.code == "TM211"]
    )


def test_a_name_kept_for_other_packages():
    """``apply_ddp = apply_replicate`` in the fork: a value use, so a person decides."""
    plan = PLAIN[PLAN] + "\n\nwrap_replicas = apply_ddp\n"
    assert_left(plan, "passed on as a value", path=PLAN)


@pytest.mark.parametrize(
    "use",
    [
        "functools.partial(apply_ddp, model, world_mesh, False)()",
        'PLANS = {"ddp": apply_ddp}',
        "register(apply_ddp)",
        "fn = apply_ddp if flag else None",
        "return apply_ddp",
    ],
)
def test_use_as_a_value_is_left(use):
    assert_left(
        f"""
        import functools

        {IMPORT} apply_ddp


        def parallelize(model, world_mesh, flag):
            {use}
        """,
        "passed on as a value",
        files=PLAIN,
    )


def test_use_as_a_decorator_argument_or_default_is_left():
    assert_left(
        f"""
        {IMPORT} apply_ddp


        def parallelize(model, wrap=apply_ddp):
            wrap(model)
        """,
        "passed on as a value",
        files=PLAIN,
    )


def test_monkeypatching_the_module_is_not_forgotten():
    """An assignment to ``module.apply_ddp`` would bind a name that nobody calls."""
    result = outcome(
        {
            **PLAIN,
            HERE: """
            from torchtitan.models.llama3 import parallelize


            def disable():
                parallelize.apply_ddp = None
            """,
        }
    )
    assert [f for f in result.findings if f.path == HERE]


def test_import_left_over_from_a_half_done_migration():
    after = migrated(PLAIN)
    half = {
        **after,
        HERE: f"""
        {IMPORT} apply_ddp


        def parallelize(model, world_mesh, config):
            apply_ddp(model, world_mesh, False)
        """,
    }
    assert outcome(half).to_do
    assert migrated(half)[HERE] == text(
        f"""
        {IMPORT} apply_replicate


        def parallelize(model, world_mesh, config):
            apply_replicate(model, world_mesh["dp_replicate"])
        """
    )


def test_unused_import_is_renamed_too():
    assert_rewrites(
        f"{IMPORT} apply_ddp  # noqa: F401\n",
        f"{IMPORT} apply_replicate  # noqa: F401\n",
    )


def test_two_imports_on_one_line():
    result = outcome(
        {
            **PLAIN,
            HERE: f"""
            import os; {IMPORT} apply_ddp


            def parallelize(model, world_mesh, config):
                os.sync(); apply_ddp(model, world_mesh, False)
            """,
        }
    )
    assert result.problems or b"import apply_replicate\n" in result.changes[HERE]


def test_an_import_on_one_line_with_if():
    result = outcome(
        {
            **PLAIN,
            HERE: f"""
            if True: {IMPORT} apply_ddp


            def parallelize(model, world_mesh, config):
                apply_ddp(model, world_mesh, False)
            """,
        }
    )
    assert result.problems or b"import apply_replicate\n" in result.changes[HERE]


def test_a_call_on_one_line_with_if():
    result = migrated(
        {
            **PLAIN,
            HERE: f"""
            {IMPORT} apply_ddp


            def parallelize(model, world_mesh, config):
                if world_mesh: apply_ddp(model, world_mesh, False)
            """,
        }
    )[HERE]
    assert (
        '    if world_mesh: apply_replicate(model, world_mesh["dp_replicate"])\n'
        in result
    )


def test_an_async_function_is_rewritten_or_left():
    result = outcome(
        {
            **PLAIN,
            HERE: f"""
            {IMPORT} apply_ddp


            async def parallelize(model, parallel_dims, config):
                mesh = parallel_dims.world_mesh
                apply_ddp(model, mesh, False)
            """,
        }
    )
    assert result.problems or b"apply_replicate(model, mesh" in result.changes[HERE]


# Not touched


@pytest.mark.parametrize(
    "before",
    [
        """
        def parallelize(model, apply_ddp):
            apply_ddp(model, None, False)
        """,
        """
        class Plan:
            def apply_ddp(self, model):
                return model

            def run(self, model):
                return self.apply_ddp(model)
        """,
        """
        def parallelize(model):
            def apply_ddp(model):
                return model

            return apply_ddp(model)
        """,
        """
        from somewhere import apply_ddp


        def parallelize(model):
            apply_ddp(model, None, False)
        """,
        """
        # apply_ddp(model, world_mesh) is called elsewhere
        NOTE = "call apply_ddp(model, world_mesh)"
        """,
        """
        def parallelize(model):
            for apply_ddp in model.hooks:
                apply_ddp(model)
        """,
        """
        def parallelize(model, options):
            return options.apply_ddp(model)
        """,
    ],
    ids=[
        "parameter",
        "method",
        "nested function",
        "another package",
        "comment and string",
        "loop variable",
        "attribute",
    ],
)
def test_something_else_of_that_name_is_not_touched(before):
    assert_noop(before, files=PLAIN)


def test_a_local_name_shadows_the_import():
    assert_rewrites(
        f"""
        {IMPORT} apply_ddp


        def parallelize(model, world_mesh, config):
            apply_ddp(model, world_mesh, False)


        def other(model):
            apply_ddp = model.wrapper
            apply_ddp(model, None, False)
        """,
        f"""
        {IMPORT} apply_replicate


        def parallelize(model, world_mesh, config):
            apply_replicate(model, world_mesh["dp_replicate"])


        def other(model):
            apply_ddp = model.wrapper
            apply_ddp(model, None, False)
        """,
        files=PLAIN,
    )


def test_lambda_parameter_of_that_name_is_not_touched():
    assert_noop(
        """
        def parallelize(model):
            return (lambda apply_ddp: apply_ddp(model, None, False))(model.wrapper)
        """,
        files=PLAIN,
    )


def test_lambda_parameter_that_shadows_the_import():
    result = outcome(
        {
            **PLAIN,
            HERE: f"""
            {IMPORT} apply_ddp


            def parallelize(model, world_mesh, config):
                apply_ddp(model, world_mesh, False)
                return lambda apply_ddp, world_mesh: apply_ddp(model, world_mesh, 1)
            """,
        }
    )
    assert (
        result.problems
        or b"world_mesh: apply_ddp(model, world_mesh, 1)" in (result.changes[HERE])
    )


def test_comprehension_variable_that_shadows_the_import():
    result = outcome(
        {
            **PLAIN,
            HERE: f"""
            {IMPORT} apply_ddp


            def parallelize(model, world_mesh, config):
                apply_ddp(model, world_mesh, False)


            HOOKS = [apply_ddp for apply_ddp in ()]
            """,
        }
    )
    assert result.problems or b"[apply_ddp for apply_ddp in ()]" in result.changes[HERE]


def test_the_new_name_already_taken_in_this_file():
    """Two functions of one name in a file: whichever comes last would win."""
    result = outcome(
        {
            **PLAIN,
            HERE: f"""
            {IMPORT} apply_ddp


            def apply_replicate(model):
                return model


            def parallelize(model, world_mesh, config):
                apply_replicate(model)
                apply_ddp(model, world_mesh, False)
            """,
        }
    )
    assert result.changes == {} and result.problems


def test_the_new_name_already_taken_where_apply_ddp_is_defined():
    plan = PLAIN[PLAN] + "\n\ndef apply_replicate(model):\n    return model\n"
    result = outcome({PLAN: plan})
    assert result.changes == {} and result.problems


def test_the_new_name_already_a_parameter():
    result = outcome(
        {
            **PLAIN,
            HERE: f"""
            {IMPORT} apply_ddp


            def parallelize(model, world_mesh, config, apply_replicate):
                if not apply_replicate:
                    return
                apply_ddp(model, world_mesh, False)
            """,
        }
    )
    assert result.changes == {} and result.problems


def test_opted_out_call_needs_an_opted_out_definition():
    kept = PLAIN[PLAN].replace(
        "enable_compile: bool):",
        "enable_compile: bool):  # titan-migrate: ignore[TM101]",
    )
    result = outcome(
        {
            PLAN: kept,
            HERE: f"""
            {IMPORT} apply_ddp  # titan-migrate: ignore[TM102]


            def parallelize(model, world_mesh, config):
                apply_ddp(model, world_mesh, False)  # titan-migrate: ignore[TM102]
            """,
        }
    )
    assert (result.changes, result.problems) == ({}, ())
    assert {f.status for f in result.findings if f.code == "TM102"} == {"opted-out"}


def test_a_kept_definition_keeps_its_callers_without_being_told_so():
    """ignore[TM101] alone: the callers of a kept function have nothing to change to."""
    kept = PLAIN[PLAN].replace(
        "enable_compile: bool):",
        "enable_compile: bool):  # titan-migrate: ignore[TM101]",
    )
    result = outcome(
        {
            PLAN: kept,
            HERE: f"""
            {IMPORT} apply_ddp


            def parallelize(model, world_mesh, config):
                apply_ddp(model, world_mesh, False)
            """,
        }
    )
    assert (result.changes, result.problems) == ({}, ())


# A trainer of its own

ACTOR = f"""
    import torch

    {IMPORT} apply_ddp


    class Actor:
        def build(self):
            if self.ready:
                apply_ddp(
                    model=self.model,
                    dp_mesh=self.parallel_dims.world_mesh,
                    enable_compile=False,
                )
"""


def test_import_torch_is_not_added_where_no_dtype_is_passed():
    result = migrated(
        {
            **PLAIN,
            HERE: f"""
            {IMPORT} apply_ddp


            def parallelize(model, world_mesh):
                apply_ddp(model, world_mesh, False)
            """,
        }
    )[HERE]
    assert "import torch\n" not in result


def test_import_torch_is_not_added_for_an_import_alone():
    assert (
        "import torch\n" not in migrated({HERE: f"{IMPORT} apply_ddp  # noqa\n"})[HERE]
    )


def test_a_trainer_without_dtypes_computes_in_what_its_parameters_have():
    assert_rewrites(
        ACTOR.replace("ready", "model.to(torch.float32)"),
        f"""
        import torch

        {IMPORT} apply_replicate


        class Actor:
            def build(self):
                if self.model.to(torch.float32):
                    apply_replicate(
                        self.model,
                        self.parallel_dims.world_mesh["dp_replicate"],
                        param_dtype=None,
                        reduce_dtype=None,
                    )
        """,
    )


def test_such_a_trainer_under_a_dividing_loop_is_told_why_it_averages():
    files = {HERE: ACTOR, "torchtitan/train.py": GLOBAL_TOKENS}
    assert "average_gradients=True" in migrated(files)[HERE]
    assert any("stay averaged" in f.message for f in findings(files, path=HERE))


# Calls that need nothing any more


def test_a_migrated_call_is_done():
    after = {**migrated({HERE: ACTOR})}
    found = findings(after, code="TM102", path=HERE)
    assert [f.status for f in found] == ["done"]


def test_every_reference_is_accounted_for():
    files = {
        HERE: f"""
        {IMPORT} apply_ddp, apply_fsdp


        def parallelize(model, world_mesh, job_config):
            if job_config.shard:
                apply_fsdp(model, world_mesh["dp_shard"], job_config.a, job_config.b)
            else:
                apply_ddp(model, world_mesh, False)
        """
    }
    assert {(f.line, f.status) for f in findings(files, code="TM102")} == {
        (1, "rewrite"),
        (8, "rewrite"),
    }
    assert (
        "line 6" in [f for f in findings(files, code="TM102") if f.line == 8][0].message
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
