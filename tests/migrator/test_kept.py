"""What was planned for the same files is taken over, and nothing else is."""

import os
import shutil
from dataclasses import fields, replace

import pytest

from codemods import engine
from codemods.engine import migrate
from codemods.outcome import Outcome
from codemods.selection import Selection
from migrator import apply, caches, kept
from migrator.changeset import Changeset
from migrator.checkout import Checkout
from migrator.errors import FileProblem, NoTorchtitan, TitanMigrateError

from commands import AUTOCAST, PLAN, run, snapshot
from places import FIXTURES
from releases import as_checkout, git


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A cache folder of its own, in which plans are kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("TITAN_MIGRATE_NO_CACHE")
    return tmp_path / "cache" / "titan-migrate" / "plans"


@pytest.fixture
def worked_out(monkeypatch):
    """The checkouts that were planned anew."""
    found = []
    real = apply.work_out

    def work_out(checkout, *given):
        found.append(checkout)
        return real(checkout, *given)

    monkeypatch.setattr(apply, "work_out", work_out)
    return found


def planned(
    tree, mesh="1d", selection: Selection = Selection(), torchtitan: str | None = None
) -> Changeset:
    checkout = Checkout(tree, is_git=(tree / ".git").exists(), torchtitan=torchtitan)
    return kept.plan(checkout, apply.resolve_target(mesh), selection)


def told(changeset: Changeset) -> Outcome:
    """What a changeset tells, whatever it was worked out of."""
    known = {one.name: getattr(changeset.outcome, one.name) for one in fields(Outcome)}
    return Outcome(**known)


@pytest.mark.parametrize(
    "fixture", sorted(place.name for place in FIXTURES.iterdir() if place.is_dir())
)
def test_what_is_taken_over_is_what_was_planned(fixture, tmp_path, worked_out):
    tree = as_checkout(FIXTURES / fixture, tmp_path / "tree")
    first, again = planned(tree), planned(tree)
    assert told(first) == told(again)
    assert first.diff() == again.diff()
    assert len(worked_out) == 1


def test_places_that_are_left_and_excluded_files_are_kept_too(fork, worked_out):
    selection = Selection(exclude=(AUTOCAST,))
    first, again = planned(fork, "1d", selection), planned(fork, "1d", selection)
    assert told(first) == told(again)
    assert first.outcome.problems and first.outcome.excluded
    assert len(worked_out) == 1


@pytest.mark.parametrize("path", [PLAN, "README.md", "added.py", "run.sh"])
def test_another_file_is_another_plan(fork, path, worked_out):
    planned(fork)
    with (fork / path).open("a") as file:
        file.write("# another\n")
    planned(fork)
    assert len(worked_out) == 2


def test_a_file_that_goes_or_is_called_otherwise_is_another_plan(fork, worked_out):
    (fork / "a.py").write_text("x = 1\n")
    planned(fork)
    (fork / "a.py").rename(fork / "b.py")
    planned(fork)
    (fork / "b.py").unlink()
    planned(fork)
    assert len(worked_out) == 3


def test_texts_count_only_where_they_were_read(tmp_path, worked_out, monkeypatch):
    monkeypatch.setattr(engine, "migrate", migrate)
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "torchtitan").mkdir()
    (tree / "torchtitan" / "parallel_dims.py").write_text("class ParallelDims: ...\n")
    planned(tree)
    (tree / "README.md").write_text("Nothing about it.\n")
    planned(tree)
    assert len(worked_out) == 1


@pytest.mark.parametrize(
    "other",
    [
        {"mesh": "2d"},
        {"selection": Selection(ignore=("TM2",))},
        {"selection": Selection(exclude=("docs",))},
    ],
)
def test_what_is_asked_for_counts(fork, other, worked_out):
    planned(fork)
    planned(fork, **other)
    assert len(worked_out) == 2


def test_the_torchtitan_that_is_used_counts(tmp_path, worked_out):
    tree = as_checkout(FIXTURES / "dependent", tmp_path / "tree")
    theirs = tmp_path / "theirs"
    shutil.copytree(FIXTURES / "v0_2_1", theirs)
    first = planned(tree, torchtitan=str(theirs))
    assert told(planned(tree, torchtitan=str(theirs))) == told(first)
    with (theirs / PLAN).open("a") as file:
        file.write("# another\n")
    planned(tree, torchtitan=str(theirs))
    planned(tree)
    assert len(worked_out) == 3


def test_our_own_code_and_libraries_count(fork, worked_out, monkeypatch):
    planned(fork)
    real = caches.of_this_tool
    monkeypatch.setattr(caches, "of_this_tool", lambda: [*real(), b"another"])
    planned(fork)
    assert len(worked_out) == 2


def test_a_link_that_leads_elsewhere_now_is_written_at_its_new_place(fork, worked_out):
    copy = (fork / PLAN).with_name("other.py")
    shutil.copy(fork / PLAN, copy)
    linked = (fork / PLAN).with_name("linked.py")
    linked.symlink_to("parallelize.py")
    before = planned(fork)
    linked.unlink()
    linked.symlink_to("other.py")
    after = planned(fork)
    assert len(worked_out) == 1
    assert (
        after.places
        == Changeset(
            after.checkout,
            apply.plan(Checkout(fork, is_git=True), apply.resolve_target("1d")).outcome,
        ).places
    )
    assert before.changes.keys() == after.changes.keys()


@pytest.mark.parametrize("cut", [0, 10, 65, 200, -1])
def test_what_is_broken_is_not_taken(fork, home, cut, worked_out):
    first = planned(fork)
    (place,) = home.iterdir()
    whole = place.read_bytes()
    for broken in (whole[:cut], whole[:-4] + b"0" + whole[-3:]):
        place.write_bytes(broken)
        assert told(planned(fork)) == told(first)
        assert place.read_bytes() == whole
    assert len(worked_out) == 3


def test_what_says_something_else_than_a_plan_is_not_taken(fork, home, worked_out):
    planned(fork)
    (place,) = home.iterdir()
    for body in (b"{}", b"[]", b'{"texts": null, "about": {"kind": "odd"}}', b"1"):
        place.write_bytes(kept._checked(place, body) + b"\n" + body)
        planned(fork)
    assert len(worked_out) == 5


def test_what_was_planned_for_another_tree_is_not_taken(fork, home, worked_out):
    planned(fork)
    (first,) = home.iterdir()
    (fork / "a.py").write_text("x = 1\n")
    planned(fork)
    (second,) = set(home.iterdir()) - {first}
    first.replace(second)
    planned(fork)
    assert len(worked_out) == 3


def test_only_the_last_are_kept(fork, home, monkeypatch):
    monkeypatch.setattr(kept, "KEPT", 3)
    for number in range(5):
        (fork / "a.py").write_text(f"x = {number}\n")
        planned(fork)
    assert len(list(home.iterdir())) == 3


def test_nobody_else_can_read_what_is_kept(fork, home):
    planned(fork)
    (place,) = home.iterdir()
    assert place.stat().st_mode & 0o077 == 0


def test_where_nothing_can_be_kept_it_is_planned(fork, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert planned(fork).changes == planned(fork).changes != {}
    monkeypatch.setenv("XDG_CACHE_HOME", "")

    def no_home() -> None:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(caches.Path, "home", no_home)
    assert planned(fork).changes


@pytest.mark.parametrize("lacks", ["metadata", "files"])
def test_where_we_cannot_tell_what_we_are_made_of_it_is_planned(
    fork, home, lacks, tmp_path, monkeypatch
):
    """What is kept would be taken over by another version of ours, or of a library."""
    if lacks == "metadata":
        monkeypatch.setattr(caches, "_LIBRARIES", ("libcst", "no-such-library"))
    else:
        monkeypatch.setattr(caches, "_TOP", tmp_path)
    with pytest.raises(caches.Untold, match="cannot be told"):
        list(caches.of_this_tool())
    assert planned(fork).changes
    assert not home.exists()


def test_what_is_no_file_in_the_place_of_a_plan_is_not_read(fork, home, worked_out):
    planned(fork)
    (place,) = home.iterdir()
    place.unlink()
    os.mkfifo(place)
    planned(fork)
    assert len(worked_out) == 2 and place.is_file()


def test_an_interruption_while_a_plan_is_kept_is_one(tmp_path, monkeypatch):
    real = os.replace

    def interrupted(*given) -> None:
        real(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(caches.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        caches.put(tmp_path / "a" / "b", b"kept")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]


def test_what_is_refused_is_not_kept(tmp_path, home, fork):
    empty = tmp_path / "empty"
    empty.mkdir()
    for _ in range(2):
        with pytest.raises(NoTorchtitan):
            planned(empty)
    with (fork / PLAN).open("a") as file:
        file.write("def broken(:\n")
    for _ in range(2):
        with pytest.raises(FileProblem):
            planned(fork)
    assert not home.exists()


def test_a_checkout_that_became_sparse_is_refused_all_the_same(fork):
    planned(fork)
    git(fork, "update-index", "--skip-worktree", PLAN)
    source = (fork / PLAN).read_bytes()
    (fork / PLAN).unlink()
    with pytest.raises(TitanMigrateError, match="sparse"):
        planned(fork)
    (fork / PLAN).write_bytes(source)
    assert planned(fork).changes


def test_precision_that_cannot_be_kept_is_refused_each_time(fork):
    target = replace(apply.resolve_target("1d"), keep_precision=True)
    for _ in range(2):
        with pytest.raises(TitanMigrateError, match="--keep-precision"):
            kept.plan(Checkout(fork, is_git=True), target)


def test_commands_take_over_and_write_what_was_planned(fork, worked_out):
    patch = run("diff", fork).stdout
    assert run("diff", fork).stdout == patch
    first = run("check", fork, "-v")
    assert (first.exit_code, len(worked_out)) == (1, 1)
    assert run("check", fork, "-v", "--no-cache").stderr == first.stderr
    for form in ("json", "sarif", "github"):
        one, other = (
            run("check", fork, "--format", form, *more)
            for more in ((), ("--no-cache",))
        )
        assert one.stdout == other.stdout
    worked_out.clear()
    before = snapshot(fork)
    assert run("apply", fork).exit_code == 0
    assert not worked_out
    written = snapshot(fork)
    git(fork, "checkout", "-q", ".")
    assert snapshot(fork) == before
    assert run("apply", fork, "--no-cache").exit_code == 0
    assert snapshot(fork) == written


def test_nothing_is_kept_where_it_is_not_wanted(fork, home, monkeypatch):
    run("check", fork, "--no-cache")
    monkeypatch.setenv("TITAN_MIGRATE_NO_CACHE", "1")
    run("check", fork)
    assert not home.exists()
    monkeypatch.delenv("TITAN_MIGRATE_NO_CACHE")
    run("check", fork)
    assert home.exists()
