"""Which checkout a folder is in, and that nothing of it runs."""

import json
import os
import shutil
import subprocess
import sys

import pytest

from commands import PLAN, run, snapshot
from places import FIXTURES
from releases import git


def test_apply_needs_git_or_no_git(tmp_path):
    tree = tmp_path / "plain"
    shutil.copytree(FIXTURES / "v0_2_1", tree)
    result = run("apply", tree)
    assert result.exit_code == 2
    assert "--no-git" in result.stderr
    assert run("apply", tree, "--no-git").exit_code == 0
    assert "apply_replicate" in (tree / PLAN).read_text()


def test_apply_never_writes_through_a_symlink_out_of_the_checkout(fork, tmp_path):
    outside = tmp_path / "outside.py"
    plan = fork / "torchtitan/models/qwen3/infra/parallelize.py"
    plan.rename(outside)
    plan.symlink_to(outside)
    git(fork, "add", "-A")
    git(fork, "commit", "-q", "-m", "link")
    before = outside.read_bytes()
    run("apply", fork)
    assert outside.read_bytes() == before


def test_no_hook_of_the_checkout_runs(fork):
    trap = fork / "ran"
    for name in ("post-checkout", "post-index-change", "pre-commit", "fsmonitor"):
        hook = fork / ".git" / "hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {trap}\n")
        hook.chmod(0o755)
    git(fork, "config", "core.fsmonitor", str(fork / ".git/hooks/fsmonitor"))
    git(fork, "config", "filter.trap.clean", f"touch {trap}; cat")
    (fork / ".git/info").mkdir(exist_ok=True)
    (fork / ".git/info/attributes").write_text("*.py filter=trap\n")
    os.utime(fork / PLAN)
    trap.unlink(missing_ok=True)
    assert run("apply", fork).exit_code == 0
    assert not trap.exists()


def test_a_misspelt_folder_gets_a_suggestion(fork):
    result = run("check", fork.parent / "frok")
    assert result.exit_code == 2
    assert "did you mean" in result.stderr and "fork?" in result.stderr


def test_a_subfolder_means_its_checkout(fork):
    result = run("check", fork / "torchtitan" / "models", "--format", "json")
    assert json.loads(result.stdout)["root"] == str(fork)


@pytest.mark.parametrize("flag", ["--assume-unchanged", "--skip-worktree"])
def test_changes_that_git_is_told_not_to_see_are_not_written_over(fork, flag):
    git(fork, "update-index", flag, PLAN)
    with (fork / PLAN).open("a") as file:
        file.write("# mine\n")
    before = snapshot(fork)
    result = run("apply", fork)
    assert result.exit_code == 2 and PLAN in result.stderr
    assert snapshot(fork) == before


def test_a_sparse_checkout_is_refused(fork):
    git(
        fork,
        "sparse-checkout",
        "set",
        "torchtitan/models/llama3",
        "torchtitan/distributed",
    )
    result = run("apply", fork)
    assert result.exit_code == 2
    assert "sparse" in result.stderr


def test_no_filter_of_an_included_configuration_runs(fork, tmp_path):
    trap = tmp_path / "ran"
    (fork / ".git/evil.cfg").write_text(
        f'[filter "evil"]\n\tclean = "touch {trap}; cat"\n'
    )
    git(fork, "config", "include.path", "evil.cfg")
    (fork / ".git/info").mkdir(exist_ok=True)
    (fork / ".git/info/attributes").write_text("*.py filter=evil\n")
    os.utime(fork / PLAN)
    assert run("apply", fork).exit_code == 0
    assert not trap.exists()


def test_no_filter_runs_whatever_its_name(fork, tmp_path):
    trap = tmp_path / "ran"
    for key in ("clean", "smudge"):
        git(fork, "config", f"filter.a=b.{key}", f"touch {trap}; cat")
    git(fork, "config", "filter.a=b.required", "true")
    (fork / ".git/info/attributes").write_text("*.py filter=a=b\n")
    os.utime(fork / PLAN)
    assert run("apply", fork).exit_code == 0
    assert run("report", fork).exit_code == 0
    assert not trap.exists()


def test_no_filter_of_a_submodule_runs(fork, tmp_path):
    trap, module = tmp_path / "ran", fork / "x.py"
    module.mkdir()
    git(module, "init", "-q")
    (module / "file.txt").write_text("text\n")
    git(module, "add", "-A")
    git(module, "commit", "-q", "-m", "base")
    git(fork, "add", "x.py")
    (fork / ".gitmodules").write_text('[submodule "x"]\n\tpath = x.py\n\turl = ./x\n')
    git(fork, "add", "-A")
    git(fork, "commit", "-q", "-m", "module")
    git(module, "config", "filter.evil.clean", f"touch {trap}; cat")
    (module / ".git/info/attributes").write_text("* filter=evil\n")
    (module / "file.txt").write_text("TEXT\n")
    assert run("apply", fork).exit_code == 0
    assert run("report", fork).exit_code == 0
    assert not trap.exists()


def test_nothing_is_fetched_in_a_partial_clone(fork, tmp_path):
    trap, origin = tmp_path / "ran", tmp_path / "origin"
    git(tmp_path, "clone", "-q", "--bare", str(fork), str(origin))
    blob = git(fork, "rev-parse", f"HEAD:{PLAN}").strip()
    (fork / ".git/objects" / blob[:2] / blob[2:]).unlink()
    for key, value in {
        "core.repositoryFormatVersion": "1",
        "extensions.partialClone": "origin",
        "remote.origin.url": str(origin),
        "remote.origin.promisor": "true",
        "remote.origin.uploadpack": f"touch {trap}; git-upload-pack",
        "protocol.file.allow": "always",
    }.items():
        git(fork, "config", key, value)
    assert run("apply", fork).exit_code == 0
    result = run("report", fork, "--base", "HEAD")
    assert result.exit_code == 2 and result.stderr.startswith("titan-migrate: `git ")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("command", "code"), [("check", 1), ("diff", 0), ("report", 0), ("apply", 2)]
)
def test_only_what_writes_needs_git(fork, tmp_path, command, code):
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "migrator.cli", command, str(fork)],
        cwd=FIXTURES.parent,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": str(tmp_path / "empty")},
    )
    assert done.returncode == code and "Traceback" not in done.stderr
    said = ["is a git checkout", "There is no git on PATH, so"][code != 2]
    assert said in done.stderr


@pytest.mark.parametrize("command", ["check", "diff", "report"])
def test_what_is_read_need_not_be_under_git(tree, command):
    done = run(command, tree)
    assert done.exit_code == (command == "check") and "git" not in done.stderr
