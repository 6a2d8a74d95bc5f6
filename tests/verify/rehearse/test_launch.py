"""The rehearsing process: nothing of it is left."""

from __future__ import annotations

import os

import pytest

from migrator.verify.errors import VerifyError
from migrator.verify.rehearse import launch


@pytest.fixture
def host(tmp_path, monkeypatch):
    """A process in place of the real one, which echoes, or ends where it is told to; it forks a child that sleeps."""
    script = tmp_path / "host.py"
    script.write_text(
        "import json, os, sys, time\n"
        "child = os.fork()\n"
        "if child == 0:\n    os.close(1)\n    time.sleep(600)\n"
        "for line in sys.stdin:\n"
        "    if 'end' in json.loads(line):\n        sys.exit(3)\n"
        "    print(json.dumps({'child': child, 'cwd': os.getcwd()}), flush=True)\n"
    )
    monkeypatch.setattr(launch, "HOST", script)
    return tmp_path


def test_it_answers_in_its_own_folder_and_its_forks_end_with_it(host):
    with launch.stages([host], host) as (stage,):
        answer = stage.ask({})
        assert answer["cwd"] == str(host)
        os.kill(answer["child"], 0)
    with pytest.raises(ProcessLookupError):
        os.kill(answer["child"], 0)
        # A zombie until init takes it in.
        state = (
            open(f"/proc/{answer['child']}/stat").read().rpartition(")")[2].split()[0]
        )
        if state == "Z":
            raise ProcessLookupError


def test_a_process_that_ends_by_itself_is_told(host):
    with pytest.raises(VerifyError, match=r"rehearses .* has ended"):
        with launch.stages([host], host) as (stage,):
            stage.ask({"end": 1})
