"""Which weights are tied when a model is wrapped, and by which function it is."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from codemods.autocast import of_a_test
from codemods.bindings import Checkout
from codemods.once import once
from codemods.plans.records import Facts
from codemods.plans.sites import folder_of
from codemods.reach import imported_by
from codemods.survey import CallSite, Tie, enclosing_line

_AFTER_WRAPPING = {"init_weights", "init_states", "initialize_weights"}
"""Methods that torchtitan calls on a wrapped model."""

_STEPS = 4
"""Imports between the file of a call and that of a model that it wraps."""


def ties_of(facts: Facts, sites: Sequence[CallSite]) -> tuple[tuple[str, str], ...]:
    """The pairs of modules that share their weight in a model that these calls wrap.

    A tie counts where it is made before the model is wrapped, in the code of a model
    that a call of these can get: the model's own folder, what the file of the call
    imports, or what lies beside no model's plan in a checkout that is not laid out so.
    """
    folders = {folder_of(site.reference.path) for site in facts.survey.call_sites}
    return tuple(
        sorted(
            {
                (tie.left, tie.right)
                for tie in facts.survey.ties
                for site in sites
                if before_wrapping(facts, tie, site)
                and _reaches(facts, tie, site, folders)
            }
        )
    )


def has_stand_ins(facts: Facts, sites: Sequence[CallSite]) -> bool:
    """Whether a pipeline beside these calls puts an Identity, not None, where a stage lacks a module.

    torchtitan's plan for models of transformers does, in 0.2.1 and 0.2.2.
    """
    homes = {folder_of(site.reference.path) for site in sites}
    return any(
        folder_of(file.path) in homes
        for file in facts.checkout.mentioning(", nn.Identity())")
    )


def before_wrapping(facts: Facts, tie: Tie, site: CallSite) -> bool:
    """Whether a tie is there when a call wraps, as far as its place tells."""
    if of_a_test(tie.path) or "scripts" in PurePosixPath(tie.path).parts:
        return False
    file = facts.survey.files[tie.path]
    function = enclosing_line(file.syntax, tie.line)
    if tie.path == site.reference.path and function is site.function:
        return tie.line < site.reference.line
    if tie.by_method:
        # transformers ties in the constructor, whenever it is asked to again.
        return not bool(facts.checkout.mentioning("def tie_weights("))
    return function is None or function.name not in _AFTER_WRAPPING


def _reaches(facts: Facts, tie: Tie, site: CallSite, folders: set[str]) -> bool:
    """Whether the model that ties can be one that the call wraps."""
    path = site.reference.path
    home, folder = folder_of(path), PurePosixPath(path).parent
    if home == folder.as_posix() and "models" not in folder.parts:
        return folder_of(tie.path) not in folders - {home}
    seen, frontier = {tie.path}, [tie.path]
    for step in range(_STEPS):
        if any(other == path or _is_above(other, path, home) for other in frontier):
            return True
        frontier = [
            other
            for one in frontier
            for other in _importers(facts.checkout, one)
            if other not in seen
        ]
        seen.update(frontier)
        if not frontier and step == 0:
            return folder_of(tie.path) == home  # nobody says how it is used
    return False


def _is_above(other: str, path: str, home: str) -> bool:
    """Whether a file lies beside another, or above it in the same model's folder."""
    folder = PurePosixPath(other).parent
    inside = f"{folder.as_posix()}/".startswith(f"{home}/")
    return inside and PurePosixPath(path).is_relative_to(folder)


@once
def _importers(checkout: Checkout, path: str) -> tuple[str, ...]:
    """The files that import a file, tests apart."""
    stem = checkout.files[path].module.rpartition(".")[2]
    naming = {file.path: file for file in checkout.mentioning(stem)}
    if path.endswith("__init__.py"):
        # A package is imported without its name by `from . import`, in its own folder.
        folder = path.removesuffix("__init__.py")
        inside = (f for f in checkout.mentioning("from") if f.path.startswith(folder))
        naming |= {file.path: file for file in inside}
    return tuple(
        file.path
        for _, file in sorted(naming.items())
        if file.path != path and not of_a_test(file.path)
        if path in imported_by(checkout, file)
        if any(
            path in (checkout.path_of(module), checkout.path_of(f"{module}.{name}"))
            for module, name in file.imports
        )
    )
