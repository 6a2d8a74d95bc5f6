"""Runs that are not whole, or not wrapped as FSDP wraps them, as planted."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from migrator.verify.judge.checks import wrapping
from migrator.verify.judge.judges import judge_combination
from migrator.verify.judge.trace import RankTrace, Trace
from migrator.verify.judge.verdict import Verdict

from parties import (
    BASELINE,
    CONTROL,
    DP,
    GROUPS,
    MIGRATED,
    REFERENCE,
    REFUSES,
    TERMS,
    combination,
    drifting,
    model,
    trace,
    verdict,
    with_model,
)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [("ddp", "still trains under DDP"), ("fsdp", "wrapped by FSDP")],
)
def test_migrated_tree_that_is_not_replicated_fails(kind, reason):
    found = verdict(migrated=trace("migrated", kind))
    assert not found.passed
    assert any(reason in f for f in found.failures)


def test_unwrapped_model_fails():
    bare = {
        "root": ["Transformer"],
        "wrapped": {},
        "parameters": {"layers.0.weight": {"dtype": "float32"}},
    }
    found = verdict(migrated=trace("migrated", "replicate", model=bare))
    assert any("wrapped by nothing" in f for f in found.failures)


def test_only_the_root_wrapped_fails():
    found = verdict(
        migrated=trace("migrated", "replicate", model=model("replicate", groups=("",)))
    )
    assert any("no group of its own for layers.0" in f for f in found.failures)


def test_wrong_parameter_dtype_fails():
    found = verdict(
        migrated=trace(
            "migrated", "replicate", model=model("replicate", dtype="bfloat16")
        )
    )
    assert any(
        "bfloat16 under replicate and float32 under FSDP" in f for f in found.failures
    )


def test_two_dimensional_mesh_of_torch_2_9_counts_as_replicate():
    parameter = {"dtype": "float32", "placements": ["R", "S(0)"], "mesh": [DP, 1]}
    wrapped = {name: ["FSDPModule"] for name in GROUPS}
    two_dim = trace(
        "migrated",
        "replicate",
        model={
            "root": [],
            "wrapped": wrapped,
            "parameters": {"layers.0.weight": parameter},
        },
    )
    assert wrapping(two_dim) == "replicate"
    assert verdict(migrated=two_dim).passed


def test_parameter_outside_the_mesh_fails():
    odd = model("replicate")
    odd["parameters"]["layers.0.weight"] = {"dtype": "float32"}
    assert any(
        "not replicated over the mesh" in f
        for f in verdict(migrated=trace("migrated", "replicate", model=odd)).failures
    )


def test_replicas_that_drift_apart_fail():
    drifted = replace(
        MIGRATED.ranks[1],
        parameters={"layers.0.weight": {"norm": 3.0, "sum": 1.0, "digest": "other"}},
    )
    found = verdict(migrated=Trace("migrated", (MIGRATED.ranks[0], drifted)))
    assert any("not the same on ranks 0 and 1" in f for f in found.failures)


def test_loss_that_is_not_finite_fails():
    steps = tuple(replace(s, loss=math.nan) for s in MIGRATED.steps)
    found = verdict(
        migrated=Trace(
            "migrated", tuple(replace(r, steps=steps) for r in MIGRATED.ranks)
        )
    )
    assert any("loss is nan" in f for f in found.failures)


def test_missing_step_fails():
    short = Trace(
        "migrated", tuple(replace(r, steps=r.steps[:-1]) for r in MIGRATED.ranks)
    )
    assert any("recorded no step 4" in f for f in verdict(migrated=short).failures)


def test_missing_rank_fails():
    assert any(
        "1 of 2 ranks" in f
        for f in verdict(migrated=Trace("migrated", MIGRATED.ranks[:1])).failures
    )


def standing_still(party: str, kind: str) -> Trace:
    """A run whose optimizer holds parameters that the model has no more."""
    start = {"norm": 3.0, "sum": 1.0, "digest": "start"}
    return trace(party, kind, digest="start", initial={"layers.0.weight": start})


def test_a_migrated_tree_whose_weights_never_move_fails():
    found = verdict(migrated=standing_still("migrated", "replicate"))
    assert not found.passed
    assert any("no parameter moved in" in failure for failure in found.failures)


def test_weights_that_never_move_under_fsdp_either_are_no_reference():
    found = verdict(
        migrated=standing_still("migrated", "replicate"),
        reference=standing_still("reference", "fsdp"),
        control=standing_still("control", "fsdp"),
    )
    assert not found.passed and "no parameter moved" in found.not_run


def test_weights_of_which_one_moves_do_move():
    start = {"norm": 3.0, "sum": 1.0, "digest": "start"}
    both = {"layers.0.weight": start, "layers.1.weight": start}
    moved = {**both, "layers.1.weight": {**start, "digest": "d"}}
    run = trace("migrated", "replicate", initial=both, parameters=moved)
    found = verdict(migrated=run)
    assert not any("no parameter moved" in failure for failure in found.failures)


def with_tensor_parallelism(migrated: Trace, reference: Trace) -> Verdict:
    runs = {"baseline": REFUSES, "migrated": migrated, "reference": reference}
    return judge_combination(runs, replace(TERMS, ranks=2 * DP))


def test_tensor_parallel_ranks_may_part_where_they_do_under_fsdp():
    both = drifting("migrated", "replicate"), drifting("reference", "fsdp")
    assert with_tensor_parallelism(*both).passed


def test_tensor_parallel_ranks_that_part_under_replicate_only_fail():
    run = drifting("reference", "fsdp")
    agreeing = [replace(r, parameters=run.ranks[-1].parameters) for r in run.ranks]
    reference = Trace("reference", tuple(agreeing))
    found = with_tensor_parallelism(drifting("migrated", "replicate"), reference)
    assert any("tensor-parallel ranks part" in failure for failure in found.failures)


def test_fsdp_that_lost_its_groups_fails_though_the_figures_agree():
    found = verdict(
        migrated=trace("migrated", "replicate", model=model("replicate", ("",))),
        reference=trace("reference", "fsdp", model=model("fsdp", ("",))),
    )
    assert any("changed how FSDP wraps" in failure for failure in found.failures)


def test_replicas_of_a_later_pipeline_stage_are_compared_too():
    def stage(number: int, name: str, digest: str) -> RankTrace:
        value = {"norm": 3.0, "sum": 1.0, "digest": digest}
        return replace(MIGRATED.ranks[0], rank=number, parameters={name: value})

    ranks = (
        *(stage(number, "layers.0.weight", "d") for number in (0, 1)),
        *(stage(number, "layers.1.weight", f"d{number}") for number in (2, 3)),
    )
    runs = {
        "baseline": REFUSES,
        "migrated": Trace("migrated", ranks),
        "reference": drifting("reference", "fsdp"),
    }
    found = judge_combination(runs, replace(TERMS, ranks=4))
    assert any("not the same on ranks 2 and 3" in failure for failure in found.failures)


POLICY = {"param_dtype": "torch.bfloat16", "reduce_dtype": "torch.float32"}


def test_autocast_left_on_fails_whatever_the_figures_say():
    found = verdict(migrated=with_model("migrated", "replicate", autocast=True))
    assert not found.passed
    assert any("runs under autocast" in failure for failure in found.failures)


@pytest.mark.parametrize(
    "field, dtype", [("reduce_dtype", "bfloat16"), ("param_dtype", "None")]
)
def test_another_policy_than_fsdp_has_fails(field, dtype):
    wrong = {**POLICY, field: dtype}
    found = verdict(
        migrated=with_model("migrated", "replicate", policies={"layers.0": wrong}),
        reference=with_model("reference", "fsdp", policies={"layers.0": POLICY}),
    )
    assert not found.passed
    assert any(f"layers.0 has {field}={dtype}" in failure for failure in found.failures)


def test_a_module_in_another_mode_fails_and_keeps_its_name():
    found = verdict(
        migrated=with_model(
            "migrated", "replicate", evaluating={"Block.normA": "in eval mode"}
        )
    )
    (said,) = found.failures
    assert said.startswith("Mode: Block.normA is in eval mode under replicate")


def test_what_is_left_to_the_root_beside_the_blocks_is_a_note():
    fewer = ("", "tok_embeddings", "layers.0", "layers.1")
    migrated = trace("migrated", "replicate", model=model("replicate", groups=fewer))
    found = verdict(migrated=migrated)
    assert found.passed, found.failures
    assert found.notes == (
        "replicate has no group of its own for norm, output, which apply_fsdp wraps:"
        " their all-reduce cannot overlap with the backward pass.",
    )
    assert combination(migrated=migrated).notes[0] == found.notes[0]


def test_where_only_one_rank_logs_its_loss_is_the_run_s():
    def silent(run, who=(1,)):
        ranks = (
            replace(r, steps=tuple(replace(s, loss=None) for s in r.steps))
            if r.rank in who
            else r
            for r in run.ranks
        )
        return replace(run, ranks=tuple(ranks))

    runs = [silent(run) for run in (BASELINE, MIGRATED, REFERENCE, CONTROL)]
    assert verdict(*runs).passed
    off = silent(trace("migrated", "replicate", loss=0.1))
    assert not verdict(runs[0], off, *runs[2:]).passed
    nobody = silent(MIGRATED, who=(0, 1))
    found = verdict(runs[0], nobody, *runs[2:])
    assert any("no rank logged a loss" in f for f in found.failures)


def test_a_step_that_is_not_logged_is_judged_by_the_rest_of_it():
    """As where a configuration asks for every other step."""

    def every_other(run, first=2, **changes):
        steps = tuple(
            replace(s, loss=None if s.step % 2 == first % 2 else s.loss, **changes)
            for s in run.ranks[0].steps
        )
        return Trace(run.party, tuple(replace(r, steps=steps) for r in run.ranks))

    runs = [every_other(run) for run in (BASELINE, MIGRATED, REFERENCE, CONTROL)]
    assert verdict(*runs).passed
    off = every_other(MIGRATED, gradients=9.0)
    assert any("gradients" in f for f in verdict(runs[0], off, *runs[2:]).failures)
    others = every_other(MIGRATED, first=1)
    found = verdict(runs[0], others, *runs[2:])
    assert any("loss: migrated and reference differ" in f for f in found.failures)
