"""SARIF 2.1.0, which code scanning and editors read."""

import difflib
import json
import os
import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any
from urllib.parse import quote

from codemods.attribution import lines
from codemods.findings import Finding
from codemods.rules import all_rules
from migrator.changeset import Changeset
from migrator.explain import upstream_url
from migrator.render.text import problems_besides
from migrator.version import VERSION

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/"
    "sarif-schema-2.1.0.json"
)
ROOT = "%SRCROOT%"
"""What GitHub and others take for the root of the repository."""

_LEVELS = {
    "rewrite": "error",
    "left": "error",
    "hazard": "warning",
    "opted-out": "note",
}
"""What needs nothing any more is no result."""

_MILDER = {"note": "note"}
"""By severity; other hazards are warnings: errors are what ``check`` exits 1 for."""


def as_sarif(changeset: Changeset) -> str:
    """One run, with a result for each place and the rewrites as fixes.

    The fix of a file stands at its first result and holds all hunks of that file.
    """
    rules = all_rules()
    indexes = {rule.CODE: index for index, rule in enumerate(rules)}
    unfixed = dict(changeset.changes)
    results = []
    for finding in changeset.findings:
        if finding.status not in _LEVELS:
            continue
        result = _result(finding, indexes[finding.code])
        if finding.status == "rewrite" and finding.path in unfixed:
            before = changeset.before(finding.path) or b""
            fix = _fix(finding.path, before, unfixed.pop(finding.path))
            if fix:
                result["fixes"] = [fix]
        results.append(result)
    run: dict[str, Any] = {
        "tool": {"driver": driver(rules)},
        "columnKind": "unicodeCodePoints",
        "originalUriBaseIds": {ROOT: {"description": {"text": "The checkout."}}},
        "results": results,
    }
    problems = problems_besides(changeset)
    if problems:
        notes = [{"level": "error", "message": message(text)} for text in problems]
        run["invocations"] = [
            {"executionSuccessful": True, "toolExecutionNotifications": notes}
        ]
    return json.dumps({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}, indent=2)


def driver(rules: tuple[ModuleType, ...]) -> dict[str, Any]:
    return {
        "name": "titan-migrate",
        "version": VERSION,
        "rules": [_rule(rule) for rule in rules],
    }


def _rule(rule: ModuleType) -> dict[str, Any]:
    words = rule.__name__.rpartition(".")[2].split("_")[1:]
    texts = (rule.WHAT, rule.WHY, rule.RISK, rule.PROOF)
    described = {
        "id": rule.CODE,
        "name": "".join(word.capitalize() for word in words),
        "shortDescription": {"text": rule.TITLE},
        "fullDescription": {"text": " ".join(rule.WHY.split())},
        "help": {"text": "\n\n".join(text.strip() for text in texts)},
        "defaultConfiguration": {"level": _level(rule)},
    }
    url = upstream_url(rule)
    return {**described, "helpUri": url} if url else described


def _level(rule: ModuleType) -> str:
    if hasattr(rule, "rewrite"):
        return _LEVELS["rewrite"]
    return _MILDER.get(rule.SEVERITY, _LEVELS["hazard"])


def _result(finding: Finding, index: int) -> dict[str, Any]:
    place = {
        "artifactLocation": location(finding.path),
        "region": {"startLine": finding.line},
    }
    result: dict[str, Any] = {
        "ruleId": finding.code,
        "ruleIndex": index,
        "level": _MILDER.get(finding.severity or "", _LEVELS[finding.status]),
        "message": message(finding.message),
        "locations": [{"physicalLocation": place}],
        "properties": {"status": finding.status},
    }
    if finding.severity:
        result["properties"]["severity"] = finding.severity
    if finding.suggestion:
        # Not in the message, in which brackets and braces have a meaning.
        result["properties"]["suggestion"] = finding.suggestion
    if finding.status == "opted-out":
        result["suppressions"] = [{"kind": "inSource"}]
    return result


def message(text: str) -> dict[str, str]:
    """A message without links or placeholders, whatever the text looks like."""
    if "](" in text:
        text = re.sub(r"([\\\[\]])", r"\\\1", text)
    return {"text": text.replace("{", "{{").replace("}", "}}")}


def location(path: str) -> dict[str, str]:
    return {"uri": quote(os.fsencode(path), safe="/"), "uriBaseId": ROOT}


def _fix(path: str, before: bytes, after: bytes) -> dict[str, Any] | None:
    """All hunks of one file, or None where it is not UTF-8."""
    try:
        # The byte order mark is no part of the text.
        old, new = before.decode("utf-8-sig"), after.decode("utf-8-sig")
    except UnicodeDecodeError:
        return None
    change = {
        "artifactLocation": location(path),
        "replacements": list(_replacements(old, new)),
    }
    text = "All hunks of this file; they belong together with those of the other files."
    return {"description": {"text": text}, "artifactChanges": [change]}


def _replacements(old: str, new: str) -> Iterator[dict[str, Any]]:
    was, now = lines(old), lines(new)
    matcher = difflib.SequenceMatcher(None, was, now, autojunk=False)
    for kind, first, end, new_first, new_end in matcher.get_opcodes():
        if kind == "equal":
            continue
        inserted = "".join(now[new_first:new_end])
        region = {"startLine": first + 1, "startColumn": 1}
        if end < len(was):
            region |= {"endLine": end + 1, "endColumn": 1}
        else:
            region, inserted = _at_the_end(was, first, inserted)
        replacement: dict[str, Any] = {"deletedRegion": region}
        if inserted:
            replacement["insertedContent"] = {"text": inserted}
        yield replacement


def _at_the_end(
    was: list[str], first: int, inserted: str
) -> tuple[dict[str, int], str]:
    """A hunk that reaches the end of the file, where no next line can be named.

    It starts behind the text of the line before, whose line end is written anew, and
    stops before the last line end if the new text has that too.
    """
    line, column = first + 1, 1
    if first:
        body = was[first - 1].rstrip("\r\n")
        inserted = was[first - 1][len(body) :] + inserted
        line, column = first, len(body) + 1
    if not was:
        region = {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1}
        return region, inserted
    last = was[-1].rstrip("\r\n")
    tail = was[-1][len(last) :]
    region = {"startLine": line, "startColumn": column}
    if inserted.endswith(tail):
        inserted = inserted[: len(inserted) - len(tail)]
        return {**region, "endLine": len(was), "endColumn": len(last) + 1}, inserted
    return {**region, "endLine": len(was) + 1, "endColumn": 1}, inserted
