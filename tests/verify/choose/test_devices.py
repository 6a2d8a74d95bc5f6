"""Where a cell trains, and on how many ranks."""

from __future__ import annotations

from subprocess import CompletedProcess

import pytest

from migrator.verify import VerifyError
from migrator.verify.choose import devices
from migrator.verify.choose.devices import Place, gpus, place
from migrator.verify.choose.scenarios import CELLS


@pytest.mark.parametrize(
    "cell, nproc, count, nnodes, expected",
    [
        ("dp", None, 8, 1, Place("cuda", 8)),
        ("dp", None, 8, 2, Place("cuda", 16)),
        ("dp+tp", None, 8, 1, Place("cuda", 4)),
        ("dp+tp", 2, 8, 1, Place("cuda", 2)),
        ("dp", None, 0, 1, Place("cpu", 2)),
        ("dp", None, 0, 3, Place("cpu", 3)),
        ("dp", 4, 0, 1, Place("cpu", 4)),
    ],
)
def test_all_gpus_are_used_where_there_are_enough(cell, nproc, count, nnodes, expected):
    assert place(CELLS[cell], nproc, ["H100"] * count, nnodes) == expected


def test_too_few_gpus_are_left_alone_and_that_is_said():
    found = place(CELLS["dp+tp"], None, ["H100"] * 2, 1)
    assert (found.device, found.dp) == ("cpu", 2)
    assert found.note.startswith("2 GPUs are too few for 4 ranks")


def test_torch_without_cuda_is_not_asked(monkeypatch):
    def asked(*_, **__):
        raise AssertionError("a process was started")

    monkeypatch.setattr(devices.subprocess, "run", asked)
    monkeypatch.setattr(devices.metadata, "version", lambda name: "2.13.0+cpu")
    assert gpus("cpu") == gpus("auto") == []
    with pytest.raises(VerifyError, match="--device cuda: torch sees no GPU"):
        gpus("cuda")


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_where_torch_fails_nothing_trains_on_the_cpu_instead(monkeypatch, device):
    failed = CompletedProcess([], 1, "", "Traceback\nRuntimeError: CUDA error: no\n")
    monkeypatch.setattr(devices.metadata, "version", lambda name: "2.13.0")
    monkeypatch.setattr(devices.subprocess, "run", lambda *_, **__: failed)
    with pytest.raises(
        VerifyError, match=r"RuntimeError: CUDA error: no.*--device cpu"
    ):
        gpus(device)
    assert gpus("cpu") == []
