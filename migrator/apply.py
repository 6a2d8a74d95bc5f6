"""Work out a migration of a checkout, and write it."""

import shlex
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from codemods.outcome import Outcome
from codemods.selection import Selection, SelectionError
from codemods.source import UnreadableSource
from codemods.targets import Asked, Target, TargetError, choose_target
from migrator.changeset import Changeset
from migrator.checkout import EXPECTED, Checkout, open_checkout
from migrator.config import line_length
from migrator.errors import FileProblem, LeftToDo, NoTorchtitan, TitanMigrateError
from migrator.pins import Pin, torch_pins
from migrator.place import Place, inside
from migrator.version import installed_torch

if TYPE_CHECKING:
    from codemods.engine import WorkedOut

_Outcome = TypeVar("_Outcome", bound=Outcome)


def resolve_target(
    target: Asked = "auto",
    torch_version: str | None = None,
    function_name: str | None = None,
    root: Place | None = None,
    keep_precision: bool = False,
) -> Target:
    """The target to write for.

    Args:
        target: ``auto``, ``1d`` or ``2d``.
        torch_version: of the torch that the migrated code will run on; where it is None,
            ``auto`` takes the one that the checkout pins, or that of this environment.
        function_name: ``apply_replicate``, ``apply_ddp`` or None.
        root: of the checkout whose pins count, and the length of whose lines.
        keep_precision: whether calls pass fp32, in which DDP without autocast computed.

    Raises:
        TitanMigrateError: no target fits, or two pins ask for different ones.
    """
    version, source = torch_version, None
    if version is None and target == "auto":
        pin = _decisive_pin(root) if root else None
        version = pin.newest if pin else installed_torch()
        source = pin.place if pin else None
    try:
        chosen = choose_target(target, version, function_name, source)
    except TargetError as error:
        raise TitanMigrateError(str(error)) from error
    width = line_length(root) if root else chosen.width
    return replace(chosen, keep_precision=keep_precision, width=width)


def _decisive_pin(root: Place) -> Pin | None:
    """The pin that says which torch a checkout runs on; one version before a range."""
    pins = [pin for pin in torch_pins(root) if pin.newest is not None]
    pins = [pin for pin in pins if pin.exact] or pins
    meshes: dict[str, Pin] = {}
    for pin in pins:
        try:
            meshes.setdefault(choose_target("auto", pin.newest).mesh, pin)
        except TargetError:
            meshes.setdefault("none", pin)
    if len(meshes) > 1:
        named = " and ".join(f"{pin.text} ({pin.place})" for pin in meshes.values())
        raise TitanMigrateError(
            f"this checkout pins {named}, whose replicate differs. Say which one the "
            "migrated code will run on, with --torch."
        )
    return pins[0] if pins else None


def plan(
    checkout: Checkout, target: Target, selection: Selection = Selection()
) -> Changeset:
    """What a migration would change; nothing is written.

    Args:
        checkout: where.
        target: the API to write for.
        selection: which rules, and which files.

    Raises:
        FileProblem: a file that matters cannot be read or parsed.
        TitanMigrateError: this is no torchtitan checkout, or the selection is wrong.
    """
    return Changeset(
        checkout, written_once(checkout, work_out(checkout, target, selection))
    )


def work_out(
    checkout: Checkout, target: Target, selection: Selection = Selection()
) -> "WorkedOut":
    """What ``plan`` plans, with what it is made of.

    Raises:
        FileProblem, TitanMigrateError: as ``plan``.
    """
    from codemods import engine  # imports what reads syntax trees

    checkout.refuse_sparse()
    try:
        outcome = engine.migrate(
            checkout.files,
            target,
            selection,
            lambda: checkout.texts,
            dependency=checkout.dependency,
        )
    except SelectionError as error:
        raise TitanMigrateError(str(error)) from error
    except UnreadableSource as error:
        raise FileProblem(
            f"{error}. Mend the file and run again; nothing was written."
        ) from error
    except RecursionError as error:
        raise FileProblem(
            "a file that mentions apply_ddp nests too deeply to be followed; nothing was "
            "written. Leave it out with --exclude."
        ) from error
    if outcome.about.kind == "foreign":
        what = (
            "does not look like a torchtitan checkout: no ParallelDims, no JobConfig and no "
            "apply_ddp of torchtitan's in it"
            if checkout.files
            else "has no Python file in it"
        )
        raise NoTorchtitan(f"{checkout.folder} {what}. {EXPECTED}")
    if target.keep_precision and outcome.to_do:
        _refuse_keeping(outcome, checkout)
    return outcome


def written_once(checkout: Checkout, outcome: _Outcome) -> _Outcome:
    """The outcome with each file once, by that of its names, links among them, by which it is called.

    Where it is called by none, that is its own name. Where it is called by two, and would
    be written otherwise for each, it is a problem.
    """
    root = checkout.folder.resolve()
    names: dict[str, list[str]] = {}
    for path in outcome.changes:
        place = inside(root, (root / path).resolve()) or path
        names.setdefault(place, []).append(path)
    changes, apart = {}, []
    for place, paths in names.items():
        wanted = [path for path in paths if path in outcome.about.called]
        if len({outcome.changes[path] for path in wanted}) > 1:
            apart.append(
                f"{place}:1: it is called by the names {' and '.join(sorted(wanted))}, and would be "
                "written otherwise for each: make them files of their own, or call it by one name"
            )
        own = [path for path in paths if path == place]
        chosen = [*wanted, *own, *paths][0]
        changes[chosen] = outcome.changes[chosen]
    if apart:
        return replace(outcome, changes={}, problems=tuple(apart))
    return replace(outcome, changes=changes)


def _refuse_keeping(outcome: "WorkedOut", checkout: Checkout) -> None:
    """Refuse to keep a precision that no policy has.

    Raises:
        TitanMigrateError: DDP computed under autocast.
    """
    from codemods.autocast import mixed_precision
    from codemods.launches import launches

    files = outcome.survey.checkout
    who = mixed_precision(files)
    if who != "none" or launches(files, checkout.texts.values()):
        where = "this checkout" if who == "here" else "the torchtitan that it uses"
        raise TitanMigrateError(
            f"--keep-precision is for forks in which DDP computed in fp32, and {where} opens "
            "autocast, whose arithmetic no policy has: leave it out, and set "
            'mixed_precision_param = "float32" in a configuration that is to train in fp32.'
        )


def refuse_dirty(
    changeset: Changeset,
    advice: str = "Commit or stash them, or pass --allow-dirty to write over them.",
) -> None:
    """Refuse to write over changes that are not committed.

    Args:
        changeset: what would be written.
        advice: what to do about it.

    Raises:
        TitanMigrateError: a path to be written has uncommitted changes.
    """
    root = changeset.checkout.root.resolve()
    known = changeset.checkout.dirty()
    dirty = set()
    for path in changeset.changes:
        # A symlink: what is written is the file that it leads to.
        real = (root / path).resolve().relative_to(root).as_posix()
        for place in (path, real):
            inside = any(k.endswith("/") and place.startswith(k) for k in known)
            if place in known or inside or place.startswith(".git/"):
                dirty.add(place)
    if dirty:
        raise TitanMigrateError(
            f"{', '.join(sorted(dirty))} {'has' if len(dirty) == 1 else 'have'} uncommitted changes. "
            f"{advice}"
        )


def proof(checkout: Checkout) -> str:
    """The command that proves a migration, with the torchtitan that this one was told of."""
    told = checkout.torchtitan
    option = f" --torchtitan {shlex.quote(told)}" if told else ""
    place = f" {shlex.quote(str(checkout.root))}" if _is_elsewhere(checkout) else ""
    return f"titan-migrate verify{place}{option}"


def git_there(checkout: Checkout) -> str:
    """What a command of git for this checkout begins with, from the working directory."""
    at = f" -C {shlex.quote(str(checkout.root))}" if _is_elsewhere(checkout) else ""
    return f"git{at}"


def _is_elsewhere(checkout: Checkout) -> bool:
    return checkout.root != Path.cwd()


def way_back(changeset: Changeset) -> str:
    """How a migration that is about to be written is reviewed and undone, in one sentence."""
    checkout = changeset.checkout
    if not checkout.is_git:
        return "There is no git here to undo it with."
    git = git_there(checkout)
    uncommitted = {path for letters, path in checkout.status() if letters != "??"}
    new = [path for path in sorted(changeset.changes) if changeset.before(path) is None]
    written = sorted(set(changeset.places) - set(new))
    lost = sorted(uncommitted & set(written))
    if lost:
        undo = f"git cannot undo it in {', '.join(lost)}, changed before too"
    elif uncommitted:
        undo = f"undo it with `{git} checkout -- {shlex.join(written)}`"
    else:
        undo = f"undo it with `{git} checkout .`"
    if new:
        undo += f", and remove {', '.join(new)}, which is new"
    return f"Review it with `{git} diff`, prove it with `{proof(checkout)}`; {undo}."


def refuse_incomplete(changeset: Changeset) -> None:
    """Refuse to write a migration that would leave something wrong.

    Raises:
        LeftToDo: names every place that a person has to see to first.
    """
    if changeset.outcome.problems:
        listed = "\n  ".join(changeset.outcome.problems)
        left = any(finding.status == "left" for finding in changeset.findings)
        advice = (
            "`titan-migrate check` shows the code to write; write it, commit it, and run again."
            if left
            else "Mend that, commit it, and run again."
        )
        raise LeftToDo(
            f"a person has to see to these places first, and nothing was written:\n  {listed}"
            f"\n{advice}"
        )


def apply_checkout(
    path: Path,
    *,
    target: Asked = "auto",
    torch_version: str | None = None,
    function_name: str | None = None,
    allow_dirty: bool = False,
    require_git: bool = True,
) -> Changeset:
    """Migrate the checkout at ``path`` in place.

    Args:
        path: the folder of a torchtitan checkout.
        target: ``auto``, ``1d`` or ``2d``.
        torch_version: of the torch that the migrated code will run on.
        function_name: what ``apply_ddp`` is called afterwards, None for the default.
        allow_dirty: write files with uncommitted changes too.
        require_git: refuse a folder that git does not keep.

    Returns:
        What was changed.

    Raises:
        TitanMigrateError: wrong use or environment, or a file could not be handled;
            in every case nothing was written.
    """
    checkout = open_checkout(path, require_git=require_git)
    wanted = resolve_target(target, torch_version, function_name, checkout.root)
    changeset = plan(checkout, wanted)
    refuse_incomplete(changeset)
    if not allow_dirty:
        refuse_dirty(changeset)
    changeset.write()
    return changeset
