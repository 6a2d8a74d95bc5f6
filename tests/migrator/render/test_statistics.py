"""How many findings each rule has."""

import json

from commands import run


def test_statistics_count_each_rule(fork):
    result = run("check", fork, "--format", "json", "--statistics")
    data = json.loads(result.stdout)
    counts = {code: entry["count"] for code, entry in data["statistics"].items()}
    assert sum(counts.values()) == len(data["findings"])
    title = data["statistics"]["TM101"]["title"]
    for name in ("text", "github", "sarif"):
        shown = run("check", fork, "--format", name, "--statistics")
        last = shown.stderr.splitlines()[-len(counts) :]
        assert [line.split()[1] for line in last] == list(counts)
        assert last[0].split() == [str(counts["TM101"]), "TM101", *title.split()]
        assert "TM101  " not in shown.stdout
