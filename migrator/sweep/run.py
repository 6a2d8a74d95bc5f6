"""A sweep: lists refs, plans each distinct tree once, and tells of every ref."""

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from importlib import import_module
from pathlib import Path

from migrator.errors import TitanMigrateError
from migrator.sweep.alike import Sketch, sketch
from migrator.sweep.cache import Cache, key_of
from migrator.sweep.objects import Commit, Repository, Unreadable
from migrator.sweep.patches import Wanted, place_of
from migrator.sweep.plan import Options
from migrator.sweep.pool import Ended, Pool
from migrator.sweep.row import Planned, Row, failed
from migrator.sweep.tree import Trees
from migrator.sweep.worker import Result, Task, make

_BRANCHES = ("refs/heads/*", "refs/remotes/*")
"""What is looked at where nobody says: branches, and those of the forks that were fetched."""

_IMPORTED = (
    "black",
    "libcst",
    "codemods.edit",
    "codemods.execute.migration",
    "codemods.plans",
    "codemods.prune",
    "codemods.rules",
    "jinja2",
)
"""What every process needs and takes a while to import: once, before they part."""


@dataclass(frozen=True)
class Request:
    """What is asked of a sweep.

    Args:
        repositories: folders.
        options: what is asked of every tree.
        refs: patterns that one of has to fit a ref, by its full name or what git calls it for short.
        since: seconds since 1970; refs whose commit is older are left out.
        shard: (part, parts) of the refs, from 1.
        jobs: how many processes work.
        cached: whether what was planned before is used.
        patches: the folder in which each ref gets a folder with its patches, None for none.
    """

    repositories: tuple[Path, ...]
    options: Options = Options()
    refs: tuple[str, ...] = ()
    since: int | None = None
    shard: tuple[int, int] | None = None
    jobs: int = 1
    cached: bool = True
    patches: Path | None = None


@dataclass
class Ref:
    """A ref to tell of.

    Args:
        number: of its repository.
        name: its full name.
        commit: what it leads to, None where that cannot be read.
        problem: why not.
    """

    number: int
    name: str
    commit: Commit | None = None
    problem: str = ""


@dataclass
class Told:
    """How far a sweep is, for whoever watches.

    Args:
        refs: how many there are.
        trees: how many distinct ones have to be planned.
        planned: how many of these are.
        started: when planning began.
    """

    refs: int = 0
    trees: int = 0
    planned: int = 0
    started: float = field(default_factory=time.monotonic)


Watch = Callable[[Told], None]


def is_branch(ref: str) -> bool:
    """Whether a ref is looked at where nobody says which."""
    return any(fnmatchcase(ref, pattern) for pattern in _BRANCHES)


def cores() -> int:
    """How many this process may use."""
    known = getattr(os, "sched_getaffinity", None)
    return len(known(0)) if known else os.cpu_count() or 1


def kept_in(request: Request) -> Path:
    """The folder in which results are kept; it may be deleted at any time."""
    return Cache(key_of(request.options)).folder


def untold(told: object) -> None:
    """Nobody wants to know."""


def sweep(
    request: Request,
    watch: Watch = untold,
    remark: Callable[[str], None] = untold,
) -> Iterator[Row]:
    """A row for every ref, by repository as they are given and by name; each as soon as it is known.

    Args:
        request: what is asked for.
        watch: is told how far it is, every half a second or more often.
        remark: is told, before there is a row, what was asked for and fits nothing.

    Raises:
        TitanMigrateError: a repository is none, or no ref fits; at once, and not by the first row.
    """
    key = key_of(request.options)
    refs, tasks = _listed(request, key, remark)
    return _swept(request, key, refs, tasks, watch)


def _swept(
    request: Request, key: str, refs: list[Ref], tasks: list[Task], watch: Watch
) -> Iterator[Row]:
    cache = Cache(key) if request.cached else None
    known: dict[str, Planned] = {}
    if cache is not None:
        for task in tasks:
            planned = cache.get(task.tree)
            if planned is not None and not _lacks_patches(planned, task):
                known[task.tree] = planned
    tasks = [task for task in tasks if task.tree not in known]
    told = Told(len(refs), len(tasks))
    watch(told)
    rows = _Rows(request, refs)
    yield from rows.known(known)
    for name in _IMPORTED if tasks else ():
        import_module(name)
    work = partial(make, request.repositories, request.options)
    pool: Pool[Task, Result] = Pool(work, request.jobs, lambda: watch(told))
    for task, result in pool.run(tasks):
        if isinstance(result, Ended):
            planned = failed(f"the process that planned it ended {result.reason}")
        else:
            planned = result.planned
            rows.unwritten |= result.unwritten
        lasts = not isinstance(result, Ended) and result.lasts
        if cache is not None and lasts and planned.state != "failed":
            cache.put(task.tree, planned)
        known[task.tree] = planned
        told.planned += 1
        watch(told)
        yield from rows.known(known)


def _lacks_patches(planned: Planned, task: Task) -> bool:
    return planned.state == "ready" and not all(w.is_there for _, w in task.wanted)


class _Rows:
    """The rows in their order, as far as they are known."""

    def __init__(self, request: Request, refs: Sequence[Ref]) -> None:
        self._request, self._refs, self._next = request, refs, 0
        self.unwritten: dict[Path, str] = {}

    def known(self, planned: dict[str, Planned]) -> Iterator[Row]:
        """Those that are next and known now."""
        while self._next < len(self._refs):
            ref = self._refs[self._next]
            if ref.commit is None:
                found = failed(ref.problem)
            elif ref.commit.tree in planned:
                found = planned[ref.commit.tree]
            else:
                return
            self._next += 1
            commit = ref.commit or Commit("", "", 0)
            yield Row(
                str(self._request.repositories[ref.number]),
                ref.name,
                commit.id,
                commit.date,
                commit.tree,
                found,
                self._patches(ref) if found.state == "ready" else "",
            )

    def _patches(self, ref: Ref) -> str:
        if self._request.patches is None:
            return ""
        repository = self._request.repositories[ref.number]
        place = place_of(self._request.patches, repository, ref.name)
        problem = self.unwritten.get(place)
        return f"not written: {problem}" if problem else str(place)


def _listed(
    request: Request, key: str, remark: Callable[[str], None]
) -> tuple[list[Ref], list[Task]]:
    """Every ref, and the distinct trees of all, those that are alike one after another."""
    refs: list[Ref] = []
    asked = _Asked(request)
    places: dict[str, list[int]] = {}
    wanted: dict[str, list[tuple[int, Wanted]]] = {}
    order: dict[str, Sketch] = {}
    for number, folder in enumerate(request.repositories):
        with Repository(folder) as repository:
            trees = Trees(repository)
            known: dict[str, Sketch] = {}
            for ref in asked.refs(repository, number):
                refs.append(ref)
                if ref.commit is None:
                    continue
                tree = ref.commit.tree
                if number not in places.setdefault(tree, []):
                    places[tree].append(number)
                if tree not in order:
                    order[tree] = sketch(trees, tree, known)
                if request.patches is not None:
                    place = place_of(request.patches, folder, ref.name)
                    patches = Wanted(place, folder, ref.name, ref.commit.id, key)
                    wanted.setdefault(tree, []).append((number, patches))
    asked.said(remark)
    alike = sorted(places, key=lambda tree: (order[tree], tree))
    return refs, [
        Task(tree, tuple(places[tree]), tuple(wanted.get(tree, ()))) for tree in alike
    ]


class _Asked:
    """The refs that are asked for, and what was asked for and fits none."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._fitting: set[str] = set()
        self._of: dict[int, int] = {}
        self._older = 0

    def refs(self, repository: Repository, number: int) -> Iterator[Ref]:
        """Those of a repository."""
        since, shard = self._request.since, self._request.shard
        self._of[number] = 0
        for name, target in repository.refs():
            if not self._fits(name):
                continue
            self._of[number] += 1
            if not _in_shard(repository, name, shard):
                continue
            if target is None:
                problem = "git takes this for no ref: its name or its content is none"
                yield Ref(number, name, problem=problem)
                continue
            try:
                commit = repository.commit(target)
            except Unreadable as error:
                yield Ref(number, name, problem=str(error))
                continue
            if since is None or commit.date >= since:
                yield Ref(number, name, commit)
            else:
                self._older += 1

    def _fits(self, name: str) -> bool:
        short = name.split("/", 2)[-1]
        if not self._request.refs:
            return is_branch(name)
        fitting = {
            pattern
            for pattern in self._request.refs
            if any(fnmatchcase(one, pattern) for one in (name, short))
        }
        self._fitting |= fitting
        return bool(fitting)

    def said(self, remark: Callable[[str], None]) -> None:
        """Say what fits nothing.

        Raises:
            TitanMigrateError: nothing does.
        """
        folders = self._request.repositories
        idle = [p for p in self._request.refs if p not in self._fitting]
        if not any(self._of.values()):
            where = ", ".join(map(str, folders))
            named = f" that fits --refs {' or '.join(idle)}" if idle else ""
            raise TitanMigrateError(
                f"there is no ref{named} in {where}: refs are branches, and those of remotes; "
                "others are named with --refs, as --refs 'refs/tags/*'."
            )
        for pattern in idle:
            remark(f"No ref fits --refs {pattern}.")
        for number, folder in enumerate(folders):
            if not self._of[number]:
                remark(f"There is no ref to look at in {folder}.")
        if self._older:
            s = "" if self._older == 1 else "s"
            remark(
                f"{self._older} ref{s} left out: the last commit is older than --since."
            )


def _in_shard(repository: Repository, name: str, shard: tuple[int, int] | None) -> bool:
    """Whether a ref is of a part; which one it is of, its name alone says."""
    if shard is None:
        return True
    part, parts = shard
    told = os.fsencode(f"{repository.folder.resolve().name}\0{name}")
    return int.from_bytes(hashlib.sha256(told).digest()[:8], "big") % parts == part - 1
