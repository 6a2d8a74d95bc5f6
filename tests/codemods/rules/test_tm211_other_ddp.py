"""TM211: DDP in other places, not touched."""

import pytest

from support import HERE, IMPORT, assert_left, findings, migrated, outcome


def test_fires_for_another_apply_ddp():
    other = "def apply_ddp(model):\n    return Wrapper(model)\n"
    found = findings({HERE: other}, code="TM211")
    assert [(f.path, f.line, f.status) for f in found] == [(HERE, 1, "hazard")]
    assert HERE not in migrated({HERE: other})


@pytest.mark.parametrize(
    "head, call",
    [
        ("from torch.distributed._composable.replicate import replicate", "replicate"),
        ("from torch.distributed._composable import replicate", "replicate"),
        ("from torch.distributed._composable import replicate as ddp", "ddp"),
    ],
)
def test_fires_for_a_direct_call(head, call):
    found = findings({HERE: f"{head}\n\n{call}(model)\n"}, code="TM211")
    assert [(f.path, f.line) for f in found] == [(HERE, 3)]


@pytest.mark.parametrize("string", ["apply_ddp", "elsewhere.parallelize.apply_ddp"])
def test_fires_for_the_name_in_a_string(string):
    found = findings({HERE: f'patch("{string}")\n'}, code="TM211")
    assert [f.line for f in found] == [1]
    assert "apply_replicate" in found[0].suggestion


def test_does_not_fire_for_a_string_where_the_name_stays():
    assert findings({HERE: 'patch("apply_ddp")\n'}, "2d", code="TM211") == []


@pytest.mark.parametrize(
    "other",
    [
        '"""apply_ddp"""\n',
        'print("apply_ddp was here")\n',
        "# apply_ddp\n",
        "from torch.distributed._composable.replicate_with_fsdp import replicate\n\nreplicate(m)\n",
    ],
)
def test_does_not_fire(other):
    assert findings({HERE: other}, code="TM211") == []


PLANS = """\
from torch.distributed._composable.replicate import replicate
from torch.distributed.fsdp import fully_shard


class Plans:
    def apply_ddp(self, model):
        replicate(model, device_mesh=self.world_mesh)

    def apply_fsdp(self, model):
        fully_shard(model, mesh=self.world_mesh["dp_shard"])
"""


def test_a_method_that_wraps_something_else_takes_its_mesh_behind_it():
    (found,) = findings({HERE: PLANS}, code="TM211")
    assert "def apply_replicate(self, model, dp_mesh):\n" in found.suggestion


def test_a_nested_function_is_called_that():
    nested = """
        from torch.distributed._composable.replicate import replicate


        def parallelize(model, world_mesh):
            def apply_ddp(model):
                replicate(model, device_mesh=world_mesh)

            apply_ddp(model)
    """
    found = findings({HERE: nested}, code="TM211")
    assert "in an apply_ddp that is not at the top of its module" in found[0].message


def test_ddps_class_beside_apply_fsdp_is_left_with_the_call():
    plan = f"""
        from torch.nn.parallel import DistributedDataParallel as DDP
        {IMPORT} apply_fsdp


        def parallelize(model, world_mesh, job_config):
            if job_config.shard:
                apply_fsdp(model, world_mesh["dp_shard"], param_dtype=job_config.a)
            else:
                model = DDP(model, device_mesh=world_mesh)
            return model
    """
    left = assert_left(plan, "holds the model as .module")
    assert left.suggestion == (
        'apply_replicate(model, world_mesh["dp_replicate"], param_dtype=job_config.a)'
    )


@pytest.mark.parametrize(
    "path, line",
    [
        ("a.ipynb", '   "from torchtitan.models.llama3.parallelize import apply_ddp\\n",'),
        ("conf/plan.yaml", "_target_: torchtitan.models.llama3.parallelize.apply_ddp"),
        ("run.sh", "python -c 'from lab.plan import apply_fsdp, apply_ddp'"),
        ("templates/plan.py.j2", "from lab.{{ name }} import apply_ddp, apply_fsdp"),
        ("templates/plan.py.j2", '    apply_ddp(model, mesh, enable_compile=False)'),
        ("pyproject.toml", 'ddp = "torchtitan.models.llama3.parallelize:apply_ddp"'),
        ("setup.cfg", "ddp = torchtitan.models.llama3.parallelize:apply_ddp"),
        ("torchtitan/models/llama3/parallelize.pyi", "def apply_ddp(model) -> None: ..."),
        ("plans.json", '{"ddp": "torchtitan.models.llama3.parallelize.apply_ddp"}'),
        ("docs/api.rst", ".. autofunction:: torchtitan.models.llama3.parallelize.apply_ddp"),
        ("docs/api.md", "```{autofunction} torchtitan.models.llama3.parallelize.apply_ddp"),
    ],
)  # fmt: skip
def test_what_is_not_python_and_names_it_is_told(path, line):
    for said, count in ((line, 1), (f"{line}  # titan-migrate: ignore[TM211]", 0)):
        result = outcome({}, said={path: f"# one\n{said}\n"})
        found = [f for f in result.findings if (f.path, f.status) == (path, "hazard")]
        assert len(found) == count
    assert result.changes


def test_what_is_not_python_and_says_something_else_is_not():
    said = {"run.sh": "echo apply_ddp\n", "a.yaml": "mode: apply_ddp\n"}
    said["docs/a.md"] = "see torchtitan.models.llama3.parallelize.apply_ddp\n"
    found = outcome({}, said=said).findings
    assert not [f for f in found if f.code == "TM211"]


@pytest.mark.parametrize("before", ["", "f", "r"])
def test_a_program_in_a_string_is_named(before):
    program = f"{before}'''\n{IMPORT} apply_ddp\n'''"
    text = f"PLAN = {program}\nrun(PLAN)\n"
    (found,) = findings({HERE: text}, code="TM211", path=HERE)
    assert (found.status, found.line) == ("hazard", 1)
    assert found.suggestion == f"{IMPORT} apply_replicate"


def test_a_docstring_that_shows_an_import_is_no_program():
    text = f"'''Wrap.\n\n    {IMPORT} apply_ddp\n'''\n"
    assert findings({HERE: text}, code="TM211", path=HERE) == []


MOCKED = """\
from unittest import mock

from torchtitan.models.llama3 import parallelize


@mock.patch.object(parallelize, "apply_ddp")
def test_plan(ddp):
    parallelize.parallelize(model, dims, config)
"""


@pytest.mark.parametrize(
    "line",
    [
        "ddp.assert_called_once_with(model, mock.ANY, enable_compile=False)",
        "ddp.assert_has_calls([mock.call(model, mock.ANY, enable_compile=False)])",
        'assert not ddp.call_args.kwargs["enable_compile"]',
        'args, kwargs = ddp.call_args\n    assert not kwargs["enable_compile"]',
    ],
)
@pytest.mark.parametrize("target", ["1d", "2d"])
def test_a_mock_that_is_asked_for_what_goes_is_named(line, target):
    """The patch follows by its name, and what is expected of it does not."""
    path = "tests/test_plan.py"
    files = {path: f"{MOCKED}    {line}\n"}
    (found,) = findings(files, target, code="TM211", path=path)
    assert "is asked for enable_compile" in found.message
    assert found.suggestion.startswith("# it takes (model, dp_mesh, param_dtype, ")


@pytest.mark.parametrize(
    "line",
    [
        "ddp.assert_called_once_with(model, dp_mesh=mock.ANY)",
        "run(enable_compile=False)",
        'assert options["enable_compile"]',
    ],
)
def test_a_mock_that_is_asked_for_what_stays_is_not(line):
    files = {"tests/test_plan.py": f"{MOCKED}    {line}\n"}
    assert findings(files, code="TM211", path="tests/test_plan.py") == []


def test_a_patch_by_keyword_is_named():
    text = "mock.patch.multiple(parallelize, apply_ddp=mock.DEFAULT)\n"
    (found,) = findings({HERE: text}, code="TM211", path=HERE)
    assert found.suggestion == "apply_replicate=..."
    assert findings({HERE: text}, "2d", code="TM211", path=HERE) == []
