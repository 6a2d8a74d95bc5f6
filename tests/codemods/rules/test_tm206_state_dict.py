"""TM206: a state dict that leaves for another process."""

import pytest

from support import HERE, IMPORT, findings, text

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


TRAINER = "torchtitan/train.py"
LAB = "torchtitan/experiments/lab/train.py"
BASE = {
    TRAINER: f"""
        {IMPORT} parallelize_llama


        class Trainer:
            def __init__(self, config):
                self.model_parts = [parallelize_llama(config)]
    """,
    "torchtitan/experiments/__init__.py": "",
    "torchtitan/experiments/lab/__init__.py": "",
}
SUBCLASS = """\
import torch
import torch.distributed.checkpoint as dcp
from torchtitan.train import Trainer
{head}

class Lab(Trainer):
    def save(self, path):
        {body}
"""


def lab(body, head=""):
    source = SUBCLASS.format(body=body.replace("\n", "\n        "), head=text(head))
    here = findings({**BASE, LAB: source}, code="TM206", path=LAB)
    return [source.splitlines()[f.line - 1].strip() for f in here], here


@pytest.mark.parametrize(
    "line",
    [
        "self.shadow.load_state_dict(self.model_parts[0].state_dict())",
        "torch.save(self.model_parts[0].state_dict(), path)",
        "torch.save([m.state_dict() for m in self.model_parts], path)",
        "torch.save({'model': self.model_parts[0].output.state_dict()}, path)",
        "return {k: v.cpu() for k, v in self.model_parts[0].state_dict().items()}",
        "sd = self.model_parts[0].state_dict(); torch.save(sd, path)",
        "model, *_ = self.model_parts\ntorch.save(unwrap(model).state_dict(), path)",
        "for m in self.model_parts: self.queue.put(m.state_dict())",
        "self.best = {k: v.clone() for k, v in self.model_parts[0].state_dict().items()}\n"
        "self.model_parts[0].load_state_dict(self.best)\ntorch.save(self.best, path)",
        "self.llm = self.model_parts[0]\ntorch.save(self.llm.state_dict(), path)",
        "return getattr(self.model_parts[0], 'module', None).state_dict()",
    ],
)
def test_fires_for_what_is_built_on_the_trainer(line):
    named, here = lab(line)
    assert len(named) == 1 and named[0] in line
    assert here[0].severity == "loud" and "full_tensor()" in here[0].suggestion


def test_fires_where_a_function_is_handed_the_model():
    head = """
        def export(net, path):
            torch.save(net.state_dict(), path)

        def count(net):
            return len(net.state_dict())
    """
    named, _ = lab("export(self.model_parts[0], path)", head)
    assert named == ["torch.save(net.state_dict(), path)"]
    assert lab("export(self.teacher, path)", head)[0] == []
    assert lab("count(self.model_parts[0])", head)[0] == []


def test_fires_in_another_method_that_finds_it_on_self():
    source = SUBCLASS.format(body="self.llm = self.model_parts[0]", head="")
    source += "\n    def close(self):\n        torch.save(self.llm.state_dict(), 'a')\n"
    (one,) = findings({**BASE, LAB: source}, code="TM206", path=LAB)
    assert source.splitlines()[one.line - 1].strip().startswith("torch.save")


@pytest.mark.parametrize(
    "line",
    [
        "dcp.save(self.model_parts[0].state_dict(), checkpoint_id=path)",
        "dcp.save({'model': self.model_parts[0].state_dict()}, checkpoint_id=path)",
        "sd = self.model_parts[0].state_dict(); dcp.load(sd, checkpoint_id=path)",
        "torch.save(get_model_state_dict(self.model_parts[0]), path)",
        "torch.save({k: v.full_tensor() for k, v in self.model_parts[0].state_dict().items()}, path)",
        "return list(self.model_parts[0].state_dict().keys())",
        "return {k: v.shape for k, v in self.model_parts[0].state_dict().items()}",
        "return [k for k in self.model_parts[0].state_dict()]",
        "self.model_parts[0].load_state_dict(self.model_parts[0].state_dict())",
        "states = {'model': self.model_parts[0].state_dict()}\n"
        "dcp.save(states, checkpoint_id=path)",
        "self.best = {k: v.clone() for k, v in self.model_parts[0].state_dict().items()}\n"
        "for m in self.model_parts:\n    m.load_state_dict(self.best)",
        "best = copy.deepcopy(self.model_parts[0].state_dict())\n"
        "self.model_parts[0].load_state_dict(best)",
        "torch.save(self.optimizers.state_dict(), path)",
        "torch.save(self.teacher.state_dict(), path)",
        "self.checkpointer.save(self.step)",
    ],
)
def test_does_not_fire_for_what_takes_dtensors(line):
    assert lab(line)[0] == []


def test_does_not_fire_for_what_the_checkpointer_asks_for():
    state = "torchtitan/experiments/lab/state.py"
    source = """
        class State:
            def __init__(self, model_parts):
                self.model = model_parts[0]

            def state_dict(self):
                return {"model": self.model.state_dict()}
    """
    head = "from torchtitan.experiments.lab.state import State\n"
    use = SUBCLASS.format(body="self.state = State(self.model_parts)", head=head)
    files = {**BASE, state: source, LAB: use}
    assert findings(files, code="TM206", path=state) == []
    other = source.replace("def state_dict", "def weights")
    assert len(findings({**files, state: other}, code="TM206", path=state)) == 1


@pytest.mark.parametrize(
    "line",
    [
        "self.model_parts[0].load_state_dict(torch.load(path))",
        "sd = torch.load(path); self.model_parts[0].load_state_dict(sd['model'])",
        "self.model_parts[0].load_state_dict(self.teacher.state_dict())",
    ],
)
def test_fires_for_plain_tensors_that_are_loaded(line):
    named, here = lab(line)
    assert named == [line]
    assert "full_state_dict=True" in here[0].suggestion
    assert lab(line.replace("self.model_parts[0].l", "self.teacher.l"))[0] == []


def test_does_not_fire_before_the_model_is_wrapped():
    plan = f"""
        {IMPORT} parallelize_llama


        def build(model, path, parallel_dims):
            model.load_state_dict(torch.load(path))
            kept = model.state_dict()
            model = parallelize_llama(model, parallel_dims)
            return model, kept
    """
    assert findings({HERE: plan}, code="TM206") == []
    after = plan.replace("return model", "return model.state_dict()")
    assert len(findings({HERE: after}, code="TM206")) == 1
