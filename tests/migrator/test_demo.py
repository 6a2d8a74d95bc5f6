"""The demo without its training, which is in tests/verify/trained."""

import io

import pytest
from rich.console import Console

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


@pytest.fixture
def fixture_alone(monkeypatch):
    monkeypatch.setattr(demo, "download", lambda version, tree: "no network")


def test_the_story_is_told_in_steps_and_ends_with_what_to_do(tmp_path, fixture_alone):
    console = Console(record=True, width=80, file=io.StringIO())
    assert demo.run_demo(console=console, verify=False, workdir=tmp_path)
    lines = console.export_text().splitlines()
    steps = [line for line in lines if line[:1].isdigit()]
    assert steps == [
        "1 of 3  Download",
        "2 of 3  What is there",
        "3 of 3  What changes",
    ]
    assert any(line.startswith("- silent hazard, torchtitan/") for line in lines)
    assert lines[-4:] == [
        "Nothing was trained, so nothing is proved yet.",
        "The page for reviewers:",
        f"  {tmp_path / 'review.html'}",
        "On your own fork: `titan-migrate check PATH`, then `titan-migrate apply PATH`.",
    ]
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == ["migration.patch", "review.html", "torchtitan"]
    assert "apply_replicate" in (tmp_path / "migration.patch").read_text()
    assert "apply_replicate" in (tmp_path / "review.html").read_text()


@pytest.mark.parametrize("error", [KeyboardInterrupt, FileNotFoundError])
def test_a_demo_that_breaks_off_leaves_nothing(
    tmp_path, monkeypatch, fixture_alone, error
):
    def broken(found):
        raise error

    monkeypatch.setattr(demo.review, "as_html", broken)
    monkeypatch.setattr(demo.tempfile, "tempdir", str(tmp_path))
    kept = tmp_path / "mine"
    kept.mkdir()
    (kept / "notes").write_text("of the user")
    for workdir in (None, tmp_path / "new", kept):
        with pytest.raises(error):
            demo.run_demo(console=Console(quiet=True), verify=False, workdir=workdir)
    assert [path.name for path in tmp_path.rglob("*")] == ["mine", "notes"]
