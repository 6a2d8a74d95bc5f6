"""How many findings each rule has."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from codemods.rules import all_rules
from migrator.changeset import Changeset


def statistics(changeset: Changeset) -> Iterator[str]:
    """One line for each rule that found something."""
    counted = by_code(changeset)
    width = max((len(str(entry["count"])) for entry in counted.values()), default=0)
    for code, entry in counted.items():
        yield f"{entry['count']:>{width}}  {code}  {entry['title']}"


def by_code(changeset: Changeset) -> dict[str, dict[str, Any]]:
    """Code -> title and count, of the rules that found something."""
    counts = Counter(finding.code for finding in changeset.findings)
    return {
        rule.CODE: {"title": rule.TITLE, "count": counts[rule.CODE]}
        for rule in all_rules()
        if counts[rule.CODE]
    }
