"""Names that are put together at run time and may be apply_ddp."""

import pytest

from rewriting import PLAIN
from support import HERE, assert_left, findings, outcome

HEAD = """\
import importlib
import operator

from torchtitan.models.llama3 import parallelize as P


def parallelize(model, world_mesh, kind, name, plan):
"""
CALL = "(model, world_mesh, enable_compile=False)"
NAMES = [
    'f"apply_{kind}"',
    '"apply_" + kind',
    '"apply_%s" % kind',
    '"apply_{}".format(kind)',
    '"_".join(["apply", kind])',
    'f"{verb}_ddp"',
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "of",
    [
        "P",
        'importlib.import_module(f"torchtitan.models.{name}.parallelize")',
    ],
)
def test_of_a_module_that_is_known_it_is_left(of, name):
    left = assert_left(
        f"{HEAD}    getattr({of}, {name}){CALL}\n", "put together", files=PLAIN
    )
    assert f"{of.replace(chr(34), chr(39))}.apply_replicate(" in left.suggestion


@pytest.mark.parametrize(
    "asked",
    [
        'which = f"apply_{kind}"\n    fn = getattr(P, which)',
        'vars(P)[f"apply_{kind}"]',
        'P.__dict__.get("apply_" + kind)',
        'operator.attrgetter(f"apply_{kind}")(P)',
        'PREFIX = "apply_"\n    getattr(P, PREFIX + kind)',
        'load(f"torchtitan.models.{name}.parallelize.apply_ddp")',
        'load(f"torchtitan.models.llama3.parallelize:apply_{kind}")',
        'load(f"{MODULE}.apply_ddp")',
        'load("torchtitan.models.%s.parallelize.apply_%s" % (name, kind))',
    ],
)
def test_it_is_left_however_it_is_asked_for(asked):
    left = assert_left(f"{HEAD}    {asked}\n", "put together", files=PLAIN)
    assert "apply_replicate" in left.suggestion


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("of", ["plan", "load(name)", "self_made[name]"])
def test_of_what_cannot_be_told_it_is_named(of, name):
    text = f"{HEAD}    getattr({of}, {name}){CALL}\n"
    (found,) = findings({**PLAIN, HERE: text}, code="TM211", path=HERE)
    assert (found.status, found.line) == ("hazard", 8)
    assert found.suggestion == f"{of}.apply_replicate"
    assert outcome({**PLAIN, HERE: text}).problems == ()


@pytest.mark.parametrize(
    "line",
    [
        'getattr(operator, f"apply_{kind}")(model)',
        'getattr(plan, f"build_{kind}")(model)',
        'getattr(plan, f"apply_{kind}_ac")(model)',
        'getattr(plan, f"{kind}_fsdp")(model)',
        "getattr(plan, kind)(model)",
        'getattr(plan, f"{name}_{kind}")(model)',
        'getattr(self, f"apply_{kind}")(model)',
        'logger.info(f"apply_{kind} of {name}")',
        'run(f"{name}_ddp")',
        'open(f"{name}/apply_{kind}.log")',
    ],
)
def test_what_is_something_else_is_not_named(line):
    text = f"{HEAD}    {line}\n"
    assert findings({**PLAIN, HERE: text}, path=HERE) == []


def test_an_opt_out_is_heard():
    """A person may know that it is never asked for."""
    said = "  # titan-migrate: ignore[TM102]"
    text = f'{HEAD}    getattr(P, f"apply_{{kind}}")(model){said}\n'
    (found,) = findings({**PLAIN, HERE: text}, path=HERE)
    assert found.status == "opted-out"
