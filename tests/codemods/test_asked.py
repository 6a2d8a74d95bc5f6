"""What a condition asks, one by one."""

import ast

import pytest

from codemods.asked import alternatives, written_out


def condition(code):
    return ast.parse(code, mode="eval").body


@pytest.mark.parametrize(
    "code, wanted",
    [
        ("any(d > 1 for d in (tp, pp))", "tp > 1 or pp > 1"),
        ("all(d == 1 for d in [tp, pp])", "tp == 1 and pp == 1"),
        ("any([tp > 1, pp > 1])", "tp > 1 or pp > 1"),
        ("any(getattr(dims, d) > 1 for d in ('tp', 'pp'))", "dims.tp > 1 or dims.pp > 1"),
        ("any(getattr(dims, f'{d}_enabled') for d in {'tp'})", "dims.tp_enabled"),
        ("max(tp, pp) > 1", "tp > 1 or pp > 1"),
        ("math.prod((tp, pp)) == 1", "tp == 1 and pp == 1"),
        ("tp * pp * cp >= 2", "tp >= 2 or pp >= 2 or cp >= 2"),
        ("any(d > 1 for d in others)", "cp > 1 or ep > 1"),
        ("any(d > 1 for d in named.values())", "tp > 1"),
        ("too_many", "ep > 1"),
        # Not as many of one kind, or not known
        ("any(d > 1 for d in unknown)", "any((d > 1 for d in unknown))"),
        ("any(d > 1 for d in (tp, pp) if d)", "any((d > 1 for d in (tp, pp) if d))"),
        ("tp * pp > 2", "tp * pp > 2"),
        ("max(tp, pp) == 2", "max(tp, pp) == 2"),
    ],
)  # fmt: skip
def test_each_is_asked_by_itself(code, wanted):
    known = {
        "others": condition("(cp, ep)"),
        "named": condition("{'TP': tp}"),
        "too_many": condition("ep > 1"),
    }
    assert ast.unparse(written_out(condition(code), known)) == wanted


@pytest.mark.parametrize(
    "code, true, false",
    [
        ("a or b", ["a", "b"], ["not a and (not b)"]),
        ("a and b", ["a and b"], ["not a", "not b"]),
        ("not (tp == 1 and pp == 1)", ["tp != 1", "pp != 1"], ["tp == 1 and pp == 1"]),
        ("r and (a or b)", ["r and a", "r and b"], ["not r", "not a and (not b)"]),
        ("max(tp, pp) > 1", ["tp > 1", "pp > 1"], ["tp <= 1 and pp <= 1"]),
    ],
)
def test_what_makes_a_condition_true_or_false(code, true, false):
    for wanted, expected in ((True, true), (False, false)):
        found = alternatives(condition(code), true=wanted)
        assert [ast.unparse(one) for one in found] == expected
