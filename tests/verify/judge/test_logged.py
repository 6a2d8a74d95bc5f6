"""What loggers were given, as planted: wrong in the log alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from migrator.verify.judge import each
from migrator.verify.judge.judges import judge_parity
from migrator.verify.judge.logged import limits, sentences
from migrator.verify.judge.trace import Trace
from migrator.verify.judge.verdict import Terms

from parties import (
    BASELINE,
    CONTROL,
    DP,
    MIGRATED,
    REFERENCE,
    STEPS,
    TOLERANCES,
    trace,
)

LOSS = "loss_metrics/global_avg_loss"
METRICS = {
    LOSS: 8.0,
    "loss_metrics/global_max_loss": 9.0,
    "grad_norm": 2.0,
    "n_tokens_seen": 512,
    "lr": 8e-4,
    "throughput(tps)": 100.0,
    "time_metrics/end_to_end(s)": 1.0,
    "memory/max_reserved(GiB)": 3.0,
    "tokens_per_second": 100.0,
    "fork/router_load": 0.5,
}


def logging(run: Trace, who=tuple(range(DP)), first=1, **changes: float | None):
    """A run that logs every other step; some ranks log some metrics otherwise from a step on."""

    def of(rank: int, step: int) -> dict[str, float]:
        if step % 2:
            return {}
        hit = changes if rank in who and step >= first else {}
        return {k: v for k, v in {**METRICS, **hit}.items() if v is not None}

    ranks = (
        replace(
            rank,
            steps=tuple(
                replace(step, logged=of(rank.rank, step.step)) for step in rank.steps
            ),
        )
        for rank in run.ranks
    )
    return Trace(run.party, tuple(ranks))


RIGHT = logging(REFERENCE)
QUIET = limits(RIGHT, logging(trace("nudged", "fsdp")))


def test_runs_that_log_the_same_have_nothing_said_of_them():
    assert sentences(logging(MIGRATED), RIGHT, QUIET) == []
    assert {step for _, step, _ in QUIET} == {2, 4}


@pytest.mark.parametrize(
    "name, value",
    [
        (LOSS, 8.0001),
        ("loss_metrics/global_max_loss", 8.0),
        ("grad_norm", 4.0),
        ("n_tokens_seen", 511),
        ("lr", 8.1e-4),
    ],
)
def test_what_is_logged_otherwise_is_said_once_with_rank_and_step(name, value):
    wrong = logging(MIGRATED, who=(1,), first=4, **{name: value})
    (said,) = sentences(wrong, RIGHT, QUIET)
    assert said.startswith(f"Logged: {name} is {value:.7g} on rank 1 in step 4, and ")


def test_what_is_not_logged_any_more_is_said():
    (said,) = sentences(logging(MIGRATED, **{LOSS: None}), RIGHT, QUIET)
    assert said == f"Logged: rank 0 logs no {LOSS} in step 2."


@pytest.mark.parametrize("name", METRICS)
def test_time_and_memory_and_what_only_a_fork_logs_are_not_judged(name):
    judged = ("logged", 2, name) in QUIET
    wrong = logging(MIGRATED, **{name: 7 * METRICS[name]})
    assert bool(sentences(wrong, RIGHT, QUIET)) == judged
    assert judged == (name in list(METRICS)[:5])


def test_what_rounding_makes_of_a_metric_is_let_pass():
    noise = limits(RIGHT, logging(trace("nudged", "fsdp"), **{LOSS: 8.0001}))
    near, far = (logging(MIGRATED, **{LOSS: 8 + by}) for by in (5e-4, 5e-3))
    assert sentences(near, RIGHT, noise) == [] != sentences(far, RIGHT, noise)
    hidden = limits(RIGHT, logging(trace("nudged", "fsdp"), **{LOSS: 9.0}))
    assert ("logged", 2, LOSS) not in hidden


def test_a_norm_that_is_summed_over_whole_tensors_is_let_pass():
    assert sentences(logging(MIGRATED, grad_norm=2.0004), RIGHT, QUIET) == []


def test_other_ranks_have_seen_other_tokens():
    single = Trace("single", RIGHT.ranks[:1])
    other = logging(MIGRATED, n_tokens_seen=1024)
    assert sentences(other, single, QUIET) == []


def test_the_judge_fails_a_cell_for_what_is_logged():
    """And where FSDP of the migrated tree logs it too."""
    terms = Terms(STEPS, DP, DP, TOLERANCES, each.limits(RIGHT, RIGHT))

    def failures(**wrong):
        runs = {
            one.party: logging(one, grad_norm=wrong.get(one.party, 2.0))
            for one in (BASELINE, MIGRATED, REFERENCE, CONTROL)
        }
        return " ".join(judge_parity(runs, terms).failures)

    assert failures() == ""
    assert "Logged: grad_norm is 4 on rank 0 in step 2" in failures(migrated=4.0)
    both = failures(migrated=4.0, reference=4.0)
    assert both.startswith("The migration changed what FSDP does") and "Logged" in both
