"""How far a verification is, and how long the rest may take."""

from __future__ import annotations

from collections.abc import Sequence

from migrator.verify.choose.scenarios import Cell


class Progress:
    """Counts runs of trainings.

    planned: how many there are to be. `left_out` takes off what need not be run.
    """

    def __init__(self, planned: int) -> None:
        self.planned = planned
        self.done = 0
        self._seconds = 0.0

    def ran(self, seconds: float) -> None:
        """One run is over."""
        self.done += 1
        self._seconds += seconds

    def left_out(self, runs: int) -> None:
        """So many of those planned are not needed."""
        self.planned -= runs

    def now(self) -> str:
        """Which run this is, and an estimate once there is one: `run 6 of 19, about 40 s left`."""
        which = f"run {self.done + 1} of {max(self.planned, self.done + 1)}"
        if not self.done:
            return which
        left = self._seconds / self.done * max(self.planned - self.done, 1)
        shown = f"{left:.0f} s" if left < 90 else f"{left / 60:.0f} min"
        return f"{which}, about {shown} left"


def runs_of(cells: Sequence[Cell]) -> int:
    """How many runs one model has in these cells, the seed checkpoint's among them."""
    names = {cell.name for cell in cells}
    return 1 + sum(_runs(cell, names) for cell in cells)


def _runs(cell: Cell, names: set[str]) -> int:
    return len(cell.parties) - (cell.noise_of in names and "nudged" in cell.parties)
