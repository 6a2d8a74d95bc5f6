"""TM203: arguments of DDP that replicate does not take."""

import pytest

from support import APPLY_DDP, BASE, HERE, PLAN, findings


def with_argument(argument):
    call = "bucket_cap_mb=100"
    return {PLAN: BASE[PLAN].replace(call, f"{call}, {argument}")}


@pytest.mark.parametrize(
    "argument",
    [
        "find_unused_parameters=True",
        "static_graph=True",
        "gradient_as_bucket_view=True",
        "ignored_modules=[model.frozen]",
    ],
)
def test_fires_in_the_definition_that_is_replaced(argument):
    found = findings(with_argument(argument), code="TM203")
    assert [(f.path, f.status) for f in found] == [(PLAN, "hazard")]
    assert argument.split("=")[0] in found[0].message and "drops it" in found[0].message


@pytest.mark.parametrize(
    "argument", ["find_unused_parameters=False", "ignored_modules=None"]
)
def test_does_not_fire_for_a_default(argument):
    assert findings(with_argument(argument), code="TM203") == []


def test_does_not_fire_for_the_bucket_size_of_torchtitan():
    assert "bucket_cap_mb" in APPLY_DDP and findings(code="TM203") == []


def test_fires_elsewhere():
    use = "wrap(model, bucket_cap_mb=25)\n"
    found = findings({HERE: use}, code="TM203")
    assert [(f.path, f.line) for f in found] == [(HERE, 1)]
