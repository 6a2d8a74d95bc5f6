"""How ranks are laid out."""

from __future__ import annotations

import pytest

from migrator.verify.errors import VerifyError
from migrator.verify.rehearse import layouts
from migrator.verify.rehearse.layouts import layout


def test_a_world_is_as_large_as_its_degrees_but_for_the_borrowed_ones():
    assert layout(dp_replicate=2, dp_shard=2, ep=2).world == 4
    assert layout().world == 1 and layout().title == "one rank"


def test_only_replication_is_what_the_migration_changes():
    assert layout(dp_replicate=2, tp=2, pp=2).replicates
    for other in (
        layout(dp_replicate=2, cp=2),
        layout(dp_replicate=2, dp_shard=2),
        layout(tp=2),
    ):
        assert not other.replicates


def test_fsdp_is_laid_out_over_the_same_ranks():
    found = layout(dp_replicate=2, tp=4)
    assert (
        found.sharded.title == "dp_shard=2,tp=4" and found.sharded.world == found.world
    )


def test_every_pipeline_stage_has_its_rank():
    assert layout(dp_replicate=4, pp=2).ranks == (0, 4)
    assert layout(dp_replicate=4).ranks == (0,)


def test_worlds_are_read_once_each():
    found = layouts.parse(["tp=8, dp_replicate=128", "dp_replicate=128,tp=8"])
    assert [one.title for one in found] == ["dp_replicate=128,tp=8"]


@pytest.mark.parametrize(
    "text", ["dp=2", "tp=2,tp=4", "tp", "tp=x", "tp=0", "", "tp=²", "tp=2000000"]
)
def test_a_world_that_is_none_is_refused(text):
    with pytest.raises(VerifyError, match="--world"):
        layouts.parse([text])


def test_the_size_of_a_world_says_the_degree_that_is_open():
    assert layouts.of_size({"tp": 8}, 1024).title == "dp_replicate=128,tp=8"
    assert layouts.of_size({"dp_shard": -1, "tp": 8}, 64).title == "dp_shard=8,tp=8"
    with pytest.raises(VerifyError, match="does not divide by the 8 ranks"):
        layouts.of_size({"tp": 8}, 12)
