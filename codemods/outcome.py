"""What a migration would do, as it is told to people and programs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from codemods.about import About
from codemods.findings import Finding
from codemods.selection import Selection
from codemods.targets import Target


@dataclass(frozen=True)
class Outcome:
    """What a migration would do.

    Args:
        about: what the checkout is.
        target: the API written for.
        changes: path -> the whole new file. Empty when anything is left or wrong.
        findings: every place, by path and line.
        problems: why nothing is written, each with file and line.
        selection: which rules ran.
        excluded: paths that the selection leaves alone.
        unconfirmed: (path, function) that could not be executed before and after -> why.
    """

    about: About
    target: Target
    changes: Mapping[str, bytes] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    problems: tuple[str, ...] = ()
    selection: Selection = Selection()
    excluded: frozenset[str] = frozenset()
    unconfirmed: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def to_do(self) -> tuple[Finding, ...]:
        """What still has to change, by the tool or by a person."""
        return tuple(f for f in self.findings if f.status in ("rewrite", "left"))

    @property
    def for_other_target(self) -> bool:
        """Whether all is migrated, but written for the other API than the one asked for."""
        mesh = self.about.migrated_to
        return self.about.kind == "migrated" and mesh not in (None, self.target.mesh)
