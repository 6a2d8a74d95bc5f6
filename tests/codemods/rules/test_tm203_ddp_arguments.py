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


def with_mapping(given, *before):
    plan = BASE[PLAN].replace("bucket_cap_mb=100", f"**{given}")
    lines = "".join(f"    {line}\n" for line in before)
    head = plan[: plan.index("    replicate(", plan.index("def apply_ddp"))]
    return {PLAN: head + lines + plan[len(head) :]}


@pytest.mark.parametrize(
    "mapping",
    [
        '{"find_unused_parameters": True, "bucket_cap_mb": 100}',
        "dict(find_unused_parameters=True, static_graph=False)",
    ],
)
def test_a_mapping_is_read(mapping):
    for tree in (with_mapping(mapping), with_mapping("more", f"more = {mapping}")):
        (found,) = findings(tree, code="TM203")
        assert found.message.startswith("find_unused_parameters=True is an argument")
        assert found.severity == "loud" and "drops it" in found.message


def test_a_mapping_of_the_module_is_read_where_a_call_hands_it_on():
    plan = BASE[PLAN].replace("bucket_cap_mb=100", "**more")
    plan += "\n\nmore = {'ignored_modules': [None]}\n"
    (found,) = findings({PLAN: plan}, code="TM203")
    assert found.severity == "silent" and found.line == plan.count("\n")


@pytest.mark.parametrize(
    ("given", "before"),
    [
        ("(options or {})", []),
        ("options", []),
        ("more", ["more = {}", 'more["find_unused_parameters"] = True']),
        ("more", ["more = {}", "more.update(options)"]),
        ("more", ["more = {}", "more |= options"]),
        ("dict(options)", []),
        ("{**options}", []),
    ],
)
def test_what_a_mapping_holds_that_cannot_be_told_is_named(given, before):
    (found,) = findings(with_mapping(given, *before), code="TM203")
    assert found.severity == "silent" and "what cannot be told" in found.message


def test_what_a_caller_gives_is_not_what_the_module_has_by_that_name():
    plan = BASE[PLAN].replace("bucket_cap_mb=100", "**more")
    plan = plan.replace("enable_compile: bool)", "enable_compile: bool, **more)")
    (found,) = findings({PLAN: plan + "\n\nmore = {}\n"}, code="TM203")
    assert "what cannot be told" in found.message


@pytest.mark.parametrize("mapping", ["{}", '{"device_mesh": dp_mesh}', "dict()"])
def test_a_mapping_without_arguments_of_ddp_alone_says_nothing(mapping):
    assert findings(with_mapping(mapping), code="TM203") == []
