"""Signals that end nothing."""

import subprocess
import sys

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
