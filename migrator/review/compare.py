"""What a review is about: the tree before, the tree after, and what the tool makes of the first."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from codemods.attribution import BY_HAND, Stage
from codemods.engine import WorkedOut, migrate
from codemods.selection import Selection, SelectionError
from codemods.source import SourceFile, UnreadableSource
from codemods.targets import Asked, Target
from migrator import apply
from migrator.checkout import Checkout, open_checkout
from migrator.errors import FileProblem, TitanMigrateError

State = Literal["plan", "done", "nothing"]
"""``plan``: nothing is migrated yet. ``done``: the tree is migrated, committed or not.
``nothing``: there is neither anything to migrate nor anything migrated."""


@dataclass(frozen=True)
class Compared:
    """Two states of a checkout, and the migration of the first.

    Args:
        checkout: where.
        state: what this checkout is.
        outcome: the migration of the tree before.
        now: the same of the tree as it is, whose hazards have today's lines.
        base: full hash of the revision before; None where that is the working tree.
        before: path -> file, of every file that differs; None where it is new.
        after: path -> content, of the same; None where it is gone.
        others: how many files that are not Python's differ besides.
    """

    checkout: Checkout
    state: State
    outcome: WorkedOut
    now: WorkedOut
    base: str | None
    before: Mapping[str, SourceFile | None]
    after: Mapping[str, bytes | None]
    others: int = 0

    def stages(self, path: str) -> tuple[Stage, ...]:
        """How a file came about: each rule, and what differs from that, by hand."""
        after = self.after[path] or b""
        planned = self.outcome.changes.get(path)
        if planned == after:
            return self.outcome.stages[path]
        made = self.outcome.stages.get(path, ())
        return (*made, Stage(BY_HAND, text_of(path, after)))


def text_of(path: str, raw: bytes) -> str:
    """A file as text; bytes that its encoding does not know come as escapes."""
    try:
        return SourceFile(path, raw).text
    except UnreadableSource:
        return raw.decode("utf-8", "backslashreplace")


def compare(
    path: Path,
    *,
    base: str | None = None,
    target: Asked = "auto",
    torch_version: str | None = None,
    function_name: str | None = None,
    keep_precision: bool = False,
    selection: Selection = Selection(),
    require_git: bool = True,
    torchtitan: str | None = None,
) -> Compared:
    """Look at a checkout, migrated or not; nothing is written and nothing of it is run.

    Args:
        path: the folder of a torchtitan checkout.
        base: the unmigrated revision, instead of what ``verify`` would take.
        target, torch_version, function_name: as ``apply.resolve_target`` takes them. A
            migrated tree may have been written for another target than the one that
            ``auto`` takes here: then the one that explains most of it is taken.
        keep_precision: whether it is, or is to be, written with calls that pass fp32.
        selection: which rules, and which files.
        require_git: refuse a folder that git does not keep.
        torchtitan: the torchtitan that it uses and does not hold, a path or a version.

    Raises:
        TitanMigrateError: as ``apply.plan``, or ``base`` is no revision here.
    """
    checkout = open_checkout(path, require_git=require_git, torchtitan=torchtitan)
    wanted = apply.resolve_target(
        target, torch_version, function_name, checkout.root, keep_precision
    )
    now = apply.written_once(checkout, apply.work_out(checkout, wanted, selection))
    unmigrated = bool(now.to_do) and not now.about.has_replicate
    revision = None if unmigrated and base is None else _base(checkout, base)
    if revision is None:
        return _planned(checkout, now)
    fixed = target != "auto" or torch_version or function_name
    targets = [wanted] if fixed else [wanted, *_other_targets(wanted)]
    found = _done(checkout, now, revision, targets, selection)
    if base is None and not found.outcome.changes and not found.outcome.problems:
        # Replicate came in with what this fork is based on, so nobody migrated it.
        return _planned(checkout, now)
    return found


def _base(checkout: Checkout, base: str | None) -> str | None:
    """The revision before the migration; None where there is none to be found."""
    if not checkout.is_git:
        if base is not None:
            raise TitanMigrateError(
                f"--base names a revision, and git does not keep {checkout.root}, or there is "
                "no git on PATH: leave it out to see what is there now."
            )
        return None
    from migrator.verify.errors import VerifyError
    from migrator.verify.train import worktrees

    try:
        return worktrees.find_base(checkout, base)
    except VerifyError:
        if base is not None:
            raise
        return None


def _planned(checkout: Checkout, outcome: WorkedOut) -> Compared:
    """What the tool would write, if there is anything."""
    if not outcome.to_do:
        return Compared(checkout, "nothing", outcome, outcome, None, {}, {})
    outcome = _behind_links(checkout, outcome)
    before = {path: checkout.files.get(path) for path in outcome.changes}
    return Compared(checkout, "plan", outcome, outcome, None, before, outcome.changes)


def _behind_links(checkout: Checkout, outcome: WorkedOut) -> WorkedOut:
    """The same with each changed file once, at the place that links to it lead to."""
    outcome = apply.written_once(checkout, outcome)
    root = checkout.root.resolve()
    places = {
        (root / path).resolve().relative_to(root).as_posix(): path
        for path in outcome.changes
    }
    changes = {place: outcome.changes[path] for place, path in sorted(places.items())}
    stages = {place: outcome.stages[path] for place, path in places.items()}
    return replace(outcome, changes=changes, stages=stages)


def _other_targets(taken: Target) -> Iterator[Target]:
    reason = "as this tree was written"
    for mesh in ("1d", "2d"):
        for name in ("apply_replicate", "apply_ddp"):
            if (mesh, name) != (taken.mesh, taken.function_name):
                yield replace(taken, mesh=mesh, function_name=name, reason=reason)


def _done(
    checkout: Checkout,
    now: WorkedOut,
    revision: str,
    targets: list[Target],
    selection: Selection,
) -> Compared:
    """The tree as it is held against its base, migrated for the target that fits it best."""
    paths, others = differing(checkout, revision)
    here = checkout.files
    before = {path: _at(checkout, revision, path) for path in paths}
    after = {path: here[path].raw if path in here else None for path in paths}
    for path, file in list(before.items()):
        if (file and file.raw) == after[path]:
            del before[path], after[path]
    tree = _tree(checkout, before)
    tried: list[tuple[int, WorkedOut]] = []
    for target in targets:
        try:
            outcome = _migration(checkout, tree, after, target, selection)
            outcome = _behind_links(checkout, outcome)
        except SelectionError:
            continue  # what is selected does not go with this target
        except UnreadableSource as error:
            raise FileProblem(
                f"{error}, in the base {revision[:12]}. Name another one with --base."
            ) from error
        touched = outcome.changes.keys() | after.keys()
        off = sum(outcome.changes.get(path) != after.get(path) for path in touched)
        tried.append((off, outcome))
        if not off:
            break
    _, outcome = min(tried, key=lambda pair: pair[0])
    return Compared(checkout, "done", outcome, now, revision, before, after, others)


def _migration(
    checkout: Checkout,
    tree: Mapping[str, SourceFile],
    after: Mapping[str, bytes | None],
    target: Target,
    selection: Selection,
) -> WorkedOut:
    """What the tool makes of the base; where a part of that was left for a person, what it makes of the rest.

    Raises:
        SelectionError, UnreadableSource: as ``migrate``.
    """

    def made(files: Mapping[str, SourceFile], chosen: Selection) -> WorkedOut:
        return migrate(
            files,
            target,
            chosen,
            lambda: checkout.texts,
            dependency=checkout.dependency,
        )

    outcome = made(tree, selection)
    left = [finding for finding in outcome.findings if finding.status == "left"]
    if not left:
        return outcome
    # As that person left these files, if the rest was migrated behind that.
    seen = {finding.path: after.get(finding.path) for finding in left}
    fresh = {path: SourceFile(path, raw) for path, raw in seen.items() if raw}
    codes = tuple(sorted({finding.code for finding in left}))
    others = replace(selection, ignore=(*selection.ignore, *codes))
    for files, chosen in (({**tree, **fresh}, selection), (tree, others)):
        with contextlib.suppress(SelectionError, UnreadableSource):
            rest = made(files, chosen)
            if rest.changes:
                return rest
    return outcome


def _tree(
    checkout: Checkout, before: Mapping[str, SourceFile | None]
) -> dict[str, SourceFile]:
    """Every Python file of the base, the ones that do not differ as they are on disk."""
    root = checkout.root.resolve()
    found = {path: file for path, file in before.items() if file is not None}
    for path, file in checkout.files.items():
        # What is read through a link is what the link leads to.
        place = (root / path).resolve().relative_to(root).as_posix()
        if place not in before:
            found[path] = file
        elif place != path and (there := before[place]) is not None:
            found[path] = SourceFile(path, there.raw)
    return dict(sorted(found.items()))


def differing(checkout: Checkout, revision: str) -> tuple[list[str], int]:
    """Python files that may differ from a revision, and how many tracked others do."""
    committed = checkout.git(
        *("diff", "--name-only", "--no-renames", "--no-ext-diff", "-z"),
        *(revision, "HEAD"),
    )
    status = checkout.status()
    tracked = {path for letters, path in status if letters != "??"}
    paths = {path for path in committed.split("\0") if path} | tracked
    python = {path for path in paths if path.endswith(".py")}
    untracked = {path for letters, path in status if letters == "??"}
    more = (untracked & checkout.files.keys()) | set(checkout.hidden("*.py"))
    return sorted(python | more), len(paths - python)


def _at(checkout: Checkout, revision: str, path: str) -> SourceFile | None:
    """A file as a revision has it, with the line ends that it has on disk."""
    entry = checkout.git(
        "--literal-pathspecs", "ls-tree", "-z", "--full-tree", revision, "--", path
    )
    if not entry.startswith("100"):
        return None  # not there, or a link, whose target is listed itself
    return SourceFile(path, checkout.content(revision, path))
