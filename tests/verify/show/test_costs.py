"""The table of costs in `migrator/verify/README.md`."""

from __future__ import annotations

from migrator.verify.show.costs import costs_table

MEMORY = {"parameters": 1 << 30, "gradients": 1 << 30, "optimizer": 2 << 30}


def collective(kind, over, calls, gib):
    return {
        "kind": kind,
        "over": over,
        "dtype": "float32",
        "calls": calls,
        "bytes": gib << 30,
    }


def scene(migrated, reference):
    return {
        "model": "llama3/8B",
        "layout": {"dp_replicate": 2, "pp": 2},
        "seconds": 12.4,
        "steps": {"migrated": migrated, "reference": reference},
    }


def step(*collectives, unsharded=0):
    memory = {**MEMORY, "unsharded": unsharded << 30}
    return {"collectives": list(collectives), "memory": memory}


def test_a_row_tells_the_fullest_stage_by_dimension():
    full = step(
        collective("all-reduce", "dp_replicate", 34, 30),
        collective("all-gather", "tp", 4, 2),
        collective("reduce-scatter", "tp", 4, 2),
        collective("send", "pp", 8, 1),
        unsharded=4,
    )
    sharded = step(
        collective("all-gather", "fsdp", 67, 1500), collective("send", "pp", 8, 1)
    )
    *_, row, _ = costs_table([scene([step(), full], [sharded])])
    cells = [cell.strip().replace("\\", "") for cell in row.strip("|").split("|")]
    assert cells == [
        "llama3/8B",
        "dp_replicate=2,pp=2",
        "34 all-reduce, 30 GiB float32",
        "67 all-gather, 1500 GiB float32",
        "tp: 8, 4 GiB; pp: 8, 1 GiB",
        "1 + 1 + 2 + 4 = 8 GiB",
        "1 + 1 + 2 + 0 = 4 GiB",
        "12",
    ]


def test_what_was_not_counted_says_why_and_what_was_not_asked_has_no_row():
    problem = {"problem": "boom", "memory": {**MEMORY, "unsharded": 0}}
    assert "not counted: boom" in "\n".join(costs_table([scene([problem], [problem])]))
    without = {**scene([], []), "steps": {}}
    assert "llama3" not in "\n".join(costs_table([without]))
