"""The page: what is in it, its policy, its colours, and that nothing in it acts."""

import base64
import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest

from migrator import review
from migrator.review.page import as_html

from hostile import HOSTILE, hostile_checkout
from inert import assert_inert_markdown, assert_inert_page
from reviewed import (
    EVIL,
    FAILED,
    NOT_RUN,
    PASSED,
    edit,
    evil,
    fork,
    migrated,
    reviewed,
    verify_report,
)


def test_the_page_of_a_migration(tmp_path):
    tree = migrated(fork(tmp_path))
    found = reviewed(tree, verify_report=verify_report(tmp_path / "r", tree, dp=PASSED))
    page = as_html(found)
    tree_of = assert_inert_page(page)

    def by_class(name):
        return [e for e in tree_of if name in e.get("class", "").split()]

    hunks = by_class("hunk")
    assert [h.get("data-rules") for h in hunks] == [
        " ".join(h.codes) for h in found.hunks
    ]
    for element, hunk in zip(hunks, found.hunks):
        for view in ("unified", "split"):
            (table,) = (
                e for e in element.iter("div") if view in e.get("class", "").split()
            )
            code = [
                "".join(td.itertext())
                for td in table.iter("td")
                if td.get("class", "").startswith("c")
            ]
            if view == "unified":
                wanted = [row.line.text for _, row in hunk.unified()]
            else:
                wanted = [
                    side.text if side else ""
                    for row in hunk.rows
                    for side in (row.old, row.new)
                ]
            assert code == wanted
        why = next(element.iter("details"))
        for reason in hunk.reasons:
            assert reason.message in "".join(why.itertext())
    assert len([e for e in tree_of if e.tag == "img"]) == 1
    assert 'class="word passed">passed</b><span>verdict' in page


def test_the_policy_lets_run_what_is_ours_and_nothing_else(tmp_path):
    page = as_html(reviewed(fork(tmp_path)))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1].replace(
        "&#39;", "'"
    )
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    for name in ("style", "script"):
        text = re.search(rf"<{name}>(.*?)</{name}>", page, re.S)[1]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert "http:" not in page and "https:" not in page and "url(" not in page


def test_the_page_of_a_hostile_checkout(tmp_path):
    tree = hostile_checkout(tmp_path, f"# {EVIL}\n")
    page = as_html(reviewed(tree))
    assert_inert_page(page)
    migrated(tree)
    edit(tree, HOSTILE, "import", f"import os  # {EVIL}\nimport")
    folder = verify_report(
        tmp_path / "r",
        tree,
        dp=evil(FAILED),
        **{"dp+tp": replace(NOT_RUN, not_run=EVIL)},
    )
    for plot in (folder / "plots").glob("*.svg"):
        plot.write_text(
            '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" onload="window.pwned=3"><script>window.pwned=4</script></svg>'
        )
    page = as_html(reviewed(tree, verify_report=folder))
    texts = [
        "".join(e.itertext())
        for e in assert_inert_page(page)
        if e.tag in ("td", "h3", "li")
    ]
    assert any(
        "<script>alert(1)<script>" in text and "\\n::error::b" in text for text in texts
    )
    assert any(EVIL in text for text in texts)
    assert "onload" not in page


def test_a_page_that_filters_nothing_is_a_page_too(tmp_path):
    found = reviewed(fork(tmp_path))
    bare = replace(found, files=(), hazards=(), rules={}, claims=(), verified="")
    assert_inert_page(as_html(bare))
    blocked = replace(bare, problems=(EVIL,), verified=EVIL)
    assert_inert_page(as_html(blocked))
    assert_inert_markdown(review.as_markdown(blocked))


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_apart(scheme):
    css = (Path(review.__file__).parent / "assets/page.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, re.S)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", blocks[scheme == "dark"]))
    grounds = {
        "paper": ("ink", "soft", "link", "add-ink", "del-ink", "hand", "doubt"),
        "panel": ("ink", "soft", "hand"),
        "add": ("ink", "soft", "add-ink", "hand"),
        "del": ("ink", "soft", "del-ink", "hand"),
        "add-word": ("ink",),
        "del-word": ("ink",),
    }
    code = ("keyword", "string", "comment", "number", "name")
    for ground, inks in grounds.items():
        for ink in inks + code * (ground != "panel"):
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    assert contrast(colours["edge"], colours["paper"]) >= 3, (
        "the edges of what can be pressed"
    )


def test_a_hazard_stands_beside_the_code_it_is_about(tmp_path):
    found = reviewed(migrated(fork(tmp_path, "fork_quirks")))
    page = as_html(found)
    changed = {file.path for file in found.files}
    near = [n for n, h in enumerate(found.hazards, 1) if h.path in changed]
    assert 0 < len(near) < len(found.hazards)
    links = [int(n) for n in re.findall(r'class="beside"><a href="#hazard(\d+)"', page)]
    assert sorted(links) == near
    for number in links:
        assert f'id="hazard{number}"' in page


def test_the_tile_of_the_verdict_says_what_was_not_trained(tmp_path):
    tree = migrated(fork(tmp_path))
    found = reviewed(tree, verify_report=verify_report(tmp_path / "r", tree))
    left = replace(found.verified, models_left=("flux", "<b>"), untrained="Not seen.")
    page = as_html(replace(found, verified=left))
    assert "verdict; not trained: flux, &lt;b&gt;</span>" in page
    assert "<p>Not seen.</p>" in page and "; not trained" not in as_html(found)
