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
