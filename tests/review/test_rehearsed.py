"""What a report says of its rehearsal, in the review, on the page and in Markdown."""

import json

import pytest

from migrator.errors import TitanMigrateError
from migrator.review import as_markdown
from migrator.review.page import as_html
from migrator.verify.rehearse.layouts import layout
from migrator.verify.rehearse.verdict import Rehearsal, Scene

from inert import assert_inert_markdown, assert_inert_page
from reviewed import (
    EVIL,
    NOT_RUN,
    fork,
    migrated,
    rehearsal,
    reviewed,
    verify_report,
)


@pytest.fixture
def tree(tmp_path):
    return migrated(fork(tmp_path))


def found(tree, before, **cells):
    report = verify_report(tree.parent / "r", tree, before=before, **cells)
    return reviewed(tree, verify_report=report)


def test_a_rehearsal_that_failed_is_the_verdict_where_nothing_trained(tree):
    review = found(tree, rehearsal(), dp=NOT_RUN)
    assert review.verified.word == "failed"
    scenes = review.verified.rehearsed.scenes
    assert [one.word for one in scenes] == ["passed", "failed", "not run", "broken"]
    assert scenes[3].said[0].endswith("it says nothing of the checkout: boom.")
    passed, failed = (list(one.plans.values()) for one in scenes[:2])
    assert [plan.boxes[0].kind for plan in passed] == [
        "DDP", "replicate", "fully_shard",
    ]  # fmt: skip
    assert [box.odd for box in passed[1].boxes] == [False] * 3
    assert [box.odd for box in failed[1].boxes] == [False, True, False, False]


def test_a_model_is_drawn_once_and_where_it_failed(tree):
    first = rehearsal().scenes[0]
    again = Scene("llama3", layout(dp_replicate=64), records=first.records)
    wrong = Scene("llama3", layout(dp_replicate=4), ("x",), records=first.records)
    scenes = found(tree, Rehearsal((first, again, wrong))).verified.rehearsed.scenes
    assert [bool(scene.plans) for scene in scenes] == [True, False, True]


def test_the_page_draws_the_plans_of_all_parties_beside_each_other(tree):
    page = assert_inert_page(as_html(found(tree, rehearsal())))
    plans = [e.get("aria-label") for e in page if e.get("class") == "plan"]
    three = [
        "base revision, DDP",
        "migrated tree, replicate",
        "migrated tree, FSDP",
    ]
    assert plans == 2 * three
    boxes = [
        " ".join("".join(e.itertext()).split())
        for e in page
        if "box" in e.get("class", "").split()
    ]
    assert "the whole model 384 parameters" in boxes
    assert "layers.0 … layers.1 2 alike 128 parameters each" in boxes
    assert "layers.0 differs gradients averaged; 128 parameters" in boxes


def test_the_markdown_counts_and_lists_what_failed(tree):
    text = as_markdown(found(tree, rehearsal()))
    assert "1 passed, 1 failed, 1 not run, 1 broken" in text
    assert "failed in rehearsal:** layers.0: wrong." in text
    assert "It ended early: it has ended" in text


def test_a_hostile_rehearsal_stays_inert(tree):
    review = found(tree, rehearsal(f" {EVIL}"))
    assert_inert_page(as_html(review))
    assert_inert_markdown(as_markdown(review))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: r["scenes"][0].update(verdict="fine"),
        lambda r: r["scenes"][0].update(layout=7),
        lambda r: r["scenes"][0]["plans"]["migrated"].update(boxes=[{}]),
        lambda r: r["scenes"][0]["plans"].update(others={"says": [], "boxes": []}),
        lambda r: r.update(scenes=None),
        lambda r: deepen(r["scenes"][0]["plans"]["migrated"]["boxes"][0]),
    ],
)
def test_a_broken_rehearsal_is_a_broken_report(tree, spoil):
    folder = verify_report(tree.parent / "r", tree, before=rehearsal())
    report = json.loads((folder / "report.json").read_text())
    spoil(report["rehearsal"])
    (folder / "report.json").write_text(json.dumps(report))
    with pytest.raises(TitanMigrateError, match="no report of verify, or a broken one"):
        reviewed(tree, verify_report=folder)


def deepen(box):
    """Boxes that lie in one another without an end in sight."""
    for _ in range(200):
        box["inside"] = [dict(box)]
        box = box["inside"][0]


def test_without_a_rehearsal_there_is_none(tree):
    review = found(tree, None)
    assert review.verified.rehearsed is None
    assert 'id="rehearsal"' not in as_html(review)
