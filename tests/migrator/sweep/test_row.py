"""Rows, as data and back."""

import json

import pytest

from migrator.sweep.row import Planned, Row, failed


def test_a_row_comes_back_from_json(row):
    made = row("x", "person", files=("a.py",), findings={"TM101": 1}, reasons=("why",))
    assert Row.of_data(json.loads(json.dumps(made.as_data()))) == made


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "odd"},
        {"state": "done", "more": 1},
        {},
        {"files": "abc"},
        {"reasons": [1]},
        {"findings": []},
        {"hazards": {"silent": "1"}},
        {"generation": 5},
        {"target": None},
        {"exit_code": "0"},
    ],
)
def test_what_is_no_row_is_told(wrong):
    known = Planned("done").as_data()
    with pytest.raises((TypeError, KeyError)):
        Planned.of_data({**known, **wrong} if wrong else {})


@pytest.mark.parametrize(
    "wrong",
    [{"ref": 1}, {"repository": None}, {"tree": []}, {"date": "x"}, {"date": None}],
)
def test_what_is_wrong_about_a_ref_is_told(row, wrong):
    with pytest.raises(TypeError):
        Row.of_data({**row().as_data(), **wrong})


def test_a_failure_says_why():
    assert failed("broken").reasons == ("broken",) and failed("broken").exit_code == 3
