"""One verification from beginning to end: trees, runs, verdicts, report."""

from __future__ import annotations

import importlib.util
import math
import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path

from rich.console import Console
from rich.text import Text

from migrator.checkout import Checkout
from migrator.signals import terminable
from migrator.verify.choose import devices, models, scenarios
from migrator.verify.choose.trainer import trainer_of
from migrator.verify.errors import VerifyError
from migrator.verify.job import Job, Plan
from migrator.verify.judge import later
from migrator.verify.judge.leftover import broken_sites
from migrator.verify.judge.verdict import Verdict, Verification
from migrator.verify.keep import cache, facts
from migrator.verify.keep.golden import Exported, Golden, refuse_place
from migrator.verify.keep.shelf import Shelf
from migrator.verify.rehearse import layouts
from migrator.verify.rehearse.launch import Theatre
from migrator.verify.rehearse.run import Asked, rehearse
from migrator.verify.rehearse.verdict import Problem, Rehearsal
from migrator.verify.show import files, terminal
from migrator.verify.show.folder import clear, report_folder, written_alone
from migrator.verify.show.progress import Progress, runs_of
from migrator.verify.show.rehearsal import Scenes, show_end
from migrator.verify.train import disk, nodes, worktrees
from migrator.verify.train.launch import Launcher, Nodes
from migrator.version import adding

# What torchtitan's trainer imports on its way to a first step.
NEEDED = ("torch", "torchdata", "datasets", "tyro", "tensorboard", "fsspec")


def run_verify(
    path: Path,
    *,
    base: str | None = None,
    rev: str | None = None,
    steps: int = 10,
    nproc: int | None = None,
    timeout: float = 600,
    model: Sequence[str] = (),
    precision: str = "float32",
    device: str = "auto",
    report_dir: Path | None = None,
    console: Console | None = None,
    cells: Sequence[str] = scenarios.QUICK,
    among: Nodes = Nodes(),
    by_step: bool = False,
    rehearsed: bool = True,
    cached: bool = True,
    export: Path | None = None,
    against: Path | None = None,
    sensitivity: bool = False,
    torchtitan: str | None = None,
) -> Verification:
    """Trains the base revision and the migrated tree of the checkout at `path` and judges them.

    base: the unmigrated revision; found by `worktrees.find_base` where None.
    rev: the migrated revision; the working tree where None. steps: optimizer
    steps of each run. nproc: data-parallel ranks; all GPUs, or 2 on a CPU, where
    None. timeout: seconds that one run may take. model: titles of
    `models.models_of`, "changed" or "all"; one of those changed where empty. precision: dtype that parameters are cast to,
    where a cell does not say. device: "cpu", "cuda", or "auto" for GPUs where
    there are any. report_dir: where the report, traces and logs go;
    `titan-migrate-report/` beside the checkout where None. console: where the
    verdict is printed; nothing is printed where None. cells: names of
    `scenarios.CELLS`, the ways of training to compare. among: the nodes that train
    together, of which this is node 0; the others `follow_verify`. by_step: print the
    figures of every step, not only where a cell fails. rehearsed: rehearse every
    model before the first training, and do not train where that fails. cached:
    runs of the base revision come from the user's cache where they are there, and
    are kept in it. export: a file for the base revision's runs. against: such a
    file, whose runs are taken instead of training the base revision. sensitivity:
    plant, in a run more for each cell, the smallest error that would have shown.
    torchtitan: the one that the checkout uses and does not hold, a folder or a version;
    found where None.

    Nothing is written in the checkout, and on return, by an exception or
    Ctrl-C too, no process and no worktree is left. Raises VerifyError where
    the environment cannot run what was asked; a migrated tree that crashes is a
    failed verdict.
    """
    began = time.monotonic()
    console = console or Console(quiet=True)
    chosen = _chosen(cells)
    model = tuple(dict.fromkeys(model))
    _check_arguments(steps, nproc, timeout)
    kept = _kept(export, against, among)
    repo, revision, folder = _prepared(
        Path(path), base, rev, report_dir, among, torchtitan
    )
    gpus = tuple(devices.gpus(device))
    plan = Plan(steps, nproc, timeout, precision, gpus, among, sensitivity)
    temporary = _temporary()
    with (
        terminable(),
        disk.full_disk_explained(folder, temporary),
        written_alone(folder),
        nodes.leading(among, folder) as leader,
    ):
        verification = _verified(
            repo,
            Path(path),
            revision,
            rev,
            plan,
            chosen,
            model,
            folder,
            console,
            leader,
            by_step,
            rehearsed,
            kept,
            cached,
        )
        verification.environment["total_seconds"] = time.monotonic() - began
        # Before it is shown: what cannot be printed costs no figure.
        files.write(verification, folder)
        if leader:
            leader.exit_code = verification.exit_code
    terminal.show_summary(verification, console)
    _say(console, f"Report: {folder / 'report.md'}")
    _say(console, f"Figures, traces and logs of all ranks: {folder}")
    return verification


def follow_verify(
    path: Path,
    *,
    base: str | None = None,
    rev: str | None = None,
    report_dir: Path | None = None,
    torchtitan: str | None = None,
    console: Console | None = None,
    among: Nodes,
) -> int:
    """Trains what node 0's `run_verify` says on this node, until that ends; returns its exit code.

    Arguments as there. Raises VerifyError where this node cannot train along or
    node 0 is gone; leaves no process and no worktree either way.
    """
    console = console or Console(quiet=True)
    repo, revision, folder = _prepared(
        Path(path), base, rev, report_dir, among, torchtitan
    )
    _say(
        console,
        f"Node {among.rank} of {among.count}: trains what node 0 says in {folder}",
    )
    with (
        terminable(),
        disk.full_disk_explained(folder, _temporary()),
        nodes.following(among, folder) as board,
        _scratch() as made,
    ):
        scratch = Path(made).resolve()
        with (
            worktrees.trees(repo, Path(path), revision, scratch, rev) as trees,
            Launcher(scratch / "caches") as launcher,
        ):
            code, why = nodes.follow(among, board, trees, folder, launcher)
    said = f": {why}" if why else ""
    _say(console, f"Node 0 ended with exit code {code}{said}")
    return code


def _prepared(
    path: Path,
    base: str | None,
    rev: str | None,
    report_dir: Path | None,
    among: Nodes,
    torchtitan: str | None,
) -> tuple[Checkout, str, Path]:
    """Checkout, base revision and report folder; raises VerifyError where one is amiss, or what training needs is missing."""
    repo = worktrees.open_checkout(path, torchtitan)
    worktrees.parent_of(repo, path)
    revision = worktrees.find_base(repo, base, rev)
    _check_environment()
    return repo, revision, _report_folder(repo, report_dir, among)


def _verified(
    repo: Checkout,
    path: Path,
    revision: str,
    rev: str | None,
    plan: Plan,
    chosen: Sequence[scenarios.Cell],
    model: Sequence[str],
    folder: Path,
    console: Console,
    leader: nodes.Leader | None,
    by_step: bool,
    rehearsed: bool,
    kept: tuple[Path | None, Golden | None],
    cached: bool,
) -> Verification:
    """Makes the trees, rehearses, trains and judges; the report is not written yet."""
    seconds: dict[str, float] = {}
    found: dict[str, dict[str, Verdict]] = {}
    with _scratch() as made:
        scratch = Path(made).resolve()
        with (
            worktrees.trees(repo, path, revision, scratch, rev) as trees,
            Launcher(scratch / "caches") as launcher,
        ):
            if not trees.changed:
                raise VerifyError(
                    "The migrated tree does not differ from the base revision, so there is nothing to verify:"
                    " run `titan-migrate apply` first, or name another revision with --base."
                )
            if leader:
                leader.gather(trees, launcher, console)
            digest = nodes.digest(trees.migrated)
            trainer = trainer_of(trees.migrated)
            wanted, left = _models(trees, model)
            shelf = _shelf(trees, plan, chosen, wanted, kept, cached)
            _say_what_lacks(chosen, console)
            broken = broken_sites(trees.base, trees.migrated)
            unreached = list(
                later.unreached(trees.base, trees.migrated, trees.changed, plan.steps)
            )
            # Nothing but training is left that could keep a new report from being written.
            clear(folder, [one.title for one in wanted])
            rehearsal = (
                _rehearsal(trees, wanted, scratch, console) if rehearsed else None
            )
            progress = Progress(len(wanted) * runs_of(chosen))
            jobs = [
                Job(
                    trees,
                    one,
                    plan,
                    # Ranks of all nodes read and write here.
                    scratch=leader.run_folder if leader else scratch / "run",
                    report_dir=folder,
                    console=console,
                    launcher=leader or launcher,
                    progress=progress,
                    refused=rehearsal.refused(one.title) if rehearsal else None,
                    shelf=shelf,
                )
                for one in wanted
            ]
            if rehearsal and rehearsal.failed:
                found = {one.title: _untrained(chosen) for one in wanted}
                jobs = []
            for job in jobs:

                def show(
                    cell: scenarios.Cell,
                    verdict: Verdict,
                    title: str = job.model.title,
                ) -> None:
                    terminal.show_cell(title, cell, verdict, console, by_step)

                found[job.model.title] = job.verdicts(chosen, broken, show)
                broken = ()
                seconds |= job.seconds
                shutil.rmtree(job.folder, ignore_errors=True)
    if shelf.problem:
        _say(console, f"No run could be kept for the next verify: {shelf.problem}")
    if shelf.exported and jobs:
        shelf.exported.write()
        _say(console, f"Golden runs of the base revision: {shelf.exported.path}")
    elif shelf.exported:
        _say(console, "Nothing trained, so no golden runs were exported.")
    return Verification(
        found,
        environment={
            "command": _command(
                plan, chosen, [one.title for one in wanted], revision, rev, rehearsed
            ),
            "torch": metadata.version("torch"),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "cpus": os.cpu_count(),
            "gpus": list(plan.gpus),
            "nodes": plan.nodes.count,
            "packages": _versions(),
            "base_revision": revision,
            "migrated_revision": trees.migrated_revision,
            "migrated_digest": digest,
            "changed_files": list(trees.changed),
            "not_trained": left,
            "steps": plan.steps,
            "unreached": unreached,
            "trainer": trainer.said,
            "rehearsed": rehearsed,
            "dependency": repo.dependency.name,
            "precision": plan.precision,
            "nproc": plan.nproc,
            "seconds": seconds,
            "taken": shelf.taken,
        },
        rehearsal=rehearsal,
    )


def _say_what_lacks(cells: Sequence[scenarios.Cell], console: Console) -> None:
    """Names what this environment has not and some cells need, before minutes are spent on the others."""
    needed: dict[str, list[str]] = {}
    for cell in cells:
        why = cell.lacks()
        if why:
            needed.setdefault(why, []).append(cell.name)
    for why, names in needed.items():
        _say(console, f"{' and '.join(names)} will not run: {why}.")


def _kept(
    export: Path | None, against: Path | None, among: Nodes
) -> tuple[Path | None, Golden | None]:
    """Where golden runs go, and those to be held against; raises VerifyError where that cannot be."""
    if export and against:
        raise VerifyError(
            "--export and --against contradict each other: what is exported has to be trained here."
        )
    if (export or against) and among.count > 1:
        raise VerifyError(
            "--export and --against are for one node: leave them out, or --nnodes."
        )
    if export:
        refuse_place(export)
    return export, Golden(against) if against else None


def _shelf(
    trees: worktrees.Trees,
    plan: Plan,
    cells: Sequence[scenarios.Cell],
    wanted: Sequence[models.Model],
    kept: tuple[Path | None, Golden | None],
    cached: bool,
) -> Shelf:
    """Where the base revision's runs may come from; raises VerifyError where golden runs are of something else."""
    export, golden = kept
    cached = cached and plan.nodes.count == 1
    if not (cached or export or golden):
        return Shelf()
    base = facts.tree(trees.base_root)
    known = facts.facts(base, plan.gpus, _versions())
    told = {
        **known,
        "--steps": str(plan.steps),
        "--nproc": str(plan.nproc or "not given"),
        "--precision": plan.precision,
    }
    titles, names = [one.title for one in wanted], [cell.name for cell in cells]
    if golden:
        golden.refuse_others(told)
        golden.refuse_cells(titles, names)
    exported = None
    if export:
        exported = Exported(export, told, trees.base_revision, trees.named)
        exported.cells = dict.fromkeys(titles, names)
    if not cached:
        return Shelf(None, golden, exported)
    place = cache.folder()
    return Shelf(
        cache.Cache(place, {**known, **facts.surroundings(base)}), golden, exported
    )


def _rehearsal(
    trees: worktrees.Trees,
    wanted: Sequence[models.Model],
    scratch: Path,
    console: Console,
) -> Rehearsal:
    """The rehearsal of the models that will train, in every layout, and of all others in the simplest one; it ends with the first model that fails."""
    titles = {one.title for one in wanted}
    others = [m for m in models.choose(trees.base, ["all"]) if m.title not in titles]
    asked: list[tuple[models.Model, Sequence[layouts.Layout]]]
    asked = [(one, layouts.DEFAULT) for one in wanted]
    asked += [(one, layouts.DEFAULT[:1]) for one in others]
    _say(
        console,
        "Rehearsal: every model is wrapped on simulated ranks (a fake process group).",
    )
    try:
        with Theatre(scratch) as theatre:
            found = rehearse(
                trees,
                asked,
                theatre,
                Asked(until_failed=True),
                Scenes(console).show,
            )
    except VerifyError as error:
        found = Rehearsal(problem=Problem(trees.named(str(error))))
    show_end(found, console)
    return found


def _untrained(cells: Sequence[scenarios.Cell]) -> dict[str, Verdict]:
    why = "the rehearsal before it failed (--no-rehearse trains all the same)"
    return {cell.name: Verdict(not_run=why) for cell in cells}


def _models(
    trees: worktrees.Trees, titles: Sequence[str]
) -> tuple[list[models.Model], dict[str, str]]:
    """What is trained, and what is not although the migration changes its plan, with the reason.

    Raises VerifyError where there is no such model, and where none can be trained.
    """
    touched = models.changed(trees.base, trees.changed)
    if titles:
        wanted = models.choose(trees.base, titles, trees.changed)
    else:
        wanted = models.one_of(touched) or models.one_of(
            list(models.models_of(trees.base).values())
        )
    if not wanted:
        reasons = "; ".join(f"{one.title}: {one.reason}" for one in touched)
        raise VerifyError(f"No model of this checkout can be trained. {reasons}.")
    trained = {one.name for one in wanted}
    left = {
        one.title: one.reason or "which --model changed trains"
        for one in touched
        if one.name not in trained
    }
    return wanted, left


def _command(
    plan: Plan,
    cells: Sequence[scenarios.Cell],
    model: Sequence[str],
    base: str,
    rev: str | None,
    rehearsed: bool,
) -> list[str]:
    """What to type, in the checkout, for the same once more."""
    options = {
        "--base": base,
        "--rev": rev,
        "--cells": ",".join(cell.name for cell in cells),
        "--model": ",".join(model),
        "--precision": plan.precision,
        "--steps": plan.steps,
        "--nproc": plan.nproc,
        "--nnodes": plan.nodes.count if plan.nodes.count > 1 else None,
    }
    given = [(name, str(value)) for name, value in options.items() if value]
    words = [word for pair in given for word in pair]
    words += ["--sensitivity"] * plan.sensitivity
    words += ["--no-rehearse"] * (not rehearsed)
    return ["titan-migrate", "verify", *words]


def _versions() -> dict[str, str]:
    """Versions of what training imports, and of this package."""
    names = ("titan-migrate", *NEEDED, "numpy", "triton")
    return {name: metadata.version(name) for name in names if _installed(name)}


def _installed(name: str) -> bool:
    try:
        return bool(metadata.version(name))
    except metadata.PackageNotFoundError:
        return False


def _chosen(names: Sequence[str]) -> list[scenarios.Cell]:
    """The cells of these names, in the order in which they run; raises VerifyError for a wrong name, or none at all."""
    if not names:
        raise VerifyError(f"No cell is named: there are {', '.join(scenarios.CELLS)}.")
    for name in names:
        if name not in scenarios.CELLS:
            close = get_close_matches(name, scenarios.CELLS, n=1)
            hint = f"did you mean {close[0]}? There" if close else "there"
            raise VerifyError(
                f"There is no cell {name}: {hint} are {', '.join(scenarios.CELLS)}."
            )
    return [cell for cell in scenarios.CELLS.values() if cell.name in names]


def _check_arguments(steps: int, nproc: int | None, timeout: float) -> None:
    if steps < 1:
        raise VerifyError(f"--steps {steps} trains nothing: ask for at least 1 step.")
    if nproc is not None and nproc < 2:
        raise VerifyError(
            f"--nproc {nproc} leaves nothing to replicate over: ask for at least 2 ranks."
        )
    if not (math.isfinite(timeout) and timeout > 0):
        raise VerifyError(
            f"--timeout {timeout:g} is no time that a run could take: give a number of seconds."
        )


def _check_environment() -> None:
    """Raises VerifyError where the interpreter in use cannot train torchtitan; torch is not imported for it."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise VerifyError(
            f"{sys.executable} has no {', '.join(missing)}, which training torchtitan needs:"
            f" `{adding('verify')}` brings what is missing, and leaves what is there."
        )
    version = metadata.version("torch")
    if tuple(int(part) for part in version.split("+")[0].split(".")[:2]) < (2, 9):
        raise VerifyError(
            f"torch {version} has no composable replicate on FSDP2: verify needs torch 2.9 or later."
        )


def _temporary() -> Path:
    """The folder for temporary files; raises VerifyError where none can be written to, or the runs could not read there."""
    try:
        folder = Path(tempfile.gettempdir()).resolve()
    except FileNotFoundError as error:
        raise VerifyError(
            f"{error.strerror}: make room in one of them, or set TMPDIR to a folder on another disk."
        ) from None
    _refuse_patterns(folder, "set TMPDIR to another folder")
    return folder


def _refuse_patterns(folder: Path, instead: str) -> None:
    """Raises VerifyError where `datasets` would take the path of training data below a folder for a pattern."""
    found = [mark for mark in ("[", "]", "*", "?", "::") if mark in str(folder)]
    if found:
        raise VerifyError(
            f"The path {folder} has {' and '.join(found)} in it, and training data below it would not be found:"
            f" {instead}."
        )


def _report_folder(repo: Checkout, given: Path | None, among: Nodes) -> Path:
    """The report folder; raises VerifyError where there can be none, or the runs of several nodes could not read there."""
    folder = report_folder(repo.root, given)
    if among.count > 1:
        # The training data lies there.
        _refuse_patterns(folder, "name another folder with --report")
    return folder


def _say(console: Console, text: str) -> None:
    """Prints a line as it is: paths and messages may look like markup."""
    console.print(Text(text), soft_wrap=True)


def _scratch() -> tempfile.TemporaryDirectory[str]:
    # A rank that is being ended may still hold a file of the folder.
    return tempfile.TemporaryDirectory(
        prefix=worktrees.PREFIX, ignore_cleanup_errors=True
    )
