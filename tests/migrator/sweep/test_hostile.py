"""A repository made to break whoever reads it: a row for each ref, and nothing written outside."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from migrator.cli import main
from migrator.sweep import objects

from organisation import files_of, git_import
from places import FIXTURES
from releases import git

QUOTED = 'it\'s-"new"-$(touch${IFS}owned)-`id`-é'
BROKEN = 'a\n"b"\x1b[31m'
BIG = "torchtitan/big.py"


def tree_of(repository: Path, listed: str) -> str:
    """The id of a tree made of lines as `git ls-tree` prints them."""
    done = subprocess.run(
        ["git", "mktree", "--missing"],
        cwd=repository,
        input=listed.encode(),
        capture_output=True,
        check=True,
    )
    return done.stdout.decode().strip()


def blob_of(repository: Path, raw: bytes) -> str:
    command = ["git", "hash-object", "-w", "--stdin"]
    done = subprocess.run(command, cwd=repository, input=raw, capture_output=True)
    return done.stdout.decode().strip()


def branch(repository: Path, name: str, tree: str) -> None:
    commit = git(repository, "commit-tree", "-m", "made", tree).strip()
    git(repository, "update-ref", f"refs/heads/{name}", commit)


@pytest.fixture
def hostile(tmp_path) -> Path:
    """A repository that borrows the objects of another, with all that brief minds come upon."""
    files = files_of(FIXTURES / "legacy")
    git_import(tmp_path / "lender.git", {"refs/heads/main": (None, files)})
    place = tmp_path / "hostile.git"
    git(tmp_path, "clone", "-q", "--bare", "--shared", "lender.git", "hostile.git")
    top = git(place, "ls-tree", "main")
    for name in (QUOTED, "-rf", "x/../y".replace("..", "_")):
        git(place, "update-ref", f"refs/heads/{name}", "main")
    (place / "refs/heads" / BROKEN).write_text(git(place, "rev-parse", "main"))
    (place / "refs/heads/points-nowhere").write_text("0" * 39 + "1\n")
    (place / "refs/heads/no-id").write_text("what?\n")
    link = blob_of(place, b"loop")
    branch(
        place,
        "loops",
        tree_of(
            place,
            f"{top}120000 blob {link}\tloop\n120000 blob {link}\tREADME.md\n120000 blob {blob_of(place, b'/etc/passwd')}\tpyproject.toml\n",
        ),
    )
    head = git(place, "rev-parse", "main").strip()
    branch(place, "submodules", tree_of(place, f"{top}160000 commit {head}\tsub.py\n"))
    lost = f"100644 blob {'1' * 40}\tlost.py\n"
    branch(place, "missing-blob", tree_of(place, top + lost))
    branch(
        place, "missing-tree", tree_of(place, f"{top}040000 tree {'2' * 40}\tlost\n")
    )
    odd = blob_of(place, b"import os\n")
    branch(
        place,
        "nul",
        tree_of(place, f"{top}100644 blob {blob_of(place, bytes(100))}\tnul.py\n"),
    )
    deep = odd
    for level in range(300):
        kind = "040000 tree" if level else "100644 blob"
        deep = tree_of(place, f"{kind} {deep}\t{'d' if level else 'f.py'}\n")
    branch(place, "deep", deep)
    many = odd
    for level in range(12):
        kind = "040000 tree" if level else "100644 blob"
        many = tree_of(place, "".join(f"{kind} {many}\t{n}.py\n" for n in range(10)))
    branch(place, "bomb", many)
    replaced = git(place, "rev-parse", "main:README.md") if "README.md" in top else odd
    git(place, "replace", replaced.strip(), link)
    (place / "config").open("a").write(
        '[core]\n\tfsmonitor = touch owned\n\thooksPath = .\n[filter "x"]\n\tclean = touch owned\n'
    )
    return place


def by_ref(result) -> dict[str, dict]:
    rows = json.loads(result.stdout)["rows"]
    return {row["ref"].removeprefix("refs/heads/"): row for row in rows}


def test_every_ref_of_it_has_its_row(hostile, tmp_path):
    rows = by_ref(CliRunner().invoke(main, ["sweep", str(hostile), "--format", "json"]))
    plain = rows.pop("main")
    assert plain["state"] == "ready"
    same = ("state", "findings", "files", "generation")
    for name in (QUOTED, "-rf", "x/_/y", "loops", "submodules", "nul"):
        row = rows.pop(name)
        assert {key: row[key] for key in same} == {key: plain[key] for key in same}, (
            name
        )
    said = {
        BROKEN: "git takes this for no ref",
        "points-nowhere": "is missing in the repository",
        "no-id": "git takes this for no ref",
        "missing-blob": f"lost.py: the object {'1' * 40} is missing",
        "missing-tree": f"the object {'2' * 40} is missing",
        "deep": "folders too deep",
        "bomb": "more than 100000 files",
    }
    assert {n: row["state"] for n, row in rows.items()} == dict.fromkeys(said, "failed")
    for name, reason in said.items():
        assert reason in rows[name]["reasons"][0], name


def test_a_file_of_100_mb_is_a_row_and_takes_little_memory(hostile):
    raw = b"x = 1  # apply_ddp\n" * (100_000_000 // 19)
    top = git(hostile, "ls-tree", "main")
    branch(
        hostile,
        "big",
        tree_of(hostile, f"{top}100644 blob {blob_of(hostile, raw)}\tbig.py\n"),
    )
    del raw
    command = [
        sys.executable,
        "-m",
        "migrator.cli",
        "sweep",
        str(hostile),
        "--refs",
        "big",
    ]
    done = subprocess.run(
        [*command, "--format", "json"], capture_output=True, text=True
    )
    (row,) = json.loads(done.stdout)["rows"]
    assert row["state"] == "failed" and "big.py: the object" in row["reasons"][0]
    assert "100 MB, and 16 is the most that sweep reads" in row["reasons"][0]


def test_nothing_outside_is_written_and_nothing_of_it_is_run(
    hostile, tmp_path, monkeypatch
):
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "t")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "t@example.org")
    monkeypatch.chdir(tmp_path)
    before = {path: path.lstat().st_mtime_ns for path in tmp_path.rglob("*")}
    for output in ("text", "json", "csv", "sarif"):
        words = ["sweep", str(hostile), "--patches", "p", "--format", output]
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 3, result.stderr
    new = {path for path in tmp_path.rglob("*") if path not in before}
    tops = {path.relative_to(tmp_path).parts[0] for path in new}
    assert tops == {"p", "cache"}
    assert len(list(Path("p").iterdir())) == 7
    kept = {path: path.lstat().st_mtime_ns for path in before}
    changed = {path for path in before if kept[path] != before[path]}
    assert changed <= {tmp_path}


def test_git_is_asked_for_what_is_there_alone(hostile):
    """No object is fetched, no other name is taken, no program of the repository is run."""
    assert objects.APART["GIT_NO_REPLACE_OBJECTS"] == "1"
    assert objects.APART["GIT_NO_LAZY_FETCH"] == "1"
    assert not os.path.exists(hostile / "owned")
