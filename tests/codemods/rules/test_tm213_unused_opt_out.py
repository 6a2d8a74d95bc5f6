"""TM213: an opt-out on a line where there is nothing to opt out of."""

import pytest

from support import BASE, HERE, PLAN, findings


def unused(line):
    return findings({HERE: f"{line}\n"}, code="TM213")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("x = 1  # titan-migrate: ignore[TM102]", "TM102 has nothing to say"),
        ("x = 1  # titan-migrate: ignore[TM999]", "there is no rule TM999"),
        ("x = 1  # titan-migrate: ignore[tm102]", "there is no rule tm102"),
        ("x = 1  # titan-migrate: ignore", "opts out of nothing"),
        ("x = 1  # titan-migrate: ignore[]", "opts out of nothing"),
        ("x = 1  # titan-migrate: skip", "opts out of nothing"),
    ],
)
def test_fires(line, reason):
    (found,) = unused(line)
    assert (found.line, found.status) == (1, "hazard") and reason in found.message


def test_fires_once_for_each_code():
    assert len(unused("x = 1  # titan-migrate: ignore[TM101, TM102]")) == 2


def test_fires_beside_a_line_that_has_something():
    plan = BASE[PLAN].replace(
        "def apply_ddp", "# titan-migrate: ignore[TM101]\ndef apply_ddp"
    )
    assert len(findings({PLAN: plan}, code="TM213")) == 1


def test_does_not_fire_where_the_opt_out_is_used():
    plan = BASE[PLAN].replace("bool):", "bool):  # titan-migrate: ignore[TM101]")
    assert plan != BASE[PLAN]
    assert findings({PLAN: plan}, code="TM213") == []


def test_does_not_fire_in_a_string_or_a_docstring():
    text = (
        '"""See # titan-migrate: ignore[TM102]."""\nx = "# titan-migrate: ignore[TM1]"'
    )
    assert unused(text) == []
