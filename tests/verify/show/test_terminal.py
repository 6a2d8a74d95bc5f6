"""What the terminal says of planted verdicts, and what is written into the report folder."""

from __future__ import annotations

import json
import math
import re
import sys
import xml.etree.ElementTree as xml
from dataclasses import replace
from pathlib import Path

import pytest

from migrator.verify.judge.trace import Trace
from migrator.verify.judge.verdict import Verification, judge_parity
from migrator.verify.show import plots
from migrator.verify.show import terminal as report

from planted import (
    BASELINE,
    CONTROL,
    CRASHED,
    FAILED,
    MIGRATED,
    NEAR,
    NOT_RUN,
    PASSED,
    REFERENCE,
    TWICE,
    UNCHANGED,
    judged,
    printed,
    resumed,
)
from verifiable import FULL


def test_half_a_report_is_not_left(tmp_path, monkeypatch):
    def write(path, text, **_):
        with open(path, "w") as file:
            file.write(text[:10])
        raise FULL

    monkeypatch.setattr(Path, "write_text", write)
    with pytest.raises(OSError):
        report.write(Verification({}), tmp_path)
    assert not list(tmp_path.iterdir())


# Files


def test_all_files_are_written(tmp_path):
    pytest.importorskip("matplotlib")
    cells = {"dp": NEAR, "dp+tp": CRASHED, "fsdp": UNCHANGED, "hsdp": NOT_RUN}
    report.write(Verification({"llama3": cells}), tmp_path)
    plain = json.loads((tmp_path / "report.json").read_text())
    assert plain["models"]["llama3"]["dp"]["verdict"] == "passed"
    text = (tmp_path / "report.md").read_text()
    images = re.findall(r"!\[.*\]\((.*)\)", text)
    assert len(images) == 3
    for image in images:
        png = tmp_path / image
        assert png.read_bytes().startswith(b"\x89PNG")
        assert xml.parse(png.with_suffix(".svg")).getroot().tag.endswith("svg")


def test_without_matplotlib_the_report_is_written_and_says_how_to_get_it(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(plots, "installed", lambda: False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    report.write(Verification({"llama3": {"dp": PASSED}}), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "no matplotlib: run" in text and "in titan-migrate" in text
    assert "![" not in text and not (tmp_path / "plots").exists()
    assert json.loads((tmp_path / "report.json").read_text())["passed"]


def test_curves_that_cannot_be_drawn_do_not_cost_the_report(tmp_path, monkeypatch):
    def broken(*_):
        raise ValueError("no <fonts>")

    monkeypatch.setattr(plots, "draw_all", broken)
    report.write(Verification({"llama3": {"dp": PASSED}}), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "could not be drawn: ValueError: no &#60;fonts&#62;" in text


def test_json_has_no_numbers_that_json_has_no_word_for(tmp_path):
    steps = tuple(replace(step, loss=math.nan) for step in MIGRATED.steps)
    ranks = tuple(replace(rank, steps=steps) for rank in MIGRATED.ranks)
    verdict = judged(
        judge_parity, BASELINE, Trace("migrated", ranks), REFERENCE, CONTROL
    )
    report.write(Verification({"llama3": {"dp": verdict}}), tmp_path)

    def refuse(word: str):
        raise AssertionError(word)

    text = (tmp_path / "report.json").read_text()
    plain = json.loads(text, parse_constant=refuse)
    trace = plain["models"]["llama3"]["dp"]["traces"]["migrated"]
    assert trace["ranks"][0]["steps"][0]["loss"] == "nan"


# The terminal


def test_steps_are_shown_only_where_a_cell_failed():
    assert "by step" not in printed(("dp", NEAR))
    failed = printed(("dp", FAILED))
    assert "loss by step" in failed and "grad_norm by step" in failed
    assert "7.83333333" in failed


def test_the_agreement_fits_in_one_line_a_quantity():
    lines = printed(("dp", NEAR)).splitlines()
    loss = next(line for line in lines if line.startswith(" loss  "))
    assert loss.split() == [
        "loss",
        *"within 1.5e-06 bitwise within 1.5e-06 1.0e-05".split(),
    ]


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("dp", FAILED),
        ("dp", TWICE),
        ("dp+tp", replace(CRASHED, details="")),
        ("dp-checkpoint", resumed()),
        ("dp-checkpoint", replace(resumed(), failures=("planted",))),
    ],
)
def test_nothing_is_wider_than_80_columns_or_cut_off(name, verdict):
    text = printed((name, verdict))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text and "\x1b" not in text


def test_the_summary_has_every_cell_with_its_ratios():
    text = printed(("dp", NEAR), ("dp+tp", FAILED), ("hsdp", NOT_RUN))
    found = [line.split() for line in text.splitlines() if line.startswith(" llama3 ")]
    assert found == [
        ["llama3", "dp", "passed", "1.5e-06", "bitwise", "1.25", "1.25"],
        ["llama3", "dp+tp", "failed", "!", "7.5e-02", "bitwise", "1.25", "1.25"],
        ["llama3", "hsdp", "not", "run", "-", "-", "-", "-"],
    ]
    assert "FAILED in llama3 dp+tp: do not merge this migration yet." in text


def test_the_summary_says_how_long_it_took():
    text = printed(
        ("dp", PASSED), total_seconds=113.0, seconds={"llama3/dp/baseline": 100.0}
    )
    assert "Took 113 s, of which 100 s were training runs (1)." in text
    assert "Took" not in printed(("dp", PASSED))
