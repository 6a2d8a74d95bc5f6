"""What a function is by what it does."""

import ast

import pytest

from codemods.bindings import Checkout
from codemods.names import Definition
from codemods.shapes import is_ddp_by_shape, shards
from codemods.source import SourceFile

IMPORTS = """\
from torch.distributed._composable.fsdp import fully_shard as shard
from torch.distributed._composable.replicate import replicate as ddp
"""


def shape(function: str) -> tuple[bool, bool]:
    """(shards, replicates) of a function over its model."""
    file = SourceFile("plan.py", f"{IMPORTS}\n{function}\n".encode())
    checkout = Checkout({"plan.py": file})
    node = next(n for n in file.syntax.body if isinstance(n, ast.FunctionDef))
    return (
        shards(checkout, Definition("plan.py", node.name)),
        is_ddp_by_shape(checkout, file, node),
    )


@pytest.mark.parametrize(
    "function, found",
    [
        ("def a(m, mesh):\n    for b in m.layers:\n        shard(b, mesh=mesh)\n    shard(m, mesh=mesh)", (True, False)),
        ("def a(m, mesh):\n    ddp(m, device_mesh=mesh, bucket_cap_mb=100)", (False, True)),
        ("def a(*, m, mesh):\n    ddp(m, device_mesh=mesh, bucket_cap_mb=100)", (False, True)),
        # of parts, or of something else
        ("def a(m, mesh):\n    shard(m.part, mesh=mesh)", (True, False)),
        ("def a(m, mesh):\n    for b in m.blocks:\n        shard([b.up, b.down], mesh=mesh)", (True, False)),
        ("def a(m, mesh, other):\n    shard(other, mesh=mesh)", (False, False)),
        ("def a(m, mesh):\n    ddp(m.part, device_mesh=mesh)", (False, False)),
        # with what belongs to it, and with more
        ("def a(m, mesh, on):\n    if on:\n        torch._dynamo.config.optimize_ddp = 'x'\n    ddp(m, device_mesh=mesh)\n    logger.info('DDP')\n    return m", (False, True)),
        ("def a(m, mesh):\n    freeze(m.vision)\n    ddp(m, device_mesh=mesh)", (False, False)),
        ("def a_ddp(m, mesh):\n    freeze(m.vision)\n    ddp(m, device_mesh=mesh)", (False, True)),
        # a whole plan
        ("def a(m, mesh, on):\n    if on:\n        shard(m, mesh=mesh)\n    else:\n        ddp(m, device_mesh=mesh)", (True, False)),
        # other functions of these names
        ("def a(m, mesh):\n    fully_shard(m, mesh=mesh)\n    replicate(m, device_mesh=mesh)", (False, False)),
        ("def a():\n    shard()\n    ddp()", (False, False)),
    ],
)  # fmt: skip
def test_shapes(function, found):
    assert shape(function) == found
