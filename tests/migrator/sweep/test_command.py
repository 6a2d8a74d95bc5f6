"""`titan-migrate sweep`, as it is typed."""

import json
import os
import pty
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from migrator.cli import main

from organisation import files_of, git_import
from places import FIXTURES
from releases import git


def swept(*words: object):
    return CliRunner().invoke(main, ["sweep", *map(str, words)])


@pytest.fixture
def three(tmp_path):
    """A repository with three branches and a tag, none of which is a torchtitan."""
    refs = {f"refs/heads/{n}": (None, {"a.py": n.encode()}) for n in ("a", "b", "c/d")}
    git_import(tmp_path / "three.git", {**refs, "refs/tags/v1": (None, {"b.py": b""})})
    return tmp_path / "three.git"


def refs_in(result) -> list[str]:
    return [row["ref"] for row in json.loads(result.stdout)["rows"]]


def test_branches_are_swept_where_nothing_else_is_asked_for(three):
    result = swept(three, "--format", "json")
    assert result.exit_code == 0
    assert refs_in(result) == ["refs/heads/a", "refs/heads/b", "refs/heads/c/d"]


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        (["--refs", "c/*"], ["refs/heads/c/d"]),
        (["--refs", "refs/tags/*", "--refs", "a"], ["refs/heads/a", "refs/tags/v1"]),
        (["--since", "2026-05-28 21:00 +0000"], ["refs/heads/b", "refs/heads/c/d"]),
    ],
)
def test_some_refs_are_swept(three, asked, found):
    assert refs_in(swept(three, "--format", "json", *asked)) == found


def test_every_ref_is_in_one_shard_and_merged_they_are_the_whole(three, tmp_path):
    whole = json.loads(swept(three, "--format", "json").stdout)["rows"]
    parts = []
    for n in range(1, 4):
        result = swept(three, "--format", "json", "--shard", f"{n}/3")
        if result.exit_code == 0:
            parts.append(tmp_path / f"{n}.json")
            parts[-1].write_text(result.stdout)
    merged = swept("--merge", *parts, "--format", "json")
    assert json.loads(merged.stdout)["rows"] == whole


def test_two_names_of_one_repository_are_swept_once(three, tmp_path):
    git(three, "worktree", "add", "-q", str(tmp_path / "linked"), "a")
    assert len(refs_in(swept(three, tmp_path / "linked", "--format", "json"))) == 3


def test_nothing_in_the_repository_changes(three):
    before = {p: p.stat().st_mtime_ns for p in three.rglob("*")}
    time.sleep(0.01)
    assert swept(three).exit_code == 0
    assert {p: p.stat().st_mtime_ns for p in three.rglob("*")} == before


def on_a_terminal(three, *words: str, stdout: bool) -> tuple[str, str]:
    """What a sweep writes to stdout, if that is no terminal, and to a terminal."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "migrator.cli", "sweep", str(three), *words]
    process = subprocess.Popen(
        command,
        stdout=theirs if stdout else subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    )
    os.close(theirs)
    written = process.communicate(timeout=60)[0] or b""
    seen = b""
    try:
        while piece := os.read(ours, 1 << 16):
            seen += piece
    except OSError:  # Linux says so where the other end is closed
        pass
    os.close(ours)
    return written.decode(), seen.decode()


def test_a_bar_with_an_estimate_is_on_the_terminal_and_rows_on_stdout(three):
    written, seen = on_a_terminal(three, "--format", "json", "--no-cache", stdout=False)
    assert [row["ref"][11:] for row in json.loads(written)["rows"]] == ["a", "b", "c/d"]
    assert "Planning" in seen and "3/3" in seen and "0:00:00" in seen
    assert "no torchtitan" not in seen


def test_on_a_terminal_rows_stand_above_the_bar(three):
    _, seen = on_a_terminal(three, "--no-cache", stdout=True)
    assert seen.count("no torchtitan: this tree does") == 3
    assert "3 refs, 3 distinct trees: 3 no torchtitan." in seen


@pytest.mark.parametrize("words", [("--format", "json"), ("-q", "--format", "csv")])
def test_what_programs_read_has_no_bar_in_it(three, words):
    _, seen = on_a_terminal(three, *words, stdout=True)
    assert "Planning" not in seen and "refs/heads/c/d" in seen


def test_quiet_leaves_the_exit_code_and_what_programs_read(tmp_path):
    bare = tmp_path / "a.git"
    git_import(bare, {"refs/heads/main": (None, files_of(FIXTURES / "legacy"))})
    result = swept(bare, "-q")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "")
    assert refs_in(swept(bare, "-q", "--format", "json")) == ["refs/heads/main"]


def test_wrong_options_are_refused_once_and_before_any_tree(three):
    result = swept(three, "--select", "TM999")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.count("there is no rule 'TM999'") == 1


def test_it_is_said_where_results_are_kept(three, tmp_path):
    result = swept(three, "-v", "--format", "csv")
    assert str(tmp_path / "cache" / "titan-migrate" / "sweep") in result.stderr


def test_a_page_is_written_of_a_sweep_and_of_merged_ones(three, tmp_path):
    page, table = tmp_path / "page.html", tmp_path / "1.json"
    result = swept(three, "--html", page, "--format", "json", "--shard", "1/1")
    assert (
        "This is part 1 of 1." in page.read_text() and "The page is in" in result.stderr
    )
    table.write_text(result.stdout)
    assert swept("--merge", table, "--html", page).exit_code == 0
    assert "3 refs of 1 repository" in page.read_text()
    assert swept(three, "--html", three / "page.html").exit_code == 2


@pytest.mark.parametrize("output", ["text", "json", "csv", "sarif"])
def test_where_no_ref_fits_nothing_is_printed(three, output):
    result = swept(three, "--refs", "nope", "--format", output)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no ref that fits --refs nope in" in result.stderr


def test_a_pattern_and_a_repository_without_a_ref_are_named(three, bare, tmp_path):
    result = swept(three, bare, "--refs", "c/*", "--refs", "no*", "--format", "json")
    assert refs_in(result) == ["refs/heads/c/d"]
    assert "No ref fits --refs no*." in result.stderr
    assert f"There is no ref to look at in {bare}." in result.stderr
    assert not swept(three, bare, "--refs", "c/*", "--refs", "no*", "-q").stderr


def test_where_all_refs_are_older_there_is_nothing_to_do(three):
    result = swept(three, "--since", "2026-11-01")
    assert result.exit_code == 0
    assert result.stdout.endswith("0 refs, 0 distinct trees.\n")
    assert "3 refs left out: the last commit is older than --since." in result.stderr


@pytest.mark.parametrize(
    "words", [["--patches", "x"], ["--refs", "a", "--shard", "1/2"], ["-j", "2"]]
)
def test_what_a_merge_cannot_follow_is_refused(three, tmp_path, words):
    table = tmp_path / "1.json"
    table.write_text(swept(three, "--format", "json").stdout)
    assert swept(table, "--merge").exit_code == 0
    result = swept(table, "--merge", *words)
    assert result.exit_code == 2 and "takes no --" in result.stderr


def test_broken_off_it_says_that_it_goes_on(three, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("migrator.sweep.table.as_text", interrupted)
    result = swept(three)
    assert result.exit_code == 130
    assert "the same command goes on from here" in result.stderr
    assert "goes on" not in swept(three, "--no-cache").stderr


def test_a_repository_without_a_name_is_called_by_its_place(three, monkeypatch):
    monkeypatch.chdir(three)
    (named,) = {
        r["repository"]
        for r in json.loads(swept(".", "--format", "json").stdout)["rows"]
    }
    assert named == str(three)
