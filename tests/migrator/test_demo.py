"""What the demo does before it migrates; what follows trains, in tests/verify/trained."""

import subprocess
from types import SimpleNamespace

import pytest

from migrator import demo

from places import FIXTURES
from releases import git


def test_the_fixture_of_this_checkout_stands_in():
    assert demo.bundled_fixture() == FIXTURES / "v0_2_1"


def test_a_tree_is_put_under_git_by_somebody_without_a_name(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "none"))
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.py").write_text("x = 1\n")
    demo.put_under_git(tmp_path / "tree", "before")
    assert git(tmp_path / "tree", "log", "--format=%s") == "before\n"
    assert git(tmp_path / "tree", "ls-files") == ".gitignore\na.py\n"
    assert git(tmp_path / "tree", "status", "--porcelain") == ""


def test_a_registry_that_does_not_answer_is_told_from_a_release_that_there_is_not(
    tmp_path, monkeypatch
):
    said = "ERROR: no route\nERROR: No matching distribution found\n"

    def pip(*_, **__):
        return SimpleNamespace(returncode=1, stderr=said)

    monkeypatch.setattr(demo.subprocess, "run", pip)
    assert demo.download("0.2.1", tmp_path) == "No matching distribution found"
    said = "ERROR: Could not find it (from versions: 0.1.0, 0.2.0)\n" + said
    with pytest.raises(FileNotFoundError, match="no torchtitan 9 on PyPI.*0.1.0"):
        demo.download("9", tmp_path)

    def slow(*_, **__):
        raise subprocess.TimeoutExpired("pip", 180)

    monkeypatch.setattr(demo.subprocess, "run", slow)
    assert "180 seconds" in demo.download("0.2.1", tmp_path)
    assert not list(tmp_path.iterdir())
