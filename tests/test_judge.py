"""The judge on planted traces: what a wrong migration looks like, and that each kind fails for the right reason."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from migrator.verify.judge import (
    compare_steps,
    constant_ratio,
    judge,
    judge_combination,
    judge_unchanged,
    Verification,
    wrapping,
)
from migrator.verify.launch import killed_rank
from migrator.verify.trace import RankTrace, Step, Trace

DP = 2
STEPS = 4
GROUPS = ("", "tok_embeddings", "layers.0", "layers.1", "norm", "output")
KINDS = {
    "ddp": ["DDP"],
    "replicate": ["ReplicateModule", "FSDPModule"],
    "fsdp": ["FSDPModule"],
}
PLACEMENTS = {"replicate": ["R"], "fsdp": ["S(0)"]}


def model(kind: str, groups=GROUPS, dtype="float32") -> dict:
    parameter = {"shape": [4, 4], "dtype": dtype}
    if kind in PLACEMENTS:
        parameter |= {"placements": PLACEMENTS[kind], "mesh": [DP]}
    wrapped = {name: KINDS[kind] for name in (("",) if kind == "ddp" else groups)}
    return {
        "root": [],
        "wrapped": wrapped,
        "parameters": {"layers.0.weight": parameter},
    }


def trace(
    party: str, kind: str, *, scale=1.0, loss=0.0, digest="d", **changes
) -> Trace:
    """A run whose gradients are `scale` times, and whose losses are `loss` above, the right ones."""
    steps = tuple(
        Step(
            n,
            loss=8.0 - n / 4 + loss,
            grad_norm=(1.0 + n / 10) * scale,
            gradients=(1.0 + n / 10) * scale,
            tokens=512,
        )
        for n in range(1, STEPS + 1)
    )
    value = {"norm": 3.0, "sum": 1.0, "digest": digest}
    rank = RankTrace(
        0, steps, model(kind), {"layers.0.weight": value}, "2.13.0", None, True
    )
    rank = replace(rank, **changes)
    return Trace(party, tuple(replace(rank, rank=n) for n in range(DP)))


BASELINE = trace("baseline", "ddp")
MIGRATED = trace("migrated", "replicate")
REFERENCE = trace("reference", "fsdp")
CONTROL = trace("control", "fsdp")
HALVED = trace("baseline", "ddp", scale=1 / DP)


def verdict(
    baseline=BASELINE,
    migrated=MIGRATED,
    reference=REFERENCE,
    control=CONTROL,
    **options,
):
    return judge(baseline, migrated, reference, control, steps=STEPS, dp=DP, **options)


def test_right_migration_passes_bitwise():
    found = verdict()
    assert found.passed and not found.failures and not found.notes
    assert {c.verdict for c in found.comparisons} == {"bitwise"}


def test_last_digits_are_within_tolerance():
    found = verdict(reference=trace("reference", "fsdp", scale=1 + 1e-7, loss=1e-7))
    assert found.passed
    assert {
        c.verdict
        for c in found.comparisons
        if c.left == "migrated" and c.right == "reference"
    } == {"within", "bitwise"}


def test_ddp_that_divides_twice_is_named_and_passes():
    found = verdict(baseline=HALVED)
    assert found.passed
    assert "DDP divided the gradients twice" in found.notes[0]


def test_migration_that_keeps_dividing_twice_fails():
    found = verdict(
        baseline=HALVED,
        migrated=trace("migrated", "replicate", scale=1 / DP),
    )
    assert not found.passed
    assert any(
        "divided by the data-parallel degree twice (as under DDP)" in f
        for f in found.failures
    )


def test_sum_where_average_is_right_fails():
    found = verdict(migrated=trace("migrated", "replicate", scale=DP))
    assert not found.passed
    assert any("summed over the data-parallel ranks" in f for f in found.failures)


def test_small_departure_from_step_two_on_is_placed():
    off = trace("migrated", "replicate")
    steps = tuple(
        replace(s, loss=s.loss + (1e-3 if s.step >= 2 else 0)) for s in off.steps
    )
    off = Trace("migrated", tuple(replace(r, steps=steps) for r in off.ranks))
    comparison = compare_steps("loss", off, REFERENCE)
    assert comparison.verdict == "different" and comparison.first_different == 2
    assert not verdict(migrated=off).passed


def test_agreeing_with_fsdp_but_not_with_a_right_baseline_fails():
    # 0.8e-5 on either side of the reference: each is within, the two are not.
    found = verdict(
        baseline=trace("baseline", "ddp", scale=1 - 0.8e-5),
        migrated=trace("migrated", "replicate", scale=1 + 0.8e-5),
    )
    assert not found.passed
    assert any("migrated and baseline differ" in f for f in found.failures)


def test_migration_that_changes_fsdp_too_fails():
    found = verdict(
        migrated=trace("migrated", "replicate", scale=3),
        reference=trace("reference", "fsdp", scale=3),
    )
    assert not found.passed
    assert any("changed what FSDP does" in f for f in found.failures)


def test_fsdp_and_replicate_that_both_divide_twice_fail():
    """All three agree with each other; only FSDP of the base revision tells."""
    found = verdict(
        baseline=HALVED,
        migrated=trace("migrated", "replicate", scale=1 / DP),
        reference=trace("reference", "fsdp", scale=1 / DP),
    )
    assert not found.passed
    assert any("changed what FSDP does" in f for f in found.failures)


def test_wrong_baseline_with_an_equal_control_passes_with_a_note():
    found = verdict(baseline=trace("baseline", "ddp", loss=0.5))
    assert found.passed and "departs from FSDP of its own revision" in found.notes[0]


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


def test_crash_shows_the_first_rank_that_failed():
    late = {
        "time": 2.0,
        "type": "RuntimeError",
        "message": "Connection closed by peer",
        "traceback": "late",
    }
    early = {
        "time": 1.0,
        "type": "NameError",
        "message": "name 'apply_ddp' is not defined",
        "traceback": "early",
    }
    bare = Trace("migrated", (RankTrace(0, error=late), RankTrace(1, error=early)))
    found = verdict(migrated=bare)
    assert not found.passed and found.details == "early"
    assert "rank 1 failed with NameError" in found.failures[0]


def test_killed_rank_is_read_from_torchruns_summary():
    entry = "  time : now\n  host : localhost\n  rank      : {} (local_rank: {})\n  exitcode  : {} (pid: 7)\n"
    log = (
        "Failures:\n[1]:\n"
        + entry.format(0, 0, -15)
        + "Root Cause (first observed failure):\n[0]:\n"
        + entry.format(1, 1, -9)
    )
    assert killed_rank(log) == (1, 9)
    assert killed_rank(log.replace("-9", "1")) is None
    assert killed_rank("") is None


def test_broken_call_site_elsewhere_fails():
    assert not verdict(
        broken=("models/qwen3/parallelize.py:7 imports apply_ddp …",)
    ).passed


def test_parameters_that_differ_in_a_bit_only_are_not_bitwise():
    found = verdict(migrated=trace("migrated", "replicate", digest="e"))
    parameters = [
        c
        for c in found.comparisons
        if c.quantity == "parameters" and c.left == "migrated"
    ]
    assert [c.verdict for c in parameters] == ["within", "within"]


def test_constant_ratio_needs_one_ratio_in_every_step():
    assert constant_ratio(HALVED, REFERENCE) == pytest.approx(0.5)
    steps = tuple(replace(s, gradients=s.gradients * s.step) for s in MIGRATED.steps)
    assert (
        constant_ratio(
            Trace("migrated", (replace(MIGRATED.ranks[0], steps=steps),)), REFERENCE
        )
        is None
    )


def test_verdict_is_plain_data():
    assert Verification({"dp": verdict()}).to_dict()["passed"] is True


# Cells that DDP never did


ERROR = {
    "type": "RuntimeError",
    "message": "DDP has not supported it",
    "time": 1.0,
    "traceback": "T",
}
REFUSES = Trace("baseline", (RankTrace(0, error=ERROR),))


def combination(baseline=REFUSES, migrated=MIGRATED, reference=REFERENCE):
    return judge_combination(
        baseline, migrated, reference, steps=STEPS, ranks=DP, dp=DP
    )


def test_a_combination_passes_against_fsdp_and_says_that_ddp_refuses():
    found = combination()
    assert found.passed
    assert found.notes == ("DDP refuses: RuntimeError: DDP has not supported it",)


def test_a_combination_that_departs_from_fsdp_fails():
    assert not combination(migrated=trace("migrated", "replicate", scale=1.01)).passed


def test_a_migrated_tree_that_crashes_in_a_combination_fails():
    crashed = Trace("migrated", (RankTrace(0, error=ERROR),))
    found = combination(migrated=crashed)
    assert not found.passed and not found.not_run and found.details == "T"


def test_without_a_reference_a_combination_is_not_judged():
    crashed = Trace("reference", (RankTrace(0, error=ERROR),))
    found = combination(reference=crashed)
    assert found.word == "not run" and "does not train" in found.not_run


def test_ddp_whose_weights_never_move_is_named():
    value = {"norm": 3.0, "sum": 1.0, "digest": "start"}
    still = trace(
        "baseline", "ddp", loss=0.5, digest="start", initial={"layers.0.weight": value}
    )
    found = combination(baseline=still)
    assert found.passed
    assert "never move" in found.notes[0] and "layers.0.weight" in found.notes[0]


def test_ddp_that_lost_its_parameters_is_named():
    found = combination(baseline=trace("baseline", "ddp", loss=0.5, parameters={}))
    assert "are not its any more" in found.notes[0]


def test_a_path_that_must_not_change_has_to_be_bitwise():
    after = trace("reference", "fsdp")
    assert judge_unchanged(CONTROL, after, steps=STEPS, ranks=DP).passed
    after = trace("reference", "fsdp", loss=1e-7)
    assert not judge_unchanged(CONTROL, after, steps=STEPS, ranks=DP).passed


def test_a_verification_in_which_nothing_ran_has_not_passed():
    crashed = Trace("reference", (RankTrace(0, error=ERROR),))
    not_run = combination(reference=crashed)
    assert not Verification({"dp+tp": not_run}).passed
    assert Verification({"dp": verdict(), "dp+tp": not_run}).passed
    assert not Verification(
        {"dp": verdict(), "dp+tp": combination(migrated=HALVED)}
    ).passed


def test_pipeline_stages_are_put_together():
    first, last = trace("migrated", "replicate").ranks
    moved = replace(
        last, parameters={"layers.5.weight": last.parameters["layers.0.weight"]}
    )
    whole = Trace("migrated", (first, moved))
    assert set(whole.parameters) == {"layers.0.weight", "layers.5.weight"}
    assert whole.steps[0].gradients == pytest.approx(
        2**0.5 * first.steps[0].gradients
    )


# Precision


def with_model(party: str, kind: str, **changes) -> Trace:
    return trace(party, kind, model={**model(kind), **changes})


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
