"""Workflow commands, which GitHub shows as annotations beside the lines."""

from collections.abc import Iterator

from migrator.changeset import Changeset
from migrator.render.text import inert, problems_besides

_COMMANDS = {"rewrite": "error", "left": "error", "hazard": "warning"}
"""What needs nothing, or opted out, is not annotated."""

_MILDER = {"note": "notice"}
"""By severity; the other hazards are warnings."""


def as_github(changeset: Changeset) -> Iterator[str]:
    """One command for each place that has to change, or that a person should look at.

    Errors are what ``check`` exits 1 for. Paths are relative to the root of the
    checkout, as GitHub wants them.
    """
    for finding in changeset.findings:
        command = _COMMANDS.get(finding.status)
        if command is not None:
            command = _MILDER.get(finding.severity or "", command)
            place = {"file": finding.path, "line": finding.line, "title": finding.code}
            words = finding.message
            if finding.suggestion:
                words += f"\n\n{finding.suggestion}"
            yield _command(command, words, place)
    for problem in problems_besides(changeset):
        yield _command("error", problem, {"title": "titan-migrate"})


def _command(name: str, message: str, properties: dict[str, object]) -> str:
    listed = ",".join(f"{key}={_property(value)}" for key, value in properties.items())
    data = _data(inert(message, keep="\n\t"))
    return f"::{name} {listed}::{data}"


def _data(text: str) -> str:
    """What stands after the second ``::``; the percent sign has to be first."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: object) -> str:
    return _data(str(value)).replace(":", "%3A").replace(",", "%2C")
