"""What a process of a sweep does: plans trees, one after another."""

import gc
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from codemods.phases import reusing
from migrator.changeset import Changeset
from migrator.errors import TitanMigrateError
from migrator.series.commits import Taken, taken
from migrator.sweep.objects import Repository
from migrator.sweep.patches import Wanted, write_series
from migrator.sweep.plan import Options, plan_tree
from migrator.sweep.reuse import Reuse
from migrator.sweep.row import Planned, failed
from migrator.sweep.shared import Shared
from migrator.sweep.tree import Tree, TreeCheckout, Trees

_COLLECTED = 64
"""Once in so many trees garbage is looked for in all, which takes a third of a second; what trees leave is freed without."""


@dataclass(frozen=True)
class Task:
    """A tree to plan.

    Args:
        tree: its id.
        repositories: those that have it, by their numbers.
        wanted: the patches that are asked for, of refs of each of these.
    """

    tree: str
    repositories: tuple[int, ...]
    wanted: tuple[tuple[int, Wanted], ...] = ()


@dataclass(frozen=True)
class Result:
    """What became of it.

    Args:
        planned: the tree.
        unwritten: folder of patches -> why they could not be written.
        lasts: it depends on the tree alone, and on no torchtitan elsewhere on this disk.
    """

    planned: Planned
    unwritten: Mapping[Path, str] = field(default_factory=dict)
    lasts: bool = True


class Worker:
    """Plans trees of some repositories.

    Args:
        repositories: where they lie.
        options: what is asked of every tree.
    """

    def __init__(self, repositories: Sequence[Path], options: Options) -> None:
        self._folders, self._options = repositories, options
        self._trees: dict[int, Trees] = {}
        self._shared = Shared()
        self._reuse = Reuse()
        self._planned = 0

    def __call__(self, task: Task) -> Result:
        self._planned += 1
        if self._planned % _COLLECTED == 0:
            gc.collect()
        planned = failed("no repository has it")
        for number in task.repositories:
            try:
                checkout = self._checkout(task.tree, number)
            except TitanMigrateError as error:
                planned = failed(str(error), error.exit_code)
                continue
            with reusing(self._reuse):
                planned, changeset = plan_tree(checkout, self._options)
            if changeset is not None and planned.state == "ready":
                return Result(planned, self._written(task, changeset), _lasts(checkout))
            if planned.state != "failed":
                return Result(planned, lasts=_lasts(checkout))
        return Result(planned)

    def _written(self, task: Task, changeset: Changeset) -> dict[Path, str]:
        """Write the patches that are asked for; why, of those that cannot be."""
        problems: dict[Path, str] = {}
        found: Taken | None = None
        for number, wanted in task.wanted:
            try:
                found = found or taken(changeset)
                checkout = self._checkout(task.tree, number)
                home = replace(changeset, checkout=checkout)
                write_series(home, found, wanted, anew=not _lasts(checkout))
            except TitanMigrateError as error:
                problems[wanted.folder] = str(error)
        return problems

    def _checkout(self, tree: str, number: int) -> TreeCheckout:
        if number not in self._trees:
            self._trees[number] = Trees(Repository(self._folders[number]))
        trees = self._trees[number]
        return TreeCheckout(
            trees.repository.git_dir,
            is_git=True,
            torchtitan=self._options.torchtitan,
            tree=Tree(trees, tree),
            shared=self._shared,
        )


def _lasts(checkout: TreeCheckout) -> bool:
    """Whether a tree uses no torchtitan, or a release, which does not change."""
    given = checkout.named
    release = given is not None and re.fullmatch(r"v?\d[\w.]*", given) is not None
    return release or not checkout.dependency.files


def make(repositories: Sequence[Path], options: Options) -> Callable[[Task], Result]:
    """A worker, in a process of its own."""
    # Syntax trees are many objects that stay: they are looked through for circles seldom.
    gc.freeze()
    gc.set_threshold(200_000, 20, 1000)
    return Worker(repositories, options)
