"""Which conditions are answered otherwise under pure replication than under sharding."""

import ast

import pytest

from codemods.conditions import conditions_of, parting

REPLICATED, SHARDED = (True, False), (False, True)


def condition(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


@pytest.mark.parametrize(
    ("text", "answers"),
    [
        ("pd.dp_replicate_enabled and not pd.fsdp_enabled", REPLICATED),
        ("not self.parallel_dims.fsdp_enabled", REPLICATED),
        ("pd.fsdp_enabled", SHARDED),
        ("pd.dp_replicate > 1 and pd.dp_shard * pd.cp == 1", REPLICATED),
        ("config.data_parallel_shard_degree == 1", REPLICATED),
        ("pd.dp_replicate == pd.world_size", REPLICATED),
        ("config.strategy == 'ddp'", REPLICATED),
        ("config.strategy != 'fsdp'", REPLICATED),
        ("'dp_shard' in mesh.mesh_dim_names", SHARDED),
        ("'dp_shard' not in mesh.mesh_dim_names", REPLICATED),
        ("pd.get_optional_mesh('fsdp') is None", REPLICATED),
        ("pd.get_optional_mesh('fsdp') is not None", SHARDED),
        ("getattr(pd, 'fsdp_enabled', False)", SHARDED),
        ("bool(pd.dp_replicate_enabled)", REPLICATED),
        ("pd.tp_enabled and pd.fsdp_enabled", SHARDED),
        ("self.is_ddp()", REPLICATED),
        ("pd.dp_enabled", None),
        ("pd.dp_replicate_enabled or pd.dp_shard_enabled or pd.cp_enabled", None),
        ("pd.tp_enabled", None),
        ("isinstance(module, FSDPModule)", None),
        ("self.fsdp_config is None or self.x", None),
    ],
)
def test_what_parts_the_two(text, answers):
    assert parting(condition(text), {}) == answers


def test_what_names_stand_for():
    module = """
alone = pd.dp_replicate_enabled and not pd.fsdp_enabled
twice = pd.fsdp_enabled
twice = True


class Dims:
    @property
    def only_replicas(self):
        return self.dp_replicate > 1 and self.dp_shard == 1

    def sums(self):
        return self.fsdp_enabled
"""
    held = conditions_of(ast.parse(module))
    assert parting(condition("alone"), held) == REPLICATED
    assert parting(condition("dims.only_replicas"), held) == REPLICATED
    assert parting(condition("dims.sums()"), held) == SHARDED
    assert parting(condition("twice"), held) is None
