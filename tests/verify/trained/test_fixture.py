"""The fixture for 0.2.1 trains, by torchtitan's own command line."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest

from places import FIXTURES

pytestmark = pytest.mark.torchrun


def train(folder: str, *options: str) -> list[tuple[float, float]]:
    """Trains on two ranks and returns (loss, grad_norm) of each step."""
    command = [sys.executable, "-m", "torch.distributed.run"]
    command += ["--standalone", "--nproc-per-node", "2", "-m", "torchtitan.train"]
    command += ["--job.config_file", "debug.toml", "--training.steps", "3", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    environment.pop("PYTHONPATH", None)
    run = subprocess.run(
        command,
        cwd=FIXTURES / folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    # gloo's threads now and then abort a rank that is done: steps count, not exits
    steps = re.findall(r"step: \d+  loss: (\S+) .*grad_norm: (\S+)", run.stdout)
    assert len(steps) == 3, run.stdout + run.stderr
    return [(float(loss), float(grad_norm)) for loss, grad_norm in steps]


def test_v0_2_1_trains_alike_under_ddp_and_fsdp(tmp_path):
    dump = f"--job.dump_folder={tmp_path}"
    replicas = "--parallelism.data_parallel_replicate_degree"
    ddp = train("v0_2_1", dump, replicas, "2")
    fsdp = train("v0_2_1", dump, replicas, "1")
    # fp32; the two add up in another order
    for ours, theirs in zip(ddp, fsdp, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
