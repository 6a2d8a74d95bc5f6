"""A trainer in miniature that logs every other step: what is written of each step."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from migrator.verify.judge.trace import read_trace

import warm
from places import TOP

SCRIPT = f"""
import os, sys, types
from pathlib import Path
sys.path.insert(0, {str(TOP / "migrator/verify/train")!r})
import torch
from in_rank.probe import Probe, Recorder

torch.distributed.init_process_group("gloo")
for name in ("", ".distributed", ".components", ".distributed.utils", ".components.metrics"):
    sys.modules["torchtitan" + name] = module = types.ModuleType(name)
    parent, _, own = ("torchtitan" + name).rpartition(".")
    if parent:
        setattr(sys.modules[parent], own, module)

class Logger:
    def log(self, metrics, step):
        pass

class MetricsProcessor:
    logger = Logger()
    ntokens_since_last_log = 0

    def log(self, step, global_avg_loss, global_max_loss, grad_norm):
        self.logger.log({{"loss": global_avg_loss, "norm": torch.tensor(grad_norm), "x": "y"}}, step)
        self.ntokens_since_last_log = 0

    def log_validation(self, loss, step):
        self.logger.log(step=step, metrics={{"validation": loss}})
        self.ntokens_since_last_log = 0

sys.modules["torchtitan.components.metrics"].MetricsProcessor = MetricsProcessor
probe = Probe(Recorder(Path("."), 0), dict(
    steps=5, done=0, halfway=None, nudged=False, planted=None, collectives=True, weights="weights"
))
probe.install()

class Trainer:
    parallel_dims = types.SimpleNamespace(pp=1, tp=1)
    metrics_processor = MetricsProcessor()

    def train(self, empties="by zero_grad"):
        model = torch.nn.Sequential(torch.nn.Linear(4, 1), torch.nn.Dropout(0.0))
        self.model_parts = [model]
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(1, 6):
            if empties == "by zero_grad":
                optimizer.zero_grad()
            if empties == "by hand":
                for parameter in model.parameters():
                    parameter.grad = None
            loss = model(torch.ones(step, 4)).square().sum()
            self.metrics_processor.ntokens_since_last_log += 10 + step
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if empties == "at the end":
                optimizer.zero_grad()
            if step == 1 or step % 2 == 0:
                self.metrics_processor.log(step, float(loss), float(loss), float(norm))
            if step == 3:
                model.eval()
                self.metrics_processor.ntokens_since_last_log += 99
                self.metrics_processor.log_validation(7.0, step)

Trainer().train(sys.argv[1])
probe.close()
os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks ranks")
@pytest.mark.parametrize("gradients", ["by zero_grad", "by hand", "at the end"])
def test_steps_that_nobody_logs_are_written_all_the_same(tmp_path, gradients):
    """Whoever empties the gradients, before a step or behind it."""
    (tmp_path / "script.py").write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    rank = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "RANK": "0"}
    log = tmp_path / "log"
    status = warm.server().run(
        [str(tmp_path / "script.py"), gradients],
        cwd=tmp_path,
        log=log,
        environments=[{**os.environ, **rank, "WORLD_SIZE": "1"}],
    )
    assert status == 0, log.read_text()
    (found,) = read_trace("migrated", tmp_path).ranks
    assert [step.step for step in found.steps] == [1, 2, 3, 4, 5]
    assert [step.step for step in found.steps if step.loss is None] == [3, 5]
    assert all(step.each_gradient and step.each_weight for step in found.steps)
    assert [step.tokens for step in found.steps] == [11, 12, 13, 14, 15]
    # A validation may follow a step that is not logged.
    assert [sorted(step.logged) for step in found.steps] == [
        ["loss", "norm"],
        ["loss", "norm"],
        ["validation"],
        ["loss", "norm"],
        [],
    ]
    assert found.model["evaluating"] == dict.fromkeys(
        ("", "0", "1"), "in eval mode from step 4 on"
    )


OTHER_DEVICE = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(TOP / "migrator/verify/train")!r})
import torch
from torch.testing._internal.distributed.fake_pg import FakeStore
from in_rank.probe import Probe, Recorder

torch.distributed.init_process_group("meta:fake", store=FakeStore(), rank=0, world_size=4)
probe = Probe(Recorder(Path("."), 0), dict(device="meta", done=0))
probe.stages = 2
parameter = torch.nn.Parameter(torch.ones(2))
parameter.grad = torch.ones(2)
try:
    probe._whole_norm([parameter])
except RuntimeError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks ranks")
def test_the_norm_of_all_stages_is_summed_where_the_ranks_compute(tmp_path):
    """As NCCL has it, a group takes no tensor of the CPU; on meta tensors only the sum's value is missing."""
    printed = warm.server().printed(OTHER_DEVICE, tmp_path)
    assert "No backend type" not in printed
    assert "meta tensor" in printed
