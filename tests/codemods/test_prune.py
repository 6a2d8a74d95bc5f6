"""What a rewrite leaves unused goes; nothing else does."""

import pytest

from support import APPLY_DDP, BASE, HERE, IMPORT, PLAN, PLAN_IMPORTS, migrated

IMPORT_TORCH = "import torch\n"
PLAIN = f"""{PLAN_IMPORTS}

def apply_fsdp(model: nn.Module, dp_mesh):
    fully_shard(model, mesh=dp_mesh)


{APPLY_DDP}"""


def plan(more="", source=PLAIN):
    return migrated({PLAN: source + more})[PLAN]


def test_imports_that_only_apply_ddp_needed_go():
    assert IMPORT_TORCH not in plan() and "DeviceMesh" not in plan()


@pytest.mark.parametrize(
    "more",
    [
        "\n\nx = torch.bfloat16\n",
        "\n\ndef f():\n    return torch.bfloat16\n",
        "\n\nclass C:\n    x: torch.dtype\n",
        "\n\ndef f(x=torch.bfloat16):\n    pass\n",
        pytest.param(
            '\n\ndef f(x: "torch.dtype"):\n    pass\n',
        ),
        pytest.param(
            '\n\ndef f() -> "list[torch.dtype]":\n    pass\n',
        ),
        '\n\n__all__ = ["torch"]\n',
        "\n\ndef f():\n    del torch.x\n",
        "\n\ntorch.backends.x = True\n",
        "\n\ndef f():\n    torch.backends.x += 1\n",
    ],
)
def test_an_import_that_something_else_needs_stays(more):
    assert plan(more).startswith(IMPORT_TORCH)


def test_an_import_that_was_unused_before_stays():
    odd = PLAIN.replace("import torch\n", "import os\n\nimport torch\n", 1)
    assert plan(source=odd).startswith("import os\n")


def test_an_import_with_a_comment_goes_with_it():
    odd = PLAIN.replace("import torch\n", "import torch  # for dynamo\n", 1)
    assert "# for dynamo" not in plan(source=odd)


def test_an_import_that_another_file_takes_from_here_stays():
    other = f"{IMPORT} DeviceMesh\n\nx = DeviceMesh\n"
    assert "import DeviceMesh" in migrated({PLAN: PLAIN, HERE: other})[PLAN]


def test_an_import_that_another_file_reads_through_the_module_stays():
    other = (
        "from torchtitan.models.llama3 import parallelize\n\nx = parallelize.torch\n"
    )
    assert migrated({PLAN: PLAIN, HERE: other})[PLAN].startswith(IMPORT_TORCH)


def test_the_base_loses_nothing_that_it_needs():
    assert migrated()[PLAN].startswith(IMPORT_TORCH) and IMPORT_TORCH in BASE[PLAN]


def test_keywords_that_only_the_call_took_go_with_it():
    before = f"""\
{IMPORT} apply_ddp


def parallelize(model, world_mesh, job_config):
    passed = KWARGS
    apply_ddp(model, world_mesh, **passed)
"""
    kept = migrated({PLAN: PLAIN, HERE: before.replace("KWARGS", "made()")})[HERE]
    gone = migrated({PLAN: PLAIN, HERE: before.replace("KWARGS", "dict(enable_compile=True)")})[HERE]  # fmt: skip
    assert "    passed = made()\n" in kept and "passed" not in gone


GUARD = (
    '    if {}:\n        raise RuntimeError("DDP has not supported > 1D parallelism")\n'
)


def body(assignments, test, after=""):
    source = (
        f"{IMPORT} apply_ddp\n\n\ndef parallelize(model, dims, world_mesh, config):\n"
        f"{assignments}{GUARD.format(test)}    apply_ddp(model, world_mesh, 0)\n{after}"
    )
    return migrated({PLAN: PLAIN, HERE: source})[HERE]


def test_a_chain_of_variables_goes():
    assert "=" not in body(
        '    mesh = dims.get_mesh("dp_replicate")\n    size = mesh.size()\n',
        "size != 1",
    )


def test_a_variable_that_is_read_later_stays():
    result = body("    size = dims.size()\n", "size > 1", "    return size\n")
    assert "    size = dims.size()\n" in result


def test_a_variable_that_a_nested_function_reads_stays():
    nested = "\n    def f():\n        return size\n\n    return f\n"
    assert "    size = dims.size()\n" in body(
        "    size = dims.size()\n", "size > 1", nested
    )


@pytest.mark.parametrize(
    "assignment",
    [
        "size = dims.start()",
        "size, rank = dims.size, dims.rank",
        "size = rank = dims.size",
        "size = (rank := dims.size)",
    ],
)
def test_an_assignment_that_may_do_more_stays(assignment):
    assert f"    {assignment}\n" in body(f"    {assignment}\n", "size > 1")


def test_a_global_stays():
    assert "    SIZE = dims.size()\n" in body(
        "    global SIZE\n    SIZE = dims.size()\n", "SIZE > 1"
    )


def test_a_variable_of_another_function_stays():
    other = "\n\ndef other(dims):\n    size = dims.size()\n"
    assert "    size = dims.size()\n" in body(
        "    size = dims.size()\n", "size > 1", other
    )


def test_a_variable_set_on_a_line_with_others_does_not_hang():
    assert "apply_replicate" in body("    a = 1; size = dims.size()\n", "size > a")
