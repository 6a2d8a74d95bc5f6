"""TM206: a state dict that leaves for another process."""

from support import HERE, IMPORT, findings

ACTOR = f"""
    import torch

    {IMPORT} apply_ddp


    class Actor:
        def build(self):
            apply_ddp(self.model, self.dims.world_mesh, False)

        def weights(self):
            return self.model.state_dict()
"""


def test_fires_for_a_trainer_of_its_own():
    found = findings({HERE: ACTOR}, code="TM206")
    assert [(f.path, f.line, f.status) for f in found] == [(HERE, 11, "hazard")]
    assert "full_tensor()" in found[0].suggestion


def test_does_not_fire_for_another_model():
    other = ACTOR.replace("self.model.state", "self.reference.state")
    assert findings({HERE: other}, code="TM206") == []


def test_does_not_fire_under_the_training_loop():
    plan = f"""
        {IMPORT} apply_ddp, apply_fsdp


        def parallelize(model, world_mesh, job_config):
            if job_config.shard:
                apply_fsdp(model, world_mesh, job_config.a, job_config.b)
            else:
                apply_ddp(model, world_mesh, False)
            return model.state_dict()
    """
    assert findings({HERE: plan}, code="TM206") == []


def test_does_not_fire_where_its_own_advice_was_taken():
    (found,) = findings({HERE: ACTOR}, code="TM206")
    advised = found.suggestion.replace("\n", "\n            ")
    cured = ACTOR.replace("return self.model.state_dict()", advised)
    assert "full_tensor()" in cured
    assert findings({HERE: cured}, code="TM206") == []
