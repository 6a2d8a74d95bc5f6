"""A migration as commits: what is in them, in whose name, and what is refused."""

import json
import os
import shutil

import pytest

from migrator.verify.train import worktrees

import warm
from branched import PLAN, SUBJECTS, commit, content, state, tree_of
from commands import run
from places import FIXTURES
from releases import git


def test_one_commit_for_each_step_and_the_last_is_plain_apply(fork, tmp_path):
    plain = shutil.copytree(fork, tmp_path / "plain")
    assert run("apply", plain).exit_code == 0
    base = git(fork, "rev-parse", "HEAD").strip()
    result = commit(fork)
    assert result.exit_code == 0, result.output
    assert git(fork, "log", "--reverse", "--format=%s", "main..").splitlines() == (
        SUBJECTS
    )
    assert git(fork, "symbolic-ref", "HEAD") == "refs/heads/m\n"
    assert git(fork, "status", "--porcelain") == ""
    assert content(fork) == content(plain)
    assert git(fork, "diff", "--name-only", "HEAD~").split() == [
        "torchtitan/models/utils.py"
    ]
    for revision in ("HEAD", "HEAD~"):
        git(fork, "checkout", "-q", "--detach", revision)
        found = worktrees.find_base(worktrees.open_checkout(fork), None)
        assert found == base


def test_the_2d_target_has_parallel_dims_in_its_first_commit(fork):
    assert commit(fork, "m", "--target", "2d").exit_code == 0
    first = git(fork, "show", "--name-only", "--format=%B", "HEAD~")
    assert "TM104" in first and "pull/1714" in first
    assert "torchtitan/distributed/parallel_dims.py" in first.splitlines()


@pytest.mark.parametrize(
    "options, subjects",
    [
        (["--ignore", "TM106"], SUBJECTS[:1]),
        (["--select", "TM106"], SUBJECTS[1:]),
        (["--select", "TM1", "--exclude", "torchtitan/models/utils.py"], SUBJECTS[:1]),
    ],
)
def test_what_is_left_out_is_in_no_commit(fork, tmp_path, options, subjects):
    plain = shutil.copytree(fork, tmp_path / "plain")
    assert run("apply", plain, *options).exit_code == 0
    result = commit(fork, "m", *options)
    assert result.exit_code == 0, result.output
    told = git(fork, "log", "--reverse", "--format=%s", "main..").splitlines()
    assert told == subjects
    assert content(fork) == content(plain)


def test_in_whose_name_it_is_committed(fork, monkeypatch):
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody Else")
    commit(fork)
    names = "A U Thor <author@example.org>\nSomebody Else <author@example.org>\n"
    assert git(fork, "log", "-1", "--format=%cn <%ce>%n%an <%ae>") == names


def test_without_a_name_it_says_what_to_run(fork, identity):
    identity.write_text("")
    before = state(fork)
    for arguments in (["--branch", "m", "--commit"], ["--patches", fork.parent / "p"]):
        result = run("apply", fork, *arguments)
        assert result.exit_code == 2
        assert "git config user.name" in result.stderr
    assert state(fork) == before


def test_odd_files_are_committed_as_git_add_would(odd, tmp_path):
    plain = shutil.copytree(odd, tmp_path / "plain", symlinks=True)
    assert run("apply", plain).exit_code == 0
    git(plain, "add", "-A")
    git(plain, "commit", "-q", "-m", "all")
    result = commit(odd)
    assert result.exit_code == 0, result.output
    assert len(git(odd, "diff", "--name-only", "-z", "main").split("\0")) > 16
    assert tree_of(odd) == tree_of(plain)
    assert content(odd) == content(plain)
    assert git(odd, "status", "--porcelain") == ""


def test_as_json(fork, tmp_path):
    told = json.loads(
        run("apply", fork, "--patches", tmp_path / "p", "--format", "json").stdout
    )
    assert told["patches"] == [str(path) for path in sorted((tmp_path / "p").iterdir())]
    assert not told["written"]
    told = json.loads(commit(fork, "m", "--format", "json").stdout)
    assert told["branch"] == "m" and told["written"]
    hashes = git(fork, "rev-list", "--reverse", "main..").split()
    assert [entry["hash"] for entry in told["commits"]] == hashes
    assert [entry["subject"] for entry in told["commits"]] == SUBJECTS


# uncommitted changes


@pytest.mark.parametrize("how", ["edited", "staged", "only staged", "added", "hidden"])
def test_python_files_with_uncommitted_changes_are_refused(fork, tmp_path, how):
    train = fork / "torchtitan/train.py"
    if how == "added":
        train = fork / "torchtitan/extra.py"
    if how == "hidden":
        git(fork, "update-index", "--assume-unchanged", "torchtitan/train.py")
    before = train.read_text() if train.exists() else ""
    train.write_text(before + "# mine\n")
    if "staged" in how or how == "added":
        git(fork, "add", str(train))
    if how == "only staged":
        train.write_text(before)
    untouched = state(fork)
    for arguments in (["--branch", "m", "--commit"], ["--patches", tmp_path / "p"]):
        result = run("apply", fork, *arguments)
        assert result.exit_code == 2, result.output
        assert train.name in result.stderr and "not as in HEAD" in result.stderr
    assert state(fork) == untouched


def test_hidden_files_without_changes_are_no_hindrance(fork):
    git(fork, "update-index", "--assume-unchanged", "torchtitan/train.py")
    assert commit(fork).exit_code == 0


def test_an_untracked_plan_is_refused(fork):
    copy = fork / "torchtitan/models/own/plan.py"
    copy.parent.mkdir()
    copy.write_bytes((fork / PLAN).read_bytes())
    before = state(fork)
    result = commit(fork)
    assert result.exit_code == 2 and "torchtitan/models/own/plan.py" in result.stderr
    assert "--allow-dirty" not in result.stderr
    assert state(fork) == before


# wrong use


def test_without_git_there_are_no_commits(tmp_path):
    tree = shutil.copytree(FIXTURES / "v0_2_1", tmp_path / "plain")
    before = content(tree)
    result = commit(tree)
    assert result.exit_code == 2 and "git init" in result.stderr
    assert "--no-git" not in result.stderr
    git(tree, "init", "-q")
    result = commit(tree)
    assert result.exit_code == 2 and "has no commit yet" in result.stderr
    assert content(tree) == before


# hooks, signing, filters


def test_filtered_files_need_hooks(fork, tmp_path):
    git(fork, "config", "filter.rot.clean", "sed s/grouped/GROUPED/g")
    git(fork, "config", "filter.rot.smudge", "sed s/GROUPED/grouped/g")
    (fork / ".gitattributes").write_text("torchtitan/models/utils.py filter=rot\n")
    # So old that git trusts its index.
    os.utime(fork / "torchtitan/models/utils.py", (1, 1))
    git(fork, "add", "-A")
    git(fork, "commit", "-q", "-m", "filter")
    before = state(fork)
    for arguments in (["--branch", "m", "--commit"], ["--patches", tmp_path / "p"]):
        result = run("apply", fork, *arguments)
        assert result.exit_code == 2
        assert "torchtitan/models/utils.py as the filter rot" in result.stderr
    assert state(fork) == before
    assert commit(fork, "m", "--hooks").exit_code == 0
    assert "GROUPED" in git(fork, "show", "HEAD:torchtitan/models/utils.py")
    assert "GROUPED" not in (fork / "torchtitan/models/utils.py").read_text()
    assert git(fork, "status", "--porcelain") == ""


# real releases


@pytest.mark.release
def test_every_commit_of_a_release_imports(released, tmp_path):
    _, tree, _ = released
    commits = git(tree, "rev-list", "main..m").split()
    assert 1 <= len(commits) <= 3
    for revision in commits:
        place = tmp_path / revision
        place.mkdir()
        archive = tmp_path / f"{revision}.tar"
        git(tree, "archive", "-o", str(archive), revision)
        shutil.unpack_archive(archive, place)
        script = place / "script.py"
        script.write_text(
            "import torchtitan.models.llama3 as m; "
            f"assert m.__file__.startswith({str(place)!r}), m.__file__"
        )
        log = tmp_path / f"{revision}.log"
        status = warm.server().run(
            [str(script)], cwd=place, log=log, environments=[dict(os.environ)]
        )
        assert status == 0, log.read_text()


@pytest.mark.release
def test_the_last_commit_of_a_release_is_plain_apply(released):
    _, tree, plain = released
    assert git(tree, "status", "--porcelain") == ""
    assert content(tree) == content(plain)
    git(plain, "add", "-A")
    assert git(plain, "write-tree").strip() == tree_of(tree)
