"""The README's table of what is caught names every defect that can be planted, and the cell in which it is."""

from __future__ import annotations

import pytest

from kinds import KINDS
from places import TOP

HEAD = "| planted in a right migration | caught by | what of the failure names the culprit |\n"


def rows() -> dict[str, list[str]]:
    table = (TOP / "README.md").read_text().split(HEAD)[1].split("\n\n")[0]
    cells = (line.strip("|").split("|") for line in table.splitlines()[1:])
    return {name.strip(): [rest.strip() for rest in others] for name, *others in cells}


def test_the_readme_has_a_row_for_each_kind_and_for_no_other():
    assert list(rows()) == list(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_a_row_says_which_stage_or_cell(name):
    caught, named = rows()[name]
    assert f"`{KINDS[name][1]}`" in caught or "rehearsal" in caught
    assert named in (KINDS[name][3], "no")
