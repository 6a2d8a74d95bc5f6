"""The one exception that `verify` raises for reasons outside the tree under test."""

from __future__ import annotations

from migrator.errors import TitanMigrateError


class VerifyError(TitanMigrateError):
    """The environment, or the base revision, cannot run what was asked (exit code 2). The message says what to do next."""
