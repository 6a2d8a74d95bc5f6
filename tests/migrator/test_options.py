"""What the commands have in common: how much is said, errors, suggestions, completion, help."""

import os
import re
import shlex
import subprocess
import sys

import click
import pytest

from migrator.cli import main

from commands import run
from hostile import HOSTILE, escapes_nothing
from places import FIXTURES


@pytest.mark.parametrize("option", ["--cells", "--model"])
def test_lists_of_names_without_a_name_are_said(fork, option):
    result = run("verify", fork, option, " ,,")
    assert result.exit_code == 2
    assert f"{option} names nothing" in result.stderr


@pytest.mark.parametrize("words", [["verify", "."], ["demo"]])
def test_without_git_a_sentence_says_so(tmp_path, words):
    done = subprocess.run(
        [sys.executable, "-m", "migrator.cli", *words],
        cwd=FIXTURES.parent,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": str(tmp_path)},
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"{words[0]} needs git" in done.stderr


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


# suggestions


def test_a_misspelt_command_gets_a_suggestion():
    done = run("aply")
    assert done.exit_code == 2 and "Did you mean" in done.stderr
    assert "apply" in done.stderr


def test_a_folder_in_place_of_a_command(tree):
    done = run(tree)
    assert done.exit_code == 2 and f"titan-migrate check {tree}" in done.stderr


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


def test_quiet_and_verbose_contradict_each_other(tree):
    done = run("check", "-q", "-v", "--no-git", tree)
    assert done.exit_code == 2 and "contradict each other" in done.stderr


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
    completed_cells = {"dp,dp+tp", "dp,dp+pp", "dp,dp+tp+pp"}
    assert completed("titan-migrate verify --cells dp,dp+") == completed_cells


@pytest.mark.parametrize("name", ["text", "json", "github", "sarif"])
def test_errors_that_name_hostile_files_are_inert(hostile, name):
    (hostile / HOSTILE).write_text("def apply_ddp(:\n")
    result = run("check", hostile, "--format", name)
    assert result.exit_code == 3 and not result.stdout
    assert "\n    | ::error::b\\r" in result.stderr and escapes_nothing(result.stderr)


def test_an_empty_list_is_an_error(tree):
    done = run("check", "--no-git", tree, "--select", ",")
    assert done.exit_code == 2 and "--select names nothing" in done.stderr
