"""What no file of a checkout defines: torchtitan as a package, and imports out of date."""

import ast

import pytest

from codemods.engine import migrate
from codemods.source import SourceFile
from codemods.survey import survey

from support import (
    APPLY_DDP,
    APPLY_FSDP,
    BASE,
    HERE,
    PLAN,
    PLAN_IMPORTS,
    aim,
    checkout,
    findings,
    migrated,
    outcome,
    text,
)

FAR = "torchtitan.models.llama3.infra.parallelize"


def tree(**files):
    return {
        path: SourceFile(path, text(source).encode())
        for path, source in {
            f"{name.replace('__', '/')}.py": source for name, source in files.items()
        }.items()
    }


def found(**files):
    """(path, line, status) of what TM102 says; the code to write parses."""
    result = migrate(tree(**files), aim())
    assert result.survey.kind == "dependent" and result.changes == {}
    for finding in result.findings:
        if finding.status == "left":
            ast.parse(finding.suggestion)
    return [(f.path, f.line, f.status) for f in result.findings if f.code == "TM102"]


CALLS = "def p(model, world_mesh):\n    {}(model, world_mesh, enable_compile=False)\n"


@pytest.mark.parametrize(
    "imports, call",
    [
        (f"from {FAR} import apply_ddp", "apply_ddp"),
        (f"from {FAR} import apply_ddp as wrap", "wrap"),
        (f"import {FAR}", f"{FAR}.apply_ddp"),
        (f"import {FAR} as llama3", "llama3.apply_ddp"),
        ("from torchtitan.models.llama3.infra import parallelize", "parallelize.apply_ddp"),
        ("from torchtitan.parallelisms.parallelize_llama import *", "apply_ddp"),
    ],
)  # fmt: skip
def test_every_way_to_reach_it(imports, call):
    lines = {line for _, line, _ in found(pkg__plan=f"{imports}\n{CALLS.format(call)}")}
    assert 3 in lines
    assert (1 in lines) == (imports.startswith("from") and "apply_ddp" in imports)


@pytest.mark.parametrize(
    "asked, line",
    [
        (f"getattr(importlib.import_module('{FAR}'), 'apply_ddp')(model, world_mesh)", 5),
        (f"far = importlib.import_module('{FAR}')\n    far.apply_ddp(model, world_mesh)", 6),
        ("getattr(importlib.import_module(f'torchtitan.models.{model}.plan'), 'apply_ddp')", 5),
        ("getattr(torchtitan.models, 'apply_ddp')", 5),
    ],
)  # fmt: skip
def test_what_is_asked_for_by_its_name(asked, line):
    plan = f"import importlib\nimport torchtitan.models\n\ndef p(model, world_mesh):\n    {asked}\n"
    assert found(pkg__plan=plan) == [("pkg/plan.py", line, "left")]
    (said,) = migrate(tree(pkg__plan=plan), aim()).findings
    assert ("apply_replicate(" in said.suggestion.split("\n\n")[-1]) == (
        "world_mesh)" in asked
    )


def test_through_a_module_of_ones_own():
    places = found(
        pkg__compat=f"from {FAR} import apply_ddp as wrap_ddp\n",
        pkg__plan=f"from pkg.compat import wrap_ddp\n{CALLS.format('wrap_ddp')}",
        pkg__other=f"from pkg import compat\n{CALLS.format('compat.wrap_ddp')}",
    )
    assert {path for path, _, _ in places} == {
        "pkg/compat.py",
        "pkg/plan.py",
        "pkg/other.py",
    }


def test_in_a_function_and_as_a_value():
    places = found(
        pkg__plan=f"""\
        def p(model, mesh):
            from {FAR} import apply_ddp

            return run(apply_ddp, model, mesh)
        """
    )
    assert [line for _, line, _ in places] == [2, 4]


def test_what_is_set_to_replicate_is_done():
    places = found(
        pkg__patches=f"""\
        import {FAR} as llama3
        from torch.distributed._composable.replicate_with_fsdp import replicate

        def wrap(model, dp_mesh, enable_compile):
            replicate(model, mesh=dp_mesh)

        def patch():
            llama3.apply_ddp = wrap
        """
    )
    assert places == [("pkg/patches.py", 8, "done")]


def test_opting_out():
    plan = f"from {FAR} import apply_ddp  # titan-migrate: ignore[TM102]\n"
    assert found(pkg__plan=plan) == [("pkg/plan.py", 1, "opted-out")]


def test_replicate_of_the_package_is_done():
    plan = f"from torchtitan.models.llama3.parallelize import apply_replicate\n{CALLS.format('apply_replicate')}"
    assert found(pkg__plan=plan) == [("pkg/plan.py", 3, "done")]


def test_a_guard_stays_with_a_call_of_the_package():
    guard = "    if world_mesh.ndim > 1:\n        raise RuntimeError('DDP has not supported > 1D parallelism')\n"
    plan = f"from {FAR} import apply_ddp\ndef p(model, world_mesh):\n{guard}    apply_ddp(model, world_mesh)\n"
    result = migrate(tree(pkg__plan=plan), aim())
    assert [(f.line, f.code) for f in result.findings] == [(1, "TM102"), (5, "TM102")]


@pytest.mark.parametrize(
    "source",
    [
        "from other.plans import apply_ddp\napply_ddp(1)\n",
        "def apply_ddp(model):\n    return DDP(model)\n",
        "from .plans import apply_ddp\n",
        "import other.plans\nother.plans.apply_ddp = 1\n",
    ],
)
def test_others_are_none_of_ours(source):
    result = migrate(tree(pkg__plan=source, pkg__plans="x = 1\n"), aim())
    assert result.survey.kind == "foreign" and result.findings == ()


# An import that is out of date


def test_an_import_from_where_it_is_no_more():
    """As torchtitan's experiments/autopartition has it; the rest is migrated already."""
    done = migrated()
    late = f"from {FAR} import apply_ddp\n\n\n{CALLS.format('apply_ddp')}"
    result = outcome({**done, HERE: late})
    assert result.survey.kind == "migrated" and result.changes == {}
    left = [f for f in result.findings if f.status == "left"]
    assert [(f.path, f.line) for f in left] == [(HERE, 1), (HERE, 5)]
    assert left[0].suggestion == (
        "from torchtitan.models.llama3.parallelize import apply_replicate"
    )
    assert left[1].suggestion.startswith("apply_replicate(")


def test_where_nothing_is_left_to_migrate():
    """After PR 2900 a stale import is all that is said."""
    past = {PLAN: BASE[PLAN].replace(APPLY_DDP, "")}
    late = f"from torchtitan.models.llama3.parallelize import apply_ddp\n{CALLS.format('apply_ddp')}"
    result = outcome({**past, HERE: late})
    assert result.survey.kind == "past"
    assert [(f.code, f.status) for f in result.findings] == [("TM102", "left")] * 2
    assert "parallelize, which does not define it" in result.findings[0].message


def test_beside_a_migration_it_holds_up():
    late = f"from torchtitan.models.gone import apply_ddp\n{CALLS.format('apply_ddp')}"
    left = [f for f in findings({HERE: late}) if f.status == "left"]
    assert [(f.path, f.line) for f in left] == [(HERE, 1), (HERE, 3)]
    assert left[0].suggestion == (
        "from torchtitan.models.llama3.parallelize import apply_replicate"
    )


# The other target


@pytest.mark.parametrize("has, asked", [("1d", "2d"), ("2d", "1d")])
def test_what_is_migrated_for_the_other_target(has, asked):
    done = migrated(target=has)
    result = outcome(done, target=asked)
    assert result.for_other_target and result.changes == {}
    assert result.survey.kind == "migrated" and result.survey.migrated_to == has
    assert [(f.code, f.status, f.path) for f in result.findings] == [
        ("TM101", "left", PLAN)
    ]
    assert f"{asked.upper()} one" in result.findings[0].message
    assert not outcome(done, target=has).for_other_target


# Methods


def test_a_method_that_wraps_by_the_class():
    source = """\
        from torch.nn.parallel import DistributedDataParallel as DDP

        class Model:
            def apply_ddp(self, mesh):
                return DDP(self, device_mesh=mesh)
    """
    of_here = [f for f in findings({HERE: source}) if f.path == HERE]
    assert [(f.line, f.code, f.status) for f in of_here] == [(5, "TM211", "hazard")]
    assert of_here[0].message.startswith("Model.apply_ddp is a method")
    ast.parse(of_here[0].suggestion)


def test_the_survey_tells_them_apart():
    plan = f"from {FAR} import apply_ddp\n"
    assert survey(tree(pkg__plan=plan)).kind == "dependent"
    held = checkout({HERE: plan})
    assert survey(held).kind == "ddp"
    assert [use.held for use in survey(held).outside] == [True]
    own = f"{PLAN_IMPORTS}\n\n{APPLY_FSDP}\n\n{APPLY_DDP}"
    assert survey(tree(pkg__plan=plan, pkg__own=own)).kind == "ddp"
