"""Which training loops run a plan, and whether they want its gradients summed or averaged."""

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from codemods.autocast import trains
from codemods.bindings import Checkout
from codemods.modules import PLAN_OF_A_SPEC
from codemods.names import Definition
from codemods.nodes import dotted, nodes
from codemods.once import once
from codemods.plans.records import Facts
from codemods.plans.sites import folder_of, keeps_averaging, standalone
from codemods.reach import beside_training, imported_by
from codemods.source import SourceFile
from codemods.survey import CallSite, divides_by_global_tokens


@dataclass(frozen=True)
class Trainers:
    """The training loops that run some plans.

    Args:
        by_all: files that divide the loss by the tokens of all ranks: gradients must be summed.
        by_own: files that do not.
    """

    by_all: tuple[str, ...] = ()
    by_own: tuple[str, ...] = ()

    @property
    def sum(self) -> bool:
        """Whether it is known that gradients must be summed."""
        return bool(self.by_all) and not self.by_own


def trainers_of(facts: Facts, sites: Iterable[CallSite] = ()) -> Trainers:
    """The training loops that run the plans of some calls; of all plans where there are none.

    The loop of a model's own folder where there is one, torchtitan's own otherwise; one in
    the folder of another model or experiment says nothing unless there is no other.
    """
    plans = [site for site in sites if not standalone(facts, site)]
    folders = {folder_of(site.reference.path) for site in plans}
    found = [] if folders else _shared(facts)
    for folder in folders:
        found += _own(facts, folder) or _shared(facts)
    for site in plans:
        found += _calling(facts.checkout, _place(site))
    files = [facts.checkout.files[path] for path in sorted(set(found))]
    return Trainers(
        tuple(file.path for file in files if file.all(divides_by_global_tokens)),
        tuple(file.path for file in files if not file.all(divides_by_global_tokens)),
    )


def others_of(facts: Facts, sites: Sequence[CallSite]) -> list[str]:
    """The loops of experiments that may run the plans of some calls beside those that do.

    Not the loop of a folder that has a plan of its own.
    """
    known = trainers_of(facts, sites)
    return [
        path
        for path in _running(facts)
        if path not in (*known.by_all, *known.by_own)
        and not _has_a_plan(facts, folder_of(path))
    ]


def trains_its_own(facts: Facts, path: str) -> bool:
    """Whether a file is of a model or experiment that shards and has no DDP."""
    folder = folder_of(path)
    sites = (*facts.survey.call_sites, *facts.survey.inline)
    if any(folder_of(site.reference.path) == folder for site in sites):
        return False
    return _of_a_model(path) and _has_a_plan(facts, folder)


def keeps_its_own(facts: Facts, path: str) -> bool:
    """Whether a file has a loop of its own, whose gradients go on being averaged."""
    return any(
        site.reference.path == path and keeps_averaging(facts, site)
        for site in facts.survey.call_sites
    )


def _own(facts: Facts, folder: str) -> list[str]:
    """The loops in the folder of a model that run a plan."""
    return [path for path in _running(facts) if folder_of(path) == folder]


def _shared(facts: Facts) -> list[str]:
    """The loops that any plan may be run by: the dependency's where nothing trains here."""
    running, dividing = _running(facts), facts.survey.global_tokens
    own = facts.checkout.own
    for paths in (
        [path for path in running if path in own and not _of_a_model(path)],
        [path for path in dividing if path in own and not _of_a_model(path)],
        [
            path
            for path in running
            if path in own and not _has_a_plan(facts, folder_of(path))
        ],
        [p for p in running if not trains(facts.checkout) and not _of_a_model(p)],
        [path for path in dividing if not _of_a_model(path)],
    ):
        if paths:
            return paths
    return []


def _has_a_plan(facts: Facts, folder: str) -> bool:
    """Whether something in a folder shards, and so is what is trained there."""
    sharding = facts.checkout.mentioning("fully_shard", "apply_fsdp")
    return any(file.path.startswith(f"{folder}/") for file in sharding)


def _of_a_model(path: str) -> bool:
    """Whether a file is in the folder of one model or experiment."""
    return f"/{folder_of(path)}".rpartition("/")[0].endswith(
        ("/models", "/experiments")
    )


def _place(site: CallSite) -> Definition:
    """The function that a call is in."""
    return Definition(site.reference.path, site.reference.scope.partition(".")[0])


def _calling(checkout: Checkout, plan: Definition) -> list[str]:
    """The loops that call a plan by its name."""
    return [
        path
        for file in (checkout.mentioning(f"{plan.name}(") if plan.name else ())
        if any(
            checkout.resolve(file.path, scope, spelling) == plan
            for scope, spelling in file.all(_Called(plan.name))
        )
        for path in _loops_of(checkout, file)
    ]


@dataclass(frozen=True)
class _Called:
    """Finds how something of a name is called, and in which scopes."""

    name: str

    def __call__(self, file: SourceFile) -> tuple[tuple[str, str], ...]:
        return tuple(
            (use.scope, use.spelling)
            for use in file.names.uses
            if use.call is not None and use.spelling.rpartition(".")[2] == self.name
        )


def _running(facts: Facts) -> list[str]:
    """The loops of all that calls a plan that it is given."""
    return list(_given_plans(facts.checkout))


@once
def _given_plans(checkout: Checkout) -> tuple[str, ...]:
    called = f"{PLAN_OF_A_SPEC}("
    files = (*checkout.mentioning(called), *checkout.providing(called))
    starts = {file.path for file in files if not beside_training(file.path)}
    derived = _derived(checkout, starts)
    found = [checkout.files[path] for path in sorted(starts | derived)]
    return tuple(dict.fromkeys(p for file in found for p in _loops_of(checkout, file)))


def _derived(checkout: Checkout, paths: set[str]) -> set[str]:
    """The files with a class that derives from one in these, and so on."""
    known = set(paths)
    trained = (*checkout.mentioning(".backward("), *checkout.providing(".backward("))
    while True:
        new = {
            file.path
            for file in trained
            if file.path not in known and not beside_training(file.path)
            if _derives(checkout, file, known)
        }
        if not new:
            return known
        known |= new


def _derives(checkout: Checkout, file: SourceFile, paths: set[str]) -> bool:
    bases = [checkout.resolve(file.path, "", name) for name in file.all(_bases)]
    return any(base is not None and base.path in paths for base in bases)


def _bases(file: SourceFile) -> tuple[str, ...]:
    """What the classes of a file derive from, as it is written."""
    return tuple(
        dotted(base) or ""
        for node in nodes(file.syntax)
        if isinstance(node, ast.ClassDef)
        for base in node.bases
    )


def _loops_of(checkout: Checkout, file: SourceFile) -> list[str]:
    """The file itself where it has a backward pass, else those that it imports."""
    files = [file]
    if not file.mentions(b".backward("):
        files = [checkout.files[path] for path in sorted(imported_by(checkout, file))]
    return [
        one.path
        for one in files
        if one.mentions(b".backward(") and not beside_training(one.path)
    ]
