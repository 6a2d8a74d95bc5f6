"""The page of a sweep, as text."""

import re

from migrator.sweep.page import as_html


def test_a_page_needs_nothing_else_and_says_all(row):
    rows = [
        row("a", files=("m/a.py",)),
        row("b", "person", reasons=("<b>&",), codes=("TM102",)),
    ]
    page = as_html(rows)
    assert page.endswith("</html>\n") and "2 refs of 1 repository" in page
    assert "&lt;b&gt;&amp;" in page and "<b>&" not in page
    assert not re.search(r"(src|href)=\"(?!#|data:)", page) and "@import" not in page
    assert "default-src &#39;none&#39;" in page


def test_characters_that_nobody_sees_are_escapes_and_odd_dates_are_none(row):
    odd = row("a\u202e\x1b\udce9", "failed", reasons=("\u2066",), codes=("",))
    page = as_html([odd.__class__(**{**vars(odd), "date": 10**18})])
    assert "\u202e" not in page and "a\\u202e\\x1b\\udce9" in page and "\\u2066" in page
    page.encode()
