"""TM210: the new function comes from a fixed template."""

from rewriting import plan
from support import APPLY_AC, APPLY_FSDP, BASE, PLAN, findings, text


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


def test_what_the_template_lacks_is_silent():
    sharded = """
        def apply_fsdp(model, dp_mesh, param_dtype, reduce_dtype):
            policy = MixedPrecisionPolicy(param_dtype, reduce_dtype{more})
            shard = partial(fully_shard, mesh=dp_mesh, mp_policy=policy)
            for block in model.layers.values():
                shard(block)
                {done}
            shard(model)
    """

    def told(more="", done="pass"):
        source = plan(text(sharded).format(more=more, done=done))
        (found,) = findings({PLAN: source}, code="TM210", path=PLAN)
        return found.severity, found.message.partition("nothing of: ")[2]

    assert told() == ("note", "")
    assert told(", output_dtype=torch.float32") == ("silent", "output_dtype.")
    assert told(done="shard(block.router, mp_policy=MixedPrecisionPolicy())") == (
        *("silent", "2 policies of precision."),
    )
    assert told(done="block.tower.requires_grad_(False)") == (
        *("silent", "`block.tower.requires_grad_(False)`."),
    )
