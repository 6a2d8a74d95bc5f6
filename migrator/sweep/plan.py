"""Plan one tree, and say what becomes of it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from codemods.selection import MAY_BE_ALONE, Selection, SelectionError
from codemods.targets import Asked
from migrator import config, render
from migrator.apply import plan, resolve_target
from migrator.changeset import Changeset
from migrator.dependency import refuse_absent
from migrator.errors import NoTorchtitan, TitanMigrateError
from migrator.sweep.row import Planned, State, failed
from migrator.sweep.tree import TreeCheckout


@dataclass(frozen=True)
class Options:
    """What is asked of every tree, as the options of ``diff`` are.

    Args:
        target: ``auto``, ``1d`` or ``2d``.
        torch_version: of the torch that the migrated code will run on.
        function_name: what ``apply_ddp`` is called afterwards, None for the default.
        keep_precision: whether calls pass fp32.
        torchtitan: the torchtitan that trees use and do not hold.
        select, ignore, exclude: what is migrated, where the tree does not say it.
    """

    target: Asked = "auto"
    torch_version: str | None = None
    function_name: str | None = None
    keep_precision: bool = False
    torchtitan: str | None = None
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    @property
    def chosen(self) -> Mapping[str, tuple[str, ...]]:
        return {key: getattr(self, key) for key in config.KEYS}


def refuse(options: Options) -> None:
    """Refuse what is asked for where no tree takes it, before any is planned.

    Args:
        options: what is asked for.

    Raises:
        TitanMigrateError: as of a tree that is planned; the first of those of the targets.
    """
    if options.torchtitan is not None:
        refuse_absent(options.torchtitan)
    decided = options.target != "auto" or options.torch_version
    targets: tuple[Asked, ...] = (options.target,) if decided else ("1d", "2d")
    refused = [error for error in (_refused(options, t) for t in targets) if error]
    if len(refused) == len(targets):
        raise refused[0]


def _refused(options: Options, asked: Asked) -> TitanMigrateError | None:
    """What is wrong with the options for every tree that a target is written for."""
    try:
        target = resolve_target(asked, options.torch_version, options.function_name)
        selection = Selection(**options.chosen)
        selection.check(target, MAY_BE_ALONE)
        selection.excluded(())
    except SelectionError as error:
        return TitanMigrateError(str(error))
    except TitanMigrateError as error:
        return error
    return None


def plan_tree(
    checkout: TreeCheckout, options: Options
) -> tuple[Planned, Changeset | None]:
    """What ``diff`` says of a tree.

    Args:
        checkout: the tree.
        options: what is asked for.

    Returns:
        What becomes of it, and the migration where there is one to write.
    """
    try:
        target = resolve_target(
            options.target,
            options.torch_version,
            options.function_name,
            checkout.folder,
            options.keep_precision,
        )
        selection = config.selection(checkout.folder, options.chosen)
        changeset = plan(checkout, target, selection)
    except NoTorchtitan as error:
        return Planned("other", reasons=(str(error),), codes=("",), exit_code=2), None
    except TitanMigrateError as error:
        return failed(str(error), error.exit_code), None
    except Exception as error:  # one tree of many, whatever is in it
        reason = f"it could not be planned ({type(error).__name__}: {error})"
        return failed(reason), None
    return _said(changeset), changeset if changeset.changes else None


def _said(changeset: Changeset) -> Planned:
    outcome = changeset.outcome
    hazards = [f for f in changeset.findings if f.status == "hazard"]
    state: State = "ready"
    reasons: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    if outcome.problems:
        left = [f for f in changeset.findings if f.status == "left"]
        state, reasons = "person", outcome.problems
        codes = tuple(f.code for f in left) if left else ("",) * len(reasons)
    elif not changeset.changes:
        state, reasons, codes = "done", (render.sentence(changeset),), ("",)
    return Planned(
        state,
        outcome.about.generation,
        outcome.target.mesh,
        tuple(changeset.places),
        dict(sorted(Counter(f.code for f in changeset.findings).items())),
        dict(sorted(Counter(str(f.severity) for f in hazards).items())),
        reasons,
        codes,
        1 if outcome.problems else 0,
    )
