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


@pytest.mark.parametrize(
    "use, status",
    [
        (f'PATH = "{MODULE}.apply_ddp"', "opted-out"),
        ('getattr(P, "apply_ddp")(model)', "left"),
    ],
)
def test_an_opt_out_holds_for_a_string_alone(use, status):
    """What is asked of a module there is gone, whatever a person says of the line."""
    text = f"{HEAD}    {use}  # titan-migrate: ignore[TM102]\n"
    found = findings({**PLAIN, HERE: text}, code="TM102", path=HERE)
    assert [(f.status, f.suggestion) for f in found] == [(status, None)]
