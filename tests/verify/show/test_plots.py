"""The curves of planted verdicts."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from migrator.verify.judge.judges import judge_combination, judge_parity
from migrator.verify.judge.trace import Trace
from migrator.verify.judge.verdict import Verdict
from migrator.verify.show import plots

from planted import BASELINE, CONTROL, MIGRATED, NEAR, REFERENCE, STEPS, failing, judged


def test_the_same_figures_give_the_same_images(tmp_path):
    pytest.importorskip("matplotlib")
    for folder in ("a", "b"):
        plots.draw("llama3", "dp", NEAR, tmp_path / folder, "plot")
    for name in ("plot.svg", "plot.png"):
        first, second = (tmp_path / folder / name for folder in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()
    assert "dc:date" not in (tmp_path / "a" / "plot.svg").read_text()


def axes_of(verdict: Verdict, name: str = "dp"):
    pytest.importorskip("matplotlib")
    return plots._figure("llama3", name, verdict).axes


def test_equality_is_drawn_and_labelled():
    differences = axes_of(NEAR)[2]
    labels = [text.get_text() for text in differences.get_legend().get_texts()]
    assert "migrated – baseline: bitwise" in labels
    line = differences.get_lines()[labels.index("migrated – baseline: bitwise")]
    low, high = differences.get_ylim()
    assert len(line.get_ydata()) == STEPS
    assert all(low < value < high for value in line.get_ydata())
    ticks = [tick.get_text() for tick in differences.get_yticklabels()]
    assert ticks[0] == "bitwise"
    assert differences.get_yticks()[0] == line.get_ydata()[0]


def test_the_tolerance_is_a_dashed_line():
    differences = axes_of(NEAR)[2]
    dashed = [line for line in differences.get_lines() if line.get_ydata()[0] == 1e-5]
    assert len(dashed) == 1 and dashed[0].get_linestyle() == "--"
    assert "tolerance 1.0e-05" in [text.get_text() for text in differences.texts]


def test_a_loss_that_is_not_a_number_is_drawn_at_the_top():
    steps = tuple(replace(step, loss=math.nan) for step in MIGRATED.steps)
    ranks = tuple(replace(rank, steps=steps) for rank in MIGRATED.ranks)
    bad = Trace("migrated", ranks)
    verdict = judged(judge_parity, BASELINE, bad, REFERENCE, CONTROL)
    differences = axes_of(verdict)[2]
    assert "not finite" in [t.get_text() for t in differences.get_yticklabels()]


def test_without_two_runs_there_are_curves_alone():
    assert len(axes_of(NEAR)) == 4
    alone = judged(
        judge_combination,
        failing("baseline", "no"),
        failing("migrated", "no"),
        REFERENCE,
    )
    assert len(axes_of(alone)) == 2
