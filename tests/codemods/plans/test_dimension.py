"""What the dimension of pure data parallelism is called where no ParallelDims says it."""

import pytest

from rewriting import PLAIN
from support import HERE, IMPORT, assert_left, migrated

CALL = f"""\
{IMPORT} apply_ddp


def parallelize(model, world_mesh, job_config):
    apply_ddp(model, world_mesh, enable_compile=False)
"""
DIMS = "torchtitan/distributed/parallel_dims.py"
MAKES = """\
from torch.distributed.device_mesh import init_device_mesh


def build(pp, data, tp):
    return init_device_mesh("cuda", (pp, data, tp), mesh_dim_names=("pp", NAME, "tp"))
"""
SIZES = """\
class ParallelDims:
    def __init__(self, dp_replicate, dp_shard):
        self.dp_replicate, self.dp_shard = dp_replicate, dp_shard
"""


def made(name: str, dims: str | None = None) -> dict[str, str | None]:
    """A checkout whose mesh is made by a function of its own."""
    makes = MAKES.replace("NAME", f'"{name}"')
    return {**PLAIN, DIMS: dims, "torchtitan/distributed/mesh.py": makes}


@pytest.mark.parametrize("name", ["dp_replicate", "dp"])
@pytest.mark.parametrize("dims", [None, SIZES])
def test_a_name_that_torchtitan_has_had_is_taken_from_where_the_mesh_is_made(
    name, dims
):
    after = migrated({**made(name, dims), HERE: CALL})[HERE]
    assert f'apply_replicate(model, world_mesh["{name}"])' in after


@pytest.mark.parametrize(
    "files", [made("data"), made("data", SIZES), {**PLAIN, DIMS: SIZES}]
)
def test_a_name_that_is_not_seen_is_not_made_up(files):
    reason = "made in a way that is not followed"
    assert_left(CALL, reason, files=files)


def test_torchtitan_outside_of_the_checkout_has_its_own_names():
    after = migrated({**PLAIN, DIMS: None, HERE: CALL})[HERE]
    assert 'apply_replicate(model, world_mesh["dp_replicate"])' in after
