"""TM210: the new function comes from a fixed template."""

from support import APPLY_AC, APPLY_FSDP, BASE, PLAN, findings


def test_fires_without_apply_fsdp():
    found = findings({PLAN: BASE[PLAN].replace(APPLY_FSDP, APPLY_AC)}, code="TM210")
    assert [(f.path, f.status) for f in found] == [(PLAN, "hazard")]
    assert "no apply_fsdp" in found[0].message


def test_fires_for_a_shape_that_is_not_followed():
    other = APPLY_FSDP.replace(
        "    fully_shard(model, **", "    while True:\n        fully_shard(model, **"
    )
    found = findings({PLAN: BASE[PLAN].replace(APPLY_FSDP, other)}, code="TM210")
    assert len(found) == 1 and "While" in found[0].message


def test_does_not_fire_for_a_mirror():
    assert findings(code="TM210") == []
