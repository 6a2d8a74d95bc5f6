"""Plan a checkout, or take over what was planned for the same files: `diff` after `check` has it at hand."""

import base64
import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from codemods.about import About
from codemods.dependency import UNKNOWN, Dependency
from codemods.findings import Finding
from codemods.outcome import Outcome
from codemods.selection import Selection
from codemods.source import SourceFile
from codemods.targets import Target
from codemods.texts import TextFile
from migrator import apply, caches
from migrator.changeset import Changeset
from migrator.checkout import Checkout

KEPT = 64
"""As many plans are kept, those that were of use last."""


def plan(
    checkout: Checkout, target: Target, selection: Selection = Selection()
) -> Changeset:
    """What ``apply.plan`` gives, from the user's cache folder where it is known there.

    A plan is made of the files of the checkout and of the torchtitan that it uses, of the
    target and the selection, and of our own code: where all of it is the same, byte for
    byte, so is the plan.

    Args:
        checkout, target, selection: as ``apply.plan`` takes them.

    Raises:
        FileProblem, TitanMigrateError: as ``apply.plan``; neither is kept.
    """
    checkout.refuse_sparse()
    try:
        place = caches.folder() / "plans" / _key(checkout, target, selection)
    except (RuntimeError, caches.Untold):  # RuntimeError: a user without a home
        return apply.plan(checkout, target, selection)
    outcome = _known(place, checkout, target, selection)
    if outcome is None:
        outcome = apply.work_out(checkout, target, selection)
        _keep(place, checkout, outcome)
    return Changeset(checkout, apply.written_once(checkout, outcome))


def _key(checkout: Checkout, target: Target, selection: Selection) -> str:
    """What all that a plan is made of comes to, but for texts, which it may not have read."""
    dependency = checkout.dependency
    given = (
        f"{target} {selection} {replace(dependency, files={})} {dependency is UNKNOWN}"
    )
    told = _told([*caches.of_this_tool(), given.encode()])
    for files in (checkout.files, dependency.files):
        told.update(_told(_contents(files)).digest())
    return told.hexdigest()


def _contents(files: Mapping[str, SourceFile | TextFile]) -> Iterator[bytes]:
    for path, file in files.items():
        yield os.fsencode(path)
        yield file.raw


def _told(parts: Iterable[bytes]) -> "hashlib._Hash":
    """A hash of parts, none of which can pass for the end or the beginning of another."""
    told = hashlib.sha256()
    for part in parts:
        told.update(b"%d:" % len(part))
        told.update(part)
    return told


def _known(
    place: Path, checkout: Checkout, target: Target, selection: Selection
) -> Outcome | None:
    """What is kept at a place, None where that is nothing, broken, or made of other texts."""
    try:
        if not place.is_file():
            return None
        checked, _, body = place.read_bytes().partition(b"\n")
        if checked != _checked(place, body):
            return None
        data = json.loads(body)
        if data["texts"] not in (None, _texts(checkout)):
            return None
        found = _of_data(data, target, selection)
    except (OSError, ValueError, TypeError, KeyError):
        return None
    with contextlib.suppress(OSError):
        os.utime(place)
    return found


def _keep(place: Path, checkout: Checkout, outcome: Outcome) -> None:
    """Keep a plan, and no more of them than the last."""
    read = "texts" in checkout.__dict__
    data = {"texts": _texts(checkout) if read else None, **_as_data(outcome)}
    body = json.dumps(data).encode()
    caches.put(place, _checked(place, body) + b"\n" + body)
    with contextlib.suppress(OSError):
        kept = sorted(place.parent.iterdir(), key=lambda one: one.stat().st_mtime)
        for one in kept[:-KEPT]:
            one.unlink(missing_ok=True)


def _checked(place: Path, body: bytes) -> bytes:
    """What tells that a record is whole, and at its own place."""
    return _told([place.name.encode(), body]).hexdigest().encode()


def _texts(checkout: Checkout) -> str:
    return _told(_contents(checkout.texts)).hexdigest()


def _as_data(outcome: Outcome) -> dict[str, Any]:
    return {
        "about": {
            **vars(outcome.about),
            "dependency": asdict(outcome.about.dependency),
            "called": sorted(outcome.about.called),
        },
        "changes": {
            path: base64.b64encode(raw).decode()
            for path, raw in outcome.changes.items()
        },
        "findings": [vars(finding) for finding in outcome.findings],
        "problems": outcome.problems,
        "excluded": sorted(outcome.excluded),
        "unconfirmed": [[*who, why] for who, why in outcome.unconfirmed.items()],
    }


def _of_data(data: Mapping[str, Any], target: Target, selection: Selection) -> Outcome:
    """What ``_as_data`` was given; raises TypeError or KeyError for anything else."""
    about = data["about"]
    about["dependency"] = Dependency(**about["dependency"])
    about["called"] = frozenset(about["called"])
    changes = data["changes"].items()
    return Outcome(
        About(**about),
        target,
        {path: base64.b64decode(raw) for path, raw in changes},
        tuple(Finding(**finding) for finding in data["findings"]),
        tuple(data["problems"]),
        selection,
        frozenset(data["excluded"]),
        {(path, name): why for path, name, why in data["unconfirmed"]},
    )
