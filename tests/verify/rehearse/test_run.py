"""Rehearses a small torchtitan: what passes, what cannot be made, what a step costs, and what is nobody's fault but ours."""

from __future__ import annotations

import math
import shutil

import pytest

from migrator.verify.choose.models import Model
from migrator.verify.rehearse import launch
from migrator.verify.rehearse.launch import Theatre
from migrator.verify.rehearse.layouts import layout
from migrator.verify.rehearse.run import Asked, rehearse

LLAMA3 = "models/llama3/infra/parallelize.py"
DP = layout(dp_replicate=2)


def test_a_right_migration_passes_and_what_cannot_be_made_has_its_reason(
    right, theatre
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
        (Model("llama3", flavor="8B"), [DP, layout(tp=2)]),
        (Model("models/vlm", reason="it registers nothing"), [layout(tp=2)]),
    ]
    found = rehearse(right, wanted, theatre, Asked(), shown.append)
    assert shown == list(found.scenes) and found.exit_code == 0
    words = ["passed", "passed", "not run", "passed", "not run", "not run"]
    assert [scene.word for scene in shown] == words
    plain, lifted, staged, _, flavor, unregistered = shown
    groups = plain.records["migrated"]["groups"]
    assert {tuple(one["mesh"]["sizes"]) for one in groups if one["mesh"]} == {(64,)}
    assert "the migration lifts that" in lifted.notes[0]
    assert staged.not_run.endswith("its train spec has no pipelining_fn")
    assert "there are debugmodel, debugmodel_deep" in flavor.not_run
    assert "no train spec was found" in unregistered.not_run


def test_arguments_that_torchtitan_refuses_are_told_in_its_words(right, theatre):
    asked = Asked(arguments=("--training.colour=red",))
    (scene,) = rehearse(right, [(Model("llama3"), [DP])], theatre, asked).scenes
    assert "its parser refuses the arguments" in scene.not_run
    assert "colour" in scene.not_run


def test_a_step_is_counted(right, theatre):
    """Every parameter is reduced once in fp32, by replicate as by FSDP, which gathers it besides."""
    asked = [(Model("llama3"), [layout(dp_replicate=4)])]
    (scene,) = rehearse(right, asked, theatre, Asked(step=True)).scenes
    whole = 4 * sum(
        math.prod(one["shape"])
        for one in scene.records["baseline"]["parameters"].values()
    )
    migrated, reference = (
        scene.records[party]["step"] for party in ("migrated", "reference")
    )
    groups = [g for g in scene.records["migrated"]["groups"] if g["parameters"]]
    assert migrated["collectives"] == {"all-reduce": [len(groups), whole]}
    assert reference["collectives"]["reduce-scatter"] == [len(groups), whole]
    assert migrated["memory"] == {
        "parameters": whole,
        "gradients": whole,
        "optimizer": 2 * whole,
        # In bf16.
        "unsharded": whole // 2,
    }
    assert 4 * reference["memory"]["parameters"] == whole


# What goes wrong in our own process, beside the code that is read.
OURS = {
    "an exception": (
        "read.py",
        '    return {\n        "groups": [',
        '    return {\n        "groups": 1 / 0 and [',
        "base revision, DDP: ZeroDivisionError: division by zero",
        "in record",
    ),
    "a killed world": (
        "build.py",
        "    _enter(world, request",
        "    os.kill(os.getpid(), 9)\n    _enter(world, request",
        "base revision, DDP: Killed: ended by signal 9",
        "",
    ),
    "a world that takes too long": (
        "host.py",
        "LIMIT = 300.0",
        "LIMIT = 0.0",
        "base revision, DDP: Timeout: not over after 0 seconds",
        "",
    ),
}


@pytest.mark.parametrize("defect", OURS)
def test_what_breaks_here_is_never_taken_for_a_refusal(
    right, tmp_path, monkeypatch, defect
):
    """All parties break alike, as where the base revision refuses a layout."""
    name, old, new, sentence, details = OURS[defect]
    broken_copy(tmp_path, monkeypatch, name, old, new)
    with Theatre(tmp_path) as theatre:
        found = rehearse(right, [(Model("llama3"), [DP])], theatre)
    (scene,) = found.scenes
    assert (scene.word, scene.broken) == ("broken", sentence)
    assert details in scene.details and found.exit_code == 4


def test_a_process_that_is_killed_ends_it_with_what_there_is(
    right, tmp_path, monkeypatch
):
    old = "        reply = forked(request, tree, channel)\n"
    new = f"        os.kill(os.getpid(), 9)\n            {old}"
    broken_copy(tmp_path, monkeypatch, "host.py", old, new.replace(" " * 12, "", 1))
    with Theatre(tmp_path) as theatre:
        found = rehearse(right, [(Model("llama3"), [DP])], theatre)
    assert found.scenes == () and found.exit_code == 4
    assert "has ended, or hangs" in found.problem.said


def test_a_tree_that_does_not_import_is_told_as_its_own(planted):
    found = planted(
        lambda tree: (tree / "torchtitan/models/__init__.py").write_text("1 / 0\n"),
        Model("llama3"),
        DP,
    )
    (scene,) = found.scenes
    assert "The migrated tree does not import: ZeroDivisionError" in scene.failures[0]


def broken_copy(tmp_path, monkeypatch, name, old, new):
    """Our own processes, with something wrong in one of their files."""
    room = launch.HOST.parent
    shutil.copytree(room, tmp_path / "verify" / "rehearse" / "in_world")
    ranks = room.parents[1] / "train" / "in_rank"
    shutil.copytree(ranks, tmp_path / "verify" / "train" / "in_rank")
    file = tmp_path / "verify" / "rehearse" / "in_world" / name
    source = file.read_text()
    assert source.count(old) == 1
    file.write_text(source.replace(old, new))
    monkeypatch.setattr(launch, "HOST", file.with_name("host.py"))
