"""What the terminal, the Markdown and the curves say alike."""

from __future__ import annotations

from dataclasses import replace

from migrator.verify.choose.scenarios import CELLS
from migrator.verify.judge.judges import judge_parity
from migrator.verify.show import wording

from planted import BASELINE, CONTROL, MIGRATED, PASSED, REFERENCE, judged


def test_a_model_with_a_plan_of_its_own_is_not_said_to_equal_fsdp():
    bare = {**MIGRATED.model, "wrapped": {}}
    runs = (
        replace(run, ranks=tuple(replace(r, model=bare) for r in run.ranks))
        for run in (BASELINE, MIGRATED)
    )
    verdict = judged(judge_parity, *runs, REFERENCE, CONTROL)
    word, sentence = wording.conclusion(CELLS["dp"], verdict)
    assert (word, sentence) == ("PASSED", "the same bits before and after.")


def test_a_fork_without_fsdp_is_not_said_to_equal_it():
    verdict = replace(PASSED, traces={**PASSED.traces, "single": MIGRATED})
    word, sentence = wording.conclusion(CELLS["dp"], verdict)
    assert (word, sentence[:45]) == (
        "PASSED",
        "the migrated tree trains as one rank does, wi",
    )


def test_models_left_for_one_reason_are_named_together():
    left = {"llama4": "which x trains", "flux": "no GPU", "qwen3": "which x trains"}
    said = wording.untrained({"not_trained": left})
    assert said.startswith(
        "Changed and not trained: llama4, qwen3 (which x trains); flux (no GPU)."
    )


def test_later_steps_are_said_not_to_be_seen():
    assert wording.untrained({"steps": 10}).endswith(
        " Steps after 10 were not seen, nor other numbers of ranks (--nproc)."
    )
    place = "torchtitan/train.py:5 asks for self.step > 1000"
    said = wording.untrained({"steps": 10, "unreached": [place]})
    assert f"{place}. Train past them with --steps." in said
