"""What is found of one model in one layout, from the answers of its parties. Pure functions; no torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from migrator.verify.rehearse import compare
from migrator.verify.rehearse.compare import Record
from migrator.verify.rehearse.layouts import Layout
from migrator.verify.rehearse.packages import lacking
from migrator.verify.rehearse.picture import Plan, plan

Answers = dict[str, list[dict[str, Any]]]
"""By party, for each pipeline stage, what `in_world/host.py` answered."""

WHO = {
    "baseline": "base revision, DDP",
    "migrated": "migrated tree, replicate",
    "control": "base revision, FSDP",
    "reference": "migrated tree, FSDP",
}
"""Each party in words."""


@dataclass(frozen=True)
class Scene:
    """One model, flavor and layout.

    failures: one sentence for each way in which the plan is wrong. notes: what
    else a reader should know. not_run: why there is no verdict, empty where there
    is one. broken: what of the rehearsal itself went wrong, so that there is no
    verdict either and none of the checkout's doing. details: the traceback of a
    party that failed. refused: what DDP says where it refuses and the migration lifts
    that. seconds: of all parties. records: of the first stage, by party.
    steps: what `in_world/step.py` counted, by party, for each stage that was asked.
    """

    model: str
    layout: Layout
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    not_run: str = ""
    broken: str = ""
    details: str = ""
    refused: str = ""
    seconds: float = 0.0
    records: dict[str, Record] = field(default_factory=dict)
    steps: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @property
    def word(self) -> str:
        """``passed``, ``failed``, ``broken`` or ``not run``."""
        if self.broken:
            return "broken"
        return "not run" if self.not_run else "failed" if self.failures else "passed"

    @property
    def plans(self) -> dict[str, Plan]:
        """How each party wraps the model, where it only replicates; what is odd is marked where it failed."""
        if not self.layout.replicates:
            return {}
        held = {"migrated": self.records.get("reference")} if self.failures else {}
        return {
            party: plan(self.records[party], held.get(party))
            for party in ("baseline", "migrated", "reference")
            if party in self.records
        }

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": self.model,
            "layout": self.layout.by_name,
            "world": self.layout.world,
            "verdict": self.word,
            "plans": {party: asdict(plan) for party, plan in self.plans.items()},
            **{
                key: value
                for key, value in asdict(self).items()
                # A record has a line for every parameter: where it is needed to understand.
                if key not in ("model", "layout")
                and (key != "records" or self.failures)
            },
        }


@dataclass(frozen=True)
class Problem:
    """Why there are no scenes, or no more of them. details: a traceback. broken: whether the rehearsal itself is to blame."""

    said: str
    details: str = ""
    broken: bool = False


BROKEN = 4
"""The exit code of a rehearsal that broke."""


@dataclass(frozen=True)
class Rehearsal:
    """All scenes of one rehearsal. seconds: by the clock."""

    scenes: tuple[Scene, ...] = ()
    seconds: float = 0.0
    problem: Problem | None = None

    @property
    def failed(self) -> list[Scene]:
        return [scene for scene in self.scenes if scene.word == "failed"]

    def refused(self, model: str) -> dict[tuple[int, int], str]:
        """(tensor, pipeline) degrees in which DDP of a model refuses -> its last line."""
        found = {}
        for scene in self.scenes:
            degrees = dict(scene.layout.by_name)
            if (
                scene.model == model
                and scene.refused
                and degrees.pop("dp_replicate", 0)
            ):
                tensor, pipeline = degrees.pop("tp", 1), degrees.pop("pp", 1)
                if not degrees:
                    found[tensor, pipeline] = scene.refused
        return found

    @property
    def broken(self) -> bool:
        """Whether something of it went wrong that is not the checkout's doing."""
        words = [scene.word for scene in self.scenes]
        return "broken" in words or (self.problem is not None and self.problem.broken)

    @property
    def exit_code(self) -> int:
        """0 where all scenes that ran passed, 1 where one failed, 4 where it broke, 2 where none ran."""
        if self.failed:
            return 1
        if self.broken:
            return BROKEN
        return 0 if any(scene.word == "passed" for scene in self.scenes) else 2

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "exit_code": self.exit_code,
            "seconds": self.seconds,
            "problem": self.problem and asdict(self.problem),
            "scenes": [scene.to_dict() for scene in self.scenes],
        }


def judge(model: str, layout: Layout, answers: Answers) -> Scene:
    """The scene of these answers: `control` and `reference`, where the layout only replicates `baseline` and `migrated` too."""
    found = _judged(layout, answers)
    seconds = sum(a.get("seconds", 0.0) for party in answers.values() for a in party)
    return Scene(
        model,
        layout,
        failures=tuple(found.get("failures", ())),
        notes=tuple(found.get("notes", ())),
        not_run=found.get("not_run", ""),
        broken=found.get("broken", ""),
        details=found.get("details", ""),
        refused=found.get("refused", ""),
        seconds=seconds,
        records={
            party: several[0]["record"]
            for party, several in answers.items()
            if "record" in several[0]
        },
        steps={
            party: steps
            for party, several in answers.items()
            if (steps := [a["step"] for a in several if "step" in a])
        },
    )


def _judged(layout: Layout, answers: Answers) -> dict[str, Any]:
    """What a scene says, by field."""
    errors = {party: error for party in answers if (error := _error(answers[party]))}
    early = _refused_now(layout, answers, errors) or _ended_early(layout, errors)
    if early:
        return early
    control, reference = _records(answers["control"]), _records(answers["reference"])
    failures = _each_stage(compare.unchanged, reference, control)
    if failures:
        failures = [
            f"What FSDP does is not what it was: {sentence}"
            if layout.replicates
            else f"This layout, which the migration must not touch, is not what it was: {sentence}"
            for sentence in failures
        ]
    if not layout.replicates:
        return {"failures": failures}
    migrated = _records(answers["migrated"])
    notes = []
    refused = ""
    if "baseline" in errors:
        refused = last_line(errors["baseline"])
        notes.append(f"DDP refuses here ({refused}); the migration lifts that.")
        baseline = None
    else:
        baseline = _records(answers["baseline"])
    if baseline and _replicates_by_other_means(baseline):
        found, note = _left_alone(migrated, baseline)
        return {"failures": [*failures, *found], "notes": [*notes, *note]}
    failures += _each_stage(compare.moved, migrated, reference)
    notes += _each_stage(compare.left_to_the_root, migrated, reference)
    # Under DDP they may be tied as the last thing that the plan does.
    before = (baseline or migrated)[0]
    ties = before["ties"] if baseline else before["built_ties"]
    lost = compare.untied(migrated[0], ties)
    if baseline or not compare.untied(reference[0], ties):
        failures += lost
    elif lost:
        notes.append(f"With FSDP and in the base revision as well, {lost[0]}")
    if baseline and compare.untied(reference[0], ties):
        notes.append(
            "FSDP wraps tied weights apart here: the plan is held to one group of them."
        )
    return {
        "failures": list(dict.fromkeys(failures)),
        "notes": notes,
        "refused": refused,
    }


def _refused_now(
    layout: Layout, answers: Answers, errors: dict[str, dict[str, Any]]
) -> dict[str, Any] | None:
    """What is to be said of a plan that refuses pure replication, where the base revision did not replicate either; None of others.

    As TM207 advises: its ranks were not synchronised before.
    """
    error = errors.get("migrated")
    if error is None or error["ours"] or set(layout.by_name) != {"dp_replicate"}:
        return None
    if {"reference", "control"} & errors.keys():
        return None
    before = errors.get("baseline")
    if before is not None:
        alike = not before["ours"] and last_line(before) == last_line(error)
        why = "the base revision refuses it as well" if alike else ""
    else:
        unsynchronised = _replicates_by_other_means(_records(answers["baseline"]))
        meant = error["type"] in ("NotImplementedError", "ValueError", "RuntimeError")
        why = (
            "its plan refuses pure replication now, under which the base revision's ranks "
            "were not synchronised (TM207)"
            if unsynchronised and meant
            else ""
        )
    if not why:
        return None
    return {"not_run": f"{why}: {last_line(error)}", "details": error["traceback"]}


def _ended_early(
    layout: Layout, errors: dict[str, dict[str, Any]]
) -> dict[str, Any] | None:
    """What is to be said where one of the parties that are compared was not made; None where all were."""
    for party, error in errors.items():
        if error["ours"]:
            return {
                "broken": f"{WHO[party]}: {last_line(error)}",
                "details": error["traceback"],
            }
    for party, other in (("reference", "control"), ("migrated", "baseline")):
        if party not in errors or other in errors:
            continue
        # DDP shards nothing, so where only it can be made there is no FSDP to be as.
        error = errors[party]
        sentence = (
            f"{WHO[party]}: {last_line(error)}, and the base revision is made here."
        )
        return {"failures": [sentence], "details": error["traceback"]}
    if "migrated" in errors and "reference" not in errors:
        error = errors["migrated"]
        sentence = f"{WHO['migrated']}: {last_line(error)}, and FSDP is made here."
        return {"failures": [sentence], "details": error["traceback"]}
    for party in ("control", "reference", "migrated"):
        if party in errors:
            error = errors[party]
            why = f"the base revision refuses it as well: {last_line(error)}"
            return {"not_run": why, "details": error["traceback"]}
    return None


def _replicates_by_other_means(baseline: list[Record]) -> bool:
    """Whether no DDP and no group was found, so that there was nothing here to migrate."""
    return not any(record["ddp"] or record["groups"] for record in baseline)


def _left_alone(
    migrated: list[Record], baseline: list[Record]
) -> tuple[list[str], list[str]]:
    """Failures and notes of a plan that has no branch for DDP, or replicates by itself."""
    plain = [compare.without_autocast(record) for record in migrated]
    before = [compare.without_autocast(record) for record in baseline]
    failures = _each_stage(compare.unchanged, plain, before)
    notes = ["No DDP is applied here in the base revision, and nothing had to change."]
    if migrated[0]["autocast"] != baseline[0]["autocast"]:
        notes.append(
            "It shares maybe_enable_amp, which no longer enters autocast here: it computes in what its own plan casts to, if it casts."
        )
    return failures, notes


def _each_stage(check: Any, left: list[Record], right: list[Record]) -> list[str]:
    """What a comparison says of all pipeline stages, each sentence once."""
    if len(left) == 1:
        found: list[str] = check(left[0], right[0])
        return found
    return [
        f"Stage {stage}: {sentence}"
        for stage, (one, other) in enumerate(zip(left, right))
        for sentence in check(one, other)
    ]


def _records(answers: list[dict[str, Any]]) -> list[Record]:
    return [answer["record"] for answer in answers]


def _error(answers: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first error of a party, one of the rehearsal's own before all others."""
    errors = [answer["error"] for answer in answers if "error" in answer]
    return next((e for e in errors if e["ours"]), errors[0] if errors else None)


def last_line(error: dict[str, Any]) -> str:
    """An error in one line: its type and the first line of what it says; of a package that is missing, how to get it."""
    if error["missing"] and (said := lacking(error["missing"])):
        return said
    if error["type"] == "Unknown":
        return str(error["message"])
    lines = [line.strip() for line in error["message"].splitlines() if line.strip()]
    return f"{error['type']}: {lines[0]}" if lines else error["type"]
