"""What ranks have in common, planted otherwise in the run on trial, and then in all runs alike."""

from __future__ import annotations

import pytest

from migrator.verify.judge.ranks import first_seen_apart, unlike
from migrator.verify.judge.trace import RankTrace, Step, Trace

DP, TENSOR = 2, 2


def run(party: str, **changes) -> Trace:
    """Four ranks, two data-parallel ones of two tensor-parallel ones each; a change is asked by rank."""
    ranks = []
    for number in range(DP * TENSOR):
        given = {key: change(number) for key, change in changes.items()}
        data = given.get("data", f"tokens of {number // TENSOR}")
        step = Step(1, 8.0, given.get("norm", 1.0), data=data)
        digest = given.get("weight", "w")
        ranks.append(
            RankTrace(
                number,
                (step,),
                {"tensor": TENSOR},
                initial={"a": {"norm": 1.0, "sum": 1.0, "digest": digest}},
                buffers={
                    "initial": {"b": given.get("buffer", "b")},
                    "parameters": {"b": given.get("late", "b")},
                },
                random=given.get("random", "r"),
            )
        )
    return Trace(party, tuple(ranks))


PLANTED = {
    "ranks 0 and 2 read the same data in step 1": {"data": lambda n: "same"},
    "ranks 0 and 1, which share a data-parallel rank, read different data": {
        "data": lambda n: f"of {n}"
    },
    "grad_norm is 1.0 on rank 0 and 2.0 on rank 3": {
        "norm": lambda n: 2.0 if n == 3 else 1.0
    },
    "a is not the same on ranks 0 and 2 before the first step": {
        "weight": lambda n: f"w{n // TENSOR}"
    },
    "buffer b is not the same on ranks 1 and 3 before the first step": {
        "buffer": lambda n: "c" if n == 3 else "b"
    },
    "buffer b is not the same on ranks 1 and 3 after the last step": {
        "late": lambda n: "c" if n == 3 else "b"
    },
    "random numbers are not the same on all ranks": {"random": lambda n: f"r{n}"},
}


@pytest.mark.parametrize("said", PLANTED)
def test_what_only_the_run_on_trial_does_is_said(said):
    trial = run("migrated", **PLANTED[said])
    found = unlike(trial, [run("reference"), run("baseline")], DP)
    assert any(said in sentence for sentence in found), found


@pytest.mark.parametrize("said", PLANTED)
def test_what_was_so_all_along_is_not_the_migrations(said):
    others = [run("reference", **PLANTED[said]), run("baseline")]
    assert unlike(run("migrated", **PLANTED[said]), others, DP) == []


def test_right_ranks_have_nothing_said_of_them():
    assert unlike(run("migrated"), [run("reference")], DP) == []
    assert unlike(run("migrated"), [], DP) == []


def test_other_data_than_before_is_said_though_the_ranks_agree():
    trial = run("migrated", data=lambda n: f"more tokens of {n // TENSOR}")
    (said,) = unlike(trial, [run("reference")], DP)
    assert "read other data than before" in said


@pytest.mark.parametrize(
    "buffer, said",
    [
        ("bfloat16 1", "buffer b is bfloat16, and was float32 before."),
        ("float32 1", "buffer b holds other values than before on rank 0."),
    ],
)
def test_a_buffer_that_is_another_than_before_is_named(buffer, said):
    def with_buffer(party, value, late=None):
        return run(party, buffer=lambda n: value, late=lambda n: late or value)

    before = [with_buffer(party, "float32 0") for party in ("reference", "baseline")]
    trial = with_buffer("migrated", buffer)
    assert unlike(trial, before, DP) == [f"Migrated tree: {said}"]
    # Of what changes in training the dtype alone is held against it.
    counting = [with_buffer(one.party, "float32 0", "float32 9") for one in before]
    assert len(unlike(trial, counting, DP)) == buffer.startswith("bfloat16")
    # DDP had it so.
    assert unlike(trial, [before[0], with_buffer("baseline", buffer)], DP) == []


def test_a_pipelines_later_stages_read_no_data():
    def stage(n):
        return f"tokens of {n}" if n < DP else None

    assert unlike(run("migrated", data=stage), [run("reference", data=stage)], DP) == []


def test_the_first_step_and_parameter_in_which_replicas_part():
    def of(number, second=1.0, late=1.0):
        first, last = ({"a": [1.0, 0.0], "b": [x, 0.0]} for x in (second, late))
        steps = (
            Step(1, 8.0, 1.0, each_gradient=first, each_weight=first),
            Step(2, 8.0, 1.0, each_gradient=last, each_weight={"a": [late, 0.0]}),
        )
        return RankTrace(number, steps)

    assert first_seen_apart([of(0), of(1)]) == ""
    assert (
        first_seen_apart([of(0), of(1, second=2.0)])
        == " First apart: the gradient of b in step 1."
    )
    assert "b in step 2" in first_seen_apart([of(0), of(1, late=2.0)])
