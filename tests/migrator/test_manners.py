"""What the command line is like to live with: help, silence, completion, suggestions."""

import json
import os
import pty
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from migrator.cli import main

from places import FIXTURES
from releases import git


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def tree(tmp_path):
    shutil.copytree(FIXTURES / "fork_quirks", tmp_path / "fork")
    return tmp_path / "fork"


# help


@pytest.mark.parametrize("name", sorted(main.commands))
def test_help_teaches_by_examples_that_the_command_line_takes(name):
    said = run(name, "--help").output
    lines = said.partition("Examples:\n")[2].splitlines()
    shown = [line.strip() for line in lines]
    assert shown
    command = main.commands[name]
    for line in shown:
        # Up to what is the shell's.
        words = shlex.split(re.split(r" (?:\||>>?) ", line)[0])
        assert words[:2] == ["titan-migrate", name], line
        context = click.Context(command, info_name=name, resilient_parsing=True)
        command.parse_args(context, words[2:])


def test_help_without_a_command_shows_the_way_through():
    said = run("--help").output
    order = [
        said.index(f"titan-migrate {name} ") for name in ("check", "diff", "apply")
    ]
    assert order == sorted(order) and "Exit codes" in said


# suggestions


def test_a_misspelt_command_gets_a_suggestion():
    done = run("aply")
    assert done.exit_code == 2 and "Did you mean" in done.stderr
    assert "apply" in done.stderr


def test_a_folder_in_place_of_a_command(tree):
    done = run(tree)
    assert done.exit_code == 2 and f"titan-migrate check {tree}" in done.stderr


def test_a_misspelt_folder_gets_a_suggestion(tree):
    done = run("check", tree.parent / "frok")
    assert done.exit_code == 2 and f"did you mean {tree}?" in done.stderr


# how much is said


def test_quiet_leaves_the_exit_code_and_errors(tree):
    done = run("check", "-q", "--no-git", tree)
    assert (done.exit_code, done.output) == (1, "")
    patch = run("diff", "--no-git", tree, "--quiet")
    assert patch.stdout.startswith("diff --git") and patch.stderr == ""
    done = run("apply", "-q", "--no-git", tree)
    assert (done.exit_code, done.output) == (0, "")
    assert run("check", "-q", "--no-git", tree).exit_code == 0
    assert "is not a folder" in run("check", "-q", tree / "nowhere").stderr


def test_quiet_keeps_what_programs_read(tree):
    done = run("check", "-q", "--no-git", tree, "--format", "json")
    assert done.stdout.startswith("{") and done.stderr == ""


def test_verbose_shows_what_is_done_already(tree):
    run("apply", "--no-git", tree)
    assert "[already done]" not in run("check", "--no-git", tree).stderr
    assert "[already done]" in run("check", "-v", "--no-git", tree).stderr


def test_apply_says_the_files_and_with_v_the_places(tree):
    short = run("apply", "--no-git", tree).stderr
    assert "  torchtitan/distributed/utils.py: TM105\n" in short
    shutil.rmtree(tree)
    shutil.copytree(FIXTURES / "fork_quirks", tree)
    assert "  torchtitan/distributed/utils.py:44: TM105 " in (
        run("apply", "-v", "--no-git", tree).stderr
    )


def test_diff_shows_hazards_only_when_asked(tree):
    assert "Hazards" not in run("diff", "--no-git", tree).stderr
    done = run("diff", "-v", "--no-git", tree)
    assert "Hazards" in done.stderr and done.stdout.startswith("diff --git")


def test_quiet_and_verbose_contradict_each_other(tree):
    done = run("check", "-q", "-v", "--no-git", tree)
    assert done.exit_code == 2 and "contradict each other" in done.stderr


def test_hazards_stand_together_at_the_end_with_the_way_to_be_rid_of_them(tree):
    lines = run("check", "--no-git", tree).stderr.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("Hazards"))
    assert "# titan-migrate: ignore[" in lines[head]
    assert not any("[hazard]" in line for line in lines[:head])
    assert not any("[to rewrite]" in line for line in lines[head:])


def test_a_spinner_turns_on_a_terminal_only(tree):
    command = [sys.executable, "-m", "migrator.cli", "check", "--no-git", str(tree)]
    piped = subprocess.run(command, capture_output=True, text=True)
    assert "Reading the checkout" not in piped.stderr
    leader, follower = pty.openpty()
    env = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(command, stderr=follower, env=env)
    os.close(follower)
    said = b""
    try:
        while chunk := os.read(leader, 65536):
            said += chunk
    except OSError:  # the other end is closed
        pass
    assert process.wait() == 1
    assert b"Reading the checkout" in said and b"TM101" in said
    # It is gone when the findings come.
    assert b"\x1b[2K" in said


# completion


def completed(line: str) -> set[str]:
    words = line.split(" ")
    env = {
        **os.environ,
        "_TITAN_MIGRATE_COMPLETE": "bash_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
    }
    code = "from migrator.cli import main; main(prog_name='titan-migrate')"
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True
    )
    return {entry.partition(",")[2] for entry in done.stdout.splitlines()}


def test_commands_options_codes_and_cells_complete():
    assert {"check", "apply", "verify"} <= completed("titan-migrate ")
    assert completed("titan-migrate check --form") == {"--format"}
    assert completed("titan-migrate check --format s") == {"sarif"}
    assert completed("titan-migrate explain tm10") >= {"TM101", "TM106"}
    assert completed("titan-migrate check --ignore TM101,TM106") == {"TM101,TM106"}
    assert completed("titan-migrate verify --cells dp,dp+") == {"dp,dp+tp", "dp,dp+pp"}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_each_shell(shell):
    if shell == "bash" and shutil.which("bash") is None:
        pytest.skip("needs bash, of which the version is asked")
    done = run("completion", shell)
    assert done.exit_code == 0 and "_TITAN_MIGRATE_COMPLETE" in done.stdout


def test_bash_takes_the_script(tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    script = tmp_path / "complete.sh"
    script.write_text(run("completion", "bash").stdout)
    command = f"source {script} && complete -p titan-migrate"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.returncode == 0 and "titan-migrate" in done.stdout


# what comes next


@pytest.fixture
def repo(tree):
    git(tree, "init", "-q")
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", "base")
    return tree


def undone(said: str, tree: Path) -> None:
    command = said.rpartition("undo it with `")[2].partition("`")[0]
    subprocess.run(shlex.split(command), cwd=tree.parent, check=True)


def test_the_way_back_leads_back_and_keeps_what_is_yours(repo):
    mine = repo / "torchtitan/train.py"
    undone(run("apply", repo).stderr, repo)
    assert git(repo, "status", "--porcelain") == ""
    mine.write_text(mine.read_text() + "# mine\n")
    undone(run("apply", repo).stderr, repo)
    assert git(repo, "status", "--porcelain").split() == ["M", "torchtitan/train.py"]


def test_no_way_back_is_shown_where_there_is_none(repo):
    plan = repo / "torchtitan/distributed/utils.py"
    plan.write_text("# mine\n" + plan.read_text())
    said = run("apply", "--allow-dirty", repo).stderr
    assert "git cannot undo it in torchtitan/distributed/utils.py" in said
    shutil.rmtree(repo / ".git")
    plan.write_text(plan.read_text().replace("dp_replicate_enabled", "fsdp_enabled"))
    said = run("apply", "--no-git", repo).stderr
    assert "Rewritten: 1 place" in said and "undo it with `" not in said


def test_a_folder_of_a_checkout_stands_for_all_of_it_and_that_is_said(repo):
    said = run("check", repo / "torchtitan/models").stderr
    assert f"is in the checkout {repo}, which is taken as a whole." in said


def test_nothing_to_commit_is_said(repo):
    run("apply", repo)
    git(repo, "commit", "-qam", "Migrate")
    done = run("apply", repo, "--branch", "again", "--commit")
    assert done.exit_code == 0 and "no commit was made" in done.stderr
    assert "again" not in git(repo, "branch")


def test_refused_or_not_json_is_on_stdout(repo):
    trainer = repo / "torchtitan/experiments/distill/wrap.py"
    line = (
        "from torchtitan.models.llama3.infra.parallelize import apply_ddp as f\nx = f\n"
    )
    trainer.write_text(line)
    git(repo, "add", "-A")
    git(repo, "commit", "-qm", "left")
    done = run("apply", repo, "--format", "json")
    data = json.loads(done.stdout)
    assert done.exit_code == 1 and not data["written"] and data["problems"]


def test_what_is_left_for_a_person_stands_last(repo):
    trainer = repo / "torchtitan/experiments/distill/wrap.py"
    line = (
        "from torchtitan.models.llama3.infra.parallelize import apply_ddp as f\nx = f\n"
    )
    trainer.write_text(line)
    lines = run("check", repo).stderr.splitlines()
    head = next(i for i, line in enumerate(lines) if line.startswith("Left for"))
    assert any("[left for a person]" in line for line in lines[head:])
    assert not any("[hazard]" in line or "to rewrite]" in line for line in lines[head:])


# stdout and stderr that cannot be written


def in_shell(command: str) -> subprocess.CompletedProcess:
    script = f'titan() {{ {shlex.quote(sys.executable)} -m migrator.cli "$@"; }}\n'
    return subprocess.run(
        ["bash", "-c", f"{script}set -o pipefail\n{command}"],
        cwd=FIXTURES.parent,
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "command, code",
    [
        ("check --format json %s | true", 1),
        ("check --format sarif %s | true", 1),
        ("check %s 2>&1 | true", 1),
        ("check --format json %s >&-", 1),
        ("check %s 2>&-", 1),
        ("diff %s | true", 0),
        ("diff %s >&-", 0),
        ("diff --stat %s >&-", 0),
        ("explain | true", 0),
        ("explain >&-", 0),
    ],
)
def test_who_does_not_listen_changes_no_exit_code(repo, command, code):
    given = command.replace("%s", shlex.quote(str(repo)))
    done = in_shell(f"titan {given}")
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


@pytest.mark.parametrize(
    "command",
    ["check --format json %s", "check --format github %s", "diff %s", "diff --stat %s"]
    + ["report %s", "explain", "apply --format json %s"],
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_stdout_is_said(repo, command, unbuffered, monkeypatch):
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    given = command.replace("%s", shlex.quote(str(repo)))
    done = in_shell(f"titan {given} > /dev/full")
    assert done.returncode == 2
    said = "stdout could not be written (No space left on device)"
    assert said in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    written = bool(git(repo, "status", "--porcelain"))
    assert written == ("written all the same" in done.stderr)
    assert written == command.startswith("apply")
