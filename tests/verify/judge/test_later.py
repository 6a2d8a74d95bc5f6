"""What is found of code that a short training does not reach."""

from __future__ import annotations

import pytest

from migrator.verify.judge.later import unreached

FILE = "torchtitan/train.py"


def write(tree, text):
    path = tree / FILE
    path.parent.mkdir(parents=True)
    path.write_text(text)


def found(tmp_path, before, after, steps=10):
    write(tmp_path / "base", before)
    write(tmp_path / "migrated", after)
    return unreached(tmp_path / "base", tmp_path / "migrated", [FILE, "gone.py"], steps)


@pytest.mark.parametrize(
    "condition",
    [
        "self.step > 1000",
        "self.step >= 10",
        "10 < train_step",
        "self.step > self.warmup",
        "step == self.steps",
        "self.step % 500 == 0",
        "self.step + 1 > 1000",
        "self.step - self.began > 100",
        "-self.step < -1000",
    ],
)
def test_what_begins_later_is_named(tmp_path, condition):
    said = found(tmp_path, "x = 1\n", f"x = 1\nif {condition}:\n    x = 2\n")
    assert said == (f"{FILE}:2 asks for {condition}",)


@pytest.mark.parametrize(
    "condition",
    [
        "self.step > 3",
        "step == 0",
        "self.step % 2 == 0",
        "self.size > 1000",
        "steps_per_s",
        "'at step %d' % step",
    ],
)
def test_what_is_reached_or_no_step_is_not(tmp_path, condition):
    assert found(tmp_path, "", f"if {condition}:\n    x = 2\n") == ()


def test_a_remainder_that_is_compared_with_nothing_is_named(tmp_path):
    said = found(tmp_path, "", "if not self.step % 500:\n    x = 2\n")
    assert said == (f"{FILE}:1 asks for self.step % 500",)


def test_what_was_there_before_is_not_the_migration_s(tmp_path):
    text = "if self.step > 1000:\n    x = 2\n"
    assert found(tmp_path, text, f"# moved\n{text}") == ()


def test_a_file_that_does_not_parse_says_nothing(tmp_path):
    assert found(tmp_path, "", "if step > 1000\n") == ()
