"""Shows a rehearsal: a line for each scene on the terminal, and a section of `report.md`."""

from __future__ import annotations

from rich.console import Console
from rich.text import Text

from migrator.verify.rehearse.verdict import Rehearsal, Scene
from migrator.verify.show.markdown import fenced, folded, table, text
from migrator.verify.show.wording import one_line

_COLOURS = {"passed": "green", "failed": "bold red", "not run": "yellow"}


def show_scene(scene: Scene, console: Console) -> None:
    """Prints one scene as soon as it is there: model, layout, verdict, seconds, and why where it did not pass."""
    line = Text(f"{one_line(scene.model):26} {scene.layout.title:30} ")
    line.append(f"{scene.word:8}", _COLOURS[scene.word])
    line.append(f"{scene.seconds:6.1f} s")
    console.print(line, soft_wrap=True)
    for style, sentences in (
        ("yellow", [f"because {scene.not_run}"] if scene.not_run else []),
        ("red", scene.failures),
        ("dim", scene.notes),
    ):
        for sentence in sentences:
            console.print(Text(f"    {one_line(sentence)}", style), soft_wrap=True)


def show_end(rehearsal: Rehearsal, console: Console) -> None:
    """Prints the verdict in one sentence, and what it does not cover."""
    words = [scene.word for scene in rehearsal.scenes]
    if rehearsal.problem:
        console.print(
            Text(f"Nothing was rehearsed: {one_line(rehearsal.problem)}", "bold red")
        )
        return
    style = "bold red" if rehearsal.failed else "bold green"
    counts = ", ".join(
        f"{words.count(word)} {word}" for word in _COLOURS if word in words
    )
    console.print(
        Text(f"Rehearsed in {rehearsal.seconds:.0f} s: {counts}.", style),
        soft_wrap=True,
    )
    console.print(Text(LIMITS, "dim"), soft_wrap=True)


LIMITS = "A rehearsal reads plans on the meta device: it shows what would be wrapped, and trains nothing."


def section(rehearsal: Rehearsal) -> list[str]:
    """The lines of the report's section."""
    if rehearsal.problem:
        return ["## Rehearsal", "", f"Not run: {text(rehearsal.problem)}", ""]
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
    for scene in rehearsal.failed:
        if scene.details:
            title = f"{text(scene.model)}, {text(scene.layout.title)}: traceback"
            lines += folded(title, fenced(scene.details))
    return lines


def _told(scene: Scene) -> str:
    first = [scene.not_run] if scene.not_run else [*scene.failures, *scene.notes]
    return " ".join(first)
