"""What the demo does before it migrates; what follows trains, in tests/verify/trained."""

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
