"""`titan-migrate sweep`, as it is typed."""

import json
import time

import pytest
from click.testing import CliRunner

from migrator.cli import main

from organisation import git_import
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
