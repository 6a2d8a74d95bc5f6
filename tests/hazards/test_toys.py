"""The rules' facts, trained: silent ones change figures, loud ones raise, notes do neither.

What DDP gives and what the cure gives is the same to every digit that is compared.
"""

import importlib.util
from pathlib import Path

import pytest

from codemods.rules import all_rules

pytestmark = pytest.mark.torchrun

SEVERITY = {
    rule.CODE: rule.SEVERITY for rule in all_rules() if hasattr(rule, "SEVERITY")
}
MILDER = {
    "dtype_after_a_state_dict": "note",
    "unfrozen_in_fp32": "note",
    "data_pointers": "silent",
}
"""Toys that show where a hazard ends, and the silent one of a loud rule."""


@pytest.fixture(scope="module")
def toys():
    place = Path(__file__).with_name("toys.py")
    spec = importlib.util.spec_from_file_location("toys", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def figures(toys):
    return toys.figures()


def raised(figure) -> bool:
    return isinstance(figure, str) and ("Error: " in figure or figure == "aborts")


def test_the_rules_say_what_was_measured(toys, figures):
    for name, (_, code, _) in toys.TOYS.items():
        ddp, replicate, cure = (figures[name][party] for party in toys.PARTIES)
        assert not raised(ddp) and not raised(cure), (name, ddp, cure)
        if code in ("TM227", "TM228"):
            continue  # below: there DDP is not what is wanted
        assert ddp == cure, name
        severity = MILDER.get(name, SEVERITY[code])
        assert raised(replicate) == (severity == "loud"), (name, replicate)
        if severity != "loud":
            assert (replicate == ddp) == (severity == "note"), (name, replicate)


def test_ddps_replicas_part_when_stepping_in_backward(figures):
    found = figures["replicas_part_when_stepping_in_backward"]
    *_, apart = found["DDP"]
    assert apart > 0.001
    assert found["replicate"][-1] == 0 and found["replicate"] == found["cure"]


def test_every_group_of_replicate_is_an_fsdp_module(figures):
    found = figures["groups_that_are_fsdp_modules"]
    assert found["DDP"] == [0]
    count, *placements = found["replicate"]
    assert count == 6 and placements == ["R"]


def test_every_new_rule_has_a_toy(toys):
    new = {code for code in SEVERITY if code >= "TM220"}
    assert new <= {code for _, code, _ in toys.TOYS.values()}
