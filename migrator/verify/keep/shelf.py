"""From where a run of the base revision may come without training, and to where it is kept: golden file and cache."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from migrator.verify.keep.cache import Cache
from migrator.verify.keep.golden import Exported, Golden
from migrator.verify.train.launch import Outcome

CACHE, GOLDEN = "the cache", "the golden file"
_BITWISE = "bitwise"


@dataclasses.dataclass
class Shelf:
    """All places of one verify; each may be missing.

    taken: where a run was for (model/cell/run) -> CACHE or GOLDEN. problem: why
    nothing can be kept in the cache.
    """

    cache: Cache | None = None
    golden: Golden | None = None
    exported: Exported | None = None
    taken: dict[str, str] = dataclasses.field(default_factory=dict)
    problem: str = ""

    def get(
        self,
        where: str,
        what: str,
        traces: Path,
        parts: Mapping[str, Path],
        alone: bool,
    ) -> Outcome | None:
        """Lays a run out again, and says so in `taken`; None where it has to be made.

        Args:
            where: model/cell/run.
            what: all that it is told.
            traces: the folder for what its ranks left.
            parts: name -> the folder for what else is needed of it, which the cache alone has.
            alone: whether its traces alone will do, which a golden file has.
        """
        if alone and self.golden:
            outcome = self.golden.get(where, what, traces)
            if outcome:
                self.taken[where] = GOLDEN
                return outcome
        outcome = self.cache.get(what, traces, parts) if self.cache else None
        if outcome:
            self.taken[where] = CACHE
        return outcome

    def put(
        self, what: str, outcome: Outcome, traces: Path, parts: Mapping[str, Path]
    ) -> None:
        """Keeps a run that was trained here and ended well. Arguments as of `get`."""
        if self.cache and not self.problem:
            self.problem = self.cache.put(what, outcome, traces, parts)

    def export(self, where: str, what: str, outcome: Outcome, traces: Path) -> None:
        """Takes a run into the golden file, where one is to be written. Arguments as of `get`."""
        if self.exported:
            self.exported.add(where, what, outcome, traces)

    def was_bitwise(self, cell: str, baseline: str) -> bool:
        """Whether replicate was once bitwise as the DDP of this baseline; cell: model/cell, baseline: all that it was told."""
        if self.golden and cell in self.golden.bitwise:
            return True
        return bool(self.cache and self.cache.marked(baseline, _BITWISE))

    def is_bitwise(self, cell: str, baseline: str) -> None:
        """Keeps that it is. Arguments as of `was_bitwise`."""
        if self.exported:
            self.exported.bitwise.append(cell)
        if self.cache:
            self.cache.mark(baseline, _BITWISE)
