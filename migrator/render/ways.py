"""How the rest is migrated where some places are left for a person, for people."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from migrator.changeset import Changeset
from migrator.render.text import inert

if TYPE_CHECKING:
    from codemods.ways import WaysOn


def without(changeset: Changeset) -> WaysOn:
    """What lets the rest be migrated."""
    from codemods.ways import ways_on  # imports what reads syntax trees

    checkout = changeset.checkout
    return ways_on(
        checkout.files, changeset.outcome, lambda: checkout.texts, checkout.dependency
    )


def as_data(found: WaysOn) -> dict[str, Any]:
    """The same for programs: patterns for ``exclude``, lines for opt-outs."""
    return {
        "exclude": list(found.patterns),
        "lines": [
            {"path": path, "line": line, "code": code}
            for path, line, code in found.lines
        ],
    }


def ways(changeset: Changeset, place: str) -> Iterator[str]:
    """The command, and the opt-outs, that let the rest be migrated; each was tried out.

    Args:
        changeset: what was found; nothing is said where no place is left.
        place: the folder as it was given.
    """
    if not any(finding.status == "left" for finding in changeset.findings):
        return
    found = without(changeset)
    for path, needed in found.drawn_in:
        names = ", ".join(needed)
        yield inert(
            f"{path} goes only together with {names}, whose functions it calls."
        )
    if found.exclude:
        files = f"{found.rest} file{'' if found.rest == 1 else 's'}"
        yield f"Without these files the rest, {files}, is migrated by"
        yield "    " + inert(command(changeset, place, found))
    if found.lines:
        yield ("Or" if found.exclude else "The rest is migrated") + (
            " with these places as they are, once these lines end so:"
        )
        for path, line, code in found.lines:
            yield inert(f"    {path}:{line}:  # titan-migrate: ignore[{code}]")
    if changeset.outcome.to_do and not found.exclude and not found.lines:
        if any(f.status == "rewrite" for f in changeset.findings):
            yield "Nothing else can be migrated before these places are seen to."


def command(changeset: Changeset, place: str, found: WaysOn) -> str:
    """``titan-migrate apply`` as it has to be called, with what was asked for here."""
    outcome = changeset.outcome
    target, selection = outcome.target, outcome.selection
    words = ["titan-migrate", "apply", place]
    if target.mesh == "2d" or not target.reason.startswith("no torch"):
        words += ["--target", target.mesh]
    usual = "apply_replicate" if target.mesh == "1d" else "apply_ddp"
    if target.function_name != usual:
        words += ["--function-name", target.function_name]
    for option, given in (
        ("--select", selection.select),
        ("--ignore", selection.ignore),
    ):
        if given:
            words += [option, ",".join(given)]
    for each in (*selection.exclude, *found.patterns):
        words += ["--exclude", each]
    if changeset.checkout.torchtitan:
        words += ["--torchtitan", changeset.checkout.torchtitan]
    if not changeset.checkout.is_git:
        words.append("--no-git")
    return shlex.join(words)
