"""What the terminal says of planted verdicts, and what is written into the report folder."""

from __future__ import annotations

from dataclasses import replace

import pytest

from planted import (
    CRASHED,
    FAILED,
    NEAR,
    NOT_RUN,
    PASSED,
    TWICE,
    printed,
    resumed,
)


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
        ["llama3", "dp+tp", "failed", "!", "7.5e-02", "bitwise", "-", "1.25"],
        ["llama3", "dp", "passed", "1.5e-06", "bitwise", "-", "1.25"],
        ["llama3", "hsdp", "not", "run", "-", "-", "-", "-"],
    ]
    assert "FAILED in llama3 dp+tp: do not merge this migration yet." in text


def test_the_summary_says_how_long_it_took():
    text = printed(
        ("dp", PASSED), total_seconds=113.0, seconds={"llama3/dp/baseline": 100.0}
    )
    assert "Took 113 s, of which 100 s were training runs (1)." in text
    assert "Took" not in printed(("dp", PASSED))


def test_what_failed_comes_before_the_table_with_its_first_reason():
    text = " ".join(printed(("dp", NEAR), ("dp+tp", FAILED)).split())
    first = f"llama3, dp+tp failed: {FAILED.failures[0]}"
    assert first in text
    assert text.index(first) < text.index("model cell verdict")
    assert " failed: " not in printed(("dp", NEAR))


def test_words_are_explained_where_something_was_compared():
    text = printed(("dp", NEAR))
    for word in ("reference", "control", "noise"):
        assert text.count(f"\n{word}: ") == 1
    assert "\nnoise: " not in printed(("hsdp", NOT_RUN))


def test_the_summary_says_what_was_not_trained():
    known = {"total_seconds": 9.0, "seconds": {"a": 5.0}}
    places = {"a": "the cache", "b": "the cache", "c": "the golden file"}
    text = " ".join(printed(("dp", PASSED), **known, taken=places).split())
    assert "2 runs of the base revision came from the cache (--no-cache trains" in text
    assert "1 run of the base revision came from the golden file." in text
    assert "came from" not in printed(("dp", PASSED), **known)
