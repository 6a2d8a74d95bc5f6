"""A series on a new branch: whatever breaks it off, the checkout is as before or complete."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from branched import (
    INTERRUPTED,
    PLAN,
    SUBJECTS,
    checkout_of,
    commit,
    content,
    state,
    tree_of,
)
from commands import run
from places import FIXTURES
from releases import git


def test_line_ends_that_git_would_not_give_stay_in_the_working_tree(fork, tmp_path):
    git(fork, "config", "core.autocrlf", "true")
    plain = shutil.copytree(fork, tmp_path / "plain")
    assert run("apply", plain).exit_code == 0
    assert commit(fork).exit_code == 0
    assert content(fork) == content(plain)
    status = ["git", "status", "--porcelain"]
    assert subprocess.check_output(status, cwd=fork) == b""


def test_nothing_to_do_makes_no_branch(fork, tmp_path):
    commit(fork)
    for arguments in (["--branch", "n", "--commit"], ["--patches", tmp_path / "p"]):
        result = run("apply", fork, *arguments)
        assert result.exit_code == 0 and "Nothing to rewrite" in result.stderr
    assert git(fork, "branch", "--list", "n") == ""
    assert not (tmp_path / "p").exists()


# uncommitted changes


def test_other_uncommitted_changes_stay_as_they_are(fork):
    for name in ("staged.txt", "debug.toml", "notes.txt", "new.py"):
        with (fork / name).open("a") as file:
            file.write("# mine\n")
    git(fork, "add", "staged.txt", "debug.toml")
    with (fork / "debug.toml").open("a") as file:
        file.write("# more\n")
    before = git(fork, "status", "--porcelain")
    assert before == "MM debug.toml\nA  staged.txt\n?? new.py\n?? notes.txt\n"
    assert commit(fork).exit_code == 0
    assert git(fork, "status", "--porcelain") == before
    assert "debug.toml" not in git(fork, "diff", "--name-only", "main", "m")


# wrong use


@pytest.mark.parametrize(
    "options, said",
    [
        (["--branch", "m"], "--branch is for commits"),
        (["--commit"], "--commit needs a new branch"),
        (["--hooks"], "--hooks is for commits"),
        (["--hooks", "--patches", "p"], "--hooks is for commits"),
        (["--branch", "m", "--commit", "--patches", "p"], "contradict each other"),
        (["--branch", "m", "--commit", "--no-git"], "--commit and --no-git"),
        (["--branch", "m", "--commit", "--allow-dirty"], "--commit and --allow-dirty"),
        (["--patches", "p", "--no-git"], "--patches and --no-git"),
        (["--branch", "main", "--commit"], "branch main already"),
        (["--branch", "a..b", "--commit"], "cannot be the name"),
        (["--branch", "-m", "--commit"], "cannot be the name"),
        (["--branch", "", "--commit"], "cannot be the name"),
        (["--branch", "@{-1}", "--commit"], "cannot be the name"),
        (["--branch", "main/m", "--commit"], "cannot make a branch main/m"),
    ],
)
def test_options_that_cannot_be(fork, options, said):
    git(fork, "checkout", "-q", "-b", "other")
    before = state(fork)
    result = run("apply", fork, *options)
    assert result.exit_code == 2 and said in result.stderr, result.output
    assert state(fork) == before


@pytest.mark.parametrize("command", ["merge", "rebase", "cherry-pick", "revert"])
def test_amid_a_merge_there_are_no_commits(fork, command):
    notes = fork / "notes.txt"
    for branch, text in (("a", "a\n"), ("b", "b\n"), ("b", "c\n")):
        git(fork, "checkout", "-q", "-B", branch, branch if text == "c\n" else "main")
        notes.write_text(text)
        git(fork, "add", "-A")
        git(fork, "commit", "-q", "-m", branch)
    with pytest.raises(subprocess.CalledProcessError):
        git(fork, command, "HEAD~" if command == "revert" else "a")
    before = state(fork)
    result = commit(fork)
    assert result.exit_code == 2 and f"in the middle of a {command}" in result.stderr
    assert state(fork) == before


def test_unmerged_files_are_refused(fork):
    (fork / "debug.toml").write_text("mine\n")
    git(fork, "stash")
    (fork / "debug.toml").write_text("theirs\n")
    git(fork, "commit", "-q", "-am", "theirs")
    with pytest.raises(subprocess.CalledProcessError):
        git(fork, "stash", "pop")
    result = commit(fork)
    assert result.exit_code == 2 and "has unmerged files" in result.stderr


# kinds of checkouts


def test_detached_shallow_linked_and_within_others(fork, tmp_path):
    git(fork, "checkout", "-q", "--detach")
    git(fork, "worktree", "add", "-q", str(tmp_path / "linked"), "main")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{fork}", "shallow")
    holder = tmp_path / "holder"
    holder.mkdir()
    git(holder, "init", "-q")
    allow = ["-c", "protocol.file.allow=always"]
    git(holder, *allow, "submodule", "--quiet", "add", str(fork), "sub")
    for number, place in enumerate(
        (tmp_path / "linked", tmp_path / "shallow", holder / "sub", fork)
    ):
        for more in ([], ["--hooks"]):
            name = f"m{number}{len(more)}"
            start = git(place, "rev-parse", "HEAD").strip()
            result = commit(place / "torchtitan/models", name, *more)
            assert result.exit_code == 0, result.output
            assert git(place, "symbolic-ref", "HEAD") == f"refs/heads/{name}\n"
            assert git(place, "status", "--porcelain") == ""
            assert git(place, "rev-list", "--count", f"{start}..") == "2\n"
            git(place, "checkout", "-q", "--detach", start)


def test_a_repository_of_the_longer_hashes(tmp_path):
    tree = shutil.copytree(FIXTURES / "v0_2_1", tmp_path / "fork")
    git(tree, "init", "-q", "-b", "main", "--object-format=sha256")
    checkout_of(tree)
    git(tmp_path, "clone", "-q", str(tree), "clone")
    assert run("apply", tree, "--patches", tmp_path / "p").exit_code == 0
    git(tmp_path / "clone", "am", "-q", *map(str, sorted((tmp_path / "p").iterdir())))
    for options in ([], ["--hooks"]):
        assert commit(tree, f"m{len(options)}", *options).exit_code == 0
        assert tree_of(tree) == tree_of(tmp_path / "clone")
        git(tree, "checkout", "-q", "main")


# hooks, signing, filters


@pytest.mark.parametrize("output", ["text", "json"])
def test_a_branch_whose_name_is_no_utf_8(fork, output):
    done = subprocess.run(
        [sys.executable, "-m", "migrator.cli", "apply", str(fork), "--commit"]
        + ["--format", output, "--branch", os.fsdecode(b"a\xff")],
        cwd=FIXTURES.parent,
        capture_output=True,
    )
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert (fork / ".git/HEAD").read_bytes() == b"ref: refs/heads/a\xff\n"


def test_no_filter_of_the_new_branch_runs(fork, tmp_path):
    trap = tmp_path / "ran"
    (fork / ".git/evil.cfg").write_text(
        f'[filter "evil"]\n\tclean = "touch {trap}; cat"\n\tsmudge = "touch {trap}; cat"\n'
    )
    git(fork, "config", "includeIf.onbranch:m.path", "evil.cfg")
    (fork / ".git/info/attributes").write_text("*.py filter=evil\n")
    # So that files are written again after the switch.
    git(fork, "config", "core.autocrlf", "true")
    assert commit(fork).exit_code == 0
    assert git(fork, "rev-parse", "--abbrev-ref", "HEAD") == "m\n"
    assert not trap.exists()


# interruption


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGKILL"])
@pytest.mark.parametrize(
    "word, when",
    [
        ("read-tree", "after"),
        ("commit-tree", "before"),
        ("commit-tree", "after"),
        ("switch", "before"),
        ("switch", "after"),
    ],
)
def test_interrupted_it_is_as_before_or_complete(fork, tmp_path, name, word, when):
    before = state(fork)
    done = subprocess.run(
        [
            *[sys.executable, "-c", INTERRUPTED, word, when],
            str(int(getattr(signal, name))),
            *["apply", str(fork), "--branch", "m", "--commit"],
        ],
        capture_output=True,
        cwd=FIXTURES.parent,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    held = word == "switch" and name != "SIGKILL"
    assert (done.returncode == 0) == held, done.stderr
    wait_for_git(fork)
    assert_before_or_complete(fork, before)
    complete = word == "switch" and (when == "after" or held)
    assert (git(fork, "rev-parse", "--abbrev-ref", "HEAD") == "m\n") == complete
    if name != "SIGKILL":
        assert not list(tmp_path.glob("titan-migrate-*"))


@pytest.mark.parametrize("options", [[], ["--hooks"]])
def test_killed_at_any_moment_it_is_as_before_or_complete(fork, tmp_path, options):
    before = state(fork)
    command = [sys.executable, "-m", "migrator.cli", "apply", str(fork), *options]
    for number in range(8):
        running = subprocess.Popen(
            [*command, "--branch", "m", "--commit"],
            cwd=FIXTURES.parent,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(0.35 + number * 0.05)
        # With all that it started, as a batch system would.
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        wait_for_git(fork)
        assert_before_or_complete(fork, before)
        if git(fork, "branch", "--list", "m"):
            git(fork, "checkout", "-q", "main")
            git(fork, "branch", "-q", "-D", "m")
            before = state(fork)


@pytest.mark.parametrize("options", [[], ["--hooks"]])
def test_a_switch_goes_on_when_all_else_is_killed(fork, tmp_path, options):
    wrapper = wrap_git(tmp_path, 'kill -s KILL -- "-$PPID"; sleep 0.2')
    running = subprocess.Popen(
        [sys.executable, "-m", "migrator.cli", "apply", str(fork), *options]
        + ["--branch", "m", "--commit"],
        cwd=FIXTURES.parent,
        env={**os.environ, "PATH": f"{wrapper.parent}:{os.environ['PATH']}"},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert running.wait() == -signal.SIGKILL
    wait_for_git(fork)
    assert git(fork, "branch", "--list", "m")
    assert_before_or_complete(fork, None)


def wrap_git(folder: Path, script: str) -> Path:
    """A git for PATH that does something else before it switches."""
    wrapper = folder / "bin" / "git"
    wrapper.parent.mkdir()
    wrapper.write_text(
        f'#!/bin/sh\ncase "$*" in *"switch "*)\n{script}\nesac\n'
        f'exec {shutil.which("git")} "$@"\n'
    )
    wrapper.chmod(0o755)
    return wrapper


def wait_for_git(fork: Path) -> None:
    """Until no git is at work in a checkout."""
    time.sleep(0.05)
    while any(works_in(process, fork) for process in Path("/proc").glob("[0-9]*")):
        time.sleep(0.01)


def works_in(process: Path, fork: Path) -> bool:
    try:
        return Path(os.readlink(process / "cwd")) == fork
    except OSError:
        return False


def assert_before_or_complete(fork: Path, before: object) -> None:
    assert not list((fork / ".git").rglob("*.lock"))
    assert git(fork, "worktree", "list").count("\n") == 1
    git(fork, "fsck", "--strict")
    assert git(fork, "status", "--porcelain") == ""
    if git(fork, "branch", "--list", "m"):
        assert git(fork, "symbolic-ref", "HEAD") == "refs/heads/m\n"
        assert git(fork, "log", "--reverse", "--format=%s", "main..").splitlines() == (
            SUBJECTS
        )
    else:
        assert state(fork) == before


def test_a_switch_that_breaks_off_is_taken_back(fork, tmp_path, monkeypatch):
    """As on a full disk: a file is half written, one is gone, the index is written."""
    utils = "torchtitan/models/utils.py"
    wrapper = wrap_git(
        tmp_path,
        f"""for tip; do true; done
        git=/{shutil.which("git")}
        $git -C {fork} restore --source=$tip --staged --worktree .
        head -c 100 {fork}/{PLAN} > {tmp_path}/half && cp {tmp_path}/half {fork}/{PLAN}
        rm {fork}/{utils}
        echo 'No space left on device' >&2
        exit 1""",
    )
    before = state(fork)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    result = commit(fork)
    monkeypatch.undo()
    assert result.exit_code == 2 and "No space left" in result.stderr
    assert state(fork) == before
