"""What is read back of a run, of killed ranks and of several stages."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from migrator.verify.judge.trace import RankTrace, Step, Trace, last_step, read_trace

from parties import trace, verdict


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


def test_pipeline_stages_are_put_together():
    first, last = trace("migrated", "replicate").ranks
    moved = replace(
        last, parameters={"layers.5.weight": last.parameters["layers.0.weight"]}
    )
    whole = Trace("migrated", (first, moved))
    assert set(whole.parameters) == {"layers.0.weight", "layers.5.weight"}
    assert whole.steps[0].gradients == pytest.approx(2**0.5 * first.steps[0].gradients)


def test_trace_of_a_killed_rank_is_read_up_to_its_last_whole_line(tmp_path):
    (tmp_path / "rank1.jsonl").write_text(
        '{"event": "start", "time": 1.0, "rank": 1, "pid": 1, "python": "3", "torch": "2.13.0"}\n'
        '{"event": "step", "time": 2.0, "step": 1, "loss": 0.1, "grad_norm": 0.2, "gradients": 0.2, "tokens": 3, "seconds": 1.0}\n'
        '{"event": "step", "time": 3.0, "st'
    )
    (tmp_path / "rank0.jsonl").write_text("")
    trace = read_trace("migrated", tmp_path)
    assert [rank.rank for rank in trace.ranks] == [0, 1]
    assert trace.ranks[1].steps[0].loss == 0.1 and not trace.ranks[1].ended


def test_progress_shows_the_loss_of_the_last_stage(tmp_path):
    """The other stages of a pipeline write -1."""
    for rank, steps in ((0, (1, 2)), (10, (1,)), (9, (1, 2))):
        lines = (
            json.dumps(
                {
                    "event": "step",
                    "step": n,
                    "loss": 8.0 - n if rank == 10 else -1.0,
                    "grad_norm": 1.0,
                }
            )
            for n in steps
        )
        (tmp_path / f"rank{rank}.jsonl").write_text("{}\n" + "\n".join(lines) + "\n")
    assert last_step(tmp_path) == Step(1, 7.0, 1.0)


def test_progress_shows_the_loss_of_the_rank_that_logs(tmp_path):
    for rank, loss in ((0, 7.0), (1, None)):
        event = {"event": "step", "step": 1, "loss": loss, "grad_norm": 1.0}
        (tmp_path / f"rank{rank}.jsonl").write_text(f"{{}}\n{json.dumps(event)}\n")
    assert last_step(tmp_path) == Step(1, 7.0, 1.0)


def test_what_is_logged_belongs_to_its_step_and_is_put_together(tmp_path):
    step = {"event": "step", "time": 1.0, "loss": 8.0, "grad_norm": 1.0}
    logged = {"event": "logged", "time": 1.0, "step": 2}
    lines = [
        {**step, "step": 1},
        {**step, "step": 2},
        {**logged, "values": {"loss": 8.0}},
        {**logged, "values": {"validation": 7.0}},
    ]
    (tmp_path / "rank0.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    (rank,) = read_trace("migrated", tmp_path).ranks
    assert [s.logged for s in rank.steps] == [{}, {"loss": 8.0, "validation": 7.0}]


@pytest.mark.parametrize(
    "seen, said",
    [
        ((), None),
        ((1, 2, 3, 4), "in eval mode"),
        ((3, 4), "in eval mode from step 3 on"),
        ((2, 4), "in eval mode in step 2, 4"),
    ],
)
def test_in_which_steps_a_module_is_in_eval_mode(tmp_path, seen, said):
    lines = [{"event": "model", "time": 1.0, "root": []}]
    for n in (1, 2, 3, 4):
        figures = {"gradients": {}, "weights": {}, "data": None}
        at = {"time": 1.0, "step": n}
        evaluating = ["layers.0"] if n in seen else []
        lines += [
            {"event": "figures", **at, **figures, "evaluating": evaluating},
            {"event": "step", **at, "loss": 8.0, "grad_norm": 1.0},
        ]
    (tmp_path / "rank0.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    found = read_trace("migrated", tmp_path).model["evaluating"]
    assert found.get("layers.0") == said


def test_a_validation_belongs_to_its_step_wherever_it_is_written(tmp_path):
    step = {"event": "step", "time": 1.0, "grad_norm": 1.0}
    seen = {"event": "validation", "time": 1.0, "step": 2, "loss": 5.0}
    steps = [{**step, "step": n, "loss": None} for n in (1, 2)]
    for rank, order in ((0, [*steps, seen]), (1, [steps[0], seen, steps[1]])):
        lines = map(json.dumps, order)
        (tmp_path / f"rank{rank}.jsonl").write_text("\n".join(lines) + "\n")
    for rank in read_trace("migrated", tmp_path).ranks:
        assert [s.validation for s in rank.steps] == [None, 5.0]
