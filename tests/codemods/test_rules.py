"""Every rule is found, by its code or by one that is nearly it."""

from codemods.rules import all_rules

from rewriting import UNCLEAR
from support import HERE, findings


def test_every_code_is_of_a_rule():
    codes = [rule.CODE for rule in all_rules()]
    assert codes == sorted(set(codes))
    assert {f.code for f in findings({HERE: UNCLEAR})} <= set(codes)
    for rule in all_rules():
        assert hasattr(rule, "rewrite") == rule.CODE.startswith("TM1")
