"""Signals that end nothing."""

import signal
import subprocess
import sys

import pytest

from migrator.signals import signals_kept

from places import FIXTURES


def test_a_lost_connection_does_not_end_what_nohup_began():
    script = (
        "import os, signal\n"
        "from migrator.signals import signals_held, terminable\n"
        "with terminable():\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    with signals_held(): pass\n"
        "os.kill(os.getpid(), signal.SIGHUP)\n"
        "print('there')\n"
    )
    done = subprocess.run(
        ["nohup", sys.executable, "-c", script],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=FIXTURES.parent,
    )
    assert (done.returncode, done.stdout) == (0, b"there\n")


def test_a_signal_that_comes_while_one_run_is_ended_ends_the_command():
    done = []
    with pytest.raises(KeyboardInterrupt):
        try:
            done.append("trained")
        finally:
            with signals_kept():
                signal.raise_signal(signal.SIGINT)
                done.append("ended")
        done.append("the next run")
    assert done == ["trained", "ended"]


def test_one_that_comes_while_it_is_cleaned_up_after_another_breaks_nothing_off():
    done = []
    with pytest.raises(SystemExit, match="143"):
        try:
            raise SystemExit(143)
        finally:
            with signals_kept():
                signal.raise_signal(signal.SIGINT)
                done.append("ended")
            done.append("cleaned up")
    assert done == ["ended", "cleaned up"]
