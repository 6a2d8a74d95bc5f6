"""A tree that is migrated in part, and for the other API, is no mixture afterwards."""

import pytest

from support import HERE, findings, migrated, outcome

OTHER = """\
from torch.distributed._composable.replicate_with_fsdp import replicate


def apply_replicate(model, dp_mesh):
    replicate(model, KEYWORD=dp_mesh)


def parallelize(model, world_mesh):
    apply_replicate(model, world_mesh[NAMES])
"""


@pytest.mark.parametrize(
    "target, keyword, names",
    [
        ("1d", "device_mesh", '"dp_replicate", "dp_shard"'),
        ("2d", "mesh", '"dp_replicate"'),
    ],
)
def test_a_function_for_the_other_api_is_left(target, keyword, names):
    other = OTHER.replace("KEYWORD", keyword).replace("NAMES", names)
    result = outcome({HERE: other}, target)
    assert result.changes == {}
    (left,) = [f for f in result.findings if f.status == "left"]
    assert (left.path, left.line, left.code) == (HERE, 4, "TM101")
    assert left.suggestion == (
        "replicate(model, mesh=dp_mesh)"
        if target == "1d"
        else "replicate(model, device_mesh=dp_mesh)"
    )


def test_one_for_this_api_is_done():
    other = OTHER.replace("KEYWORD", "mesh").replace("NAMES", '"dp_replicate"')
    assert HERE not in migrated({HERE: other})
    assert {f.status for f in findings({HERE: other}, path=HERE)} == {"done"}
