"""What is written into the report folder."""

from __future__ import annotations

import json
import math
import re
import sys
import xml.etree.ElementTree as xml
from dataclasses import replace
from pathlib import Path

import pytest

from migrator.verify.judge.judges import judge_parity
from migrator.verify.judge.trace import Trace
from migrator.verify.judge.verdict import Verification
from migrator.verify.show import files, plots

from planted import (
    BASELINE,
    CONTROL,
    CRASHED,
    MIGRATED,
    NEAR,
    NOT_RUN,
    PASSED,
    REFERENCE,
    UNCHANGED,
    judged,
)
from verifiable import FULL


def test_half_a_report_is_not_left(tmp_path, monkeypatch):
    def write(path, text, **_):
        with open(path, "w") as file:
            file.write(text[:10])
        raise FULL

    monkeypatch.setattr(Path, "write_text", write)
    with pytest.raises(OSError):
        files.write(Verification({}), tmp_path)
    assert not list(tmp_path.iterdir())


# Files


def test_all_files_are_written(tmp_path):
    pytest.importorskip("matplotlib")
    cells = {"dp": NEAR, "dp+tp": CRASHED, "fsdp": UNCHANGED, "hsdp": NOT_RUN}
    files.write(Verification({"llama3": cells}), tmp_path)
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
    files.write(Verification({"llama3": {"dp": PASSED}}), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "no matplotlib: " in text and "pip install matplotlib" in text
    assert "![" not in text and not (tmp_path / "plots").exists()
    assert json.loads((tmp_path / "report.json").read_text())["passed"]


def test_curves_that_cannot_be_drawn_do_not_cost_the_report(tmp_path, monkeypatch):
    def broken(*_):
        raise ValueError("no <fonts>")

    monkeypatch.setattr(plots, "draw_all", broken)
    files.write(Verification({"llama3": {"dp": PASSED}}), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "could not be drawn: ValueError: no &#60;fonts&#62;" in text


def test_json_has_no_numbers_that_json_has_no_word_for(tmp_path):
    steps = tuple(replace(step, loss=math.nan) for step in MIGRATED.steps)
    ranks = tuple(replace(rank, steps=steps) for rank in MIGRATED.ranks)
    verdict = judged(
        judge_parity, BASELINE, Trace("migrated", ranks), REFERENCE, CONTROL
    )
    files.write(Verification({"llama3": {"dp": verdict}}), tmp_path)

    def refuse(word: str):
        raise AssertionError(word)

    text = (tmp_path / "report.json").read_text()
    plain = json.loads(text, parse_constant=refuse)
    trace = plain["models"]["llama3"]["dp"]["traces"]["migrated"]
    assert trace["ranks"][0]["steps"][0]["loss"] == "nan"


# The terminal
