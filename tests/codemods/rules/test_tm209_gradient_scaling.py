"""TM209: ``apply_fsdp`` and the training loop disagree about gradient scaling."""

import pytest

from codemods.dependency import Dependency
from codemods.plans import decide
from codemods.rules import tm209_gradient_scaling
from codemods.source import SourceFile
from codemods.survey import survey

from support import (
    APPLY_DDP,
    APPLY_FSDP,
    GLOBAL_TOKENS,
    PLAN,
    PLAN_IMPORTS,
    aim,
    checkout,
    findings,
    migrated,
)

OFF = {
    PLAN: f"{PLAN_IMPORTS}\n\n{APPLY_FSDP}    model.set_gradient_divide_factor(1.0)\n"
    f"\n\n{APPLY_DDP}"
}
LOOP = {"torchtitan/train.py": GLOBAL_TOKENS}


def disagreements(files=None):
    return [f for f in findings(files or {}, code="TM209") if f.severity == "silent"]


def test_fires_where_only_the_loop_divides():
    found = disagreements(LOOP)
    assert [(f.path, f.status) for f in found] == [(PLAN, "hazard")]
    assert "torchtitan/train.py divides" in found[0].message


def test_fires_where_only_apply_fsdp_switches_off():
    found = findings(OFF, code="TM209")
    assert len(found) == 1 and "no training loop" in found[0].message


def test_does_not_fire_where_they_agree():
    assert findings(code="TM209") == []
    assert disagreements({**OFF, **LOOP}) == []


def test_ddp_that_divided_once_more_is_a_note():
    """So gradients grow, and what clips them clips more."""
    (found,) = findings({**OFF, **LOOP}, code="TM209")
    assert (found.path, found.severity) == (PLAN, "note")
    assert "after torchtitan/train.py had divided the loss" in found.message
    assert "grad_norm, grow by the degree of dp_replicate" in found.message
    hooked = {PLAN: f"{OFF[PLAN]}\n    model.register_comm_hook(None, summed)\n"}
    assert findings({**hooked, **LOOP}, code="TM209") == []


def test_other_divisions_are_no_global_token_count():
    other = GLOBAL_TOKENS.replace("self.global_valid_tokens", "self.accumulation_steps")
    assert findings({"torchtitan/train.py": other}, code="TM209") == []


def test_a_loop_that_divides_in_place():
    """``loss /= global_tokens`` is a division too."""
    other = GLOBAL_TOKENS.replace(
        "/ self.global_valid_tokens", "\n        loss /= self.global_valid_tokens"
    )
    assert len(disagreements({"torchtitan/train.py": other})) == 1


@pytest.mark.parametrize(
    "division",
    [
        "loss = loss.div(self.global_valid_tokens)",
        "loss.div_(self.global_valid_tokens)",
        "loss = torch.div(loss, self.global_valid_tokens)",
    ],
)
def test_other_ways_to_divide(division):
    other = GLOBAL_TOKENS.replace(" / self.global_valid_tokens", "").replace(
        "        loss.backward", f"        {division}\n        loss.backward"
    )
    assert len(disagreements({"torchtitan/train.py": other})) == 1


def test_a_loop_of_a_torchtitan_that_is_not_at_hand_is_not_missed():
    """It may divide by the global token count: nobody is told to average."""
    known = Dependency(pinned="pyproject.toml:8, torchtitan==0.2.2", advice="do so")
    files = {path: SourceFile(path, text.encode()) for path, text in OFF.items()}
    facts = decide(survey({**checkout(), **files}, dependency=known), aim())
    (found,) = tm209_gradient_scaling.find(facts)
    assert found.severity == "note" and found.suggestion is None
    assert "torchtitan==0.2.2) that is not at hand: do so" in found.message


RUNS = GLOBAL_TOKENS.replace(
    "    def step",
    "    def build(self):\n        self.model = self.parallelize_fn()\n\n    def step",
)
OWN = RUNS.replace("self.global_valid_tokens", "self.accumulation_steps")
MAIN, OTHER = "torchtitan/train.py", "torchtitan/experiments/other/train.py"


def test_the_loop_of_another_trainer_does_not_sum():
    """apply_replicate averages as apply_fsdp does, whatever an experiment divides by."""
    files = {MAIN: OWN, OTHER: RUNS}
    assert findings(files, code="TM209") == []
    assert "set_gradient_divide_factor" not in migrated(files)[PLAN]
    assert "set_gradient_divide_factor(1.0)" in migrated({MAIN: RUNS, OTHER: OWN})[PLAN]


def test_a_trainer_that_divides_locally_where_apply_fsdp_sums():
    (found,) = disagreements({**OFF, MAIN: OWN, OTHER: RUNS})
    assert (found.path, found.status) == (PLAN, "hazard")
    assert "torchtitan/train.py, which runs it, divides by no global" in found.message


def test_two_trainers_that_want_different_things():
    """What apply_fsdp does is kept, and it is said for whom that is wrong."""
    both = {MAIN: RUNS, "torchtitan/train_pairs.py": OWN}
    (found,) = disagreements({**OFF, **both})
    assert "torchtitan/train_pairs.py does not, and both run this" in found.message
    (found,) = findings(both, code="TM209")
    assert found.severity == "note" and "averages gradients" in found.message
    assert "set_gradient_divide_factor" not in migrated(both)[PLAN]


def test_an_experiment_with_a_local_mean_that_may_run_what_sums():
    (found,) = disagreements({**OFF, MAIN: RUNS, OTHER: OWN})
    assert (found.path, found.line) == (
        OTHER,
        OWN.split("\n").index("        loss.backward()") + 1,
    )
    assert "DDP averaged its gradients, and they are summed now" in found.message


def test_what_made_up_for_ddp_has_to_go():
    """With it gradients are FSDP's times the degree, and were right under DDP."""
    made_up = RUNS.replace(
        "        loss.backward",
        "        loss = loss * self.parallel_dims.dp_replicate\n        loss.backward",
    )
    found = findings({**OFF, MAIN: made_up}, code="TM209")
    silent, note = sorted(found, key=lambda f: f.severity == "note")
    assert (silent.path, silent.severity) == (MAIN, "silent")
    assert (
        "`loss = loss * self.parallel_dims.dp_replicate` may make up" in silent.message
    )
    assert (
        silent.suggestion
        == "# take it out:\n# loss = loss * self.parallel_dims.dp_replicate"
    )
    assert note.message.endswith(f"which has to go: {MAIN}:{silent.line}")


def test_a_model_that_has_no_ddp_makes_up_for_nothing():
    """What shards alone is trained as before."""
    other = "torchtitan/experiments/other/parallelize.py"
    files = {
        **{**OFF, MAIN: RUNS, other: f"{PLAN_IMPORTS}\n\n{APPLY_FSDP}"},
        OTHER: f"from torchtitan.train import Trainer\n\n\n{RUNS}".replace(
            "        loss.backward",
            "        loss *= self.dp_replicate\n        loss.backward",
        ),
    }
    assert disagreements(files) == []


def test_a_loss_that_is_scaled_for_half_precision():
    """``scaler.scale(loss).backward()`` begins with the loss too."""
    scaled = RUNS.replace("loss.backward()", "self.scaler.scale(loss).backward()")
    assert disagreements({**OFF, MAIN: scaled}) == []


REPLICATES = """
from torch.distributed._composable.replicate_with_fsdp import replicate


def apply_replicate(model, dp_mesh, mp_policy):
    for block in model.layers.values():
        replicate(block, mesh=dp_mesh, mp_policy=mp_policy)
    replicate(model, mesh=dp_mesh, mp_policy=mp_policy)
"""
CALLS = """

def parallelize(model, dims, config):
    if dims.fsdp_enabled:
        apply_fsdp(model, dims.mesh, config.a, config.b)
    else:
        apply_replicate(model, dims.mesh, None)
"""


def written_by_hand(more="", loop=GLOBAL_TOKENS, summed=OFF[PLAN]):
    plan = summed.replace(APPLY_DDP, REPLICATES + more)
    files = {PLAN: plan.replace("replicate import replicate", "replicate import x")}
    return disagreements({**files, "torchtitan/train.py": loop})


def test_fires_for_a_function_written_by_hand_that_leaves_the_division_on():
    for more in ("", CALLS):
        (found,) = written_by_hand(more)
        assert "apply_replicate leaves the division of gradients on" in found.message
        assert "set_gradient_divide_factor(1.0)" in found.suggestion


def test_fires_for_a_plan_that_replicates_by_itself():
    inline = CALLS.replace(
        "apply_replicate(model, dims.mesh, None)", "replicate(model)"
    )
    assert [found.message.split(",")[1][:16] for found in written_by_hand(inline)] == [
        " and apply_repli",
        " and parallelize",
    ]


@pytest.mark.parametrize(
    "more",
    [
        "    for m in model.modules():\n        m.set_gradient_divide_factor(1.0)\n",
        "    disable_fsdp_gradient_division(model)\n",
        "    sums(model)\n\n\ndef sums(m):\n    m.set_gradient_divide_factor(1.0)\n",
        f"{CALLS}        model.set_gradient_divide_factor(1.0)\n",
        f"{CALLS}    disable_fsdp_gradient_division(model)\n",
    ],
)
def test_does_not_fire_where_it_or_its_caller_switches_it_off(more):
    assert written_by_hand(more) == []


def test_does_not_fire_under_a_loop_with_a_local_mean():
    assert written_by_hand(loop="") == []


def test_fires_where_one_of_two_plans_switches_it_off():
    off = f"{CALLS}    disable_fsdp_gradient_division(model)\n"
    assert (
        len(written_by_hand(off + CALLS.replace("def paral", "def other_paral"))) == 1
    )


def test_what_is_asked_of_fsdp_alone_is_not_asked_of_replicate():
    """A plan reads ``fsdp_gradient_divide_factor`` for its experts."""
    more = CALLS.replace("config.b)", "config.b, dims.fsdp_gradient_divide_factor)")
    assert len(written_by_hand(more)) == 1
