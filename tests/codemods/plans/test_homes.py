"""How a new function is imported where the folder that it is in has no name to import it by."""

from support import IMPORT, assert_left

SHARDS = """\
from torch.distributed.fsdp import fully_shard


def apply_fsdp(model, dp_mesh):
    for blade in model.blades:
        fully_shard(blade, mesh=dp_mesh)
    fully_shard(model, mesh=dp_mesh)
"""
PLAN = f"""\
{IMPORT} apply_ddp
from torchtitan.models.use import apply_fsdp


def parallelize(model, world_mesh, parallel_dims):
    if parallel_dims.fsdp_enabled:
        apply_fsdp(model, world_mesh["dp"])
    elif parallel_dims.dp_replicate_enabled:
        apply_ddp(model, world_mesh, enable_compile=False)
"""


def test_what_cannot_be_imported_is_left_in_words():
    files = {
        "torchtitan/models/use.py": "from shards import apply_fsdp\n",
        "our-shards/shards.py": SHARDS,
    }
    said = "how torchtitan/models/mine/parallelize.py would import from our-shards"
    assert_left(PLAN, said, files=files)
