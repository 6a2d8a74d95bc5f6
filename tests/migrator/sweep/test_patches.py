"""Patches for each ref."""

import json

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
            for place in (fork / "patches", repository / "patches"):
                with pytest.raises(
                    TitanMigrateError, match="where nothing is to change"
                ):
                    refuse(place, opened)
            with pytest.raises(TitanMigrateError, match="is a file"):
                refuse(tmp_path / "file", opened)
            refuse(tmp_path / "patches", opened)


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
