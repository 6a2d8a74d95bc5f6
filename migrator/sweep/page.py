"""The table of a sweep as one page that needs nothing else: no network, no file beside it."""

from collections.abc import Sequence
from datetime import datetime, timezone

from markupsafe import Markup

from migrator.review.model import visible
from migrator.review.page import MARK, asset, environment, policy
from migrator.sweep.reasons import groups
from migrator.sweep.row import WORDS, Row
from migrator.sweep.table import TOOL, counts, short, totals

_HERE = "migrator.sweep"


def as_html(rows: Sequence[Row], remarks: Sequence[str] = ()) -> str:
    """The page. Texts are escaped where they are put in; markup comes from this package alone.

    Args:
        rows: what was found.
        remarks: what else is to be known, as sentences.
    """
    style = asset("page.css") + asset("sweep.css", _HERE)
    script = asset("sweep.js", _HERE)
    templates = environment(_HERE)
    templates.filters["visible"] = visible
    repositories = sorted({row.repository for row in rows})
    return templates.get_template("sweep.html").render(
        mark=Markup(MARK),
        policy=policy(style, script),
        style=Markup(style),
        script=Markup(script),
        tool=TOOL,
        about=[totals(rows), *remarks],
        rows=rows,
        repositories=repositories,
        numbers={name: number for number, name in enumerate(repositories)},
        counts=counts(rows),
        words=WORDS,
        groups=groups(rows),
        short=short,
        day=_day,
    )


def _day(row: Row) -> str:
    """When the commit of a ref was made, in UTC; "" where that is not known."""
    try:
        when = datetime.fromtimestamp(row.date, timezone.utc)
    except (OverflowError, OSError, ValueError):
        return ""
    return when.strftime("%Y-%m-%d") if row.commit else ""
