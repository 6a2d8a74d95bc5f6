"""Every row of a sweep, against what `check` and `diff` say of that ref checked out."""

import contextlib
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from migrator import caches
from migrator.cli import main
from migrator.errors import TitanMigrateError
from migrator.sweep import run
from migrator.sweep.plan import Options

from organisation import files_of, organisation
from places import FIXTURES
from releases import git

BASES = ("v0_1", "dependent", "legacy")
SMALL = 16
"""Branches: few enough for every run of the suite, and of each base and most edits one."""


COMMAND = [sys.executable, "-m", "migrator.cli", "sweep", "--format", "json"]


def swept(*words: str) -> tuple[int, list[dict]]:
    """The exit code and the rows of a sweep in a process of its own."""
    done = subprocess.run([*COMMAND, *words], capture_output=True)
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


@pytest.fixture(scope="module")
def rows(repository):
    """The rows of a sweep that nothing disturbed, without a cache."""
    return swept(str(repository), "--no-cache")


def test_every_row_is_what_diff_says_of_that_ref(repository, rows, tmp_path):
    code, found = rows
    assert len(found) == len(BASES) + SMALL
    assert len({row["state"] for row in found}) >= 3 and code == 3
    compare(repository, found, tmp_path / "checkout")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_broken_off_at_some_point_it_goes_on_where_it_was(repository, rows, number):
    chance = random.Random(int(number))
    kept = caches.folder() / "sweep"
    process = subprocess.Popen(
        [*COMMAND, str(repository)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    enough = chance.randint(1, SMALL // 2)
    while process.poll() is None and len(list(kept.rglob("*.json"))) < enough:
        time.sleep(0.02)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode in (-number, 128 + number), said.decode()
    assert b"Traceback" not in said
    before = {path: path.stat().st_mtime_ns for path in kept.rglob("*.json")}
    assert len(before) >= enough
    assert swept(str(repository)) == rows
    assert {path: path.stat().st_mtime_ns for path in before} == before
    while any(ours(process.pid)):  # they see that nobody asks any more
        time.sleep(0.02)


def ours(session: int) -> Iterator[int]:
    """The processes of a session that are there still."""
    for place in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = place.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] != "Z":
                yield int(place.parent.name)


def test_two_at_once_are_both_right(repository, rows):
    running = [
        subprocess.Popen([*COMMAND, str(repository)], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    tables = [json.loads(process.communicate()[0])["rows"] for process in running]
    assert tables == [rows[1], rows[1]]


def test_what_is_known_is_not_planned_again(repository, monkeypatch):
    asked = run.Request((repository,), refs=BASES)
    first = list(run.sweep(asked))
    monkeypatch.setattr(run, "import_module", None)  # what comes before planning
    assert list(run.sweep(asked)) == first
    with pytest.raises(TypeError):
        list(run.sweep(replace(asked, options=Options(target="1d"))))


def test_where_no_ref_fits_that_is_said(repository):
    asked = run.Request((repository,), refs=("none/*",))
    with pytest.raises(TitanMigrateError, match="no ref that fits --refs none/"):
        run.sweep(asked)  # before a row is asked for
