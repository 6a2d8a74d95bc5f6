"""Every row of a sweep, against what `check` and `diff` say of that ref checked out."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from migrator.cli import main

from organisation import files_of, organisation
from places import FIXTURES
from releases import git

BASES = ("v0_1", "dependent", "legacy")
SMALL = 16
"""Branches: few enough for every run of the suite, and of each base and most edits one."""


def swept(*words: str) -> tuple[int, list[dict]]:
    """The exit code and the rows of a sweep in a process of its own."""
    command = [sys.executable, "-m", "migrator.cli", "sweep", *words]
    done = subprocess.run([*command, "--format", "json"], capture_output=True)
    assert done.stderr == b"", done.stderr.decode()
    return done.returncode, json.loads(done.stdout)["rows"]


def told(checkout: Path, *words: str) -> Result:
    return CliRunner().invoke(main, [words[0], str(checkout), *words[1:]])


def as_diff_says(checkout: Path) -> dict:
    """The row that a checkout should have, from what other commands say of it."""
    said = told(checkout, "diff")
    row = {"exit_code": said.exit_code}
    if said.exit_code in (2, 3):
        reason = said.stderr.removeprefix("titan-migrate: ").rstrip("\n")
        reason = reason.replace(f"{checkout}/", "").replace(str(checkout), "this tree")
        return {**row, "reasons": [reason]}
    checked = json.loads(told(checkout, "check", "--format", "json").stdout)
    findings = checked["findings"]
    severities = [f["severity"] for f in findings if f["status"] == "hazard"]
    if not checked["problems"] and checked["changed"]:
        assert f"diff --git a/{checked['changed'][0]}" in said.stdout
    return {
        **row,
        "generation": checked["generation"],
        "target": checked["target"]["mesh"],
        "files": checked["changed"],
        "findings": dict(Counter(f["code"] for f in findings)),
        "hazards": dict(Counter(severities)),
        "reasons": checked["problems"],
    }


def compare(repository: Path, rows: list[dict], checkout: Path) -> None:
    """Checks every row of a repository out, one after another in one place."""
    git(repository, "worktree", "add", "-q", "--detach", str(checkout), rows[0]["ref"])
    for row in rows:
        git(checkout, "checkout", "-q", "--force", "--detach", row["ref"])
        expected = as_diff_says(checkout)
        if row["state"] == "done":
            expected.pop("reasons")
        assert {key: row[key] for key in expected} == expected, row["ref"]


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A bare repository with a branch for each base, and some edited ones."""
    trees = {name: files_of(FIXTURES / name) for name in BASES}
    return organisation(tmp_path_factory.mktemp("org") / "fork.git", trees, SMALL)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_every_row_is_what_diff_says_of_that_ref(repository, tmp_path):
    code, rows = swept(str(repository))
    assert len(rows) == len(BASES) + SMALL
    assert len({row["state"] for row in rows}) >= 3 and code == 3
    compare(repository, rows, tmp_path / "checkout")
