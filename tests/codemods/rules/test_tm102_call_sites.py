"""TM102: every import and every call of ``apply_ddp``."""

import pytest

from rewriting import PLAIN, wrapped
from support import (
    GLOBAL_TOKENS,
    HERE,
    IMPORT,
    PLAN,
    assert_formatted,
    assert_left,
    assert_noop,
    assert_rewrites,
    findings,
    migrated,
    outcome,
    text,
)

# What a call becomes


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


@pytest.mark.parametrize(
    "head, argument",
    [
        ("def apply_replicate(model):\n    return model\n\n\n", ""),
        ("class apply_replicate:\n    times = 1\n\n\n", ""),
        ("", ", apply_replicate"),
    ],
)
def test_the_new_name_already_taken_in_this_file(head, argument):
    """Two functions of one name in a file: whichever comes last would win."""
    before = (
        f"{IMPORT} apply_ddp\n\n\n{head}"
        f"def parallelize(model, world_mesh, config{argument}):\n"
        "    apply_replicate(model)\n"
        "    apply_ddp(model, world_mesh, False)\n"
    )
    fresh = "apply_replicate_with_fsdp"
    after = before.replace("apply_ddp(model, world_mesh, False)", f'{fresh}(model, world_mesh["dp_replicate"])').replace("apply_ddp", fresh)  # fmt: skip
    assert_rewrites(before, after, files=PLAIN)
    assert (
        f"def {fresh}(model: nn.Module, dp_mesh"
        in migrated({**PLAIN, HERE: before})[PLAN]
    )


def test_the_new_name_already_taken_where_apply_ddp_is_defined():
    taken = "def apply_replicate(model):\n    return model\n"
    plan = f"{PLAIN[PLAN]}\n\n{taken}"
    mock = f'mock.patch("{PLAN[:-3].replace("/", ".")}.apply_ddp")\n'
    after = migrated({PLAN: plan, "tests/x.py": f"from unittest import mock\n\n{mock}"})
    assert "def apply_replicate_with_fsdp(model: nn.Module, dp_mesh" in after[PLAN]
    assert taken in after[PLAN]
    assert mock.replace("apply_ddp", "apply_replicate_with_fsdp") in after["tests/x.py"]


def test_both_new_names_taken():
    taken = "apply_replicate = apply_replicate_with_fsdp = None\n"
    result = outcome({PLAN: f"{PLAIN[PLAN]}\n\n{taken}"})
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


# What a helper of a plan has to be given

HALVES = f"""
    {IMPORT} apply_ddp, apply_fsdp


    def parallelize(model, world_mesh, job_config):
        if job_config.shard:
            _shard(model, world_mesh, job_config)
        else:
            _replicate(model, world_mesh)


    def _shard(model, world_mesh, job_config):
        apply_fsdp(model, world_mesh["dp_shard"], job_config.a, job_config.b)


    def _replicate(model, world_mesh):
        apply_ddp(model, world_mesh, False)
"""


def test_a_helper_without_the_configuration_is_left():
    left = assert_left(HALVES, "needs job_config, which _replicate does not have$")
    assert left.suggestion == text(
        f"""
        # def _replicate(model, world_mesh, job_config):
        # _replicate(model, world_mesh, job_config), in {HERE}:8
        apply_replicate(
            model,
            world_mesh["dp_replicate"],
            param_dtype=job_config.a,
            reduce_dtype=job_config.b,
        )
        """
    ).rstrip("\n")


def test_a_helper_with_the_configuration_is_rewritten():
    given = HALVES.replace("_replicate(model, world_mesh)", "_replicate(model, world_mesh, job_config)")  # fmt: skip
    fresh = " ".join(migrated({HERE: given})[HERE].split())
    assert "param_dtype=job_config.a, reduce_dtype=job_config.b" in fresh


@pytest.mark.parametrize(
    "imported, status",
    [("", "left"), ("from torchtitan.config import TORCH_DTYPE_MAP", "rewrite")],
)
def test_a_name_that_another_function_imports(imported, status):
    given = HALVES.replace("_replicate(model, world_mesh)", "_replicate(model, world_mesh, job_config)")  # fmt: skip
    given = given.replace("job_config.a", "TORCH_DTYPE_MAP[job_config.a]")
    for head, line in (
        (
            "_shard(model, world_mesh, job_config):",
            "from torchtitan.config import TORCH_DTYPE_MAP",
        ),  # fmt: skip
        ("_replicate(model, world_mesh, job_config):", imported),
    ):
        given = given.replace(f"def {head}", f"def {head}\n        {line}")
    calls = [f for f in findings({HERE: given}, code="TM102", path=HERE) if f.line > 16]
    assert status in {finding.status for finding in calls}


def test_a_module_without_the_configuration_is_left():
    before = HALVES.replace("    def _replicate(model, world_mesh):\n        ", "    ")
    before = before.replace(
        "            _replicate(model, world_mesh)", "            pass"
    )
    assert_left(before, "needs job_config, which the module does not have$")


HELPER = "torchtitan/experiments/own/wrap.py"
WRAP = f"""
    {IMPORT} apply_ddp


    def data_parallel(model, world_mesh):
        apply_ddp(model, world_mesh, False)
        return model
"""
OWN = "from torchtitan.experiments.own.wrap import data_parallel"
PLANS = {
    "a plan by its name": f"""
        {OWN}


        def parallelize(model, dims, cfg):
            return data_parallel(model, dims.world_mesh)
    """,
    "a plan by what it takes": f"""
        {OWN} as wrap


        def replicated(model, dims, job_config):
            return wrap(model, dims.world_mesh)
    """,
    "a plan by its annotation": f"""
        {OWN}


        def replicated(model, dims, jc: "JobConfig"):
            return data_parallel(model, dims.world_mesh)
    """,
    "a plan of a helper": f"""
        {OWN}


        def parallelize(model, dims, job_config):
            return inner(model, dims)


        def inner(model, dims):
            return data_parallel(model, dims.world_mesh)
    """,
    "a plan itself": f"""
        {OWN}

        SPEC = TrainSpec(model_cls=Model, parallelize_fn=data_parallel)
    """,
    "a plan in place": f"""
        {OWN}

        SPEC = TrainSpec(
            parallelize_fn=lambda model, dims, c: data_parallel(model, dims.world_mesh)
        )
    """,
    "torchtitan's trainer": f"""
        {OWN}


        class Trainer:
            def __init__(self, job_config):
                self.model = data_parallel(self.model, self.world_mesh)

            def step(self):
                with maybe_enable_amp():
                    self.loss().backward()
    """,
}


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_helper_of_a_plan_elsewhere_is_no_trainer_of_its_own(plan):
    files = {HERE: plan, "torchtitan/train.py": GLOBAL_TOKENS}
    left = assert_left(WRAP, "no value in reach for param_dtype", path=HELPER, files=files)  # fmt: skip
    assert "param_dtype=TORCH_DTYPE_MAP[job_config.training" in left.suggestion
    assert "average_gradients" not in left.suggestion


OBJECT = f"""
    {IMPORT} apply_ddp


    class Wrapper:
        def __init__(self, dims):
            self.dims = dims

        def wrap(self, model):
            apply_ddp(model, self.dims.world_mesh, False)
"""
USER = """
    from torchtitan.experiments.own.wrap import Wrapper


    def MAIN(model, dims, config):
        Wrapper(dims).wrap(model)
"""


def test_a_method_of_what_a_plan_makes_is_no_trainer_of_its_own():
    files = {HERE: USER.replace("MAIN", "parallelize")}
    assert_left(OBJECT, "wrap is a part of parallelize", path=HELPER, files=files)


@pytest.mark.parametrize("user", ["parallelize", "main"])
def test_a_class_that_trains_by_itself_is_one(user):
    trains = OBJECT + "\n        def step(self):\n            self.loss().backward()\n"
    files = {HERE: USER.replace("MAIN", user), HELPER: trains}
    assert "param_dtype=None" in migrated(files)[HELPER]


def test_such_a_helper_is_shown_what_the_plan_of_its_function_passes():
    other = """
        from torchtitan.models.llama3.parallelize import apply_ddp, apply_fsdp


        def WORD(model, world_mesh, job_config):
            if job_config.shard:
                apply_fsdp(model, world_mesh["dp_shard"], job_config.VALUE, 2)
            else:
                apply_ddp(model, world_mesh, False)
    """
    files = {
        f"torchtitan/models/m{n}/parallelize.py": other.replace(
            "WORD", f"plan_{n}"
        ).replace("VALUE", value)  # fmt: skip
        for n, value in enumerate(("odd", "usual", "usual"))
    }
    files[HERE] = PLANS["a plan of a helper"]
    left = assert_left(WRAP, "no value in reach", path=HELPER, files=files)
    assert "param_dtype=job_config.usual, reduce_dtype=2" in left.suggestion


def test_the_plan_that_such_a_helper_is_a_part_of_is_named():
    files = {HERE: PLANS["a plan of a helper"]}
    left = assert_left(WRAP, "data_parallel is a part of parallelize,", path=HELPER, files=files)  # fmt: skip
    assert left.suggestion.splitlines()[:3] == [
        "# from torchtitan.config import TORCH_DTYPE_MAP",
        "# def data_parallel(model, world_mesh, job_config):",
        f"# data_parallel(model, dims.world_mesh, job_config), in {HERE}:9",
    ]


INNER = f"""
    {IMPORT} apply_ddp


    def plan(model, dims, job_config):
        def inner():
            apply_ddp(model, dims.world_mesh, False)

        run(inner)
"""


@pytest.mark.parametrize(
    "inner",
    [
        INNER,
        INNER.replace("run(inner)", "inner()"),
        INNER.replace("    def plan", "    async def plan"),
        INNER.replace(
            "        def inner():\n            apply_ddp(model, dims.world_mesh, False)\n\n        run(inner)",
            "        run(lambda: apply_ddp(model, dims.world_mesh, False))",
        ),  # fmt: skip
    ],
)
def test_a_function_within_a_plan_has_its_configuration(inner):
    left = assert_left(inner, "no value in reach for param_dtype")
    assert "# def" not in left.suggestion


SCRIPTS = {
    "a script": f"""
        {OWN}


        def main(args):
            model = data_parallel(build(args), world_mesh)
            model(1).backward()
    """,
    "a script with a configuration of its own": f"""
        {OWN}


        def main(config):
            model = data_parallel(build(config), world_mesh)
            model(1).backward()
    """,
    "a module": f"""
        {OWN}

        model = data_parallel(build(), world_mesh)
    """,
    "nobody": "",
}


@pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS)
def test_a_helper_of_a_script_is_a_trainer_of_its_own(script):
    files = {HERE: script, HELPER: WRAP, "torchtitan/train.py": GLOBAL_TOKENS}
    fresh = " ".join(migrated(files)[HELPER].split())
    assert "param_dtype=None, reduce_dtype=None, average_gradients=True" in fresh


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


# What surrounds the calls


AT_THE_CALL = """
    from torchtitan.models.llama3.parallelize import {name}, apply_fsdp
    from torchtitan.tools.logging import logger


    def parallelize(model, parallel_dims, config):
        if parallel_dims.fsdp_enabled:
            # DDP is not used here
            apply_fsdp(model, parallel_dims.world_mesh, config.param, config.reduce)
            logger.info("No DDP")
        {branch}:
            {before}
            {call}
            {after}
        logger.info("Not DDP's")
"""
NEW_CALL = """apply_replicate(
                model,
                parallel_dims.world_mesh["dp_replicate"],
                param_dtype=config.param,
                reduce_dtype=config.reduce,
            )"""


def at_the_call(
    before, after, branch="elif parallel_dims.dp_replicate_enabled", migrated=False
):
    call = 'apply_ddp(model, parallel_dims.world_mesh["dp_replicate"], False)'
    name = "apply_ddp"
    if migrated:
        call, name = NEW_CALL, "apply_fsdp, apply_replicate"
    source = AT_THE_CALL.format(
        name=name, branch=branch, before=before, call=call, after=after
    )
    if migrated:
        source = source.replace("apply_replicate, apply_fsdp", "apply_replicate")
    return "\n".join(line for line in source.split("\n") if line.strip(" ") or not line)


@pytest.mark.parametrize(
    ("said", "fresh"),
    [
        ('logger.info("Applied DDP to the model")', 'logger.info("Applied replicate to the model")'),
        ('logger.info(f"Applied DDP on {parallel_dims}")', 'logger.info(f"Applied replicate on {parallel_dims}")'),
        ('print("Using DDP with", parallel_dims.world_mesh)', 'print("Using replicate with", parallel_dims.world_mesh)'),
        ("logger.debug('DDP: %d', 1)", "logger.debug('replicate: %d', 1)"),
        (
            'logger.info("Applied DDP to the model, over all of the " "replicas, %s", 1)',
            'logger.info(\n                "Applied replicate to the model, over all of the " "replicas, %s", 1\n            )',
        ),
        ("# plain DDP", "# plain replicate"),
        ("x = 1  # of DDP", "x = 1  # of replicate"),
        ("parallel_dims.log_ddp()", "parallel_dims.log_ddp()"),
        ('x = "DDP"', 'x = "DDP"'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("branch", ["elif parallel_dims.dp_replicate_enabled", "else"])
@pytest.mark.parametrize("first", [True, False])
def test_what_is_said_beside_the_call_follows(said, fresh, branch, first):
    places = (said, "") if first else ("", said)
    expected = (fresh, "") if first else ("", fresh)
    result = migrated({HERE: at_the_call(*places, branch=branch)})[HERE]
    wanted = text(at_the_call(*expected, branch=branch))
    lines = [
        line for line in wanted.splitlines() if "DDP" in line or "replicate" in line
    ]
    for line in lines[1:] if "apply_ddp" in lines[0] else lines:
        if "apply_" not in line:
            assert line in result.splitlines(), result
    assert "# DDP is not used here" in result and '"No DDP"' in result
    assert '"Not DDP\'s"' in result


@pytest.mark.parametrize(
    "said",
    [
        "# DDP wraps the whole model",
        "# DDP does not go with TP",
        'logger.warning("DDP ignores mixed precision")',
        'logger.info("DDP bucket size: 100")',
        "# weights of TP are DTensors, which DDP drops",
        "# DDP's broadcast has made the replicas equal",
        "# DDP has seen to that",
        "# DDP will do so",
    ],
)
def test_what_may_not_be_true_of_replicate_is_not_reworded(said):
    assert said in migrated({HERE: at_the_call(said, "")})[HERE]


def test_what_is_said_beside_the_call_stays_under_the_old_name():
    said = 'logger.info("Applied DDP to the model")'
    assert said in migrated({HERE: at_the_call("", said)}, target="2d")[HERE]


def test_what_is_said_can_opt_out():
    said = 'logger.info("DDP")  # titan-migrate: ignore[TM102]'
    assert said in migrated({HERE: at_the_call("", said)})[HERE]


def test_said_around_a_call_outside_of_a_branch():
    before = """
        from torchtitan.models.llama3.parallelize import apply_ddp


        def wrap(model, parallel_dims, logger):
            logger.info("Training with DDP tomorrow")
            model.train()
            logger.info("Applying DDP")
            # DDP here
            apply_ddp(model, parallel_dims.world_mesh, False)
            logger.info("DDP applied")
            model.eval()
            logger.info("DDP or not")
    """
    result = migrated({HERE: before})[HERE]
    assert 'logger.info("Applying replicate")\n    # replicate here\n' in result
    assert 'logger.info("replicate applied")' in result
    assert "DDP tomorrow" in result and "DDP or not" in result


# Aliases and strings


def test_alias_follows_with_its_uses():
    assert_rewrites(
        """
        from torchtitan.models.llama3.parallelize import apply_ddp as _apply_ddp, apply_fsdp


        def parallelize(model, parallel_dims, config):
            if parallel_dims.fsdp_enabled:
                apply_fsdp(model, parallel_dims.world_mesh, config.param, config.reduce)
            elif parallel_dims.dp_replicate_enabled:
                _apply_ddp(model, parallel_dims.world_mesh, False)
        """,
        """
        from torchtitan.models.llama3.parallelize import (
            apply_fsdp,
            apply_replicate as _apply_replicate,
        )


        def parallelize(model, parallel_dims, config):
            if parallel_dims.fsdp_enabled:
                apply_fsdp(model, parallel_dims.world_mesh, config.param, config.reduce)
            elif parallel_dims.dp_replicate_enabled:
                _apply_replicate(
                    model,
                    parallel_dims.world_mesh["dp_replicate"],
                    param_dtype=config.param,
                    reduce_dtype=config.reduce,
                )
        """,
    )


ALIASED = {
    "torchtitan/models/mine/wraps.py": f"{IMPORT} apply_ddp as llama_apply_ddp\n__all__ = ['llama_apply_ddp']\n",
    HERE: """
        from torchtitan.models.mine import wraps
        from torchtitan.models.mine.wraps import llama_apply_ddp


        def wrap(model, parallel_dims):
            wraps.llama_apply_ddp(model, parallel_dims.world_mesh, False)
            llama_apply_ddp(model, parallel_dims.world_mesh, False)
    """,
}


def test_alias_follows_through_other_modules():
    result = migrated(ALIASED)
    assert "llama_apply_ddp" not in "".join(result.values())
    assert (
        "    apply_replicate as llama_apply_replicate,\n)\n__all__ = ['llama_apply_replicate']"
        in result["torchtitan/models/mine/wraps.py"]
    )
    assert "wraps.llama_apply_replicate(" in result[HERE]


def test_alias_stays_where_its_new_name_is_taken():
    taken = text(ALIASED[HERE]) + "\n\ndef llama_apply_replicate():\n    pass\n"
    result = migrated({**ALIASED, HERE: taken})
    assert "from torchtitan.models.mine.wraps import llama_apply_ddp\n" in result[HERE]


def test_alias_stays_under_the_old_name():
    assert "llama_apply_ddp(" in migrated(ALIASED, target="2d")[HERE]


PATCHES = """
    import importlib
    from unittest import mock

    import torchtitan.models.llama3.parallelize as llama3
    from torchtitan.models.llama3 import parallelize
    from torchtitan.models.mine import wraps


    class TestPlan:
        @mock.patch("torchtitan.models.llama3.parallelize.apply_ddp")
        @mock.patch.object(parallelize, "apply_ddp")
        def test_it(self, fake, monkeypatch):
            monkeypatch.setattr("torchtitan.models.mine.wraps.apply_ddp", fake)
            monkeypatch.setattr(llama3, "apply_ddp", fake)
            with mock.patch.object(wraps, "apply_ddp", autospec=True):
                assert getattr(llama3, 'apply_ddp') is hasattr(wraps, "apply_ddp")
"""
WRAPS = {"torchtitan/models/mine/wraps.py": f"{IMPORT} apply_ddp\n"}


def test_strings_that_resolve_follow():
    result = migrated({"tests/test_plan.py": PATCHES, **WRAPS})
    fresh = text(PATCHES).replace("apply_ddp", "apply_replicate")
    long = """is hasattr(wraps, "apply_replicate")"""
    broken = """is hasattr(
                wraps, "apply_replicate"
            )"""
    assert result["tests/test_plan.py"] == fresh.replace(long, broken)
    found = findings({"tests/test_plan.py": PATCHES, **WRAPS}, code="TM211")
    assert found == []


def test_strings_stay_under_the_old_name():
    files = {"tests/test_plan.py": PATCHES, **WRAPS}
    assert "tests/test_plan.py" not in migrated(files, target="2d")


@pytest.mark.parametrize(
    "line",
    [
        'mock.patch.object(thing, "apply_ddp")',
        'mock.patch("elsewhere.parallelize.apply_ddp")',
        'getattr(load("torchtitan.models.llama3.parallelize"), "apply_ddp")',
        'NAMES = ["apply_ddp"]',
    ],
)
def test_strings_that_do_not_resolve_are_named(line):
    (found,) = findings({HERE: f"{line}\n"}, path=HERE)
    assert (found.code, found.status, found.line) == ("TM211", "hazard", 1)


def test_a_call_without_dtypes_fits_the_annotations():
    source = """
        from torchtitan.models.llama3.parallelize import apply_ddp


        def load(model, parallel_dims):
            apply_ddp(model, parallel_dims.world_mesh, False)
    """
    result = migrated({HERE: source})
    assert "param_dtype=None, reduce_dtype=None" in " ".join(result[HERE].split())
    assert (
        "    param_dtype: torch.dtype | None,\n    reduce_dtype: torch.dtype | None,\n"
        in result[PLAN]
    )
    assert_formatted(PLAN, result[PLAN])


SCRIPT = f"""
{IMPORT} apply_ddp


def main():
    dims = ParallelDims(2)
    mesh = dims.world_mesh
    model = build()
    apply_ddp(model, mesh, enable_compile=False)
    with torch.no_grad():
        mesh = model(1)
"""


def test_a_mesh_that_was_set_before_follows_whatever_comes_after():
    """A block behind the call is not the one in which its mesh is set."""
    after = migrated({HERE: SCRIPT})[HERE]
    assert '    mesh = dims.world_mesh["dp_replicate"]\n' in after
    assert "apply_replicate(model, mesh, param_dtype=None, reduce_dtype=None)" in after
    assert "        mesh = model(1)\n" in after


EARLY = f"""
        {IMPORT} apply_ddp, apply_fsdp


        def parallelize(model, parallel_dims, mesh, config):
            before()
            if parallel_dims.dp_replicate_enabled and not parallel_dims.fsdp_enabled:
                apply_ddp(model, parallel_dims.world_mesh["dp_replicate"], False)
                end()
            after()
            if parallel_dims.fsdp_enabled:
                apply_fsdp(model, parallel_dims.world_mesh, config.param, config.reduce)
            return model
    """
BOTH = "apply_ac(model, config)\n            apply_compile(model)"


@pytest.mark.parametrize(
    ("later", "named"),
    [
        ("apply_tp(model, mesh)", "apply_tp on line"),
        ("parallelize_module(model, mesh, plan)", "parallelize_module on line"),
        (BOTH, "apply_compile on line"),
    ],
)
def test_a_call_before_the_model_is_split_or_compiled_is_left(later, named):
    (found,) = [
        one
        for one in findings({HERE: EARLY.replace("after()", later)}, code="TM102")
        if one.status == "left"
    ]
    assert named in found.message
    assert "move its branch down" in found.message
    returns = EARLY.replace("after()", later).replace("end()", "return model")
    alone = [EARLY.replace("after()", one.strip()) for one in BOTH.split("\n")]
    for fine in (EARLY, EARLY.replace("before()", later), returns, *alone):
        told = findings({HERE: fine}, code="TM102")
        assert all(one.status == "rewrite" for one in told), told


def test_a_value_that_is_passed_by_a_mapping_is_said_to_be():
    plan = f"""
        {IMPORT} apply_ddp, apply_fsdp


        def parallelize(model, parallel_dims, config):
            dtypes = dict(param_dtype=config.a, reduce_dtype=config.b)
            if parallel_dims.fsdp_enabled:
                apply_fsdp(model, parallel_dims.world_mesh, **dtypes)
            else:
                apply_ddp(model, parallel_dims.world_mesh["dp_replicate"], False)
    """
    assert_left(plan, "may pass it by \\* or \\*\\*, which is not followed")


@pytest.mark.parametrize(
    "instead",
    [
        BOTH.replace("            apply_compile", "                apply_compile"),
        "log_ac(model)\n                log_compile_stats(model)",
    ],
)
def test_what_is_done_in_another_branch_does_not_come_after(instead):
    plan = f"""
        {IMPORT} apply_ddp, apply_fsdp


        def parallelize(model, parallel_dims, config):
            if parallel_dims.fsdp_enabled:
                apply_fsdp(model, parallel_dims.world_mesh, config.param, config.reduce)
            elif parallel_dims.dp_replicate_enabled:
                apply_ddp(model, parallel_dims.world_mesh["dp_replicate"], False)
            else:
                {instead}
            report_ac(model)
            set_compile_cache(model)
            return model
    """
    told = findings({HERE: plan}, code="TM102")
    assert told and all(one.status == "rewrite" for one in told), told
