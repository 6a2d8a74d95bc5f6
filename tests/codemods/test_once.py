"""What is worked out once, and for how long it is remembered."""

import gc
import weakref

import pytest

from codemods.once import once


class Files:
    def __init__(self) -> None:
        self.asked: list[tuple] = []

    @once
    def of(self, *args):
        self.asked.append(args)
        return args

    @once
    def refused(self, reason):
        self.asked.append((reason,))
        raise ValueError(reason)


def test_each_question_is_answered_once_for_each_owner():
    one, other = Files(), Files()
    for files in (one, one, other):
        assert files.of("a") == ("a",)
        assert files.of("b", 1) == ("b", 1)
    assert one.asked == other.asked == [("a",), ("b", 1)]


def test_a_failure_is_no_answer():
    files = Files()
    for _ in range(2):
        with pytest.raises(ValueError):
            files.refused("no")
    assert files.asked == [("no",)] * 2


def test_what_is_remembered_goes_with_its_owner():
    files = Files()
    answer = Files()
    keep = once(lambda of, given: given)
    keep(files, answer)
    gone = weakref.ref(answer)
    del answer
    gc.collect()
    assert gone() is not None
    del files
    gc.collect()
    assert gone() is None
