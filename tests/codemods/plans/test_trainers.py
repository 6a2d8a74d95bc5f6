"""Which training loops run a plan: they say whether its gradients are summed."""

import pytest

from codemods.plans import decide
from codemods.plans.trainers import Trainers, others_of, trainers_of
from codemods.survey import survey

from support import APPLY_DDP, APPLY_FSDP, IMPORT, PLAN_IMPORTS, aim, checkout

PLAN_OF_MINE = f"""\
{IMPORT} apply_ddp, apply_fsdp


def parallelize_mine(model, parallel_dims, job_config):
    if parallel_dims.fsdp_enabled:
        apply_fsdp(model, parallel_dims.world_mesh["dp_shard"], None, None)
    elif parallel_dims.dp_replicate_enabled:
        apply_ddp(model, parallel_dims.world_mesh["dp_replicate"], False)
    return model
"""
MINE = {"torchtitan/models/mine/infra/parallelize.py": PLAN_OF_MINE}
MAIN, FORGE = "torchtitan/train.py", "torchtitan/experiments/forge/train.py"
FLUX = "torchtitan/models/flux/train.py"
OWN_PLAN = {"torchtitan/models/flux/parallelize.py": f"{PLAN_IMPORTS}\n\n{APPLY_FSDP}"}


def loop(divisor: str, *, base: str = "", runs: bool = True) -> str:
    """A trainer that divides its loss, runs any plan or not, and derives from another or not."""
    imports, of = (f"from {base} import Trainer\n", "(Trainer)") if base else ("", "")
    model = "self.spec.parallelize_fn(make())" if runs else "make()"
    return (
        f"{imports}\n\nclass Trainer{of}:\n"
        f"    def build(self):\n        self.model = {model}\n\n"
        f"    def step(self, batch):\n        loss = self.loss_fn(batch) / {divisor}\n"
        "        loss.backward()\n"
    )


BY_ALL, BY_OWN = "self.global_tokens", "self.accumulation_steps"


def facts_of(files):
    return decide(survey(checkout({**MINE, **files})), aim())


def trainers(files) -> Trainers:
    facts = facts_of(files)
    return trainers_of(facts, facts.survey.call_sites)


def test_torchtitans_own_trainer_is_asked_and_not_that_of_an_experiment():
    files = {MAIN: loop(BY_OWN), FORGE: loop(BY_ALL)}
    assert trainers(files) == Trainers((), (MAIN,))
    assert trainers({MAIN: loop(BY_ALL), FORGE: loop(BY_OWN)}).sum


def test_the_trainer_of_another_model_is_not_asked():
    """It trains what the plan of its own folder has sharded."""
    flux = {FLUX: loop(BY_ALL, base="torchtitan.train", runs=False), **OWN_PLAN}
    assert trainers({MAIN: loop(BY_OWN), **flux}) == Trainers((), (MAIN,))
    assert trainers({FLUX: loop(BY_ALL), **OWN_PLAN}) == Trainers()


def test_the_trainer_in_the_models_own_folder_is_asked_first():
    mine = "torchtitan/models/mine/train.py"
    files = {
        MAIN: loop(BY_ALL),
        mine: loop(BY_OWN, base="torchtitan.train", runs=False),
    }
    assert trainers(files) == Trainers((), (mine,))


def test_a_script_beside_a_plan_that_does_not_run_it_is_not_asked():
    probe = {"torchtitan/models/mine/probe.py": loop(BY_OWN, runs=False)}
    assert trainers({MAIN: loop(BY_ALL), **probe}) == Trainers((MAIN,), ())


def test_a_loop_that_calls_the_plan_by_its_name_is_asked_too():
    direct = "torchtitan/experiments/direct/train.py"
    called = loop(BY_OWN, runs=False).replace(
        "make()", "parallelize_mine(make(), 0, 0)"
    )
    imported = f"from torchtitan.models.mine.infra.parallelize import parallelize_mine\n{called}"
    found = trainers({MAIN: loop(BY_ALL), direct: imported})
    assert found == Trainers((MAIN,), (direct,)) and not found.sum


def test_the_trainer_of_an_experiment_is_asked_where_there_is_no_other():
    engine = loop(BY_ALL, base="torchtitan.experiments.forge.engine", runs=False)
    files = {
        "torchtitan/experiments/forge/engine.py": "class Trainer:\n"
        "    def build(self):\n        self.spec.parallelize_fn(make())\n",
        FORGE: engine,
    }
    assert trainers(files) == Trainers((FORGE,), ())


def test_the_step_in_a_module_of_its_own():
    """What builds the model has no backward pass, what it imports has."""
    files = {
        MAIN: "from torchtitan.steps import Trainer\n\n\ndef main(spec):\n"
        "    Trainer(spec.parallelize_fn(make()))\n",
        "torchtitan/steps.py": loop(BY_OWN, runs=False),
        FORGE: loop(BY_ALL),
    }
    assert trainers(files) == Trainers((), ("torchtitan/steps.py",))


def test_a_loop_that_is_not_seen_to_run_anything_is_better_than_none():
    assert trainers({MAIN: loop(BY_ALL, runs=False)}) == Trainers((MAIN,), ())
    assert trainers({}) == Trainers()


def test_a_test_trains_nothing():
    path = "torchtitan/tests/test_loop.py"
    assert trainers({path: loop(BY_OWN), MAIN: loop(BY_ALL)}) == Trainers((MAIN,), ())


@pytest.mark.parametrize(("plan", "others"), [({}, [FORGE]), (True, [])])
def test_experiments_that_may_run_the_same(plan, others):
    sharding = "torchtitan/experiments/forge/parallelize.py"
    files = {MAIN: loop(BY_ALL), FORGE: loop(BY_OWN)}
    if plan:
        files[sharding] = f"{PLAN_IMPORTS}\n\n{APPLY_FSDP}\n\n{APPLY_DDP}"
    facts = facts_of(files)
    assert others_of(facts, facts.survey.call_sites) == others
