"""What is found of a cell and of a whole verification, and how it is counted. No torch."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import Any

from migrator.verify.judge.compare import Comparison, Tolerances
from migrator.verify.judge.each import Limits
from migrator.verify.judge.trace import Trace
from migrator.verify.rehearse.verdict import BROKEN, Rehearsal

Traces = dict[str, Trace]
"""The runs of a cell, by party."""


@dataclass(frozen=True)
class Terms:
    """What a cell is judged by.

    steps: the last optimizer step. dp: data-parallel ranks. ranks: all ranks.
    tolerances: of each quantity, as measured. each: of each parameter, likewise.
    """

    steps: int
    dp: int
    ranks: int
    tolerances: Tolerances = field(default_factory=dict)
    each: Limits = field(default_factory=dict)


@dataclass(frozen=True)
class Verdict:
    """The outcome of one cell.

    failures: one sentence for each reason why it failed. notes: what else a
    reader should know. traces: by party. details: a failing rank's traceback.
    not_run: why it was not judged, empty where it was. device: where it ran.
    """

    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    traces: Traces = field(default_factory=dict)
    details: str = ""
    not_run: str = ""
    device: str = "cpu"

    @property
    def passed(self) -> bool:
        return not self.failures and not self.not_run

    @property
    def word(self) -> str:
        """``passed``, ``failed`` or ``not run``."""
        return "not run" if self.not_run else "passed" if self.passed else "failed"

    @property
    def ratios(self) -> dict[str, float]:
        """Tokens a second and peak memory of the migrated tree, in units of the baseline's."""
        return ratios(self.traces)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "verdict": self.word,
            "not_run": self.not_run,
            "failures": list(self.failures),
            "notes": list(self.notes),
            "device": self.device,
            "comparisons": [
                {**asdict(comparison), "sentence": comparison.sentence()}
                for comparison in self.comparisons
            ],
            "ratios": self.ratios,
            "collectives": {
                name: trace.collectives
                for name, trace in self.traces.items()
                if trace.collectives
            },
            "details": self.details,
            "traces": {name: trace.to_dict() for name, trace in self.traces.items()},
        }


@dataclass(frozen=True)
class Verification:
    """All that one `verify` found.

    models: verdict by name of the cell, by name of the model. environment: what
    ran where. rehearsal: what came before the training, None where nothing did.
    """

    models: dict[str, dict[str, Verdict]]
    environment: dict[str, object] = field(default_factory=dict)
    rehearsal: Rehearsal | None = None

    @property
    def cells(self) -> dict[str, Verdict]:
        """The verdicts of the first model, which mostly is the only one."""
        return next(iter(self.models.values()))

    @property
    def verdicts(self) -> list[Verdict]:
        return [v for cells in self.models.values() for v in cells.values()]

    @property
    def passed(self) -> bool:
        """No cell failed, and one at least ran."""
        return self.exit_code == 0

    @property
    def exit_code(self) -> int:
        """0 where all cells that ran passed, 1 where one or the rehearsal failed, 4 where the rehearsal broke, 2 where none could run."""
        words = {verdict.word for verdict in self.verdicts}
        if "failed" in words or (self.rehearsal and self.rehearsal.failed):
            return 1
        if self.rehearsal and self.rehearsal.broken:
            return BROKEN
        return 0 if "passed" in words else 2

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain values for JSON."""
        models = {
            model: {name: verdict.to_dict() for name, verdict in cells.items()}
            for model, cells in self.models.items()
        }
        return {
            "passed": self.passed,
            "exit_code": self.exit_code,
            "environment": self.environment,
            "rehearsal": self.rehearsal and self.rehearsal.to_dict(),
            "models": models,
        }


ENOUGH = 20
"""Steps whose median time says something of the speed."""


def ratios(traces: Traces) -> dict[str, float]:
    """Throughput and peak memory of the migrated tree over the baseline's, where both trained.

    The first two steps are left out: they allocate, compile and are looked into.
    Of fewer than `ENOUGH` others no throughput is given: chance would be most of it;
    nor where either was trained at another time.
    """
    sides = [
        trace
        for name in ("migrated", "baseline")
        if (trace := traces.get(name)) and trace.steps and not trace.first_error
    ]
    if len(sides) < 2:
        return {}
    found = {}
    seconds = [
        statistics.median(step.seconds / step.tokens for step in trace.steps[2:])
        for trace in sides
        if len(trace.steps) >= 2 + ENOUGH
        and not trace.source
        and all(step.tokens > 0 for step in trace.steps)
    ]
    if len(seconds) == 2 and all(seconds):
        found["throughput"] = seconds[1] / seconds[0]
    if all(trace.peak_bytes for trace in sides):
        found["peak memory"] = sides[0].peak_bytes / sides[1].peak_bytes
    return found
