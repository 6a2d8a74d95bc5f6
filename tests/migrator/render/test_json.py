"""The findings for programs."""

import json

from commands import PLAN, run
from hostile import HOSTILE


def test_check_as_json_accounts_for_every_place(fork):
    result = run("check", fork, "--format", "json")
    assert result.exit_code == 1
    data = json.loads(result.stdout)
    assert data["generation"] == "0.2.1" and data["target"]["mesh"] == "1d"
    assert not data["written"] and PLAN in data["changed"]
    for finding in data["findings"]:
        assert finding["line"] >= 1 and finding["message"]
        assert finding["status"] in ("rewrite", "done", "opted-out", "left", "hazard")
        assert finding["suggestion"] or finding["status"] != "hazard"
        assert bool(finding["severity"]) == (finding["status"] == "hazard")


def test_apply_as_json(fork):
    result = run("apply", fork, "--format", "json")
    data = json.loads(result.stdout)
    assert data["written"] and PLAN in data["changed"]


def test_json_of_a_hostile_checkout(hostile):
    result = run("check", hostile, "--format", "json")
    assert result.exit_code == 1 and not result.stderr and result.stdout.isascii()
    data = json.loads(result.stdout)
    assert HOSTILE in data["changed"] and "statistics" not in data
