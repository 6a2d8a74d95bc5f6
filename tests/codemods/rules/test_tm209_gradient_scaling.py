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
