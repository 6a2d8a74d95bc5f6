"""A rule at work on one of the fixtures, for ``titan-migrate explain``."""

from dataclasses import dataclass

from codemods.targets import Mesh


@dataclass(frozen=True)
class Example:
    """An excerpt of a fixture before and after, as it stands there, with its indentation.

    It is kept in the rule, because an installed package has no fixtures; a test holds
    it against them.

    Args:
        fixture: a folder of ``fixtures/``.
        path: the file in it.
        before: the lines that the rule finds.
        after: what the migration makes of them; of a hazard, what the finding suggests.
        target: the target it was migrated to.
    """

    fixture: str
    path: str
    before: str
    after: str
    target: Mesh = "1d"
