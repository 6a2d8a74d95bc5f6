"""Objects of a repository, whatever is in it."""

import os

import pytest

from migrator.errors import TitanMigrateError
from migrator.sweep import objects
from migrator.sweep.objects import Repository, TooLarge, Unreadable

from releases import git


def test_objects_are_read_one_after_another(bare):
    with Repository(bare) as repository:
        commit = repository.commit(git(bare, "rev-parse", "main").strip())
        assert commit.date == 1_780_000_000
        blob = git(bare, "rev-parse", "main:a.py").strip()
        assert repository.read(blob, "blob") == b"x = 1\n"
        assert repository.size(blob) == 6
        with pytest.raises(Unreadable, match="should be a tree and is a blob"):
            repository.read(blob, "tree")


def test_a_missing_object_is_said_and_the_next_is_read(bare):
    with Repository(bare) as repository:
        with pytest.raises(Unreadable, match=f"{'0' * 40} is missing"):
            repository.read("0" * 40, "blob")
        assert repository.commit(git(bare, "rev-parse", "main").strip()).tree


def test_a_broken_object_is_said_and_the_next_is_read(bare):
    blob = git(bare, "rev-parse", "main:a.py").strip()
    place = bare / "objects" / blob[:2] / blob[2:]
    place.chmod(0o644)
    place.write_bytes(b"not zlib")
    with Repository(bare) as repository:
        with pytest.raises(Unreadable, match=f"{blob} is broken|{blob} is missing"):
            repository.read(blob, "blob")
        assert repository.commit(git(bare, "rev-parse", "main").strip()).tree


def test_a_large_object_is_passed_over_and_its_size_is_known(bare, monkeypatch):
    monkeypatch.setattr(objects, "LONGEST", 5)
    blob = git(bare, "rev-parse", "main:a.py").strip()
    with Repository(bare) as repository:
        with pytest.raises(TooLarge, match="the most that sweep reads"):
            repository.read(blob, "blob")
        assert repository.size(blob) == 6
        with pytest.raises(Unreadable, match="missing"):
            repository.size("0" * 40)


def test_a_tag_leads_to_its_commit_and_a_blob_to_none(bare):
    git(bare, "tag", "-a", "-m", "one", "one", "main")
    git(bare, "tag", "-a", "-m", "two", "two", "one")
    with Repository(bare) as repository:
        main = git(bare, "rev-parse", "main").strip()
        assert repository.commit(git(bare, "rev-parse", "two").strip()).id == main
        with pytest.raises(Unreadable, match="leads to a blob"):
            repository.commit(git(bare, "rev-parse", "main:a.py").strip())


def test_refs_are_listed_without_other_names_of_theirs(bare):
    git(bare, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/heads/main")
    git(bare, "update-ref", "refs/remotes/origin/x", "main")
    with Repository(bare) as repository:
        names = [name for name, _ in repository.refs()]
    assert names == ["refs/heads/main", "refs/remotes/origin/x"]


def test_another_name_of_a_ref_that_is_gone_is_left_out(bare):
    for name in ("refs/remotes/origin/HEAD", "refs/heads/old"):
        git(bare, "symbolic-ref", name, "refs/heads/gone")
    with Repository(bare) as repository:
        assert [name for name, _ in repository.refs()] == ["refs/heads/main"]


def test_what_git_takes_for_no_ref_is_listed_without_an_object(bare):
    name = 'it\'s "new"\nand bad'
    (bare / "refs/heads" / name).write_text(git(bare, "rev-parse", "main"))
    (bare / "refs/heads/main.lock").write_text("")
    with Repository(bare) as repository:
        found = dict(repository.refs())
    assert found[f"refs/heads/{name}"] is None and len(found) == 2


def test_what_replaces_an_object_is_not_looked_at(bare):
    blob = git(bare, "rev-parse", "main:a.py").strip()
    (bare / "other").write_text("y = 2\n")
    other = git(bare, "hash-object", "-w", str(bare / "other")).strip()
    git(bare, "replace", blob, other)
    with Repository(bare) as repository:
        assert repository.read(blob, "blob") == b"x = 1\n"


def test_a_working_tree_and_a_linked_one_are_repositories(tmp_path, bare):
    checkout = tmp_path / "c"
    git(bare, "worktree", "add", "-q", str(checkout), "main")
    with Repository(checkout) as linked, Repository(bare) as own:
        assert linked.common == own.common
        assert dict(linked.refs()) == dict(own.refs())


def test_no_repository_is_refused(tmp_path):
    with pytest.raises(TitanMigrateError, match="is not a git repository"):
        Repository(tmp_path)
    with pytest.raises(TitanMigrateError, match="is not a folder"):
        Repository(tmp_path / "none")


def test_what_the_environment_says_of_another_repository_has_no_say(bare, monkeypatch):
    monkeypatch.setenv("GIT_DIR", os.devnull)
    with Repository(bare) as repository:
        assert [name for name, _ in repository.refs()] == ["refs/heads/main"]
