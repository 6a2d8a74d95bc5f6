"""Which rules are one step, and the order of the steps."""

import pytest

from codemods.rules import all_rules
from codemods.steps import step_of, steps

from support import aim


@pytest.mark.parametrize("target", ["1d", "2d"])
def test_every_rule_that_rewrites_is_in_one_step_and_replicate_comes_first(target):
    found = steps(aim(target))
    codes = [code for step in found for code in step.codes]
    assert sorted(codes) == [r.CODE for r in all_rules() if hasattr(r, "rewrite")]
    assert {"TM101", "TM102", "TM103", "TM105"} <= set(found[0].codes)
    assert all(step.subject and step.why and step.upstream for step in found)


def test_parallel_dims_go_with_replicate_on_a_2d_mesh_only():
    assert "TM104" in step_of("TM101", aim("2d")).codes
    assert step_of("TM104", aim("1d")).codes == ("TM104",)
    for target, number in (("1d", "2458"), ("2d", "1714")):
        assert f"pull/{number}" in step_of("TM101", aim(target)).upstream


def test_a_hazard_is_a_step_of_its_own():
    assert step_of("TM201", aim()).codes == ("TM201",)
    assert not step_of("TM201", aim()).apart
