"""Why a rewrite is not written, at the places that are left for a person then."""

import pytest

from codemods.ways import ways_on

from support import (
    APPLY_DDP,
    APPLY_FSDP,
    HERE,
    LOOP_MESHES,
    PLAN_IMPORTS,
    checkout,
    migrated,
    outcome,
)

CALL = 'apply_ddp(model, world_mesh["dp_replicate"], False)'

DIMS = {
    "torchtitan/distributed/parallel_dims.py": LOOP_MESHES.replace(
        "class ParallelDims:\n",
        """\
class ParallelDims:
    def __init__(self, pp, dp_replicate, dp_shard, cp, tp):
        self.pp, self.cp, self.tp = pp, cp, tp
        self.dp_replicate, self.dp_shard = dp_replicate, dp_shard

""",
    )
}
"""A ParallelDims that is executed."""


def plan(*more, head=""):
    """A plan of its own whose apply_fsdp does more before it wraps the root."""
    root = "    fully_shard(model, **fsdp_config)\n"
    body = "".join(f"    {line}\n" for line in more)
    return f"""{PLAN_IMPORTS}{head}

def parallelize(model, world_mesh, parallel_dims, a, b):
    if parallel_dims.fsdp_enabled:
        apply_fsdp(model, world_mesh["dp_shard"], a, b)
    elif parallel_dims.dp_replicate_enabled:
        {CALL}
    return model


{APPLY_FSDP.replace(root, body + root)}

{APPLY_DDP}"""


OF_SHARDS = plan('ranks = dp_mesh["dp_shard"].size()', "model.set_ranks(ranks)")
"""It asks for a dimension that the mesh of replicas does not have."""


def test_what_executing_it_contradicts_is_left_with_the_reason():
    """`check` says it, and not that all is to be rewritten."""
    result = outcome({**DIMS, HERE: OF_SHARDS})
    assert result.changes == {}
    (left,) = [f for f in result.findings if f.status == "left"]
    line = OF_SHARDS.splitlines().index(f"        {CALL}") + 1
    assert (left.path, left.line, left.code) == (HERE, line, "TM102")
    assert "with dp_replicate=3, it would raise KeyError: ('dp_shard',)" in left.message
    assert "fault" not in left.message
    assert result.problems == (f"{HERE}:{line}: {left.message}",)
    call, _, written = left.suggestion.partition("\n\n\n# as far as it is followed\n")
    assert call.startswith('apply_replicate(model, world_mesh["dp_replicate"], ')
    assert written.startswith("def apply_replicate(")
    assert any(f.status == "rewrite" for f in result.findings)


def test_each_degree_tells_a_difference_once():
    result = outcome({**DIMS, HERE: OF_SHARDS})
    assert result.problems[0].count("KeyError") == 1


def test_the_rest_is_migrated_without_it():
    files = {**DIMS, HERE: OF_SHARDS}
    assert ways_on(checkout(files), outcome(files)).exclude == (HERE,)


def test_what_shards_elsewhere_is_left_where_it_would_be_written():
    """And what is executed besides is named at once, not after that is mended."""
    other = "torchtitan/models/other/parallelize.py"
    towers = "torchtitan/models/mine/towers.py"
    helper = (
        "from torch.distributed.fsdp import fully_shard\n\n\n"
        "def shard_tower(tower, mesh):\n    fully_shard(tower, mesh=mesh)\n"
    )
    imported = "from torchtitan.models.mine.towers import shard_tower\n"
    files = {
        **DIMS,
        "torchtitan/models/other/__init__.py": "",
        other: OF_SHARDS,
        towers: helper,
        HERE: plan("shard_tower(model.tower, dp_mesh)", head=imported),
    }
    result = outcome(files)
    assert result.changes == {}
    left = [f for f in result.findings if f.status == "left"]
    assert [(f.path, f.code) for f in left] == [(HERE, "TM101"), (other, "TM102")]
    assert "would call shard_tower, which shards" in left[0].message
    assert left[0].suggestion.startswith("# as far as it is followed\ndef apply_")


@pytest.mark.parametrize("name", ["first", "second"])
def test_a_method_of_a_class_is_found(name):
    """The place of a plan that is a method, beside another of that shape."""
    head, body = OF_SHARDS.split("def parallelize(", 1)
    plan_of, rest = body.split("\n\n\n", 1)
    method = "".join(
        f"    {line}\n" if line else "\n"
        for line in f"def parallelize(self, {plan_of}".splitlines()
    )
    good = method.replace(CALL, "pass")
    classes = [f"class {c}:\n{method if c == name else good}" for c in ("first", "second")]  # fmt: skip
    source = head + "\n\n".join(classes) + "\n\n" + rest
    result = outcome({**DIMS, HERE: source})
    (left,) = [f for f in result.findings if f.status == "left"]
    assert CALL in source.splitlines()[left.line - 1]


def test_nothing_is_left_where_nothing_is_wrong():
    assert HERE in migrated({**DIMS, HERE: plan("model.train()")})
