"""What becomes of a command whose stdout or stderr cannot be written to, and what turns on a terminal."""

import os
import pty
import shlex
import subprocess
import sys

import pytest

from places import FIXTURES
from releases import git
from reviewed import fork


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    command = f"{sys.executable} -m migrator.cli report {fork(tmp_path)} | true"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stderr


def test_diff_into_a_closed_pipe_is_no_traceback(fork):
    command = f"{sys.executable} -m migrator.cli diff {fork} | head -c 10"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert "Traceback" not in done.stderr


# Prints more than a pipe or a buffer holds, and then has something to say still.
TALKER = """
import sys
from migrator.terminal import console_on_stdout
console = console_on_stdout()
with console.status("training …"):
    for number in range(20000):
        console.print(f"[/x] … {number}", soft_wrap=True)
print("figures are kept", file=sys.stderr)
sys.exit(3)
"""


@pytest.mark.parametrize("stdout", ["| head -1", "> /dev/full", ">&-"])
def test_a_run_goes_on_whatever_becomes_of_stdout(stdout):
    command = f'set -o pipefail; {sys.executable} -c "$TALKER" {stdout}'
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=FIXTURES.parent,
        capture_output=True,
        text=True,
        env={**os.environ, "TALKER": TALKER},
    )
    assert done.returncode == 3
    assert done.stderr == "figures are kept\n"


def test_what_stdout_cannot_encode_is_replaced():
    done = subprocess.run(
        [sys.executable, "-c", TALKER],
        cwd=FIXTURES.parent,
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 3
    assert done.stdout.splitlines()[-1] == b"[/x] ? 19999"


def test_a_spinner_turns_on_a_terminal_only(tree):
    command = [sys.executable, "-m", "migrator.cli", "check", "--no-git", str(tree)]
    piped = subprocess.run(command, capture_output=True, text=True)
    assert "Reading the checkout" not in piped.stderr
    said = on_terminal(command, TERM="xterm", COLUMNS="120")
    assert b"Reading the checkout" in said and b"TM101" in said
    # It is gone when the findings come.
    assert b"\x1b[2K" in said


@pytest.mark.parametrize("plain", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_that_wants_no_colour_gets_text_alone(tree, plain):
    command = [sys.executable, "-m", "migrator.cli", "check", "--no-git", str(tree)]
    said = on_terminal(command, **{"TERM": "xterm", "COLUMNS": "80", **plain})
    assert b"Yours to look at, the worst first:" in said and b"\x1b" not in said
    assert b"\x1b[" in on_terminal(command, TERM="xterm", COLUMNS="80")


def on_terminal(command: list[str], **environment: str) -> bytes:
    """What a check of something to migrate prints where stderr is a terminal."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        command, stderr=follower, env={**os.environ, **environment}
    )
    os.close(follower)
    said = b""
    try:
        while chunk := os.read(leader, 65536):
            said += chunk
    except OSError:  # the other end is closed
        pass
    assert process.wait() == 1
    return said


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
