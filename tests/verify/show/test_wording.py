"""What the terminal, the Markdown and the curves say alike."""

from __future__ import annotations

from dataclasses import replace

from migrator.verify.choose.scenarios import CELLS
from migrator.verify.judge.judges import judge_parity
from migrator.verify.show import wording

from planted import BASELINE, CONTROL, MIGRATED, REFERENCE, judged


def test_a_model_with_a_plan_of_its_own_is_not_said_to_equal_fsdp():
    bare = {**MIGRATED.model, "wrapped": {}}
    runs = (
        replace(run, ranks=tuple(replace(r, model=bare) for r in run.ranks))
        for run in (BASELINE, MIGRATED)
    )
    verdict = judged(judge_parity, *runs, REFERENCE, CONTROL)
    word, sentence = wording.conclusion(CELLS["dp"], verdict)
    assert (word, sentence) == ("PASSED", "the same bits before and after.")
