"""Rehearses models in layouts: asks the processes of both trees, and judges what they answer."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from migrator.verify.choose import models, scenarios
from migrator.verify.choose.models import Model
from migrator.verify.rehearse.launch import Gone, Stage, Theatre
from migrator.verify.rehearse.layouts import DEGREES, Layout
from migrator.verify.rehearse.verdict import (
    Answers,
    Problem,
    Rehearsal,
    Scene,
    judge,
    last_line,
)
from migrator.verify.rehearse.wanted import EVERY
from migrator.verify.train.worktrees import Trees

# How choose/models.py calls a folder in which no model is registered.
_UNREGISTERED = ("models/", "experiments/")
_SEARCHED = (
    "no train spec was found in _supported_models, _supported_experiments"
    " and calls of register_train_spec"
)

Show = Callable[[Scene], None]


@dataclass(frozen=True)
class Asked:
    """What is rehearsed besides models and layouts.

    arguments: of torchtitan's own command line, which come last. config: a TOML
    file of the fork's. until_failed: end with the first model in which a scene failed.
    step: count a fake step of replicate and of FSDP, of a pipeline that of its first,
    its last and one stage between them.
    """

    arguments: tuple[str, ...] = ()
    config: Path | None = None
    until_failed: bool = False
    step: bool = False


def rehearse(
    trees: Trees,
    wanted: Sequence[tuple[Model, Sequence[Layout]]],
    theatre: Theatre,
    asked: Asked = Asked(),
    show: Show = lambda scene: None,
) -> Rehearsal:
    """Rehearses each model in its layouts; `show` gets every scene as soon as it is judged.

    trees: base revision and migrated tree. What was opened of the theatre is
    closed again, and the theatre is the caller's to end.
    """
    began = time.monotonic()
    scenes: list[Scene] = []
    try:
        with _working(theatre, trees) as (base, migrated):
            pair = _Pair(base, migrated, asked)
            problem = pair.prepare([model for model, _ in wanted])
            for scene in () if problem else pair.scenes(wanted, show):
                scenes.append(scene)
    except Gone as error:
        problem = Problem(trees.named(str(error)), broken=True)
    return Rehearsal(tuple(scenes), time.monotonic() - began, problem)


class _Worker:
    """A process and the thread that speaks with it."""

    def __init__(self, stage: Stage, named: Callable[[str], str]) -> None:
        self.stage = stage
        self.named = named
        self.known = scenarios.known_settings(stage.tree).get("parallelism", set())
        self._thread = ThreadPoolExecutor(1)

    def ask(self, request: dict[str, Any]) -> Future[dict[str, Any]]:
        return self._thread.submit(self._answer, request)

    def _answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """What is answered, with files of the tree where the user has them."""
        answer = self.stage.ask(request)
        for one in (answer, *answer.get("models", {}).values()):
            for key in ("message", "traceback") if "error" in one else ():
                one["error"][key] = self.named(one["error"][key])
        return answer

    def end(self) -> None:
        self._thread.shutdown(wait=False, cancel_futures=True)
        self.stage.close()


@contextlib.contextmanager
def _working(theatre: Theatre, trees: Trees) -> Iterator[tuple[_Worker, _Worker]]:
    workers: list[_Worker] = []
    try:
        for tree in (trees.base, trees.migrated):
            workers.append(_Worker(theatre.open(tree), trees.named))
        yield workers[0], workers[1]
    finally:
        for worker in workers:
            worker.end()


class _Pair:
    """Both trees, and what was asked of them already."""

    def __init__(self, base: _Worker, migrated: _Worker, asked: Asked) -> None:
        self.base, self.migrated, self.asked = base, migrated, asked
        self._answers: dict[str, dict[str, Any]] = {}

    def prepare(self, wanted: Sequence[Model]) -> Problem | None:
        """Has both trees import the models; returns why neither can be rehearsed at all."""
        names = {model.name: _module(model) for model in wanted}
        request = {"models": [{"name": n, "module": m} for n, m in names.items()]}
        futures = {
            "base": self.base.ask(request),
            "migrated": self.migrated.ask(request),
        }
        for tree, future in futures.items():
            answer = future.result()
            if "error" in answer:
                error = answer["error"]
                said = f"{tree} tree: {last_line(error)}"
                return Problem(said, error["traceback"], error["ours"])
            self._answers[tree] = answer["models"]
        return None

    def scenes(
        self, wanted: Sequence[tuple[Model, Sequence[Layout]]], show: Show
    ) -> Iterator[Scene]:
        """Every scene in order; both trees work ahead."""
        asked = [
            (one, layout, self._asked(one, layout))
            for model, layouts in wanted
            for one, layouts_of in self._flavors(model, layouts)
            for layout in layouts_of
        ]
        failed = ""
        for model, layout, answer in asked:
            if failed and self.asked.until_failed and failed != model.title:
                return
            if isinstance(answer, Scene):
                scene = answer
            else:
                answers: Answers = {
                    party: [future.result() for future in futures]
                    for party, futures in answer.items()
                }
                scene = judge(model.title, layout, answers)
            if scene.failures:
                failed = model.title
            show(scene)
            yield scene

    def _flavors(
        self, model: Model, layouts: Sequence[Layout]
    ) -> Iterator[tuple[Model, Sequence[Layout]]]:
        """A model in the flavors that are meant; one that cannot be made, in the first layout only."""
        flavors = self._answers["base"].get(model.name, {}).get("flavors")
        if not flavors:
            yield replace(model, flavor=models.USUAL), layouts[:1]
        elif model.flavor == EVERY:
            for flavor in flavors:
                yield replace(model, flavor=flavor), layouts
        elif model.flavor == models.USUAL and models.USUAL not in flavors:
            usual = next((f for f in flavors if "debug" in f), flavors[0])
            yield replace(model, flavor=usual), layouts
        else:
            yield model, layouts if model.flavor in flavors else layouts[:1]

    def _asked(
        self, model: Model, layout: Layout
    ) -> Scene | dict[str, list[Future[dict[str, Any]]]]:
        """The answers to come of each party; a scene where it is clear already that there are none."""
        before, after = (
            self._answers[tree].get(model.name, {}) for tree in ("base", "migrated")
        )
        for tree, answer in (("base revision", before), ("migrated tree", after)):
            if "error" in answer and answer["error"]["ours"]:
                error = answer["error"]
                said = f"looking its train spec up in the {tree}: {last_line(error)}"
                return Scene(
                    model.title, layout, broken=said, details=error["traceback"]
                )
        if "error" in before:
            error = before["error"]
            why = f"its train spec could not be looked up in the base revision: {last_line(error)}"
            if model.name.startswith(_UNREGISTERED):
                why = f"{_SEARCHED}: {model.reason.partition(',')[0]}"
            return Scene(model.title, layout, not_run=why, details=error["traceback"])
        if "error" in after:
            error = after["error"]
            sentence = f"The migrated tree does not import: {last_line(error)}."
            return Scene(model.title, layout, (sentence,), details=error["traceback"])
        if model.flavor not in before["flavors"]:
            why = f"it has no flavor {model.flavor}: there are {', '.join(before['flavors'])}"
            return Scene(model.title, layout, not_run=why)
        for name in layout.by_name:
            if DEGREES[name] not in self.base.known:
                why = f"this torchtitan has no setting parallelism.{DEGREES[name]}"
                return Scene(model.title, layout, not_run=why)
        if not layout.replicates:
            parties = {
                "control": (self.base, layout),
                "reference": (self.migrated, layout),
            }
        else:
            parties = {
                "baseline": (self.base, layout),
                "migrated": (self.migrated, layout),
                "control": (self.base, layout.sharded),
                "reference": (self.migrated, layout.sharded),
            }
        return {
            party: [
                worker.ask(self._request(worker, party, model, at, rank))
                for rank in at.ranks
            ]
            for party, (worker, at) in parties.items()
        }

    def _request(
        self, worker: _Worker, party: str, model: Model, layout: Layout, rank: int
    ) -> dict[str, Any]:
        # Degrees that are not given are 1, not what the configuration says.
        degrees = {name: layout.by_name.get(name, 1) for name in DEGREES}
        config = [f"--job.config_file={self.asked.config}"] if self.asked.config else []
        settings = [
            f"--{section}.{key}={value}"
            for section, values in model.settings.items()
            for key, value in values.items()
        ]
        return {
            "name": model.name,
            "flavor": model.flavor,
            "module": _module(model),
            "arguments": [
                *config,
                *settings,
                f"--model.name={model.name}",
                f"--model.flavor={model.flavor}",
                *(
                    f"--parallelism.{DEGREES[name]}={n}"
                    for name, n in degrees.items()
                    if DEGREES[name] in worker.known
                ),
                *self.asked.arguments,
            ],
            "degrees": degrees,
            "settings": DEGREES,
            "rank": rank,
            "overrides": model.overrides,
            "step": self.asked.step
            and party in ("migrated", "reference")
            and rank in _counted(layout.ranks),
        }


def _counted(ranks: Sequence[int]) -> set[int]:
    """The stages of which a step is counted: the first, the last and one between them."""
    return {ranks[0], ranks[len(ranks) // 2], ranks[-1]}


def _module(model: Model) -> str | None:
    """What has to be imported for a model to be registered."""
    found = model.settings.get("experimental", {}).get("custom_import")
    return str(found) if found else None
