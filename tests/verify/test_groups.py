"""Process groups, which are gone once they were ended."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from migrator.verify.groups import end_groups, signal_group

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

# A leader in a group of its own with a child that holds memory and hears no SIGTERM.
LEADER = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if not os.fork():
    held = bytearray(b"x") * 100_000_000
    print(os.getpid(), flush=True)
time.sleep(600)
"""


@pytest.fixture
def leader():
    process = subprocess.Popen(
        [sys.executable, "-c", LEADER], stdout=subprocess.PIPE, start_new_session=True
    )
    yield process
    signal_group(process.pid, signal.SIGKILL)
    process.wait()


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_group_that_was_ended_is_gone(leader):
    child = int(leader.stdout.readline())
    signal_group(leader.pid, signal.SIGTERM)
    assert lives(child)
    end_groups(leader.pid)
    assert not lives(child) and not lives(leader.pid)


def test_a_group_that_is_not_there_is_no_matter(leader):
    leader.stdout.readline()
    end_groups(leader.pid)
    leader.wait()
    end_groups(leader.pid, leader.pid)
