"""TM203: arguments of DDP that replicate does not take."""

import pytest

from support import APPLY_DDP, BASE, HERE, PLAN, findings


def with_argument(argument):
    call = "bucket_cap_mb=100"
    return {PLAN: BASE[PLAN].replace(call, f"{call}, {argument}")}


@pytest.mark.parametrize(
    "argument, severity",
    [
        ("find_unused_parameters=True", "loud"),
        ("static_graph=True", "note"),
        ("gradient_as_bucket_view=True", "note"),
        ("ignored_modules=[model.frozen]", "silent"),
    ],
)
def test_fires_in_the_definition_that_is_replaced(argument, severity):
    found = findings(with_argument(argument), code="TM203")
    assert [(f.path, f.status) for f in found] == [(PLAN, "hazard")]
    assert argument.split("=")[0] in found[0].message and "drops it" in found[0].message
    assert found[0].severity == severity


def test_the_cure_of_unused_parameters_is_not_to_leave_the_argument_out():
    (one,) = findings(with_argument("find_unused_parameters=True"), code="TM203")
    assert "model.set_reduce_scatter_unused_params(True)" in one.suggestion
    assert "leave out" not in one.suggestion


@pytest.mark.parametrize(
    "argument", ["find_unused_parameters=False", "ignored_modules=None"]
)
def test_does_not_fire_for_a_default(argument):
    assert findings(with_argument(argument), code="TM203") == []


def test_does_not_fire_for_the_bucket_size_of_torchtitan():
    assert "bucket_cap_mb" in APPLY_DDP and findings(code="TM203") == []


def test_another_bucket_size_was_chosen_by_somebody_and_is_named():
    plan = BASE[PLAN].replace("bucket_cap_mb=100", "bucket_cap_mb=25")
    (found,) = findings({PLAN: plan}, code="TM203")
    assert found.severity == "note" and found.suggestion is None
    assert found.message.startswith("bucket_cap_mb=25 is an argument of DDP")


def test_fires_elsewhere():
    use = "wrap(model, bucket_cap_mb=25)\n"
    found = findings({HERE: use}, code="TM203")
    assert [(f.path, f.line) for f in found] == [(HERE, 1)] and found[
        0
    ].severity == "loud"
