"""The judge on planted traces: what a wrong migration looks like, and that each kind fails for the right reason."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from migrator.verify.judge.causes import by_a_factor, scaled_otherwise
from migrator.verify.judge.early import without_fsdp
from migrator.verify.judge.judges import (
    judge_alone,
    judge_combination,
    judge_exported,
    judge_fresh,
    judge_parity,
    judge_resumed,
    judge_unchanged,
)
from migrator.verify.judge.trace import RankTrace, Trace
from migrator.verify.judge.verdict import Terms, Verdict, Verification

from parties import (
    BASELINE,
    CONTROL,
    DP,
    ERROR,
    HALVED,
    MIGRATED,
    REFERENCE,
    REFUSES,
    STEPS,
    TERMS,
    combination,
    model,
    trace,
    verdict,
    with_model,
)


def test_right_migration_passes_bitwise():
    found = verdict()
    assert found.passed and not found.failures and not found.notes
    assert {c.verdict for c in found.comparisons} == {"bitwise"}


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


def test_verdict_is_plain_data():
    plain = Verification({"llama3": {"dp": verdict()}}).to_dict()
    assert (
        json.loads(json.dumps(plain))["models"]["llama3"]["dp"]["verdict"] == "passed"
    )


# Cells that DDP never did


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


# Noise


def test_without_noise_there_is_no_verdict():
    crashed = Trace("nudged", (RankTrace(0, error=ERROR),))
    runs = {run.party: run for run in (BASELINE, MIGRATED, REFERENCE, crashed)}
    found = judge_combination(runs, TERMS)
    assert found.word == "not run" and "noise could not be measured" in found.not_run


# Checkpoints and exports


WRITTEN = {"layers.0.weight": {"norm": 3.0, "sum": 1.0, "digest": "half"}}


def going_on(party: str, kind: str, **changes) -> Trace:
    """A run that begins halfway."""
    run = trace(party, kind, initial=WRITTEN, **changes)
    ranks = (replace(rank, steps=rank.steps[STEPS // 2 :]) for rank in run.ranks)
    return Trace(party, tuple(ranks))


def with_gradient(run: Trace, norm: float) -> Trace:
    """A run whose one gradient has this norm in every step."""
    ranks = (
        replace(
            rank,
            steps=tuple(
                replace(s, each_gradient={"w": [norm, 0.0]}) for s in rank.steps
            ),
        )
        for rank in run.ranks
    )
    return replace(run, ranks=tuple(ranks))


def resumed(terms: Terms = TERMS, **changes: Trace) -> Verdict:
    runs = {
        "baseline": trace("baseline", "ddp", halfway=WRITTEN),
        "migrated": trace("migrated", "replicate", halfway=WRITTEN),
        "resumed": going_on("resumed", "replicate"),
        "resumed-reference": going_on("resumed-reference", "fsdp"),
        "returned": going_on("returned", "ddp"),
    }
    return judge_resumed(runs | changes, terms)


def test_checkpoints_go_across_in_both_directions():
    found = resumed()
    assert found.passed and not found.notes
    pairs = {(c.left, c.right) for c in found.comparisons}
    assert ("resumed", "baseline") in pairs and ("returned", "migrated") in pairs


def test_a_resumed_curve_that_departs_fails():
    assert not resumed(resumed=going_on("resumed", "replicate", loss=0.1)).passed
    assert not resumed(returned=going_on("returned", "ddp", loss=0.1)).passed


def test_one_gradient_that_departs_behind_a_checkpoint_fails():
    within = {("gradient", step, "w"): 1e-5 for step in range(1, STEPS + 1)}
    terms = replace(TERMS, each=within)
    reference = with_gradient(going_on("resumed-reference", "fsdp"), 1.0)
    runs = {
        norm: with_gradient(going_on("resumed", "replicate"), norm)
        for norm in (1.0, 1.001)
    }
    right, wrong = (
        resumed(terms, **{"resumed": run, "resumed-reference": reference})
        for run in runs.values()
    )
    assert right.passed
    assert "the gradient of w in step" in " ".join(wrong.failures)


def test_weights_that_come_back_changed_fail():
    other = {"layers.0.weight": {"norm": 3.0, "sum": 1.0, "digest": "other"}}
    run = going_on("resumed", "replicate")
    ranks = tuple(replace(rank, initial=other) for rank in run.ranks)
    found = resumed(resumed=Trace("resumed", ranks))
    assert any("is not what was written" in failure for failure in found.failures)


@pytest.mark.parametrize(
    "writer, reader", [("baseline", "resumed"), ("migrated", "returned")]
)
def test_a_state_of_optimizers_that_comes_back_changed_fails(writer, reader):
    kinds = {"baseline": "ddp", "migrated": "replicate"}
    state = {"exp_avg of layers.0.weight": WRITTEN["layers.0.weight"]}
    wrote = trace(writer, kinds[writer], halfway=WRITTEN, state={"halfway": state})
    kind = "replicate" if reader == "resumed" else "ddp"

    def read(digest):
        value = {**WRITTEN["layers.0.weight"], "digest": digest}
        run = going_on(reader, kind)
        kept = {"initial": {"exp_avg of layers.0.weight": value}}
        ranks = (replace(rank, state=kept) for rank in run.ranks)
        return Trace(reader, tuple(ranks))

    as_written = WRITTEN["layers.0.weight"]["digest"]
    assert resumed(**{writer: wrote, reader: read(as_written)}).passed
    found = resumed(**{writer: wrote, reader: read("other")})
    assert any(
        "exp_avg of layers.0.weight is not what was written" in f
        for f in found.failures
    )
    assert not resumed(**{writer: wrote}).passed


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


# Precision


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


def started(party: str, kind: str, *digests: str) -> Trace:
    """A run of one step whose ranks begin with these weights."""
    one = trace(party, kind, steps=BASELINE.ranks[0].steps[:1])
    value = {"norm": 3.0, "sum": 1.0}
    ranks = (
        replace(rank, initial={"layers.0.weight": {**value, "digest": digest}})
        for rank, digest in zip(one.ranks, digests, strict=True)
    )
    return Trace(party, tuple(ranks))


def test_ranks_that_ddp_made_alike_and_replicate_leaves_apart_fail():
    ddp, apart = started("baseline", "ddp", "a", "a"), ("a", "b")
    right = judge_fresh(
        {"baseline": ddp, "migrated": started("migrated", "replicate", "a", "a")}, TERMS
    )
    assert right.passed and "All 1 parameters start alike" in right.notes[0]
    wrong = judge_fresh(
        {"baseline": ddp, "migrated": started("migrated", "replicate", *apart)}, TERMS
    )
    assert wrong.word == "failed"
    assert (
        "layers.0.weight is not the same on ranks 0 and 1 before the first step"
        in wrong.failures[0]
    )
    assert "seed all data-parallel ranks alike" in wrong.failures[1]


def test_a_start_that_crashes_is_the_migrations_unless_ddp_crashes_too():
    broken = Trace("migrated", (RankTrace(0, error=ERROR),))
    ddp = started("baseline", "ddp", "a", "a")
    assert judge_fresh({"baseline": ddp, "migrated": broken}, TERMS).word == "failed"
    assert (
        judge_fresh({"baseline": REFUSES, "migrated": broken}, TERMS).word == "not run"
    )


def of_one_rank(alone: float, ddp: float, fsdp: float) -> dict[str, Trace]:
    """Runs of one step on the data of one rank, with gradients of these sizes."""
    return {
        "alone": trace("alone", "fsdp", scale=alone),
        "alike-baseline": trace("alike-baseline", "ddp", scale=ddp),
        "alike-control": trace("alike-control", "fsdp", scale=fsdp),
    }


@pytest.mark.parametrize(
    "scales, word, said",
    [
        ((1.0, 0.5, 1.0), "passed", "DDP's are 0.5 times those: FSDP is right"),
        (
            (0.5, 0.5, 1.0),
            "failed",
            "FSDP's are 2 times those (2 data-parallel ranks): DDP was right",
        ),
        ((0.7, 0.5, 1.0), "passed", "one rank cannot say which of them is right"),
    ],
)
def test_one_rank_says_whether_ddp_or_fsdp_is_right(scales, word, said):
    runs = {run.party: run for run in (HALVED, MIGRATED, REFERENCE, CONTROL)}
    found = judge_parity({**runs, **of_one_rank(*scales)}, TERMS)
    assert found.word == word
    assert any(said in sentence for sentence in (*found.failures, *found.notes))


def test_one_rank_that_does_not_train_is_said():
    runs = {run.party: run for run in (HALVED, MIGRATED, REFERENCE, CONTROL)}
    broken = {
        **of_one_rank(1, 1, 1),
        "alone": Trace("alone", (RankTrace(0, error=ERROR),)),
    }
    found = judge_parity({**runs, **broken}, TERMS)
    assert found.passed
    assert any("One rank could not say" in note for note in found.notes)


def test_one_rank_is_asked_where_a_factor_lies_between_ddp_and_fsdp():
    assert by_a_factor({"baseline": HALVED, "control": CONTROL})
    assert not by_a_factor({"baseline": BASELINE, "control": CONTROL})
    assert not by_a_factor({"baseline": REFUSES, "control": CONTROL})


NO_FSDP = trace("control", "fsdp", error=ERROR, steps=())
SINGLE = replace(trace("single", "none"), ranks=trace("single", "none").ranks[:1])

ALIKE = trace("alike-migrated", "replicate")


def by_one_rank(
    baseline=BASELINE,
    migrated=MIGRATED,
    single=SINGLE,
    alike=ALIKE,
):
    runs = (baseline, migrated, NO_FSDP, single, alike)
    return judge_alone({run.party: run for run in runs}, TERMS)


def test_a_fork_without_fsdp_is_held_against_one_rank():
    found = by_one_rank()
    assert found.passed, found.failures
    assert "the reference is one rank of the base revision" in found.notes[0]
    pairs = {(c.left, c.right) for c in found.comparisons}
    assert pairs == {("alike-migrated", "single"), ("migrated", "baseline")}


def test_without_fsdp_a_factor_is_still_told():
    summed = trace("alike-migrated", "replicate", scale=DP)
    found = by_one_rank(alike=summed)
    assert any(
        "gradients: alike-migrated and single differ" in f for f in found.failures
    )


def with_gradients(run, factor=1.0, **others):
    """A run whose parameters have gradients of a norm each, times a factor, some others."""
    norms = {f"layers.{n}.weight": 3.0 + n for n in range(12)}
    each = {k: [factor * v * others.get(k, 1.0), 0.0] for k, v in norms.items()}
    return replace(
        run,
        ranks=tuple(
            replace(
                rank, steps=tuple(replace(s, each_gradient=each) for s in rank.steps)
            )
            for rank in run.ranks
        ),
    )


HOOKED = {"layers.3.weight": 0.5}


def test_without_fsdp_ddp_that_divides_twice_is_no_reference():
    halved, migrated = with_gradients(HALVED, 0.5), with_gradients(MIGRATED)
    found = by_one_rank(baseline=halved, migrated=migrated)
    assert found.passed, found.failures
    assert "DDP's gradients are 0.5 times the migrated tree's" in found.notes[-1]
    hooked = with_gradients(HALVED, 0.5, **HOOKED)
    assert not by_one_rank(baseline=hooked, migrated=migrated).passed


def test_a_layout_in_which_fsdp_itself_scales_gradients_is_named():
    """As torchtitan 0.2.2 does under pipelining."""
    large = trace("reference", "fsdp", scale=1024.0)
    (said,) = scaled_otherwise(REFERENCE, large)
    assert "1024 times those of dp in step 1" in said
    assert scaled_otherwise(REFERENCE, trace("reference", "fsdp", scale=2.0)) == []
    assert scaled_otherwise(None, large) == scaled_otherwise(REFERENCE, None) == []


def test_what_acts_on_one_parameter_under_ddp_alone_is_named():
    """As a hook does, which neither FSDP nor replicate calls."""
    migrated, reference = with_gradients(MIGRATED), with_gradients(REFERENCE)
    for baseline in (
        with_gradients(HALVED, 0.5, **HOOKED),
        with_gradients(trace("baseline", "ddp", loss=0.5), **HOOKED),
    ):
        found = verdict(baseline=baseline, migrated=migrated, reference=reference)
        (said,) = [n for n in found.notes if n.startswith("Look at this: ")]
        assert "under DDP something acts on layers.3.weight" in said and "TM222" in said
    alike = with_gradients(HALVED, 0.5)
    found = verdict(baseline=alike, migrated=migrated, reference=reference)
    assert not any("Look at this" in note for note in found.notes)


def test_without_fsdp_what_only_differs_on_data_of_their_own_fails():
    found = by_one_rank(migrated=trace("migrated", "replicate", loss=0.1))
    assert any("loss: migrated and baseline differ" in f for f in found.failures)
    apart = trace("migrated", "replicate")
    other = {"layers.0.weight": {"norm": 3.0, "sum": 1.0, "digest": "other"}}
    apart = replace(
        apart, ranks=(apart.ranks[0], replace(apart.ranks[1], parameters=other))
    )
    found = by_one_rank(migrated=apart)
    assert any("not the same on ranks 0 and 1" in f for f in found.failures)


def test_without_fsdp_a_crash_is_a_failure_and_one_rank_that_cannot_train_no_verdict():
    crash = trace("alike-migrated", "replicate", error=ERROR)
    assert by_one_rank(alike=crash).word == "failed"
    alone = trace("single", "none", error=ERROR)
    assert "neither FSDP nor one rank" in by_one_rank(single=alone).not_run


def test_only_a_migrated_tree_that_trains_needs_one_rank_for_fsdp():
    trains = {run.party: run for run in (BASELINE, MIGRATED, NO_FSDP)}
    assert without_fsdp(trains)
    assert not without_fsdp({**trains, "control": CONTROL})
    crash = trace("migrated", "replicate", error=ERROR)
    assert not without_fsdp({**trains, "migrated": crash})


def test_a_loss_that_is_scaled_is_not_taken_for_a_sum_over_ranks():
    twice = trace("migrated", "replicate", scale=DP)
    steps = tuple(replace(s, loss=DP * s.loss) for s in MIGRATED.steps)
    scaled = [
        replace(s, gradients=t.gradients, grad_norm=t.grad_norm)
        for s, t in zip(steps, twice.steps)
    ]
    found = combination(migrated=trace("migrated", "replicate", steps=tuple(scaled)))
    assert any("the loss is scaled otherwise" in f for f in found.failures)
    assert not any("summed over the" in f for f in found.failures)
    assert any("summed over the" in f for f in combination(migrated=twice).failures)


def test_replicas_that_part_under_ddp_are_its_own_mistake():
    off = trace("baseline", "ddp", loss=0.5)
    other = {"layers.0.weight": {"norm": 3.0, "sum": 1.0, "digest": "other"}}
    apart = replace(off, ranks=(off.ranks[0], replace(off.ranks[1], parameters=other)))
    found = combination(baseline=apart)
    assert found.passed
    assert "DDP mistrains: its replicas part, layers.0.weight is not" in found.notes[0]
