"""What a process of a sweep does."""

from migrator.sweep.plan import Options
from migrator.sweep.worker import Task, Worker

from organisation import files_of, git_import
from places import FIXTURES
from releases import git


def test_a_tree_is_read_where_it_is_whole(tmp_path):
    """In the first repository its objects are missing."""
    files = files_of(FIXTURES / "legacy")
    for name in ("one.git", "two.git"):
        git_import(tmp_path / name, {"refs/heads/main": (None, files)})
    tree = git(tmp_path / "one.git", "rev-parse", "main^{tree}").strip()
    for place in (tmp_path / "one.git/objects").rglob("*"):
        if place.is_file():
            place.unlink()
    worker = Worker((tmp_path / "one.git", tmp_path / "two.git"), Options())
    lost = worker(Task(tree, (0,))).planned
    assert lost.state == "failed" and "is missing" in lost.reasons[0]
    assert worker(Task(tree, (0, 1))).planned.state == "ready"


def test_what_comes_from_elsewhere_on_this_disk_does_not_last(tmp_path):
    """It may be another one tomorrow, under the same name."""
    files = files_of(FIXTURES / "dependent")
    git_import(tmp_path / "a.git", {"refs/heads/main": (None, files)})
    tree = git(tmp_path / "a.git", "rev-parse", "main^{tree}").strip()
    named = Options(torchtitan=str(FIXTURES / "v0_2_2"))
    result = Worker((tmp_path / "a.git",), named)(Task(tree, (0,)))
    assert result.planned.state == "ready" and not result.lasts
    git_import(
        tmp_path / "b.git", {"refs/heads/main": (None, files_of(FIXTURES / "v0_1"))}
    )
    tree = git(tmp_path / "b.git", "rev-parse", "main^{tree}").strip()
    assert Worker((tmp_path / "b.git",), Options())(Task(tree, (0,))).lasts
