"""The judge on planted traces: what a wrong migration looks like, and that each kind fails for the right reason."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from migrator.verify.judge.checks import wrapping
from migrator.verify.judge.compare import (
    Tolerance,
    compare_steps,
    constant_ratio,
    measured_tolerances,
    too_noisy,
)
from migrator.verify.judge.judges import (
    judge_combination,
    judge_exported,
    judge_parity,
    judge_resumed,
    judge_unchanged,
)
from migrator.verify.judge.trace import RankTrace, Step, Trace
from migrator.verify.judge.verdict import Terms, Verdict, Verification
from migrator.verify.train.launch import killed_rank

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
    wrapped = dict.fromkeys(("",) if kind == "ddp" else groups, KINDS[kind])
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


TOLERANCES = {
    "loss": Tolerance(1e-5, "planted"),
    "grad_norm": Tolerance(1e-3, "planted"),
    "gradients": Tolerance(1e-5, "planted"),
    "tokens": Tolerance(0.0, "planted"),
    "parameters": Tolerance(1e-4, "planted"),
}
TERMS = Terms(STEPS, DP, DP, TOLERANCES)


def verdict(baseline=BASELINE, migrated=MIGRATED, reference=REFERENCE, control=CONTROL):
    runs = (baseline, migrated, reference, control)
    return judge_parity({run.party: run for run in runs}, TERMS)


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
    comparison = compare_steps("loss", off, REFERENCE, TOLERANCES)
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


def test_parameters_that_differ_in_a_bit_only_are_not_bitwise():
    found = verdict(migrated=trace("migrated", "replicate", digest="e"))
    parameters = [
        c
        for c in found.comparisons
        if c.quantity == "parameters" and c.left == "migrated"
    ]
    assert [c.verdict for c in parameters] == ["within", "within"]


def test_a_ratio_may_drift_once_clipping_has_parted_the_runs():
    steps = (
        replace(s, gradients=s.gradients * (1 - 0.03 * (s.step - 1)))
        for s in HALVED.steps
    )
    drifted = Trace("baseline", (replace(HALVED.ranks[0], steps=tuple(steps)),))
    assert constant_ratio(drifted, REFERENCE) == pytest.approx(0.5)


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
    plain = Verification({"llama3": {"dp": verdict()}}).to_dict()
    assert (
        json.loads(json.dumps(plain))["models"]["llama3"]["dp"]["verdict"] == "passed"
    )


# Cells that DDP never did


ERROR = {
    "type": "RuntimeError",
    "message": "DDP has not supported it",
    "time": 1.0,
    "traceback": "T",
}
REFUSES = Trace("baseline", (RankTrace(0, error=ERROR),))


def combination(baseline=REFUSES, migrated=MIGRATED, reference=REFERENCE):
    runs = (baseline, migrated, reference)
    return judge_combination({run.party: run for run in runs}, TERMS)


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
    def unchanged(after: Trace) -> Verdict:
        return judge_unchanged({"control": CONTROL, "reference": after}, TERMS)

    assert unchanged(trace("reference", "fsdp")).passed
    assert not unchanged(trace("reference", "fsdp", loss=1e-7)).passed


def test_a_verification_in_which_nothing_ran_has_not_passed():
    crashed = Trace("reference", (RankTrace(0, error=ERROR),))
    not_run = combination(reference=crashed)
    failed = combination(migrated=trace("migrated", "replicate", scale=0.5))

    def exit_code(**cells: Verdict) -> int:
        return Verification({"llama3": cells}).exit_code

    assert exit_code(tp=not_run) == 2
    assert exit_code(dp=verdict(), tp=not_run) == 0
    assert exit_code(dp=verdict(), tp=failed) == 1


def test_a_migrated_tree_that_crashes_where_nothing_trains_is_not_judged():
    crashed = Trace("migrated", (RankTrace(0, error=ERROR),))
    alone = Trace("reference", (RankTrace(0, error=ERROR),))
    found = combination(migrated=crashed, reference=alone)
    assert found.word == "not run" and "neither DDP nor FSDP trains" in found.not_run


def drifting(party: str, kind: str) -> Trace:
    """Four ranks, dp 2 and tp 2, in which the two of each tensor-parallel pair do not agree."""
    ranks = []
    for number in range(2 * DP):
        value = {"norm": 3.0, "sum": 1.0, "digest": f"tp{number % 2}"}
        run = trace(party, kind, model={**model(kind), "tensor": 2})
        final = {"layers.0.weight": value}
        ranks.append(replace(run.ranks[0], rank=number, parameters=final))
    return Trace(party, tuple(ranks))


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


def test_a_model_with_a_plan_of_its_own_may_not_change_at_all():
    def bare(party: str, **changes) -> Trace:
        kind = {**model("ddp"), "wrapped": {}}
        return trace(party, "ddp", model=kind, **changes)

    found = verdict(baseline=bare("baseline"), migrated=bare("migrated"))
    assert found.passed and "neither by DDP" in found.notes[0]
    moved = bare("migrated", loss=1e-7)
    assert not verdict(baseline=bare("baseline"), migrated=moved).passed


def test_ddp_that_loses_a_tie_is_named():
    value = BASELINE.ranks[0].parameters["layers.0.weight"]
    apart = trace(
        "baseline",
        "ddp",
        loss=0.5,
        parameters={"layers.0.weight": value, "output.weight": value},
    )
    found = verdict(baseline=apart)
    assert found.passed and "DDP trains output.weight by itself" in found.notes[0]


# Whose fault it is


def crashed(party: str) -> Trace:
    return Trace(party, (RankTrace(0, error=ERROR),))


def test_fsdp_that_only_the_migration_broke_fails():
    runs = (REFUSES, MIGRATED, crashed("reference"), CONTROL)
    found = judge_combination({run.party: run for run in runs}, TERMS)
    assert found.word == "failed" and "Reference (FSDP" in found.failures[0]
    assert verdict(reference=crashed("reference")).word == "failed"


def test_a_migrated_tree_that_crashes_where_fsdp_of_the_base_trains_fails():
    runs = (REFUSES, crashed("migrated"), crashed("reference"), CONTROL)
    assert judge_combination({run.party: run for run in runs}, TERMS).failures


def test_fsdp_that_lost_its_groups_fails_though_the_figures_agree():
    found = verdict(
        migrated=trace("migrated", "replicate", model=model("replicate", ("",))),
        reference=trace("reference", "fsdp", model=model("fsdp", ("",))),
    )
    assert any("changed how FSDP wraps" in failure for failure in found.failures)


@pytest.mark.parametrize("kind", ["replicate", "fsdp"])
def test_a_base_that_is_migrated_already_is_no_base(kind):
    found = verdict(baseline=trace("baseline", kind))
    assert found.word == "not run" and "--base" in found.not_run


def test_what_the_base_does_not_do_either_is_not_the_migrations_fault():
    lost = [replace(step, loss=math.nan) for step in CONTROL.steps]
    runs = [
        trace(party, kind, steps=tuple(lost))
        for party, kind in (
            ("baseline", "ddp"),
            ("migrated", "replicate"),
            ("reference", "fsdp"),
            ("control", "fsdp"),
        )
    ]
    found = verdict(*runs)
    assert found.word == "not run" and "loss is nan" in found.not_run


def test_ddp_whose_replicas_part_is_a_note():
    value = {"norm": 3.0, "sum": 1.0, "digest": "other"}
    first, last = BASELINE.ranks
    apart = replace(last, parameters={"layers.0.weight": value})
    found = verdict(baseline=Trace("baseline", (first, apart)))
    assert found.passed and "is not the same on ranks 0 and 1" in found.notes[0]


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


# Noise


def test_tolerances_are_ten_times_what_rounding_does_to_the_reference():
    nudged = trace("nudged", "fsdp", loss=8e-5)
    found = measured_tolerances(REFERENCE, nudged)
    step = REFERENCE.steps[-1]
    assert found["loss"].relative == pytest.approx(10 * 8e-5 / step.loss, rel=0.01)
    assert "differs from itself" in found["loss"].source
    # Nothing finer than float32 can be seen, and tokens are counted.
    assert found["gradients"].relative == pytest.approx(10 * 2.0**-23)
    assert found["tokens"].relative == 0


def test_a_model_that_rounding_takes_apart_cannot_be_judged():
    assert too_noisy(measured_tolerances(REFERENCE, trace("nudged", "fsdp"))) is None
    wild = trace("nudged", "fsdp", loss=0.5)
    assert too_noisy(measured_tolerances(REFERENCE, wild)) == "loss"
    lost = trace("nudged", "fsdp", loss=math.nan)
    assert too_noisy(measured_tolerances(REFERENCE, lost)) == "loss"


def test_without_noise_there_is_no_verdict():
    crashed = Trace("nudged", (RankTrace(0, error=ERROR),))
    runs = {run.party: run for run in (BASELINE, MIGRATED, REFERENCE, crashed)}
    found = judge_combination(runs, TERMS)
    assert found.word == "not run" and "noise could not be measured" in found.not_run


def test_the_largest_difference_of_an_element_is_named():
    import numpy

    def run(party: str, weight: float) -> Trace:
        weights = {"layers.0.weight": numpy.array([3.0, weight])}
        return replace(trace(party, "fsdp", digest=str(weight)), weights=weights)

    found = judge_unchanged(
        {"control": run("control", 0.0), "reference": run("reference", 0.25)}, TERMS
    ).comparisons[-1]
    assert found.element == "2.5e-01 in layers.0.weight"
    assert found.largest == pytest.approx(0.25 / 3.0)


# Checkpoints and exports

WRITTEN = {"layers.0.weight": {"norm": 3.0, "sum": 1.0, "digest": "half"}}


def going_on(party: str, kind: str, **changes) -> Trace:
    """A run that begins halfway."""
    run = trace(party, kind, initial=WRITTEN, **changes)
    ranks = (replace(rank, steps=rank.steps[STEPS // 2 :]) for rank in run.ranks)
    return Trace(party, tuple(ranks))


def resumed(**changes: Trace) -> Verdict:
    runs = {
        "baseline": trace("baseline", "ddp", halfway=WRITTEN),
        "migrated": trace("migrated", "replicate", halfway=WRITTEN),
        "resumed": going_on("resumed", "replicate"),
        "resumed-reference": going_on("resumed-reference", "fsdp"),
        "returned": going_on("returned", "ddp"),
    }
    return judge_resumed(runs | changes, TERMS)


def test_checkpoints_go_across_in_both_directions():
    found = resumed()
    assert found.passed and not found.notes
    pairs = {(c.left, c.right) for c in found.comparisons}
    assert ("resumed", "baseline") in pairs and ("returned", "migrated") in pairs


def test_a_resumed_curve_that_departs_fails():
    assert not resumed(resumed=going_on("resumed", "replicate", loss=0.1)).passed
    assert not resumed(returned=going_on("returned", "ddp", loss=0.1)).passed


def test_weights_that_come_back_changed_fail():
    other = {"layers.0.weight": {"norm": 3.0, "sum": 1.0, "digest": "other"}}
    run = going_on("resumed", "replicate")
    ranks = tuple(replace(rank, initial=other) for rank in run.ranks)
    found = resumed(resumed=Trace("resumed", ranks))
    assert any("is not what was written" in failure for failure in found.failures)


def test_ddp_that_trains_otherwise_is_no_measure_for_a_resumed_curve():
    halved = trace("baseline", "ddp", scale=1 / DP, halfway=WRITTEN)
    found = resumed(baseline=halved, returned=going_on("returned", "ddp", scale=1 / DP))
    assert found.passed and "do not train alike" in found.notes[0]


def test_a_checkpoint_that_cannot_be_loaded_fails():
    broken = Trace("returned", (RankTrace(0, error=ERROR),))
    found = resumed(returned=broken)
    assert found.word == "failed" and "resuming replicate's" in found.failures[0]


def exported(**changes: Trace) -> Verdict:
    runs = {
        "baseline": BASELINE,
        "migrated": MIGRATED,
        "reloaded": trace("reloaded", "replicate", initial=MIGRATED.parameters),
    }
    return judge_exported(runs | changes, TERMS)


def test_an_export_that_comes_back_bitwise_passes():
    assert exported().passed and "bitwise" in exported().notes[0]


def test_an_export_that_comes_back_otherwise_fails():
    other = trace("reloaded", "replicate", initial=WRITTEN)
    assert "do not come back" in exported(reloaded=other).failures[0]


def test_an_export_that_only_ddp_could_make_fails():
    crashed = Trace("migrated", (RankTrace(0, error=ERROR),))
    assert exported(migrated=crashed).word == "failed"
    neither = exported(migrated=crashed, baseline=REFUSES)
    assert neither.word == "not run" and "either" in neither.not_run


def test_pipeline_stages_are_put_together():
    first, last = trace("migrated", "replicate").ranks
    moved = replace(
        last, parameters={"layers.5.weight": last.parameters["layers.0.weight"]}
    )
    whole = Trace("migrated", (first, moved))
    assert set(whole.parameters) == {"layers.0.weight", "layers.5.weight"}
    assert whole.steps[0].gradients == pytest.approx(2**0.5 * first.steps[0].gradients)


# Precision


def with_model(party: str, kind: str, **changes) -> Trace:
    return trace(party, kind, model={**model(kind), **changes})


POLICY = {"param_dtype": "torch.bfloat16", "reduce_dtype": "torch.float32"}


def test_autocast_left_on_fails_whatever_the_figures_say():
    found = verdict(migrated=with_model("migrated", "replicate", autocast=True))
    assert not found.passed
    assert any("runs under autocast" in failure for failure in found.failures)


def test_ddp_under_autocast_is_shown_and_not_judged():
    """Near FSDP by chance, on the other side of it than replicate."""
    baseline = with_model("baseline", "ddp", autocast=True)
    steps = tuple(replace(s, loss=s.loss * (1 + 8e-6)) for s in baseline.ranks[0].steps)
    ranks = tuple(replace(rank, steps=steps) for rank in baseline.ranks)
    own = MIGRATED.ranks[0].steps
    below = tuple(replace(s, loss=s.loss * (1 - 8e-6)) for s in own)
    migrated = tuple(replace(rank, steps=below) for rank in MIGRATED.ranks)
    found = verdict(
        baseline=Trace("baseline", ranks), migrated=Trace("migrated", migrated)
    )
    assert found.passed, found.failures
    assert "under autocast" in found.notes[0]


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
