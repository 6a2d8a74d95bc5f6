"""The table of a sweep as SARIF 2.1.0: a result for each ref that is to be seen to, and each reason."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from codemods.rules import all_rules
from migrator.render import inert
from migrator.render.sarif import ROOT, SCHEMA, driver, location, message
from migrator.sweep.reasons import place_of
from migrator.sweep.row import WORDS, Row

_TREE = "TREE"
"""The rule of what is about a whole ref."""


def as_sarif(rows: Iterable[Row]) -> Iterator[str]:
    """One run, result by result. The ref and its commit are among the properties of each.

    Args:
        rows: what was found.
    """
    rules = all_rules()
    tool = driver(rules)
    about = {"text": "What becomes of a ref as a whole."}
    tool["rules"].append({"id": _TREE, "name": "Ref", "shortDescription": about})
    indexes = {rule["id"]: index for index, rule in enumerate(tool["rules"])}
    head = {
        "tool": {"driver": tool},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {ROOT: {"description": {"text": "The tree of the ref."}}},
    }
    run = json.dumps(head).removesuffix("}")
    yield f'{{"$schema": {json.dumps(SCHEMA)}, "version": "2.1.0", "runs": [{run}, "results": ['
    between = "\n"
    for row in rows:
        for result in _results(row, indexes):
            yield between + json.dumps(result)
            between = ",\n"
    yield "\n]}]}\n"


def _results(row: Row, indexes: dict[str, int]) -> Iterator[dict[str, Any]]:
    planned = row.planned
    if planned.state == "ready":
        found = ", ".join(f"{n} {code}" for code, n in planned.findings.items())
        said = f"{WORDS['ready']}: {found}"
        path = next(iter(planned.files), "")
        yield _result(row, _TREE, "note", said, path, 1, indexes)
    if planned.state in ("person", "failed"):
        for code, reason in zip(planned.codes, planned.reasons):
            path, line, _ = place_of(reason)
            yield _result(row, code or _TREE, "error", reason, path, line, indexes)


def _result(
    row: Row,
    code: str,
    level: str,
    said: str,
    path: str,
    line: int,
    indexes: dict[str, int],
) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": code,
        "level": level,
        "message": message(f"{inert(row.repository)} {inert(row.ref)}: {said}"),
        "properties": {
            "repository": inert(row.repository),
            "ref": inert(row.ref),
            "commit": row.commit,
            "state": row.planned.state,
        },
    }
    if code in indexes:  # a table that is merged may be of another titan-migrate
        result["ruleIndex"] = indexes[code]
    if path:
        place: dict[str, Any] = {"artifactLocation": location(path)}
        if line:
            place["region"] = {"startLine": line}
        result["locations"] = [{"physicalLocation": place}]
    return result
