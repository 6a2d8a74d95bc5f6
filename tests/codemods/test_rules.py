"""Every rule is found, by its code or by one that is nearly it."""

import pytest

from codemods.rules import all_rules, meant_by

from rewriting import UNCLEAR
from support import HERE, findings


def test_every_code_is_of_a_rule():
    codes = [rule.CODE for rule in all_rules()]
    assert codes == sorted(set(codes))
    assert {f.code for f in findings({HERE: UNCLEAR})} <= set(codes)
    for rule in all_rules():
        assert hasattr(rule, "rewrite") == rule.CODE.startswith("TM1")
        if rule.CODE.startswith("TM2"):
            assert rule.SEVERITY in ("silent", "loud", "note")


@pytest.mark.parametrize(
    "word, meant",
    [
        ("tm1O6", "TM106"),
        ("T106", "TM106"),
        ("2", "TM2"),
        ("TM108", None),
        ("E501", None),
        ("TM", None),
        ("", None),
    ],
)
def test_a_misspelt_code_is_understood_where_its_digits_are_right(word, meant):
    assert meant_by(word) == meant
