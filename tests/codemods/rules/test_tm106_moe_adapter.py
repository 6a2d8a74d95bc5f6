"""TM106: the MoE state-dict adapter accepts Replicate placements."""

import pytest

from support import assert_noop, assert_rewrites, findings, migrated, text

MOE = "torchtitan/models/moe.py"


def adapter(test, pair, name="_caculate_indices_from_placements"):
    return f"""
        class MoEStateDictAdapter(StateDictAdapter):
            def {name}(self, dim, dim_size, placements, mesh):
                names = []
                found = []

                # Every mesh dimension that shards this one
                for i, name in enumerate(mesh.mesh_dim_names):
                    placement = placements[i]
                    if {test}:
                        names.append(name)
                        found.append(placement)

                start_index, end_index = {pair}
                if len(found) == 1:
                    size = dim_size // mesh[names[0]].size()
                    start_index = mesh[names[0]].get_local_rank() * size
                    end_index = start_index + size
                return start_index, end_index
    """


SHARD = "not placement.is_replicate() and placement.dim == dim"


@pytest.mark.parametrize("pair", ["None, None", "0, dim_size"], ids=["0.2.0", "0.2.2"])
@pytest.mark.parametrize("target", ["1d", "2d"])
def test_indices(pair, target):
    assert_rewrites(
        adapter("placement.dim == dim", pair),
        adapter(SHARD, "0, dim_size"),
        path=MOE,
        target=target,
    )


class Shard:
    def __init__(self, dim):
        self.dim = dim

    def is_replicate(self):
        return False


class _StridedShard(Shard):
    pass


class Replicate:
    def is_replicate(self):
        return True


class Mesh:
    mesh_dim_names = ("dp_replicate", "ep")

    def __getitem__(self, name):
        return self

    def size(self):
        return 2

    def get_local_rank(self):
        return 1


@pytest.mark.parametrize("pair", ["None, None", "0, dim_size"], ids=["0.2.0", "0.2.2"])
@pytest.mark.parametrize(
    "placements, expected",
    [
        ((Replicate(), Replicate()), (0, 8)),
        ((Replicate(), Shard(0)), (4, 8)),
        ((Replicate(), Shard(1)), (0, 8)),
        ((_StridedShard(0), Replicate()), (4, 8)),
    ],
)
def test_rewritten_adapter_accepts_replicate(pair, placements, expected):
    before = adapter("placement.dim == dim", pair)
    with pytest.raises(AttributeError):
        indices(text(before), placements)
    assert indices(migrated({MOE: before})[MOE], placements) == expected


def indices(source, placements):
    space = {"StateDictAdapter": object}
    exec(source, space)
    instance = space["MoEStateDictAdapter"]()
    return instance._caculate_indices_from_placements(0, 8, placements, Mesh())


def single(test, otherwise):
    return f"""
        class MoEStateDictAdapter(StateDictAdapter):
            def _get_local_experts_weights(self, weight):
                new_placements = []
                for placement in weight.placements:
                    if {test}:
                        new_placements.append(Replicate())
                    else:
                        {otherwise}
                return new_placements
    """


@pytest.mark.parametrize(
    "otherwise",
    [
        'raise ValueError(f"Unsupported placement type: {type(placement)}")',
        "new_placements.append(Shard(placement.dim))",
    ],
)
def test_where_a_shard_becomes_replicated_a_replicate_stays_so(otherwise):
    """As in 0.2.0 and 0.2.1, where the export has another branch for every other placement."""
    assert_rewrites(
        single("placement.dim == 0", otherwise),
        single("placement.is_replicate() or placement.dim == 0", otherwise),
        path=MOE,
    )


def test_already_done():
    assert_noop(adapter(SHARD, "0, dim_size"), path=MOE)
    asked = "isinstance(placement, Shard) and placement.dim == dim"
    assert_noop(adapter(asked, "0, dim_size"), path=MOE)


def test_placements_elsewhere_are_not_touched():
    assert_noop(
        """
        def sharded(placement, dim):
            if placement.dim == dim:
                return True
        """,
        path=MOE,
    )


def test_a_none_pair_elsewhere_is_not_touched():
    before = text(adapter("placement.dim == dim", "0, dim_size")) + text(
        """

        class Cutter:
            def cut(self):
                start_index, end_index = None, None
                return start_index, end_index
        """
    )
    assert "start_index, end_index = None, None" in migrated({MOE: before})[MOE]


def test_opting_out():
    kept = adapter("placement.dim == dim", "0, dim_size").replace(
        "== dim:", "== dim:  # titan-migrate: ignore[TM106]"
    )
    assert_noop(kept, path=MOE)
    assert [f.status for f in findings({MOE: kept}, code="TM106")] == ["opted-out"]
