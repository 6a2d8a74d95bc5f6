"""One torchrun job: its environment, and how its logs are read."""

from __future__ import annotations

import subprocess
import sys

import pytest

from migrator.verify.train import launch
from migrator.verify.train.launch import Nodes, killed_rank

# --- arguments ---


def test_only_a_loopback_address_means_one_host():
    assert Nodes().on_this_host
    assert Nodes(2, 0, "127.0.0.1:1").on_this_host
    assert Nodes(2, 0, "localhost:1").on_this_host
    assert not Nodes(2, 0, "10.0.0.1:1").on_this_host


# --- the environment of a run ---


CACHES = """
import datasets.config as config, huggingface_hub.constants as hub
for path in (
    config.HF_DATASETS_CACHE,
    config.HF_MODULES_CACHE,
    config.DOWNLOADED_DATASETS_PATH,
    config.EXTRACTED_DATASETS_PATH,
    hub.HF_HUB_CACHE,
    hub.HF_ASSETS_CACHE,
):
    print(path)
"""


def test_training_data_stay_out_of_the_users_cache(tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    for name in launch._CACHES:
        monkeypatch.setenv(name, str(tmp_path / "mine"))
    environment = launch.environment(tmp_path / "run", on_cpu=True, nodes=Nodes())
    command = [sys.executable, "-c", CACHES]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    found = done.stdout.splitlines()
    assert len(found) == 6, done.stderr
    for path in found:
        assert path.startswith(str(tmp_path / "run" / "cache"))


# --- torchrun's logs ---


SUMMARY = """
  rank      : {} (local_rank: 0)
  exitcode  : {} (pid: 7)
"""


def test_failed_ranks_of_all_nodes_are_read(tmp_path):
    for name, rank, status in (("torchrun", 0, 1), ("torchrun-node1", 1, -9)):
        text = "Root Cause (first observed failure):" + SUMMARY.format(rank, status)
        (tmp_path / f"{name}.log").write_text(text)
    log = launch.torchrun_log(tmp_path)
    assert launch.failed_ranks(log) == [(0, 1), (1, -9)]
    assert launch.killed_rank(log) == (1, 9)


def test_the_first_traceback_of_a_log_is_shown():
    log = (
        "[rank1]: step 1\n"
        "[rank1]: Traceback (most recent call last):\n"
        '[rank1]:   File "a.py", line 1, in f\n'
        "[rank1]:     g()\n"
        "[rank1]: OSError: [Errno 28] No space left on device: 'x'\n"
        "\nDuring handling of the above exception, another exception occurred:\n\n"
        "Traceback (most recent call last):\n"
        "ValueError: later\n"
    )
    kind, message, text = launch.first_traceback(log)
    assert (kind, message) == ("OSError", "[Errno 28] No space left on device: 'x'")
    assert text.startswith("Traceback") and "later" not in text
    assert launch.first_traceback("")[:2] == ("Death", "it left no word")
    assert launch.first_traceback("a\nb\n") == ("Death", "b", "a\nb")


def test_killed_rank_is_read_from_torchruns_summary():
    entry = "  time : now\n  host : localhost\n  rank      : {} (local_rank: {})\n  exitcode  : {} (pid: 7)\n"
    log = (
        "Failures:\n[1]:\n"
        + entry.format(0, 0, -15)
        + "Root Cause (first observed failure):\n[0]:\n"
        + entry.format(1, 1, -9)
    )
    assert killed_rank(log) == (1, 9)
    assert killed_rank(log.replace("-9", "1")) is None
    assert killed_rank("") is None


def test_a_fork_that_a_signal_ended_is_named_whatever_the_summary_lists():
    log = (
        "process 11 is rank 0\nprocess 12 is rank 1\n"
        "process 11 ended with status -15\nprocess 12 ended with status -9\n"
        "Root Cause (first observed failure):\n  rank      : 0 (local_rank: 0)\n  exitcode  : 1 (pid: 11)\n"
    )
    assert killed_rank(log) == (1, 9)
    assert killed_rank(log.replace("status -9", "status -15")) is None
