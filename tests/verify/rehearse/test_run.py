"""Rehearses a fixture's llama3, whose imports are quick, right and with defects planted."""

from __future__ import annotations

import shutil

import pytest

from migrator.apply import plan, resolve_target
from migrator.checkout import Checkout
from migrator.verify.choose.models import Model
from migrator.verify.rehearse.layouts import layout
from migrator.verify.rehearse.run import Asked, rehearse
from migrator.verify.train.worktrees import Trees

from places import TOP

PLAN = "torchtitan/models/llama3/infra/parallelize.py"


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A fixture before and after the migration."""
    top = tmp_path_factory.mktemp("trees")
    for name in ("base", "migrated"):
        shutil.copytree(TOP / "fixtures" / "v0_2_1", top / name)
    plan(Checkout(top / "migrated", is_git=False), resolve_target("1d")).write()
    return Trees(top / "base", top / "migrated", "", "", ())


def test_a_right_migration_passes_and_what_cannot_be_made_has_its_reason(
    trees, tmp_path
):
    shown = []
    wanted = [
        (
            Model("llama3"),
            [
                layout(dp_replicate=64),
                layout(dp_replicate=2, tp=2),
                layout(dp_replicate=2, pp=2),
                layout(dp_replicate=2, dp_shard=2),
            ],
        ),
        (Model("llama3", flavor="8B"), [layout(dp_replicate=2), layout(tp=2)]),
        (Model("models/qwen3", reason="it registers nothing"), [layout(tp=2)]),
    ]
    found = rehearse(trees, wanted, tmp_path, Asked(), shown.append)
    assert shown == list(found.scenes)
    assert [scene.word for scene in shown] == ["passed"] * 2 + ["not run"] + [
        "passed"
    ] + ["not run"] * 2
    right, lifted, staged, _, flavor, unregistered = shown
    groups = right.records["migrated"]["groups"]
    assert {tuple(one["mesh"]["sizes"]) for one in groups if one["mesh"]} == {(64,)}
    assert "the migration lifts that" in lifted.notes[0]
    assert staged.not_run.endswith("its train spec has no pipelining_fn")
    assert "there are debugmodel, debugmodel_deep" in flavor.not_run
    assert "no train spec was found" in unregistered.not_run
