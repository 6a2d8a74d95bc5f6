"""What is said of one model in one layout."""

from __future__ import annotations

import pytest

from migrator.verify.rehearse.layouts import layout
from migrator.verify.rehearse.verdict import Problem, Rehearsal, Scene, judge

from recorded import changed, ddp, record

DP = layout(dp_replicate=2)


def raised(message, ours=False):
    return [
        {
            "error": {
                "type": "RuntimeError",
                "message": message,
                "traceback": "T",
                "ours": ours,
                "missing": None,
            }
        }
    ]


def answers(**others):
    right = {
        "baseline": ddp(),
        "migrated": record("dp_replicate"),
        "control": record("fsdp"),
        "reference": record("fsdp"),
    }
    return {
        name: [{"record": one, "seconds": 1.0}] for name, one in right.items()
    } | others


def test_a_right_plan_passes():
    scene = judge("llama3", DP, answers())
    assert (scene.word, scene.failures, scene.notes) == ("passed", (), ())
    assert scene.seconds == 4.0 and scene.records["baseline"]["ddp"] == [""]


def test_a_refusal_of_ddp_is_what_the_migration_lifts():
    scene = judge("llama3", DP, answers(baseline=raised("DDP has not supported > 1D")))
    assert scene.word == "passed"
    assert "DDP has not supported > 1D); the migration lifts that" in scene.notes[0]


def test_where_ddp_refuses_is_known_by_degrees():
    no = answers(baseline=raised("DDP has not supported > 1D"))
    worlds = layout(dp_replicate=2, tp=2), layout(dp_replicate=64, pp=4)
    scenes = [judge("llama3", world, no) for world in worlds]
    said = "RuntimeError: DDP has not supported > 1D"
    right = judge("llama3", DP, answers())
    known = Rehearsal((*scenes, right, judge("qwen3", worlds[0], no)))
    assert known.refused("llama3") == {(2, 1): said, (1, 4): said}
    assert known.refused("llama4") == {}


def refused(message):
    (answer,) = raised(message)
    return [{"error": {**answer["error"], "type": "NotImplementedError"}}]


def test_a_plan_that_refuses_as_tm207_advises_is_not_run():
    """Before, its ranks were not synchronised; where DDP was applied, it may not refuse."""
    refuses = {"migrated": refused("needs FSDP")}
    bare = {**record("dp_replicate"), "groups": [], "ddp": []}
    alone = [{"record": bare, "seconds": 1.0}]
    scene = judge("flux", DP, answers(baseline=alone, **refuses))
    assert scene.word == "not run"
    assert "refuses pure replication now" in scene.not_run and "TM207" in scene.not_run
    scene = judge("flux", DP, answers(baseline=refused("needs FSDP"), **refuses))
    assert "the base revision refuses it as well" in scene.not_run
    assert judge("llama3", DP, answers(**refuses)).word == "failed"
    guard = answers(baseline=refused("no 2-D"), **refuses)
    assert judge("llama3", DP, guard).word == "failed"
    both = answers(baseline=refused("no 2-D"), migrated=refused("no 2-D"))
    assert judge("llama3", layout(dp_replicate=2, tp=2), both).word == "failed"


def test_an_fsdp_that_is_not_what_it_was_fails():
    other = changed("fsdp", lambda r: r["groups"][0].update(divide=None))
    scene = judge("llama3", DP, answers(reference=[{"record": other}]))
    assert "What FSDP does is not what it was: tok_embeddings" in scene.failures[0]


@pytest.mark.parametrize(
    ("others", "word", "sentence"),
    [
        (
            {"migrated": raised("boom")},
            "failed",
            "migrated tree, replicate: RuntimeError: boom",
        ),
        (
            {"reference": raised("boom")},
            "failed",
            "migrated tree, FSDP: RuntimeError: boom",
        ),
        (
            {"migrated": raised("boom"), "baseline": raised("1D")},
            "failed",
            "and FSDP is made here",
        ),
        (
            {"control": raised("no TP"), "reference": raised("no TP")},
            "not run",
            "the base revision refuses it as well: RuntimeError: no TP",
        ),
    ],
)
def test_who_raises_decides(others, word, sentence):
    scene = judge("llama3", DP, answers(**others))
    assert scene.word == word and scene.details == "T"
    assert sentence in " ".join((*scene.failures, scene.not_run))


def test_a_plan_that_has_no_ddp_is_held_to_what_it_was():
    plain = {**ddp(), "ddp": []}
    after = {**plain, "autocast": None}
    found = answers(baseline=[{"record": plain}], migrated=[{"record": after}])
    scene = judge("flux", DP, found)
    assert scene.word == "passed" and "maybe_enable_amp" in scene.notes[1]
    found["migrated"] = [{"record": {**after, "checkpointed": []}}]
    assert judge("flux", DP, found).word == "failed"


def test_ties_that_the_base_revision_had_are_kept():
    tie = ["tok_embeddings.weight", "output.weight"]
    found = answers(baseline=[{"record": {**ddp(), "ties": [tie]}}])
    scene = judge("qwen3", DP, found)
    assert scene.failures == (
        "tok_embeddings.weight and output.weight: tied weights, and wrapped apart.",
    )


def test_each_pipeline_stage_is_compared():
    wrong = changed("dp_replicate", lambda r: r["groups"].pop(1))
    found = {name: one * 2 for name, one in answers().items()}
    found["migrated"] = [found["migrated"][0], {"record": wrong}]
    scene = judge("llama3", layout(dp_replicate=2, pp=2), found)
    assert scene.failures[0].startswith("Stage 1: layers.0: no group of its own here")


def test_a_layout_that_shards_may_not_change():
    found = {
        name: one for name, one in answers().items() if name in ("control", "reference")
    }
    hybrid = layout(dp_replicate=2, dp_shard=2)
    assert judge("llama3", hybrid, found).word == "passed"
    found["reference"] = [{"record": changed("fsdp", lambda r: r["groups"].pop())}]
    assert (
        "must not touch, is not what it was: output"
        in judge("llama3", hybrid, found).failures[0]
    )


def test_the_exit_code_is_that_of_the_worst_scene():
    passed, failed, not_run = (
        Scene("m", DP),
        Scene("m", DP, ("wrong",)),
        Scene("m", DP, not_run="why"),
    )
    assert Rehearsal((passed, not_run)).exit_code == 0
    assert Rehearsal((passed, failed)).exit_code == 1
    assert (
        Rehearsal((not_run,)).exit_code
        == Rehearsal(problem=Problem("no torch")).exit_code
        == 2
    )


def test_what_breaks_by_itself_is_neither_a_refusal_nor_a_failure():
    """One stage of one party; its traceback is kept, and the exit code is its own."""
    found = {name: one * 2 for name, one in answers().items()}
    found["control"] = [*raised("no TP"), *raised("boom", ours=True)]
    found["reference"] = raised("no TP") * 2
    scene = judge("llama3", layout(dp_replicate=2, pp=2), found)
    assert (scene.word, scene.details) == ("broken", "T")
    assert scene.broken == "base revision, FSDP: RuntimeError: boom"
    assert Rehearsal((scene, Scene("m", DP))).exit_code == 4
    assert Rehearsal((scene, Scene("m", DP, ("wrong",)))).exit_code == 1
    gone = Problem("gone", broken=True)
    assert Rehearsal((Scene("m", DP),), problem=gone).exit_code == 4
