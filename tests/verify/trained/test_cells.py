"""The cells beside data, tensor and pipeline parallelism, on a right migration and on a wrong one."""

from __future__ import annotations

import pytest

from forks import git, verified

pytestmark = [pytest.mark.torchrun, pytest.mark.usefixtures("warm_ranks", "short")]


def test_checkpoints_go_across_and_come_back(migrated):
    cells, printed = verified(
        migrated("0.2.2"), cells=("dp-checkpoint", "export", "fsdp"), steps=4
    )
    assert all(verdict.passed for verdict in cells.values()), printed
    resumed = cells["dp-checkpoint"]
    assert [step.step for step in resumed.traces["returned"].steps] == [3, 4]
    # What AdamW keeps of each parameter has come along.
    assert len(resumed.traces["resumed"].state("initial")) == 3 * 57
    # DDP of 0.2.2 divides twice, so FSDP says what the rest of the curve is.
    assert "do not train alike" in resumed.notes[0]
    assert "All 57 parameters come back bitwise" in cells["export"].notes[-1]
    assert {c.verdict for c in cells["fsdp"].comparisons} == {"bitwise"}


def test_an_adapter_that_refuses_replicas_fails_the_export(migrated):
    """The Mixture-of-Experts adapter as it was before the migration."""
    tree = migrated("0.2.1")
    git(tree, "checkout", "--quiet", "HEAD", "--", "torchtitan/models/utils.py")
    cells, printed = verified(tree, cells=("export",), model=("deepseek_v3",), steps=2)
    assert cells["export"].word == "failed", printed
    assert "Migrated tree" in cells["export"].failures[0]
