"""Where a page is written, and where it is not."""

import os

import pytest

from migrator import review
from migrator.errors import TitanMigrateError

from releases import git
from reviewed import PLAN, alone, fork, run


def test_a_page_is_written_and_written_again(tmp_path):
    tree, page = fork(tmp_path), tmp_path / "a page.html"
    for _ in range(2):
        result = run(tree, "--html", page)
        assert result.exit_code == 0 and not result.stdout
        assert result.stderr == f"The report is in {page}: open it in a browser.\n"
        assert page.read_text().endswith("</html>\n")
    assert page.stat().st_mode & 0o777 == 0o666 & ~umask()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a page.html", "fork"]


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_places_that_no_page_goes_to(tmp_path):
    tree = fork(tmp_path)
    (tmp_path / "notes.html").write_text("mine")
    (tmp_path / "other/.git").mkdir(parents=True)
    (tmp_path / "to git").symlink_to(tree / ".git")
    (tree / "page.html").write_text(
        "<!doctype html>\n<!-- a titan-migrate report -->\n"
    )
    git(tree, "add", "page.html")
    git(tree, "commit", "-qm", "page")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for place, why in {
        "none/x.html": "is not a folder",
        "fork": "is a folder",
        "notes.html": "is there and no report",
        "fork/.git/x.html": "among git's own",
        "to git/x.html": "among git's own",
        "other/.git/x.html": "among git's own",
        f"fork/{PLAN}": "is a file of the checkout",
        "fork/page.html": "is a file of the checkout",
    }.items():
        result = run(tree, "--html", tmp_path / place)
        assert result.exit_code == 2 and why in result.stderr, place
    assert before == {
        path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    }


def test_a_pipe_is_no_earlier_page(tmp_path):
    tree = fork(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    result = alone(tree, "--html", tmp_path / "pipe")
    assert result.returncode == 2 and "is there and no report" in result.stderr


@pytest.mark.parametrize("name", ["conftest.py", "torchtitan/page.py", "X.PY"])
def test_no_page_becomes_python_of_the_checkout(tmp_path, name):
    tree = fork(tmp_path)
    result = run(tree, "--html", tree / name)
    assert result.exit_code == 2 and "would be read as Python" in result.stderr
    assert not (tree / name).exists()
    assert run(tree, "--html", tmp_path / "page.py").exit_code == 0


def test_a_worktrees_git_folder_is_gits_own(tmp_path):
    tree = fork(tmp_path)
    git(tree, "worktree", "add", "-q", str(tmp_path / "other"))
    (tree / ".git").rename(tmp_path / "store")
    (tree / ".git").write_text(f"gitdir: {tmp_path / 'store'}\n")
    result = run(tree, "--html", tmp_path / "store" / "x.html")
    assert result.exit_code == 2 and "among git's own" in result.stderr


def test_a_page_that_cannot_be_written_leaves_the_earlier_one(tmp_path, monkeypatch):
    page = tmp_path / "page.html"
    review.write("one", page)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(TitanMigrateError, match="No space left"):
        review.write("two", page)
    assert page.read_text() == "one" and [*tmp_path.iterdir()] == [page]
