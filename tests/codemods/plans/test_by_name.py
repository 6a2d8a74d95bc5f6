"""What is left where apply_ddp is asked for by its name at run time."""

import pytest

from rewriting import PLAIN, plan
from support import HERE, PLAN, assert_left, findings, migrated, outcome

MODULE = "torchtitan.models.llama3.parallelize"
HEAD = """\
import importlib
import operator
import sys

from torchtitan.models.llama3 import parallelize as P


def parallelize(model, world_mesh, job_config):
"""
IMPORTED = f'importlib.import_module("{MODULE}")'
CALL = "(model, world_mesh, enable_compile=False)"


@pytest.mark.parametrize(
    "asked",
    [
        'getattr(P, "apply_ddp")',
        'getattr(P, "apply_ddp", None)',
        f'getattr({IMPORTED}, "apply_ddp")',
        f"{IMPORTED}.apply_ddp",
        f'sys.modules["{MODULE}"].apply_ddp',
        'importlib.import_module("..llama3.parallelize", __package__).apply_ddp',
        'importlib.import_module(f"torchtitan.models.{name}.parallelize").apply_ddp',
        'importlib.import_module("torchtitan.models." + name).apply_ddp',
        'importlib.import_module("torchtitan.models.{}.plan".format(name)).apply_ddp',
        'vars(P)["apply_ddp"]',
        'P.__dict__["apply_ddp"]',
        'P.__dict__.get("apply_ddp")',
    ],
)
@pytest.mark.parametrize("target", ["1d", "2d"])
def test_the_call_is_left_with_its_arguments(asked, target):
    """Renamed alone, the name is found and its call fails by the arguments of DDP's."""
    text = f"{HEAD}    {asked}{CALL}\n"
    left = assert_left(text, "asked for by its name", files=PLAIN, target=target)
    assert "(\n    model" in left.suggestion or "(model, world_mesh[" in left.suggestion
    assert "enable_compile" not in left.suggestion


@pytest.mark.parametrize(
    "asked",
    [
        'wrap = getattr(P, "apply_ddp")',
        'operator.attrgetter("apply_ddp")(P)',
        f"mod = {IMPORTED}\n    mod.apply_ddp(model, world_mesh, False)",
        f'load("{MODULE}", "apply_ddp")',
        f'load(module="{MODULE}", name="apply_ddp")',
        f'PLANS = {{"llama3": ("{MODULE}", "apply_ddp")}}',
        f'PLANS = {{"{MODULE}": "apply_ddp"}}',
        'setattr(P, "apply_ddp", print)',
    ],
)
def test_it_is_left_with_the_name(asked):
    left = assert_left(f"{HEAD}    {asked}\n", "call it by name", files=PLAIN)
    assert "apply_replicate" in left.suggestion


@pytest.mark.parametrize(
    "use",
    [
        'load("PATH")(model, world_mesh)',
        'CONFIG = {"_target_": "PATH", "enable_compile": False}',
        'NAMES = ["PATH"]',
        'PATH = "PATH"\n    load(PATH)(model, world_mesh)',
    ],
)
@pytest.mark.parametrize("dot", [".", ":"])
def test_a_dotted_name_that_may_be_called_by_is_left(use, dot):
    path = f"{MODULE}{dot}apply_ddp"
    text = f"{HEAD}    {use}\n".replace('"PATH"', repr(path))
    left = assert_left(text, "is named by the string", files=PLAIN)
    assert left.suggestion.startswith("# it takes (model, dp_mesh)\n")
    assert path.replace("apply_ddp", "apply_replicate") in left.suggestion


def test_in_a_branch_it_is_the_whole_call():
    text = f"""{HEAD}\
    if job_config.shard:
        P.apply_fsdp(model, world_mesh["dp_shard"], job_config.a, job_config.b)
    else:
        wrap = getattr(P, "apply_ddp")
        wrap(model, world_mesh, enable_compile=False)
"""
    left = assert_left(text, "asked for by its name", files={PLAN: plan()})
    assert "param_dtype=job_config.a" in left.suggestion


def test_globals_are_of_the_file_itself():
    text = PLAIN[PLAN] + '\n\nWRAP = globals()["apply_ddp"]\n'
    left = assert_left(text, "asked for by its name", path=PLAN)
    assert left.suggestion.endswith("WRAP = apply_replicate")


@pytest.mark.parametrize(
    "line",
    [
        'PATH = "MODULE.apply_ddp"\n\n\n@mock.patch(PATH)\ndef test_it(fake): ...',
        'patch(target="MODULE.apply_ddp")',
        'assert wrap.__qualname__ != "MODULE.apply_ddp"',
        'logger.info("MODULE.apply_ddp")',
        'assert not hasattr(P, "apply_ddp")',
        'assert callable(getattr(P, "apply_ddp"))',
        'mocker.spy(P, "apply_ddp")',
    ],
)
def test_what_calls_nothing_by_it_follows(line):
    text = f"{HEAD}    ...\n\n\n{line}\n".replace("MODULE", MODULE)
    after = migrated({**PLAIN, "tests/test_it.py": text})["tests/test_it.py"]
    assert after == text.replace("apply_ddp", "apply_replicate")


@pytest.mark.parametrize(
    "line",
    [
        'getattr(P, "apply_fsdp")(model)',
        'getattr(unknown, "apply_ddp")(model)',
        'importlib.import_module("elsewhere").apply_ddp(model)',
        'NAMES = ("elsewhere", "apply_ddp")',
    ],
)
def test_what_is_not_of_a_function_that_moves_is_not_left(line):
    assert outcome({**PLAIN, HERE: f"{HEAD}    {line}\n"}).problems == ()


@pytest.mark.parametrize("target, status", [("1d", "left"), ("2d", "opted-out")])
@pytest.mark.parametrize(
    "use", [f'PATH = "{MODULE}.apply_ddp"', 'getattr(P, "apply_ddp")(model)']
)
def test_an_opt_out_holds_where_the_name_stays(use, target, status):
    """Else it is gone, whatever a person says of the line."""
    text = f"{HEAD}    {use}  # titan-migrate: ignore[TM102]\n"
    files = {**PLAIN, HERE: text}
    found = [f for f in findings(files, target, code="TM102") if f.path == HERE]
    assert [(f.status, f.suggestion) for f in found] == [(status, None)]


FAR = "torchtitan/distributed/ddp.py"
LAZY = """\
def __getattr__(name):
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name], __name__), name)
    raise AttributeError(name)
"""


@pytest.mark.parametrize(
    "table, lazily",
    [
        ('_LAZY = {"apply_ddp": "torchtitan.distributed.ddp"}', LAZY),
        ('_LAZY = {"apply_ddp": ".ddp"}', LAZY),
        ('_LAZY = {"ddp": ["apply_ddp"]}', LAZY),
        ('_LAZY = ("apply_ddp",)', "__getattr__ = lazy_loader(__name__, _LAZY)\n"),
        ('_LAZY = {"ddp": ["apply_ddp"]}', "sys.modules[__name__] = Lazy(__name__, _LAZY)\n"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("typed", [False, True])
def test_what_a_package_imports_when_it_is_asked_is_left(table, lazily, typed):
    """Renamed in its module alone, apply_ddp is not found, and no plan is imported."""
    checking = "if TYPE_CHECKING:\n    from .ddp import apply_ddp\n" if typed else ""
    files = {
        FAR: PLAIN[PLAN],
        PLAN: None,
        "torchtitan/distributed/__init__.py": f"{checking}\n{table}\n\n\n{lazily}",
        HERE: "from torchtitan.distributed import apply_ddp\n\n\n"
        "def parallelize(model, world_mesh):\n"
        "    apply_ddp(model, world_mesh, False)\n",
    }
    result = outcome(files)
    left = {(f.path, f.line) for f in result.findings if f.status == "left"}
    assert result.changes == {}
    assert ("torchtitan/distributed/__init__.py", 4 if typed else 1) in left
    asked = {(HERE, 1), (HERE, 5)} <= left
    assert asked == (not typed)
    said = "  # titan-migrate: ignore[TM102]"
    package = files["torchtitan/distributed/__init__.py"].replace(")\n", f"){said}\n")
    plan = "\n".join(line + said for line in files[HERE].splitlines())
    kept = outcome({**files, HERE: plan, "torchtitan/distributed/__init__.py": package})
    assert kept.changes == {}


def test_a_package_that_makes_something_else_when_it_is_asked_is_not_meant():
    lazily = "def __getattr__(name):\n    return load(name)\n"
    files = {**PLAIN, "torchtitan/distributed/__init__.py": lazily}
    assert outcome(files).problems == ()
    plan = "from torchtitan.distributed import apply_ddp\n"
    elsewhere = dict.fromkeys((PLAN, FAR)) | {HERE: plan}
    assert outcome({**files, **elsewhere}).problems == ()
