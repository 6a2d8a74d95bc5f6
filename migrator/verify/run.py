"""One verification from beginning to end: trees, seed checkpoint, three runs, verdict, report."""

from __future__ import annotations

import dataclasses
import importlib.util
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

from migrator.signals import terminable

from . import corpus, judge, launch, report, scenarios, trace, worktrees
from .assets_build import ASSETS
from .errors import VerifyError
from .judge import Verdict, Verification
from .leftover import broken_sites

_PARTIES = ("baseline", "migrated", "reference", "control")

# What torchtitan's trainer imports on its way to a first step.
NEEDED = ("torch", "torchdata", "datasets", "tyro", "tensorboard", "fsspec")


def run_verify(
    path: Path,
    *,
    base: str | None = None,
    steps: int = 5,
    nproc: int = 2,
    timeout: float = 600,
    model: str = "llama3",
    report_dir: Path | None = None,
    console: Console | None = None,
    cells: Sequence[str] = scenarios.QUICK,
) -> Verification:
    """Trains the base revision and the migrated tree of the checkout at `path` on CPU and judges them.

    base: the unmigrated revision; found by `worktrees.find_base` where None.
    steps: optimizer steps of each run. nproc: data-parallel ranks. timeout:
    seconds that one run may take. model: a torchtitan model that has a
    `debugmodel` flavor. report_dir: where report.json, traces and logs go;
    `titan-migrate-report/` beside the checkout where None. console: where the
    verdict is printed; nothing is printed where None. cells: names of
    `scenarios.CELLS`, the ways of training to compare.

    Nothing is written in the checkout, and on return, by an exception or
    Ctrl-C too, no process and no worktree is left. Raises VerifyError where
    the environment or the base revision cannot run what was asked; a migrated
    tree that crashes is a failed verdict.
    """
    console = console or Console(quiet=True)
    chosen = _chosen(cells)
    _check_arguments(steps, nproc, timeout)
    repo = worktrees.open_checkout(Path(path))
    root = Path(repo.working_tree_dir).resolve()
    worktrees.package_parent(root, Path(path))
    revision = worktrees.find_base(repo, base)
    _check_environment()
    report_dir = _report_folder(root, report_dir)

    with terminable(), _scratch() as scratch:
        with worktrees.trees(
            repo, Path(path), revision, Path(scratch).resolve()
        ) as trees:
            job = Job(trees, scratch, report_dir, steps, nproc, timeout, model, console)
            verdicts = job.verdicts(chosen)
    verification = Verification(
        verdicts,
        environment={
            "torch": metadata.version("torch"),
            "python": platform.python_version(),
            "platform": platform.platform(),
            "base_revision": revision,
            "head_revision": repo.head.commit.hexsha,
            "changed_files": list(trees.changed),
            "model": model,
            "steps": steps,
            "nproc": nproc,
            "seconds": job.seconds,
        },
    )
    report.show_summary(verification, console)
    written = report.write_json(verification, report_dir)
    console.print(
        f"Figures, traces and logs of all ranks: {written.parent}",
        highlight=False,
        soft_wrap=True,
    )
    return verification


def _chosen(names: Sequence[str]) -> list[scenarios.Cell]:
    """The cells of these names, in the order in which they run; raises VerifyError for a wrong name."""
    for name in names:
        if name not in scenarios.CELLS:
            close = get_close_matches(name, scenarios.CELLS, n=1)
            hint = f"did you mean {close[0]}? " if close else ""
            raise VerifyError(
                f"There is no cell {name}: {hint}There are {', '.join(scenarios.CELLS)}."
            )
    return [cell for cell in scenarios.CELLS.values() if cell.name in names]


def _check_arguments(steps: int, nproc: int, timeout: float) -> None:
    if steps < 1:
        raise VerifyError(f"--steps {steps} trains nothing: ask for at least 1 step.")
    if nproc < 2:
        raise VerifyError(
            f"--nproc {nproc} leaves nothing to replicate over: ask for at least 2 ranks."
        )
    if timeout <= 0:
        raise VerifyError(
            f"--timeout {timeout:g} lets no run finish: give a number of seconds."
        )


def _check_environment() -> None:
    """Raises VerifyError where the interpreter in use cannot train torchtitan; torch is not imported for it."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise VerifyError(
            f"{sys.executable} has no {', '.join(missing)}, which training torchtitan needs:"
            " install titan-migrate[verify] into this environment."
        )
    version = metadata.version("torch")
    if tuple(int(part) for part in version.split("+")[0].split(".")[:2]) < (2, 9):
        raise VerifyError(
            f"torch {version} has no composable replicate on FSDP2: verify needs torch 2.9 or later."
        )


def _report_folder(root: Path, report_dir: Path | None) -> Path:
    folder = (report_dir or root.parent / "titan-migrate-report").resolve()
    if folder == root or root in folder.parents:
        raise VerifyError(
            f"The report folder {folder} lies inside the checkout: name one outside with --report."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # An earlier report must not be taken for this one's.
        (folder / "report.json").unlink(missing_ok=True)
        for name in ("seed", *scenarios.CELLS):
            shutil.rmtree(folder / name, ignore_errors=True)
    except OSError as error:
        raise VerifyError(
            f"The report folder {folder} cannot be made ({error.strerror}): name another with --report."
        ) from None
    return folder


def _scratch() -> tempfile.TemporaryDirectory:
    # A rank that is being ended may still hold a file of the folder.
    return tempfile.TemporaryDirectory(
        prefix="titan-migrate-", ignore_cleanup_errors=True
    )


class Job:
    """The runs of one verification and the folders that they share."""

    def __init__(
        self, trees, scratch, report_dir, steps, nproc, timeout, model, console
    ) -> None:
        self.trees = trees
        self.folder = Path(scratch).resolve() / "run"
        self.report_dir = report_dir
        self.steps, self.nproc, self.timeout, self.model = steps, nproc, timeout, model
        self.console = console
        self.seconds: dict[str, float] = {}
        corpus.write_dataset(self.folder / "tests" / "assets" / "c4_test")

    def verdicts(self, cells: Sequence[scenarios.Cell]) -> dict[str, Verdict]:
        """The verdict of every cell; each is shown as soon as it is there."""
        if not self.trees.changed:
            raise VerifyError(
                "The migrated tree does not differ from the base revision, so there is nothing to verify:"
                " run `titan-migrate apply` first, or name another revision with --base."
            )
        broken = broken_sites(self.trees.base, self.trees.migrated)
        known = scenarios.known_settings(self.trees.migrated)
        self.train(None, None)
        found = {}
        for cell in cells:
            why = cell.reason_not_to_run(known, metadata.version("torch"))
            if why:
                found[cell.name] = Verdict(False, (), (), (), not_run=why)
            else:
                found[cell.name] = self.judged(cell, self._traces(cell), broken)
                broken = ()  # said once, in the first cell
            report.show_cell(cell, found[cell.name], self.console)
        return found

    def _traces(self, cell: scenarios.Cell) -> dict[str, trace.Trace]:
        """Trains the parties of a cell, up to a migrated tree that crashes."""
        traces: dict[str, trace.Trace] = {}
        for name in cell.parties:
            traces[name] = self.train(cell, cell.party(name, self.nproc))
            if traces[name].first_error and name == "migrated":
                break
        return traces

    def judged(
        self,
        cell: scenarios.Cell,
        known: dict[str, trace.Trace],
        broken: tuple[str, ...],
    ) -> Verdict:
        """The verdict of a cell from the traces of its parties."""
        traces = {name: known.get(name, trace.Trace(name, ())) for name in _PARTIES}
        ranks, dp = cell.ranks(self.nproc), self.nproc
        if cell.name == "dp":
            verdict = judge.judge(
                *(
                    traces[name]
                    for name in ("baseline", "migrated", "reference", "control")
                ),
                steps=self.steps,
                dp=dp,
            )
        elif "migrated" in cell.parties:
            verdict = judge.judge_combination(
                *(traces[name] for name in ("baseline", "migrated", "reference")),
                steps=self.steps,
                ranks=ranks,
                dp=dp,
                tolerances=judge.TOLERANCES_BF16 if cell.bf16 else judge.TOLERANCES,
            )
        else:
            verdict = judge.judge_unchanged(
                traces["control"], traces["reference"], steps=self.steps, ranks=ranks
            )
        if broken:
            failures = (*broken, *verdict.failures)
            verdict = dataclasses.replace(
                verdict, failures=failures, passed=False, not_run=""
            )
        return verdict

    def train(
        self, cell: scenarios.Cell | None, party: scenarios.Party | None
    ) -> trace.Trace:
        """Runs one party of a cell (None: makes the seed checkpoint) and reads its trace."""
        where = f"{cell.name}/{party.name}" if cell and party else "seed"
        name = party.name if party else "seed"
        tree = (
            self.trees.migrated
            if party and party.tree == "migrated"
            else self.trees.base
        )
        folder = self.folder / where
        folder.mkdir(parents=True, exist_ok=True)
        config = folder / "job.toml"
        seed = self.folder / "seed" / "dump" / "checkpoint" / "step-0"
        known = scenarios.known_settings(tree)
        settings = scenarios.job_settings(
            known,
            model=self.model,
            steps=self.steps,
            cell=cell or scenarios.CELLS["dp"],
            party=party,
            assets=ASSETS,
            dump=folder / "dump",
            seed_checkpoint=seed,
            timeout=self.timeout,
        )
        config.write_text(scenarios.to_toml(settings), encoding="utf-8")
        if party and not scenarios.loads_from_elsewhere(known):
            shutil.copytree(seed, folder / "dump" / "checkpoint" / "step-0")
        kept = self.report_dir / where
        doing = _doing(cell, party)
        began = time.monotonic()
        with self.console.status(f"{doing} …"):
            outcome = launch.run_job(
                tree,
                config=config,
                folder=self.folder,
                traces=kept,
                nproc=cell.ranks(self.nproc) if cell and party else 1,
                steps=self.steps,
                timeout=self.timeout,
            )
        self.seconds[where] = time.monotonic() - began
        shutil.copy2(config, kept / "job.toml")
        # What a run saved is of no use to the others; only the seed is.
        if party:
            shutil.rmtree(folder / "dump", ignore_errors=True)
        found = trace.read_trace(name, kept)
        found = self._complete(found, outcome, kept)
        # In pure data parallelism the base revision has to train; elsewhere that DDP
        # refuses is part of the answer.
        needed = cell is None or (cell.name == "dp" and party and party.tree == "base")
        if needed and found.first_error:
            rank, error = found.first_error
            what = "make a seed checkpoint" if party is None else "train"
            if party and party.name == "control":
                what = "train under FSDP, the reference,"
            raise VerifyError(
                f"The base revision does not {what}, so there is nothing to compare with; rank {rank} failed with"
                f" {error['type']}: {error['message'].strip()} (logs in {kept}). Its traceback:\n{error['traceback']}"
            )
        if party is None and not (seed / ".metadata").is_file():
            raise VerifyError(
                f"The base revision's trainer left no seed checkpoint at {seed.relative_to(self.folder)} (logs in {kept})."
            )
        ended = " (ended with an error)" if found.first_error else ""
        self.console.print(f"{doing}: {outcome.seconds:.0f} s{ended}", highlight=False)
        return found

    def _complete(
        self, found: trace.Trace, outcome: launch.Outcome, kept: Path
    ) -> trace.Trace:
        """Gives a run that failed without a Python exception of its own (killed, timed out) an error to show."""
        if outcome.status == 0 and not outcome.timed_out:
            return found
        log = (kept / "torchrun.log").read_text(encoding="utf-8", errors="replace")
        killed = launch.killed_rank(log)
        ranks = found.ranks or (trace.RankTrace(rank=0),)
        if outcome.timed_out:
            blamed = next(
                (rank.rank for rank in ranks if not rank.ended), ranks[0].rank
            )
            error = {
                "type": "Timeout",
                "message": f"not over after {self.timeout:g} seconds (--timeout)",
            }
        elif killed:
            # The exceptions of the other ranks only say that they lost this one.
            blamed, number = killed
            error = {"type": "Killed", "message": f"ended by signal {number}"}
        elif found.first_error:
            return found
        else:
            blamed = next(
                (rank.rank for rank in ranks if not rank.ended), ranks[0].rank
            )
            error = {
                "type": "Death",
                "message": f"torchrun ended with status {outcome.status}",
            }
        error |= {"time": 0.0, "traceback": "\n".join(log.splitlines()[-25:])}
        return dataclasses.replace(
            found,
            ranks=tuple(
                dataclasses.replace(rank, error=error) if rank.rank == blamed else rank
                for rank in ranks
            ),
        )


def _doing(cell: scenarios.Cell | None, party: scenarios.Party | None) -> str:
    if cell is None or party is None:
        return "Seed checkpoint (base revision, 1 rank)"
    who = {
        "baseline": "base revision, DDP",
        "migrated": "migrated tree, replicate",
        "reference": "migrated tree, FSDP",
        "control": "base revision, FSDP",
    }[party.name]
    return f"{cell.name}: {who}"
