"""Errors that end a command, each with its exit code and what to do next."""


class TitanMigrateError(Exception):
    """Wrong use or a wrong environment: a dirty tree, no checkout (exit code 2)."""

    exit_code = 2


class GitFailed(TitanMigrateError):
    """git could not do what was asked of it; ``reason`` is what it said."""

    reason = ""


class NoTorchtitan(TitanMigrateError):
    """A tree that neither is a torchtitan nor uses one."""


class FileProblem(TitanMigrateError):
    """A file that could not be handled; nothing was written (exit code 3)."""

    exit_code = 3


class LeftToDo(TitanMigrateError):
    """A place that a person has to see to first; nothing was written (exit code 1)."""

    exit_code = 1
