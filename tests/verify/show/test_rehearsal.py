"""How a rehearsal is told."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.console import Console

from migrator.verify.rehearse.layouts import layout
from migrator.verify.rehearse.verdict import Problem, Rehearsal, Scene
from migrator.verify.show import rehearsal

FOUND = Rehearsal(
    (
        Scene("llama3", layout(dp_replicate=2), seconds=1.5),
        Scene("qwen3", layout(tp=2), ("layers.0: a|b <i>.",), details="Traceback: x"),
        Scene("flux", layout(tp=2), not_run="no package"),
    ),
    seconds=3.0,
)


def printed():
    out = StringIO()
    console = Console(file=out, width=60)
    scenes = rehearsal.Scenes(console)
    for scene in FOUND.scenes:
        scenes.show(scene)
    rehearsal.show_end(FOUND, console)
    return out.getvalue()


def test_each_scene_is_a_line_and_says_why():
    text = printed()
    assert "llama3" in text and "dp_replicate=2" in text and "1.5 s" in text
    assert "    layers.0: a|b <i>." in text and "    because no package" in text
    assert "1 passed, 1 failed, 1 not run" in text


def test_how_to_get_a_package_is_said_once():
    out = StringIO()
    scenes = rehearsal.Scenes(Console(file=out, width=60))
    for name in ("flux", "vlm", "vlm"):
        why = "the package av is missing here: pip install av adds it"
        scenes.show(Scene(name, layout(tp=2), not_run=why))
    text = out.getvalue()
    assert text.count("pip install av") == 1
    assert text.count("because the package av is missing here, as above") == 2


def test_the_section_is_a_table_with_the_traceback_of_what_failed():
    lines = rehearsal.section(FOUND)
    assert "| llama3 | " in "\n".join(lines) and "Traceback: x" in lines
    assert not any("<i>" in line for line in lines)


def test_a_rehearsal_that_was_none_says_why():
    lines = rehearsal.section(Rehearsal(problem=Problem("no torch")))
    assert "Not run: no torch" in lines


def test_what_broke_by_itself_is_told_apart_with_its_traceback():
    broken = Scene("llama3", layout(tp=2), broken="boom", details="Traceback: y")
    found = Rehearsal((broken,), problem=Problem("it has ended", broken=True))
    lines = "\n".join(rehearsal.section(found))
    for words in (f"{rehearsal.OURS}: boom.", "Traceback: y", "ended early: it has"):
        assert words in lines
    out = StringIO()
    rehearsal.show_end(found, Console(file=out, width=60))
    assert "Traceback: y" in out.getvalue() and "1 broken" in out.getvalue()


def test_costs_are_told_by_kind_mesh_and_dtype_and_by_stage():
    def step(calls):
        reduced = {"kind": "all-reduce", "over": "dp_replicate", "dtype": "float32"}
        return {
            "collectives": [{**reduced, "calls": calls, "bytes": calls << 30}],
            "memory": {"parameters": 3 << 30, "unsharded": 0},
        }

    scene = Scene(
        "llama3",
        layout(dp_replicate=2, pp=2),
        records={"baseline": {"parameters": {}}},
        steps={
            "migrated": [step(1), step(2)],
            "reference": [{"problem": "boom", "memory": {"parameters": 1 << 20}}],
        },
    )
    assert rehearsal.costs(scene) == [
        "replicate, first stage: a step is 1 all-reduce over dp_replicate of 1.0 GiB in float32."
        " Memory: parameters 3.0 GiB.",
        "replicate, last stage: a step is 2 all-reduce over dp_replicate of 2.0 GiB in float32."
        " Memory: parameters 3.0 GiB.",
        "FSDP: not counted: a fake step ended with boom. Memory: parameters 1.0 MiB.",
    ]


def test_of_ddp_the_bytes_are_told_where_it_is_alone():
    memory = {"memory": {"parameters": 8}, "collectives": []}
    weight = {"shape": [1024, 1024], "dtype": "float32", "trains": True}
    scene = Scene(
        "llama3",
        layout(dp_replicate=2),
        records={"baseline": {"parameters": {"w": weight}}},
        steps={"migrated": [memory]},
    )
    assert rehearsal.costs(scene)[-1] == (
        "DDP: all-reduces of 4.0 MiB, in torchtitan's buckets of 100.0 MiB about 1."
    )


@pytest.mark.parametrize(
    "dtype, calls, size, said",
    [
        ("float32", 34, 34 << 20, ["makes 17.0 MiB of the 34.0 MiB", "has 1.0 MiB"]),
        (
            "bfloat16",
            34,
            34 << 20,
            ["has 1.0 MiB, and torchtitan's buckets of DDP 100.0 MiB"],
        ),
        ("float32", 34, 34 << 30, ["makes 17.0 GiB of the 34.0 GiB"]),
        ("bfloat16", 34, 34 << 30, []),
    ],
)
def test_what_would_be_faster_is_told_with_its_bytes(dtype, calls, size, said):
    reduced = {"kind": "all-reduce", "over": "dp_replicate", "dtype": dtype}
    step = {
        "memory": {"parameters": 8},
        "collectives": [{**reduced, "calls": calls, "bytes": size}],
    }
    scene = Scene(
        "llama3",
        layout(dp_replicate=2),
        records={"baseline": {"parameters": {}}},
        steps={"migrated": [step]},
    )
    told = rehearsal.costs(scene)[-1]
    assert told.startswith("To be faster: ") == bool(said)
    assert all(words in told for words in said)
