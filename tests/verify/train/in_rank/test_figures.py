"""Figures of tensors that lie in pieces on four ranks are those of the whole tensors."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path

import pytest

import warm
from places import TOP

SCRIPT = f"""
import json, os, sys
sys.path.insert(0, {str(TOP / "migrator/verify/train")!r})
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from in_rank import figures, measure

dist.init_process_group("gloo")
flat = init_device_mesh("cpu", (4,), mesh_dim_names=("fsdp",))
square = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
torch.manual_seed(0)
numbers = lambda *shape: torch.randn(shape)
tensors = {{
    "plain": numbers(3, 3),
    "even": distribute_tensor(numbers(8, 3), flat, [Shard(0)]),
    "uneven": distribute_tensor(numbers(5, 2), flat, [Shard(0)]),
    "two ranks have nothing": distribute_tensor(numbers(2, 3), flat, [Shard(0)]),
    "bf16": distribute_tensor(numbers(7, 3).bfloat16(), flat, [Shard(0)]),
    "integers": distribute_tensor(torch.arange(9), flat, [Shard(0)]),
    "columns": distribute_tensor(numbers(3, 8), flat, [Shard(1)]),
    "everywhere": distribute_tensor(numbers(3, 8), flat, [Replicate()]),
    "sum": DTensor.from_local(torch.ones(2, 2), flat, [Partial()]),
    "over one of two": distribute_tensor(numbers(5, 4), square, [Replicate(), Shard(0)]),
    "over both": distribute_tensor(numbers(9, 4), square, [Shard(0), Shard(0)]),
    "rows and columns": distribute_tensor(numbers(9, 4), square, [Shard(0), Shard(1)]),
    "parameter": torch.nn.Parameter(distribute_tensor(numbers(6, 4), flat, [Shard(0)])),
}}
expected = figures.figures({{key: measure.in_full(t) for key, t in tensors.items()}})
counter = measure.collective_counter()
with counter:
    found = figures.figures(tensors)
close = lambda ours, theirs: abs(ours - theirs) <= 1e-12 * (1 + abs(theirs))
right = {{
    key: all(map(close, found[key], expected[key])) and found[key] != [0, 0]
    for key in tensors
}}
right["order"] = list(found) == list(tensors)
right["uncounted"] = counter.kinds == {{}}
moved = dict(tensors, even=distribute_tensor(tensors["even"].full_tensor().roll(1, 0), flat, [Shard(0)]))
moved = figures.figures(moved)["even"]
right["a row elsewhere shows"] = (
    close(moved[0], found["even"][0]) and not close(moved[1], found["even"][1])
)
with open(f"told{{os.environ['RANK']}}", "w") as file:
    json.dump(right, file)
os._exit(0)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="forks ranks")
def test_figures_do_not_depend_on_how_a_tensor_is_cut(tmp_path: Path):
    (tmp_path / "script.py").write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    ranks = [
        {
            **os.environ,
            "GLOO_SOCKET_IFNAME": "lo",
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
            "WORLD_SIZE": "4",
            "RANK": str(rank),
        }
        for rank in range(4)
    ]
    log = tmp_path / "log"
    status = warm.server().run(
        [str(tmp_path / "script.py")], cwd=tmp_path, log=log, environments=ranks
    )
    assert status == 0, log.read_text()
    for rank in range(4):
        told = json.loads((tmp_path / f"told{rank}").read_text())
        assert len(told) == 16 and all(told.values()), (rank, told)
