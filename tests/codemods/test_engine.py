"""All or nothing, and the check of what comes out."""

from types import ModuleType

import libcst as cst
import pytest

from codemods.rules import (
    all_rules,
    tm102_call_sites,
    tm104_parallel_dims,
    tm106_moe_adapter,
)
from codemods.source import UnreadableSource

from rewriting import CALLER, UNCLEAR
from support import (
    APPLY_DDP,
    BASE,
    HERE,
    LOOP_MESHES,
    PLAN,
    checkout,
    findings,
    migrated,
    outcome,
)

OTHER = "torchtitan/models/other/parallelize.py"


# All or nothing


def test_a_place_that_is_left_keeps_everything_from_being_written():
    result = outcome({HERE: CALLER, OTHER: UNCLEAR})
    assert result.changes == {}
    assert [p.split(": ")[0] for p in result.problems] == [f"{OTHER}:8"]
    # and what becomes of the precision
    assert {f.status for f in result.findings} == {"rewrite", "left", "hazard"}


def test_every_place_that_is_left_is_named():
    result = outcome({HERE: UNCLEAR, OTHER: UNCLEAR})
    assert [p.split(": ")[0] for p in result.problems] == [f"{HERE}:8", f"{OTHER}:8"]


def test_findings_are_sorted_and_say_each_thing_once():
    found = findings({HERE: CALLER})
    assert found == sorted(found, key=lambda f: (f.path, f.line, f.code, f.message))
    assert len(found) == len(set(found))


def test_to_do_is_what_is_rewritten_or_left():
    result = outcome({HERE: UNCLEAR})
    assert {f.status for f in result.to_do} == {"rewrite", "left"}
    assert outcome(migrated({HERE: CALLER})).to_do == ()


# Files that cannot be read


def test_a_file_that_does_not_matter_may_be_broken():
    assert PLAN in migrated({"torchtitan/notes.py": b"this is no python, \xff\n"})


def test_a_broken_file_that_only_a_hazard_looks_at_is_named():
    with pytest.raises(UnreadableSource) as raised:
        outcome({HERE: b"model.no_sync(\n"})
    assert raised.value.path == HERE


# A rule that goes wrong is caught


def broken(monkeypatch, rewrite, rule: ModuleType = tm102_call_sites):
    assert rule in all_rules()
    monkeypatch.setattr(rule, "rewrite", rewrite)
    result = outcome({HERE: CALLER})
    assert result.changes == {}
    assert result.problems == left(result)
    return result.problems


def left(result):
    """What is left, as it is said where nothing is written."""
    found = [f for f in result.findings if f.status == "left"]
    return tuple(f"{f.path}:{f.line}: {f.message}" for f in found)


def replacing(old, new):
    real = tm102_call_sites.rewrite

    def rewrite(tree, path, facts):
        code = real(tree, path, facts).code
        return cst.parse_module(code.replace(old, new))

    return rewrite


def test_a_call_that_is_forgotten(monkeypatch):
    problems = broken(monkeypatch, lambda tree, path, facts: tree)
    assert any(p.startswith(f"{HERE}:") for p in problems)


def test_a_call_that_does_not_fit(monkeypatch):
    rewrite = replacing("reduce_dtype=job_config.b", "dtype=job_config.b")
    problems = broken(monkeypatch, rewrite)
    assert any("there is no parameter dtype" in p for p in problems)


def test_a_call_with_too_many_arguments(monkeypatch):
    rewrite = replacing("apply_replicate(model,", "apply_replicate(model, 1, 2, 3, 4,")
    assert any("positional" in p for p in broken(monkeypatch, rewrite))


def test_a_call_that_lacks_an_argument(monkeypatch):
    rewrite = replacing("param_dtype=job_config.a", "reduce_dtype=job_config.a")
    assert broken(monkeypatch, rewrite)


def test_an_argument_given_twice(monkeypatch):
    rewrite = replacing("apply_replicate(model,", "apply_replicate(model, 1, 2,")
    assert broken(monkeypatch, rewrite)


def test_a_name_that_is_not_bound(monkeypatch):
    problems = broken(
        monkeypatch, replacing("param_dtype=job_config.a", "param_dtype=kind")
    )
    assert any("uses kind, which is not bound" in p for p in problems)


def test_an_import_that_is_forgotten(monkeypatch):
    rewrite = replacing("import apply_fsdp, apply_replicate", "import apply_fsdp")
    assert any("apply_replicate" in p for p in broken(monkeypatch, rewrite))


def test_an_import_of_a_name_that_no_module_has(monkeypatch):
    rewrite = replacing(
        "import apply_fsdp, apply_replicate",
        "import apply_fsdp, apply_replicat as apply_replicate",
    )
    assert broken(monkeypatch, rewrite)


def test_the_wrong_mesh(monkeypatch):
    assert broken(monkeypatch, replacing('world_mesh["dp_replicate"]', "world_mesh"))


def test_a_mesh_that_parallel_dims_does_not_build(monkeypatch):
    """Only evaluating ParallelDims sees it: the rule is made to find nothing."""
    dims = LOOP_MESHES.replace(
        "class ParallelDims:\n",
        """\
class ParallelDims:
    def __init__(self, pp, dp_replicate, dp_shard, cp, tp):
        self.pp, self.cp, self.tp = pp, cp, tp
        self.dp_replicate, self.dp_shard = dp_replicate, dp_shard

""",
    )
    files = {"torchtitan/distributed/parallel_dims.py": dims, HERE: CALLER}
    assert outcome(files, "2d").problems == ()
    monkeypatch.setattr(tm104_parallel_dims, "find", lambda facts: iter(()))
    result = outcome(files, "2d")
    assert result.changes == {}
    assert any("would not build the mesh" in problem for problem in result.problems)


def test_a_text_that_does_not_parse(monkeypatch):
    class Tree:
        body = ()
        code = "def (\n"

    monkeypatch.setattr(tm102_call_sites, "rewrite", lambda *_: Tree)
    with pytest.raises(Exception) as raised:
        problems = outcome({HERE: CALLER}).problems
        assert problems and HERE in problems[0]
        raise UnreadableSource(HERE, 1, "as it should")
    assert isinstance(raised.value, UnreadableSource) and raised.value.path == HERE


def test_a_removed_name_that_others_import(monkeypatch):
    definition = [r for r in all_rules() if r.CODE == "TM101"][0]
    real = definition.rewrite

    def rewrite(tree, path, facts):
        code = real(tree, path, facts).code
        return cst.parse_module(code.replace("def apply_fsdp(", "def apply_fsdp2("))

    problems = broken(monkeypatch, rewrite, definition)
    named = [p for p in problems if p.startswith(f"{HERE}:1: ")]
    assert any("imports apply_fsdp" in p for p in named)


USER = "torchtitan/models/other/use.py"


@pytest.mark.parametrize(
    "imported, use",
    [
        (
            "from torchtitan.models.llama3.parallelize import replicate",
            "replicate",
        ),
        ("from torchtitan.models.llama3.parallelize import replicate as r", "r"),
        ("from torchtitan.models.llama3.parallelize import *", "replicate"),
        (
            "import torchtitan.models.llama3.parallelize as plan",
            "plan.replicate",
        ),
    ],
)
def test_a_file_that_has_replicate_from_a_plan_is_left(imported, use):
    other = (
        f"{imported}\n\n\ndef wrap(head, mesh):\n    {use}(head, device_mesh=mesh)\n"
    )
    result = outcome({HERE: CALLER, USER: other})
    (left,) = [f for f in result.findings if f.status == "left"]
    assert (left.path, left.line) == (USER, 5) and not result.changes
    assert "where that is another one from now on" in left.message


@pytest.mark.parametrize(
    "imported",
    [
        "from torch.distributed.fsdp import fully_shard as replicate",
        "from torchtitan.models.llama3.parallelize import apply_fsdp as replicate",
        "from mine import replicate",
        "from torchtitan.models.llama3.parallelize import *\nreplicate = 2",
    ],
)
def test_another_replicate_is_no_matter(imported):
    other = f"{imported}\n\n\ndef wrap(head):\n    replicate(head)\n"
    assert set(migrated({HERE: CALLER, USER: other})) >= {HERE, PLAN}


@pytest.mark.parametrize(
    "body",
    [
        "def f(config):\n    replicate = config.degree\n    return replicate * 2",
        "def f(replicate):\n    return replicate * 2",
        "def f(d):\n    return [replicate for replicate in d]",
        "f = lambda replicate: replicate * 2",
    ],
)
def test_a_local_name_beside_a_star_is_no_matter(body):
    other = f"from torchtitan.models.llama3.parallelize import *\n\n\n{body}\n"
    assert set(migrated({HERE: CALLER, USER: other})) >= {HERE, PLAN}


def test_the_checks_pass_where_nothing_is_broken():
    assert set(migrated({HERE: CALLER})) == {HERE, PLAN}
    assert tm106_moe_adapter in all_rules()


# What a checkout is


def test_nothing_to_find_where_there_is_no_ddp():
    result = outcome({PLAN: BASE[PLAN].replace(APPLY_DDP, "")})
    assert (result.survey.kind, result.changes, result.findings) == ("past", {}, ())


def test_input_is_not_changed():
    files = checkout({HERE: CALLER})
    before = {path: file.raw for path, file in files.items()}
    migrated({HERE: CALLER})
    assert {path: file.raw for path, file in files.items()} == before


@pytest.mark.parametrize(
    "old, new",
    [
        ("param_dtype=job_config.a", "param_dtype=job_config.b"),
        ("apply_replicate(model,", "apply_replicate(model.layers,"),
    ],
)
def test_what_executing_it_contradicts(monkeypatch, old, new):
    """It parses, binds and fits its call: only executing it before and after tells."""
    (problem,) = {
        p.split(": it would")[0] for p in broken(monkeypatch, replacing(old, new))
    }
    assert problem.startswith(f"{HERE}:")
