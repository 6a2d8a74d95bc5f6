"""What was found, on a terminal."""

import io

import pytest
from rich.console import Console

from migrator.render import screen

from commands import changeset, with_finding
from hostile import COMMENT, escapes_nothing
from places import FIXTURES

HAZARD = {"status": "hazard", "severity": "loud"}
QUIRKS = FIXTURES / "fork_quirks"


def shown(renderables, width=80, colour=False) -> str:
    stream = io.StringIO()
    console = Console(
        file=stream, width=width, force_terminal=colour, no_color=not colour
    )
    for part in renderables:
        console.print(part, crop=False)
    return stream.getvalue()


@pytest.fixture(scope="module")
def found():
    return changeset(QUIRKS)


def test_what_a_person_has_to_see_to_comes_first_and_worst_first(found):
    lines = shown(screen.whole(found)).splitlines()
    head = lines[: lines.index("", 1)]
    assert head[1] == "Yours to look at, the worst first:"
    kinds = [line.split()[0] for line in head[2:]]
    order = ["left", "silent", "loud", "note", "and"]
    assert kinds == sorted(kinds, key=order.index) and "silent" in kinds
    assert len(head) <= 10


def test_every_place_that_is_not_done_is_there(found):
    text = shown(screen.whole(found), width=400)
    for finding in found.findings:
        where = text.split(f"\n{finding.path}\n")[1].split("\n\n")[0]
        if finding.status == "hazard":
            assert f"{finding.code} line {finding.line}: {finding.message}" in where
            assert all(
                line in where for line in (finding.suggestion or "").splitlines()
            )
        elif finding.status == "rewrite":
            (row,) = [line for line in where.splitlines() if "rewrite" in line]
            assert finding.code in row and str(finding.line) in row
            assert finding.message not in where


def test_verbose_says_what_becomes_of_each(found):
    text = shown(screen.whole(found, verbose=True), width=400)
    for finding in found.findings:
        assert f"{finding.code} line {finding.line}: {finding.message}" in text


@pytest.mark.parametrize("width", [60, 80, 120])
def test_sentences_keep_within_the_width(found, width):
    for line in shown(screen.whole(found), width).splitlines():
        assert len(line.rstrip()) <= width or line.startswith("    │ ")


def test_code_to_write_is_copied_as_the_line_that_it_is(found):
    long = "x = " + "y + " * 40 + "z"
    changed = with_finding(found, **HAZARD, message="m", suggestion=long)
    assert f"    │ {long}\n" in shown(screen.whole(changed))


def test_colour_is_for_terminals_alone(found):
    assert "\x1b[" in shown(screen.whole(found), colour=True)
    assert "\x1b" not in shown(screen.whole(found))


def test_apply_ends_with_the_hazards(found):
    text = shown(screen.to_look_at(found), width=400)
    assert text.startswith("\nNot changed, and yours to look at:\n")
    hazards = {f.message for f in found.findings if f.status == "hazard"}
    rewrites = {f.message for f in found.findings if f.status == "rewrite"} - hazards
    assert hazards and all(message in text for message in hazards)
    assert rewrites and not any(message in text for message in rewrites)


def test_nothing_of_a_checkout_acts_on_the_terminal(found):
    changed = with_finding(
        found, **HAZARD, message=COMMENT, suggestion=COMMENT, path=COMMENT
    )
    assert escapes_nothing(shown(screen.whole(changed, verbose=True)))
    assert escapes_nothing(shown(screen.to_look_at(changed)))
