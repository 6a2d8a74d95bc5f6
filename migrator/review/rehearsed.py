"""What a report of ``verify`` says of the rehearsal that came before the training."""

from collections.abc import Mapping
from typing import Any

from migrator.review.model import Rehearsed, Scene, visible
from migrator.verify.rehearse.layouts import Layout
from migrator.verify.rehearse.picture import Box, Plan
from migrator.verify.rehearse.verdict import WHO
from migrator.verify.show import wording
from migrator.verify.show.rehearsal import LIMITS, OURS

_WORDS = ("passed", "failed", "broken", "not run")
_DEEPEST = 8
"""How far boxes may lie in one another; torchtitan's are two or three deep."""


def read(data: Mapping[str, Any] | None) -> Rehearsed | None:
    """The rehearsal of a report; None where there was none.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is none of ours.
    """
    if data is None:
        return None
    drawn: set[str] = set()
    scenes = []
    for found in data["scenes"]:
        scene = _scene(found, drawn)
        if scene.plans:
            drawn.add(scene.model)
        scenes.append(scene)
    problem = data["problem"]
    return Rehearsed(
        scenes=tuple(scenes),
        problem=wording.one_line(str(problem["said"])) if problem else "",
        limits=LIMITS,
    )


def _scene(data: Mapping[str, Any], drawn: set[str]) -> Scene:
    """A scene; with its plans where it failed, or is the first of its model that has any."""
    word, model = str(data["verdict"]), visible(str(data["model"]))
    if word not in _WORDS:
        raise ValueError(word)
    said = [str(data["not_run"])] if word == "not run" else []
    said += [f"{OURS}: {data['broken']}."] if word == "broken" else []
    said += [*map(str, data["failures"]), *map(str, data["notes"])]
    degrees = tuple((str(name), int(n)) for name, n in data["layout"].items())
    plans = data["plans"] if word == "failed" or model not in drawn else {}
    return Scene(
        model=model,
        layout=visible(Layout(degrees).title),
        word=word,
        said=tuple(map(wording.one_line, said)),
        plans={WHO[party]: _plan(plan) for party, plan in plans.items()},
    )


def _plan(data: Mapping[str, Any]) -> Plan:
    return Plan(_texts(data["says"]), tuple(_box(box, 0) for box in data["boxes"]))


def _box(data: Mapping[str, Any], depth: int) -> Box:
    if depth > _DEEPEST:
        raise ValueError(depth)
    return Box(
        modules=_texts(data["modules"]),
        kind=visible(str(data["kind"])),
        says=_texts(data["says"]),
        parameters=int(data["parameters"]),
        until=visible(str(data["until"])),
        alike=int(data["alike"]),
        odd=bool(data["odd"]),
        inside=tuple(_box(one, depth + 1) for one in data["inside"]),
    )


def _texts(found: list[Any]) -> tuple[str, ...]:
    return tuple(visible(str(one)) for one in found)
