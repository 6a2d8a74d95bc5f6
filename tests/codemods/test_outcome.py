"""What an outcome tells of itself."""

import pytest

from codemods.about import About
from codemods.findings import Finding
from codemods.outcome import Outcome
from codemods.targets import choose_target


def outcome(kind="ddp", migrated_to=None, *findings):
    about = About(kind, "0.2.2", "get_mesh", migrated_to)
    return Outcome(about, choose_target("1d", None), findings=findings)


def test_what_is_to_do_is_to_rewrite_or_left():
    states = ("rewrite", "done", "opted-out", "left", "hazard")
    findings = [Finding("a.py", 1, "TM101", "it", status) for status in states]
    found = outcome("ddp", None, *findings).to_do
    assert [finding.status for finding in found] == ["rewrite", "left"]


@pytest.mark.parametrize(
    ("kind", "migrated_to", "other"),
    [
        ("migrated", "2d", True),
        ("migrated", "1d", False),
        ("migrated", None, False),
        ("ddp", "2d", False),
    ],
)
def test_a_migrated_checkout_may_be_for_the_other_target(kind, migrated_to, other):
    assert outcome(kind, migrated_to).for_other_target is other
