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
from migrator.verify.train.worktrees import Trees

from rehearsing import edit, trees

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
        (Model("llama4"), [layout(dp_replicate=2, pp=2)]),
        (Model("models/vlm", reason="it registers nothing"), [layout(tp=2)]),
    ]
    found = rehearse(right, wanted, theatre, Asked(), shown.append)
    assert shown == list(found.scenes) and found.exit_code == 0
    assert [scene.word for scene in shown] == ["passed"] * 4 + ["not run"] * 3
    plain, lifted, _, _, flavor, staged, unregistered = shown
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
    migrated, reference = scene.steps["migrated"], scene.steps["reference"]
    groups = [g for g in scene.records["migrated"]["groups"] if g["parameters"]]
    reduced = {"dtype": "float32", "calls": len(groups), "bytes": whole}
    (step,) = migrated
    assert step["collectives"] == [
        {"kind": "all-reduce", "over": "dp_replicate", **reduced}
    ]
    assert step["memory"] == {
        "parameters": whole,
        "gradients": whole,
        "optimizer": 2 * whole,
        # In bf16.
        "unsharded": whole // 2,
    }
    (step,) = reference
    assert {"kind": "reduce-scatter", "over": "fsdp", **reduced} in step["collectives"]
    (gathered,) = (c for c in step["collectives"] if c["kind"] == "all-gather")
    assert (gathered["over"], gathered["dtype"]) == ("fsdp", "bfloat16")
    assert 4 * step["memory"]["parameters"] == whole


def test_a_step_of_a_pipeline_reduces_once_after_all_microbatches(right, theatre):
    """Four of one sample each; the first stage hands their activations on, and gets gradients."""
    asked = [(Model("llama3"), [layout(dp_replicate=2, pp=2)])]
    (scene,) = rehearse(right, asked, theatre, Asked(step=True)).scenes
    first, last = scene.steps["migrated"]
    # Samples, length, width, bytes of bf16.
    hidden = {"over": "pp", "dtype": "bfloat16", "calls": 4, "bytes": 4 * 32 * 64 * 2}
    for stage, groups in ((first, 2), (last, 2)):
        assert {"kind": "send", **hidden} in stage["collectives"]
        assert {"kind": "receive", **hidden} in stage["collectives"]
        (reduced,) = (c for c in stage["collectives"] if c["kind"] == "all-reduce")
        assert reduced["calls"] == groups
        assert reduced["bytes"] == stage["memory"]["gradients"]


def test_a_model_that_a_fake_step_cannot_follow_is_read_all_the_same(planted):
    found = planted(
        lambda tree: edit(
            tree,
            "models/llama3/model/model.py",
            (
                "        h = self.norm(h)",
                "        h.sum().item()\n        h = self.norm(h)",
            ),
        ),
        Model("llama3"),
        DP,
        step=True,
    )
    (scene,) = found.scenes
    (step,) = scene.steps["migrated"]
    assert scene.word == "passed" and step["memory"]["parameters"]
    assert step["problem"].startswith("DataDependentOutputException")


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


def test_a_torch_without_a_fake_process_group_is_a_sentence(
    right, tmp_path, monkeypatch
):
    broken_copy(tmp_path, monkeypatch, "host.py", "import fake_pg ", "import no_pg ")
    with Theatre(tmp_path) as theatre:
        found = rehearse(right, [(Model("llama3"), [DP])], theatre)
    assert "this torch cannot rehearse: cannot import name" in found.problem.said
    assert found.exit_code == 2


def test_a_tree_that_does_not_import_is_told_as_its_own(planted):
    found = planted(
        lambda tree: (tree / "torchtitan/models/__init__.py").write_text("1 / 0\n"),
        Model("llama3"),
        DP,
    )
    (scene,) = found.scenes
    assert "The migrated tree does not import: ZeroDivisionError" in scene.failures[0]


def test_files_are_named_where_the_user_has_them(planted, monkeypatch):
    monkeypatch.setattr(
        Trees,
        "named",
        lambda trees, text: text.replace(str(trees.migrated), "/home/me/fork"),
    )
    found = planted(
        lambda tree: (tree / "torchtitan/models/llama3/__init__.py").write_text(
            "1 / 0\n"
        ),
        Model("llama3"),
        DP,
    )
    (scene,) = found.scenes
    assert 'File "/home/me/fork/torchtitan/models/llama3/' in scene.details


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


def test_a_package_that_is_missing_is_a_reason_with_the_command(
    right, theatre, tmp_path
):
    places = [tmp_path / name for name in ("base", "migrated")]
    for tree, place in zip((right.base, right.migrated), places):
        shutil.copytree(tree, place)
        registered = place / "torchtitan/models/qwen3/__init__.py"
        source = registered.read_text()
        registered.write_text(f"import codecs_of_no_one\n{source}")
    asked = [(Model("qwen3"), [DP]), (Model("llama3"), [DP])]
    lacking, other = rehearse(trees(*places), asked, theatre).scenes
    assert (lacking.word, other.word) == ("not run", "passed")
    assert "the module codecs_of_no_one is missing here" in lacking.not_run
