"""Patches for `git am`: what they give, where they go, and that none is left half made."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from branched import INTERRUPTED, commit, objects, state, tree_of
from commands import run
from places import FIXTURES
from releases import git


@pytest.mark.parametrize("setting", ["diff.noprefix", "format.attach", "am.keepcr"])
@pytest.mark.parametrize("scope", ["--local", "--global"])
def test_patches_give_the_same_tree_as_the_branch(odd, tmp_path, setting, scope):
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(odd), str(clone))
    for tree in (odd, clone):
        git(tree, "config", scope, setting, "true")
    folder = tmp_path / "new folder" / "it's"
    before = state(odd), objects(odd)
    result = run("apply", odd, "--patches", folder)
    assert result.exit_code == 0, result.output
    assert (state(odd), objects(odd)) == before
    assert [path.name[:5] for path in sorted(folder.iterdir())] == ["0001-", "0002-"]
    command = next(line for line in result.stderr.splitlines() if "`git am " in line)
    subprocess.run(
        ["sh", "-c", command.split("`")[1]], cwd=clone, check=True, capture_output=True
    )
    assert commit(odd).exit_code == 0
    for revision in ("HEAD", "HEAD~"):
        assert tree_of(clone, revision) == tree_of(odd, revision)
    shown = ["log", "-2", "--format=%an%ae%B"]
    assert git(clone, *shown) == git(odd, *shown)
    assert git(clone, "status", "--porcelain") == ""


def test_patches_go_into_an_empty_folder_that_is_there(fork, tmp_path):
    folder = tmp_path / "patches"
    folder.mkdir()
    inode = folder.stat().st_ino
    assert run("apply", fork, "--patches", folder).exit_code == 0
    assert folder.stat().st_ino == inode
    assert len(list(folder.iterdir())) == 2
    result = run("apply", fork, "--patches", folder)
    assert result.exit_code == 2 and "is not empty" in result.stderr


def test_patches_are_not_written_into_the_checkout(fork):
    before = state(fork)
    for folder in (fork / "patches", fork / ".git" / "patches", fork):
        result = run("apply", fork, "--patches", folder)
        assert result.exit_code == 2 and "inside the checkout" in result.stderr
    result = run("apply", fork, "--patches", __file__)
    assert result.exit_code == 2 and "is a file" in result.stderr
    assert state(fork) == before


def test_a_patch_that_cannot_be_written_leaves_none(fork, tmp_path, monkeypatch):
    import migrator.series.mail

    folder = tmp_path / "patches"
    folder.mkdir()
    real = os.rename

    def second_fails(source, place):
        if Path(place).name.startswith("0002"):
            raise OSError(28, "No space left on device")
        real(source, place)

    monkeypatch.setattr(migrator.series.mail.os, "rename", second_fails)
    result = run("apply", fork, "--patches", folder)
    assert result.exit_code == 3 and "No space left" in result.stderr
    assert not list(folder.iterdir())


# interruption


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("word", ["init", "commit-tree", "format-patch"])
def test_interrupted_there_are_no_patches(fork, tmp_path, name, word):
    before = state(fork), objects(fork)
    done = subprocess.run(
        [
            *[sys.executable, "-c", INTERRUPTED, word, "after"],
            str(int(getattr(signal, name))),
            *["apply", str(fork), "--patches", str(tmp_path / "patches")],
        ],
        capture_output=True,
        cwd=FIXTURES.parent,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == {"SIGTERM": 143, "SIGINT": 130}[name], done.stderr
    assert (state(fork), objects(fork)) == before
    assert not list(tmp_path.glob("*titan-migrate-*"))
    assert not (tmp_path / "patches").exists()


# real releases


@pytest.mark.release
def test_the_patches_of_a_release_give_the_same_tree(released, tmp_path):
    target, tree, _ = released
    clone, folder = tmp_path / "clone", tmp_path / "patches"
    git(tmp_path, "clone", "-q", "-b", "main", str(tree), str(clone))
    for key in ("name", "email"):
        git(clone, "config", f"user.{key}", "t")
    result = run("apply", clone, "--target", target, "--patches", folder)
    assert result.exit_code == 0, result.output
    git(clone, "am", "-q", *map(str, sorted(folder.iterdir())))
    assert tree_of(clone) == tree_of(tree, "m")
    assert git(clone, "rev-list", "--count", "main@{upstream}..") == git(
        tree, "rev-list", "--count", "main..m"
    )
