"""TM235: a model whose class nothing shows."""

from support import HERE, IMPORT, findings, migrated

ACTOR = f"""
    {IMPORT} apply_ddp


    class Actor:
        def __init__(self, load, dims):
            self.model = load()
            apply_ddp(self.model, dims.world_mesh, False)
"""


def test_fires_for_a_script_that_is_given_its_model():
    (one,) = findings({HERE: ACTOR}, code="TM235")
    assert (one.path, one.line, one.severity) == (HERE, 7, "loud")
    assert "the class of self.model" in one.message
    assert one.suggestion == (
        "# before it is wrapped; another model is wrapped by replicate(self.model, mesh=...)\n"
        'for name in ("layers",):\n'
        "    assert hasattr(self.model, name), name"
    )
    assert "apply_replicate" in migrated({HERE: ACTOR})[HERE]


def test_does_not_fire_beside_what_shards_the_same():
    plan = f"""
        {IMPORT} apply_ddp, apply_fsdp


        def parallelize(model, world_mesh, job_config):
            if job_config.shard:
                apply_fsdp(model, world_mesh["dp_shard"], job_config.a, job_config.b)
            else:
                apply_ddp(model, world_mesh, False)
    """
    assert findings({HERE: plan}, code="TM235") == []


def test_can_opt_out():
    said = ACTOR.replace("False)", "False)  # titan-migrate: ignore[TM235]")
    (one,) = findings({HERE: said}, code="TM235")
    assert one.status == "opted-out"
    assert "apply_replicate" in migrated({HERE: said})[HERE]
