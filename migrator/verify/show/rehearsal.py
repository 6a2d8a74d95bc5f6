"""Shows a rehearsal: a line for each scene on the terminal, and a section of `report.md`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.text import Text

from migrator.verify.rehearse.verdict import Rehearsal, Scene
from migrator.verify.show.markdown import fenced, folded, table, text
from migrator.verify.show.wording import one_line

_COLOURS = {
    "passed": "green",
    "failed": "bold red",
    "broken": "bold magenta",
    "not run": "yellow",
}
OURS = "The rehearsal itself went wrong; it says nothing of the checkout"
"""What a scene is introduced with that is broken."""


class Scenes:
    """Prints scenes one after the other. console: where."""

    def __init__(self, console: Console) -> None:
        self._console, self._said = console, set[str]()

    def show(self, scene: Scene) -> None:
        """Prints one scene as soon as it is there: model, layout, verdict, seconds, and why where it did not pass."""
        line = Text(f"{one_line(scene.model):26} {scene.layout.title:30} ")
        line.append(f"{scene.word:8}", _COLOURS[scene.word])
        line.append(f"{scene.seconds:6.1f} s")
        self._console.print(line, soft_wrap=True)
        for style, sentences in (
            ("yellow", self._why(scene.not_run)),
            ("magenta", [f"{OURS}: {scene.broken}."] if scene.broken else []),
            ("red", scene.failures),
            ("dim", [*scene.notes, *costs(scene)]),
        ):
            for sentence in sentences:
                self._console.print(
                    Text(f"    {one_line(sentence)}", style), soft_wrap=True
                )

    def _why(self, reason: str) -> list[str]:
        """Why a scene was not run; what to do about it only where that was not said yet."""
        short, _, advice = reason.partition(": ")
        if advice and reason in self._said:
            return [f"because {short}, as above"]
        self._said.add(reason)
        return [f"because {reason}"] if reason else []


def show_end(rehearsal: Rehearsal, console: Console) -> None:
    """Prints the verdict in one sentence, and what it does not cover."""
    words = [scene.word for scene in rehearsal.scenes]
    if rehearsal.problem:
        nothing = "Nothing more" if words else "Nothing"
        said = f"{nothing} was rehearsed: {one_line(rehearsal.problem.said)}"
        console.print(Text(said, "bold red"), soft_wrap=True)
    for details in _own_tracebacks(rehearsal):
        console.print(Text(details, "dim"), soft_wrap=True)
    if not words:
        return
    style = "bold red" if rehearsal.exit_code else "bold green"
    counts = ", ".join(
        f"{words.count(word)} {word}" for word in _COLOURS if word in words
    )
    console.print(
        Text(f"Rehearsed in {rehearsal.seconds:.0f} s: {counts}.", style),
        soft_wrap=True,
    )
    console.print(Text(LIMITS, "dim"), soft_wrap=True)


def _own_tracebacks(rehearsal: Rehearsal) -> list[str]:
    """Where the rehearsal itself went wrong, each place once."""
    found = [scene.details for scene in rehearsal.scenes if scene.broken]
    if rehearsal.problem and rehearsal.problem.broken:
        found.append(rehearsal.problem.details)
    return [one for one in dict.fromkeys(found) if one]


LIMITS = "A rehearsal reads plans on the meta device: it shows what would be wrapped, and trains nothing."


def costs(scene: Scene) -> list[str]:
    """What a step of replicate and of FSDP costs on a rank, and of DDP; nothing where none was counted."""
    told = []
    for party, name in (("migrated", "replicate"), ("reference", "FSDP")):
        steps = scene.steps.get(party, [])
        for stage, step in zip(_stages(steps), steps):
            held = ", ".join(
                f"{what} {_size(n)}" for what, n in step["memory"].items() if n
            )
            told.append(f"{name}{stage}: {_calls(step)}. Memory: {held}.")
    baseline = scene.records.get("baseline")
    if told and baseline and set(scene.layout.by_name) == {"dp_replicate"}:
        size = sum(
            math.prod(one["shape"]) * _BYTES.get(one["dtype"], 4)
            for one in baseline["parameters"].values()
            if one["trains"]
        )
        buckets = math.ceil(size / _BUCKET)
        told.append(
            f"DDP: all-reduces of {_size(size)}, in torchtitan's buckets of {_size(_BUCKET)} about {buckets}."
        )
        told += _to_change(scene.steps.get("migrated", []))
    return told


_BUCKET = 100 * 2**20
"""Bytes that DDP reduces at once, as torchtitan has it."""


def _to_change(steps: Sequence[dict[str, Any]]) -> list[str]:
    """What a fork can do for the speed of its all-reduces, where it can do something."""
    reduced = [
        one
        for step in steps[:1]
        for one in step.get("collectives", ())
        if (one["kind"], one["over"]) == ("all-reduce", "dp_replicate")
    ]
    told = []
    for one in reduced:
        if one["dtype"] == "float32":
            told.append(
                f"reduce_dtype=torch.bfloat16 in the call makes {_size(one['bytes'] // 2)} of"
                f" the {_size(one['bytes'])}, and sums gradients in bf16, which torchtitan's own option does not allow"
            )
        mean = one["bytes"] // one["calls"]
        if one["calls"] > 2 and mean < _BUCKET // 4:
            told.append(
                f"an all-reduce has {_size(mean)}, and torchtitan's buckets of DDP {_size(_BUCKET)}: two blocks in one group,"
                " replicate([a, b]), halve their number, and each begins later"
            )
    if not told:
        return []
    return [
        f"To be faster: {'; '.join(told)}. Nothing is gathered, so there is nothing to prefetch."
    ]


def _stages(steps: Sequence[object]) -> Sequence[str]:
    """Which stage of a pipeline each step is of."""
    several = (", first stage", ", a stage between", ", last stage")
    return [""] if len(steps) == 1 else several if len(steps) == 3 else several[::2]


def _calls(step: dict[str, Any]) -> str:
    if "problem" in step:
        return f"not counted: a fake step ended with {step['problem']}"
    calls = ", ".join(
        f"{one['calls']} {one['kind']} over {one['over']} of {_size(one['bytes'])} in {one['dtype']}"
        for one in sorted(step["collectives"], key=lambda one: -one["bytes"])
    )
    return f"a step is {calls or 'without collectives'}"


_BYTES = {"float64": 8, "bfloat16": 2, "float16": 2}


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


def section(rehearsal: Rehearsal) -> list[str]:
    """The lines of the report's section."""
    problem = rehearsal.problem
    if problem and not rehearsal.scenes:
        said = [f"Not run: {text(problem.said)}", ""]
        more = folded("traceback", fenced(problem.details)) if problem.details else []
        return ["## Rehearsal", "", *said, *more]
    rows = [
        [text(scene.model), text(scene.layout.title), scene.word, text(_told(scene))]
        for scene in rehearsal.scenes
    ]
    lines = [
        "## Rehearsal",
        "",
        f"Before anything trained, in {rehearsal.seconds:.0f} s. {LIMITS}",
        "",
        *table(("model", "ranks", "verdict", ""), rows),
    ]
    if problem:
        lines += [f"It ended early: {text(problem.said)}", ""]
    for scene in rehearsal.scenes:
        if scene.details and scene.word in ("failed", "broken"):
            title = f"{text(scene.model)}, {text(scene.layout.title)}: traceback"
            lines += folded(title, fenced(scene.details))
    return lines


def _told(scene: Scene) -> str:
    first = [scene.not_run] if scene.not_run else [*scene.failures, *scene.notes]
    if scene.broken:
        first = [f"{OURS}: {scene.broken}."]
    return " ".join([*first, *costs(scene)])
