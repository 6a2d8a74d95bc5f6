"""Patches for each ref."""

import json
import shutil

import pytest
from click.testing import CliRunner

from migrator.cli import main
from migrator.errors import TitanMigrateError
from migrator.sweep.objects import Repository
from migrator.sweep.patches import MARK, place_of, refuse

from organisation import files_of, git_import
from places import FIXTURES
from releases import git


@pytest.fixture
def fork(tmp_path, monkeypatch):
    """A repository with two branches of one tree, one of another, and one that is no torchtitan."""
    for who in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{who}_NAME", "t")
        monkeypatch.setenv(f"GIT_{who}_EMAIL", "t@example.org")
    files = files_of(FIXTURES / "v0_1")
    refs = {f"refs/heads/{name}": (None, files) for name in ("a", "x/b'é")}
    refs["refs/heads/c"] = (None, {**files, "notes.md": b"# It\n"})
    git_import(
        tmp_path / "fork.git", {**refs, "refs/heads/pages": (None, {"i.html": b""})}
    )
    return tmp_path / "fork.git"


def swept(*words: object):
    return CliRunner().invoke(main, ["sweep", *map(str, words)])


def test_each_ref_gets_patches_that_git_takes(fork, tmp_path):
    home = tmp_path / "patches"
    assert swept(fork, "--patches", home).exit_code == 1
    assert len(list(home.iterdir())) == 3
    for ref in ("a", "x/b'é", "c"):
        place = place_of(home, fork, f"refs/heads/{ref}")
        clone = tmp_path / f"clone-{ref[:1]}"
        git(tmp_path, "clone", "-q", "-b", ref, str(fork), str(clone))
        git(clone, "am", "-q", *map(str, sorted(place.glob("*.patch"))))
        done = CliRunner().invoke(main, ["check", str(clone)])
        assert done.exit_code == 0, done.stderr


def test_what_is_there_is_not_written_again_and_what_lacks_is(fork, tmp_path):
    home = tmp_path / "patches"
    swept(fork, "--patches", home)
    first, *others = sorted(home.iterdir())
    before = {p: p.stat().st_mtime_ns for place in others for p in place.iterdir()}
    for path in first.iterdir():
        path.unlink()
    first.rmdir()
    swept(fork, "--patches", home)
    assert (first / MARK).is_file() and len(list(first.iterdir())) == 3
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_what_is_not_of_a_sweep_stays(fork, tmp_path):
    home = tmp_path / "patches"
    place = place_of(home, fork, "refs/heads/a")
    place.mkdir(parents=True)
    (place / "mine").write_text("")
    result = swept(fork, "--patches", home, "--refs", "a", "--format", "csv")
    assert "is there and not of a sweep" in result.stdout
    assert [path.name for path in place.iterdir()] == ["mine"]


def test_no_two_refs_share_a_folder_and_none_leads_out(tmp_path):
    names = (
        "a/b",
        "a-b",
        "A/b",
        "..",
        "../../x",
        "a" * 300,
        "a" * 301,
        "é",
        "-rf",
        "\n",
    )
    places = [place_of(tmp_path, tmp_path / "r.git", f"refs/heads/{n}") for n in names]
    assert len({str(place).lower() for place in places}) == len(names)
    assert all(place.parent == tmp_path and place.name[0].isalnum() for place in places)
    assert all(len(place.name) < 120 and place.name.isascii() for place in places)


def test_a_folder_in_which_the_repository_would_change_is_refused(fork, tmp_path):
    git(fork, "worktree", "add", "-q", str(tmp_path / "linked"), "c")
    (tmp_path / "file").write_text("")
    for repository in (fork, tmp_path / "linked"):
        with Repository(repository) as opened:
            for place in (
                fork / "patches",
                repository / "patches",
                tmp_path / "linked/x",
            ):
                with pytest.raises(
                    TitanMigrateError, match="where nothing is to change"
                ):
                    refuse(place, opened)
            with pytest.raises(TitanMigrateError, match="is a file"):
                refuse(tmp_path / "file", opened)
            refuse(tmp_path / "patches", opened)


def test_a_repository_that_is_named_by_a_folder_in_it_is_left_alone(fork, tmp_path):
    whole, linked = tmp_path / "whole", tmp_path / "linked"
    git(tmp_path, "clone", "-q", "-b", "a", str(fork), str(whole))
    git(whole, "worktree", "add", "-q", "--detach", str(linked))
    for named in (whole / "torchtitan", linked / "torchtitan", linked):
        with Repository(named) as opened:
            for place in (whole / "patches", linked / "patches"):
                with pytest.raises(TitanMigrateError, match="nothing is to change"):
                    refuse(place, opened)


def test_patches_that_are_gone_are_written_again(fork, tmp_path):
    home = tmp_path / "patches"
    words = (fork, "--patches", home, "--refs", "a")
    swept(*words)
    (place,) = home.iterdir()
    gone, *_ = sorted(place.glob("*.patch"))
    before = gone.read_bytes().partition(b"diff --git")[2]
    gone.unlink()
    swept(*words)
    assert gone.read_bytes().partition(b"diff --git")[2] == before


def test_patches_follow_the_torchtitan_that_a_tree_uses(fork, tmp_path):
    used, home = tmp_path / "used", tmp_path / "patches"
    shutil.copytree(FIXTURES / "v0_2_2", used)
    files = files_of(FIXTURES / "dependent")
    named = b'\n[tool.titan-migrate]\ntorchtitan = "%s"\n' % bytes(used)
    files["pyproject.toml"] = files["pyproject.toml"] + named
    git_import(tmp_path / "lab.git", {"refs/heads/main": (None, files)})

    def patches(home):
        swept(tmp_path / "lab.git", "--patches", home)
        found = [path.read_text() for path in sorted(home.rglob("*.patch"))]
        return [text[text.index("diff --git") :] for text in found]

    before = patches(home)
    plan = used / "torchtitan/models/llama3/infra/parallelize.py"
    plan.write_text(plan.read_text().replace("transformer_block", "tblock"))
    assert before and patches(home) == patches(tmp_path / "other") != before


def test_patches_are_of_what_git_keeps(fork, tmp_path):
    files = files_of(FIXTURES / "legacy")
    (path,) = [p for p, raw in files.items() if b"def apply_ddp" in raw]
    files[path] += "# é\n".encode()
    files[".gitattributes"] = b"*.py working-tree-encoding=latin1\n"
    git_import(tmp_path / "odd.git", {"refs/heads/main": (None, files)})
    swept(tmp_path / "odd.git", "--patches", tmp_path / "patches")
    (patch,) = (tmp_path / "patches").rglob("*.patch")
    assert b"def apply_replicate" in patch.read_bytes()
    assert "Ã©".encode() not in patch.read_bytes()


def test_it_is_said_where_patches_are_and_which_are_out_of_date(fork, tmp_path):
    home = tmp_path / "patches"
    said = swept(fork, "--patches", home).stderr
    assert f"The patches of 3 refs are in {home}" in said
    place = place_of(home, fork, "refs/heads/a")
    mark = json.loads((place / MARK).read_text())
    assert (mark["repository"], mark["ref"]) == (str(fork), "refs/heads/a")
    git(fork, "update-ref", "refs/heads/a", "refs/heads/pages")
    said = swept(fork, "--patches", home).stderr
    assert f"{place} has patches of what a was before" in said and "refs are" in said
    assert said.count("was before") == 1 and (place / MARK).is_file()


def test_patches_of_a_branch_that_is_gone_are_named(fork, tmp_path):
    home = tmp_path / "patches"
    git(fork, "tag", "v1", "c")
    swept(fork, "--patches", home, "--refs", "refs/tags/*", "--refs", "c")
    git(fork, "branch", "-m", "c", "d")
    gone = place_of(home, fork, "refs/heads/c")
    said = swept(fork, "--patches", home, "--refs", "d").stderr
    assert "any more" not in said
    said = swept(fork, "--patches", home).stderr
    assert said.count("any more") == 1
    assert f"{gone} has patches of c, which is not there any more" in said
