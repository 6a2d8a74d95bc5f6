"""The training runs of one verification, cell by cell, and the verdict of each."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import shutil
import signal
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from rich.console import Console

from migrator.verify.choose import devices, scenarios
from migrator.verify.choose.models import Model
from migrator.verify.choose.scenarios import (
    ON_ONE_RANK,
    PARTIES,
    WITHOUT_FSDP,
    Cell,
    Party,
)
from migrator.verify.choose.trainer import trainer_of
from migrator.verify.judge import causes, compare, each, early, judges, span, trace
from migrator.verify.judge.verdict import Terms, Verdict
from migrator.verify.keep.shelf import Shelf
from migrator.verify.rehearse.packages import lacking
from migrator.verify.show.progress import Progress, runs_of
from migrator.verify.show.wording import as_before
from migrator.verify.train import corpus, disk, launch, nodes
from migrator.verify.train.assets_build import ASSETS
from migrator.verify.train.worktrees import Trees

ALIKE = "alike"
"""The folder, in that of a model's runs, in which data lies that is the same for every rank."""
_WEIGHTS = "parameters"
"""The quantity that takes the weights to be compared, which golden runs have not."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the user asked for.

    steps: optimizer steps of each run. nproc: data-parallel ranks, None for
    what the machine has. timeout: seconds of one run. precision: dtype that
    parameters are cast to. gpus: names of those to use. sensitivity: plant the
    smallest error that a verdict claims to see, and see whether it does.
    """

    steps: int = 10
    nproc: int | None = None
    timeout: float = 600
    precision: str = "float32"
    gpus: tuple[str, ...] = ()
    nodes: launch.Nodes = launch.Nodes()
    sensitivity: bool = False


class Job:
    """The runs of one model and the folders that they share.

    `scratch` holds what the runs need and leave and is thrown away; `report_dir`
    keeps traces and logs. refused: (tensor, pipeline) degrees in which DDP has refused
    in a rehearsal, with what it said; it is not trained there. shelf: where runs of
    the base revision may come from instead, and are kept.
    """

    def __init__(
        self,
        trees: Trees,
        model: Model,
        plan: Plan,
        *,
        scratch: Path,
        report_dir: Path,
        console: Console,
        launcher: launch.Launcher | nodes.Leader,
        progress: Progress | None = None,
        refused: Mapping[tuple[int, int], str] | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        self.trees, self.model, self.plan = trees, model, plan
        self.folder = Path(scratch).resolve() / model.folder_name
        self.report_dir = report_dir / model.folder_name
        self.console = console
        self.seconds: dict[str, float] = {}
        self.progress = progress or Progress(0)
        self.refused = refused or {}
        self.shelf = shelf or Shelf()
        self._launcher = launcher
        self._trainers = {
            name: trainer_of(tree).started
            for name, tree in (("base", trees.base), ("migrated", trees.migrated))
        }
        self._known = {
            "base": scenarios.known_settings(trees.base),
            "migrated": scenarios.known_settings(trees.migrated),
        }
        # By all that a run is told.
        self._done: dict[str, trace.Trace] = {}
        self._told: dict[str, str] = {}
        self._noise: dict[str, tuple[span.Pair, compare.Tolerances]] = {}
        self._limits: dict[str, each.Limits] = {}
        self._seed_problem: str | None = None
        self._seed_digest = ""
        for home in (self.folder, self.folder / ALIKE):
            data = home / "tests" / "assets" / "c4_test"
            corpus.write_dataset(data, alike=home != self.folder)

    def verdicts(
        self,
        cells: Sequence[Cell],
        broken: tuple[str, ...],
        show: Callable[[Cell, Verdict], None],
    ) -> dict[str, Verdict]:
        """The verdict of every cell by name; `show` gets each as soon as it is there.

        broken: reasons to fail that were found without training; the first cell takes them.
        """
        found: dict[str, Verdict] = {}
        began, skipped = self.progress.done, 0
        said: set[str] = set()
        for n, cell in enumerate(cells, 1):
            verdict = self.verdict(cell, broken)
            dp = found.get("dp", verdict)
            more = causes.scaled_otherwise(
                dp.traces.get("reference"), verdict.traces.get("reference")
            )
            notes = (*verdict.notes, *more)
            found[cell.name] = dataclasses.replace(verdict, notes=notes)
            broken = ()
            why = found[cell.name].not_run
            if not why or why not in said:
                show(cell, found[cell.name])
            said.add(why)
            # What is the same as an earlier run, or could tell nothing, was not run.
            over = runs_of(cells[:n]) - (self.progress.done - began) - skipped
            self.progress.left_out(over)
            skipped += over
        return found

    def verdict(self, cell: Cell, broken: tuple[str, ...] = ()) -> Verdict:
        """Trains the parties of a cell and judges them, or says why not."""
        place = devices.place(
            cell, self.plan.nproc, list(self.plan.gpus), self.plan.nodes.count
        )
        why = (
            self.model.reason
            or (
                "this model has no experts"
                if cell.experts and not self.model.experts
                else ""
            )
            or cell.reason_not_to_run(
                self._known["migrated"], metadata.version("torch"), self.plan.steps
            )
            or nodes.uneven(place.dp * cell.other_ranks, self.plan.nodes.count)
            or self._seed(place.device)
        )
        if why and broken:
            verdict = Verdict(broken, (f"It was not trained, because {why}.",))
        elif why:
            verdict = Verdict(not_run=why)
        else:
            verdict = self.judged(cell, place, self._traces(cell, place), broken)
            if self.plan.sensitivity:
                verdict = self.sensitive(cell, place, verdict)
            self._throw_away(cell)
        notes = [place.note] if place.note else []
        if self.model.bf16 and not why and self.plan.precision != "bfloat16":
            notes.append("Parts of this model are built in bf16: trained in bfloat16.")
        verdict = dataclasses.replace(verdict, notes=(*verdict.notes, *notes))
        return dataclasses.replace(verdict, device=place.device)

    def judged(
        self,
        cell: Cell,
        place: devices.Place,
        traces: dict[str, trace.Trace],
        broken: tuple[str, ...] = (),
    ) -> Verdict:
        """The verdict of a cell from the traces of its parties, and from what was found without training."""
        noise = self._measured(cell, traces)
        found = span.span(traces, noise, self._steps(cell, None))
        self._limits[cell.name] = found.limits
        terms = Terms(
            found.steps,
            place.dp,
            place.dp * cell.other_ranks,
            found.tolerances or judges.EXACTLY,
            found.limits,
        )
        steps = range(1, found.steps + 1)
        judge = judges.judge_alone if "single" in traces else judges.JUDGES[cell.kind]
        verdict = judge(
            {name: compare.only(run, steps) for name, run in traces.items()}, terms
        )
        verdict = dataclasses.replace(
            verdict, traces=traces, notes=(*found.notes, *verdict.notes)
        )
        if found.hidden and verdict.passed:
            verdict = dataclasses.replace(verdict, not_run=found.hidden)
        shows = self._shows(cell, verdict)
        if shows:
            notes = (*verdict.notes, shows.sentence())
            verdict = dataclasses.replace(verdict, notes=notes)
        if cell.kind == "parity":
            verdict = self._held_against_earlier(cell, verdict)
        if broken:
            failures = (*broken, *verdict.failures)
            verdict = dataclasses.replace(verdict, failures=failures, not_run="")
        return verdict

    def _shows(self, cell: Cell, verdict: Verdict) -> each.Smallest | None:
        """The smallest error that would have shown in a cell that passed, where gradients are judged one by one."""
        if not verdict.passed or cell.kind not in ("parity", "combination"):
            return None
        runs = [verdict.traces.get(name) for name in ("migrated", "reference")]
        migrated, reference = runs
        limits = self._limits.get(cell.name, {})
        if migrated is None or reference is None:
            return None
        return each.smallest(migrated, reference, limits)

    def sensitive(self, cell: Cell, place: devices.Place, verdict: Verdict) -> Verdict:
        """Plants the smallest error that a verdict claims to see in a run of its own; the verdict, and whether it was seen."""
        shows = self._shows(cell, verdict)
        if shows is None:
            return verdict
        planted = {
            "parameter": shows.name,
            "step": shows.step,
            "error": shows.error,
        }
        wrong = self.train(cell, PARTIES["planted"], place, planted=planted)
        shutil.rmtree(self.folder / cell.name / "planted", ignore_errors=True)
        limits = self._limits[cell.name]
        found = each.first_departure(wrong, verdict.traces["reference"], limits)
        where = (
            f"{shows.error:.1e} in the gradient of {shows.name} in step {shows.step}"
        )
        if found and (found.name, found.step) == (shows.name, shows.step):
            said = f"Planted in a run of its own, {where} was seen."
            return dataclasses.replace(verdict, notes=(*verdict.notes, said))
        said = (
            f"Planted in a run of its own, {where} was not seen"
            f"{_why_not(wrong)}: this verdict shows less than it claims."
        )
        return dataclasses.replace(verdict, failures=(*verdict.failures, said))

    def _measured(
        self, cell: Cell, traces: dict[str, trace.Trace]
    ) -> tuple[span.Pair, compare.Tolerances] | None:
        """The runs that show what rounding makes of a cell, and tolerances that were measured by others; None where nothing does."""
        place = f"{self.model.title}/{cell.name}"
        pair = _noise(cell, traces)
        known: compare.Tolerances = {}
        if pair and self.shelf.golden:
            # As it was measured, with the weights; the runs show the rest, which has limits.
            stored = self.shelf.golden.noise(place).get(_WEIGHTS)
            known = {_WEIGHTS: compare.Tolerance(*stored)} if stored else {}
        if pair and self.shelf.exported:
            one = compare.measured_tolerances(*pair)[_WEIGHTS]
            self.shelf.exported.noise[place] = {_WEIGHTS: (one.relative, one.source)}
        if pair:
            self._noise[cell.name] = pair, known
        return self._noise.get(cell.name) or self._noise.get(cell.noise_of)

    def _held_against_earlier(self, cell: Cell, verdict: Verdict) -> Verdict:
        """Says where replicate is no longer bitwise as DDP, which it was in an earlier verify of the same base revision."""
        told = self._told.get(f"{cell.name}/baseline")
        if told is None or not verdict.comparisons:
            return verdict
        place = f"{self.model.title}/{cell.name}"
        if as_before(verdict) == "bitwise":
            self.shelf.is_bitwise(place, told)
        elif self.shelf.was_bitwise(place, told):
            note = (
                "replicate was bitwise as DDP here in an earlier verify of the same base revision, on the same"
                " machine, and is so no more."
            )
            return dataclasses.replace(verdict, notes=(*verdict.notes, note))
        return verdict

    def _throw_away(self, cell: Cell) -> None:
        """What the runs of a cell have saved is of no use to other cells."""
        for name in cell.parties:
            shutil.rmtree(self.folder / cell.name / name / "dump", ignore_errors=True)

    def _traces(self, cell: Cell, place: devices.Place) -> dict[str, trace.Trace]:
        """Trains the parties of a cell, and none whose run could tell nothing any more."""
        traces: dict[str, trace.Trace] = {}
        for name in cell.parties:
            party = PARTIES[name]
            source = traces.get(party.starts_from or "")
            migrated = traces.get("migrated")
            if source and source.first_error:
                continue
            said = self.refused.get((cell.tensor, cell.pipeline))
            if said and name == "baseline":
                traces[name] = _rehearsed(name, said)
                continue
            if migrated and migrated.first_error:
                # Whether it should have trained there: DDP or, failing that, FSDP says.
                if not traces["baseline"].first_error or name != "reference":
                    continue
            if party.nudged and (
                cell.noise_of in self._noise
                or traces[_unnudged(name, traces)].first_error
            ):
                continue
            traces[name] = self.train(cell, party, place)
        more: tuple[str, ...] = ()
        if cell.kind == "parity" and causes.by_a_factor(traces):
            more = ON_ONE_RANK
        elif early.without_fsdp(traces) and "training" not in cell.settings:
            more = WITHOUT_FSDP
        for name in more:
            traces[name] = self.train(cell, PARTIES[name], place)
        return traces

    def _seed(self, device: str) -> str | None:
        """Makes the seed checkpoint once; returns why there is none."""
        if self._seed_problem is None:
            place = devices.Place(device, 1)
            found = self.train(None, None, place)
            self._seed_problem = ""
            if found.first_error:
                _, error = found.first_error
                missing = re.match("No module named '([^']+)'", error["message"])
                why = (missing and lacking(missing[1])) or trace.first_line(error)
                self._seed_problem = (
                    f"the base revision makes no seed checkpoint: {why}"
                    f" (logs in {self.report_dir / 'seed'})"
                )
            elif not (self._checkpoint("seed", 0) / ".metadata").is_file():
                self._seed_problem = "the base revision's trainer left no seed checkpoint where it was told to"
            else:
                self._seed_digest = _digest_of(self._checkpoint("seed", 0))
        return self._seed_problem or None

    def _checkpoint(self, where: str, step: int) -> Path:
        """The checkpoint that a run has written."""
        return self.folder / where / "dump" / "checkpoint" / f"step-{step}"

    def train(
        self,
        cell: Cell | None,
        party: Party | None,
        place: devices.Place,
        again: bool = False,
        planted: Mapping[str, object] | None = None,
    ) -> trace.Trace:
        """Runs one party of a cell (None: makes the seed checkpoint) and reads its trace.

        A run that was made already, to the letter, is made again only where asked.
        planted: the error in a gradient, as `host.py` takes it.
        """
        where = f"{cell.name}/{party.name}" if cell and party else "seed"
        name = party.name if party else "seed"
        if party and party.alone:
            place = dataclasses.replace(place, dp=1)
        settings = self._settings(cell, party, place, where)
        folder, kept = self.folder / where, self.report_dir / where
        options = {
            **self._options(cell, party, place, folder),
            "planted": planted,
        }
        told = self._all_told(party, place, settings, options, where)
        self._told[where] = told
        if told in self._done and not again:
            return dataclasses.replace(self._done[told], party=name)
        for old in (folder, kept):
            # A trace that a verification broken off has left would be read as a rank's.
            shutil.rmtree(old, ignore_errors=True)
        folder.mkdir(parents=True)
        kept.mkdir(parents=True, exist_ok=True)
        config = folder / "job.toml"
        config.write_text(scenarios.to_toml(settings), encoding="utf-8")
        shutil.copy2(config, kept / "job.toml")
        keeps = not again and _can_be_kept(cell, party)
        outcome = self._kept(party, told, where) if keeps else None
        source = self._source(where) if outcome else ""
        if outcome is None:
            outcome = self._ran(cell, party, place, options, where)
        read = trace.read_trace(name, kept, folder / "weights")
        found = self._named(self._complete(read, outcome, kept))
        found = dataclasses.replace(found, source=source)
        how = f"from {source}" if source else f"{outcome.seconds:.0f} s"
        ended = " (ended with an error)" if found.first_error else ""
        self.console.print(f"{self._doing(cell, party)}: {how}{ended}", highlight=False)
        if keeps:
            self._keep(party, told, where, outcome, read)
        self._done[told] = found
        return found

    def _doing(self, cell: Cell | None, party: Party | None) -> str:
        if cell and party:
            return f"{self.model.title}, {cell.name}: {party.who}"
        return f"{self.model.title}: seed checkpoint (base revision, 1 rank)"

    def _ran(
        self,
        cell: Cell | None,
        party: Party | None,
        place: devices.Place,
        options: dict[str, object],
        where: str,
    ) -> launch.Outcome:
        """Trains; what a run looks for lies where it looks afterwards."""
        folder, kept = self.folder / where, self.report_dir / where
        self._lay_out_checkpoint(cell, party, folder)
        where_we_are = f"{self.progress.now()}: {self._doing(cell, party)}"
        with self.console.status(f"{where_we_are} …") as status:

            def watch() -> None:
                newest = trace.last_step(kept)
                if newest:
                    status.update(
                        f"{where_we_are}: step {newest.step} of {self._steps(cell, party)}, loss {newest.loss:.4f}"
                    )

            outcome = self._launcher.run_job(
                self._tree(party),
                config=folder / "job.toml",
                folder=self.folder / ALIKE if party and party.alike else self.folder,
                traces=kept,
                nproc=place.dp * cell.other_ranks if cell and party else 1,
                options=options,
                timeout=self.plan.timeout,
                watch=watch,
            )
        self.seconds[f"{self.model.folder_name}/{where}"] = outcome.seconds
        self.progress.ran(outcome.seconds)
        return outcome

    def _all_told(
        self,
        party: Party | None,
        place: devices.Place,
        settings: scenarios.Settings,
        options: dict[str, object],
        where: str,
    ) -> str:
        """All that a run is told, as one text: two runs of the same text come out the same."""
        told = {
            "tree": party.tree if party else "base",
            "device": place.device,
            "data-parallel ranks": place.dp,
            "data alike": bool(party and party.alike),
            "digest of the seed checkpoint": self._seed_digest if party else "",
            # Only time limits.
            "settings": {k: v for k, v in settings.items() if k != "comm"},
            "options": {k: v for k, v in options.items() if k != "weights"},
        }
        text = json.dumps(told, indent=1, sort_keys=True, default=str)
        for path, name in (
            (self.folder / where, "RUN"),
            (self.folder, "MODEL"),
            (ASSETS, "ASSETS"),
        ):
            text = text.replace(json.dumps(str(path))[1:-1], name)
        return text

    def _source(self, where: str) -> str:
        """From where a run came that was not trained here."""
        return self.shelf.taken[f"{self.model.title}/{where}"]

    def _parts(self, party: Party | None, where: str) -> dict[str, Path]:
        """What of a run others need beside its traces."""
        folder = self.folder / where
        if party is None:
            return {"checkpoint": folder / "dump" / "checkpoint"}
        return {"weights": folder / "weights"}

    def _kept(
        self, party: Party | None, told: str, where: str
    ) -> launch.Outcome | None:
        """A run that was made before, laid out as if it had been made now."""
        return self.shelf.get(
            f"{self.model.title}/{where}",
            told,
            self.report_dir / where,
            self._parts(party, where),
            alone=party is not None,
        )

    def _keep(
        self,
        party: Party | None,
        told: str,
        where: str,
        outcome: launch.Outcome,
        found: trace.Trace,
    ) -> None:
        """Keeps a run for the next verify: in the cache if it ended well, in the golden file if by itself."""
        kept, parts = self.report_dir / where, self._parts(party, where)
        well = outcome.status == 0 and found.ranks and not found.first_error
        whole = all(rank.ended for rank in found.ranks)
        taken = f"{self.model.title}/{where}" in self.shelf.taken
        if well and whole and not taken and all(map(Path.is_dir, parts.values())):
            self.shelf.put(told, outcome, kept, parts)
        if party and (well or found.first_error):
            self.shelf.export(f"{self.model.title}/{where}", told, outcome, kept)

    def _tree(self, party: Party | None) -> Path:
        migrated = party and party.tree == "migrated"
        return self.trees.migrated if migrated else self.trees.base

    def _steps(self, cell: Cell | None, party: Party | None) -> int:
        """The last step of a run: what loads an export, or starts afresh, has no more to show than one."""
        loads = cell and cell.kind == "exported" and party and party.starts_from
        fresh = cell and cell.kind == "fresh"
        one = loads or fresh or (party and party.briefly)
        return 1 if one else scenarios.steps_of(cell, self.plan.steps)

    def _settings(
        self, cell: Cell | None, party: Party | None, place: devices.Place, where: str
    ) -> scenarios.Settings:
        start = self._checkpoint("seed", 0)
        if cell and cell.kind == "exported" and party and party.starts_from:
            start = self._checkpoint(
                f"{cell.name}/{party.starts_from}", self.plan.steps
            )
        tree = party.tree if party else "base"
        settings = scenarios.job_settings(
            self._known[tree],
            model=self.model.name,
            flavor=self.model.flavor,
            precision="bfloat16" if self.model.bf16 else self.plan.precision,
            steps=self._steps(cell, party),
            cell=cell or scenarios.CELLS["dp"],
            party=party,
            dp=place.dp,
            assets=ASSETS,
            dump=self.folder / where / "dump",
            start=start,
            timeout=self.plan.timeout,
        )
        for section, values in self.model.settings.items():
            settings.setdefault(section, {}).update(values)
        return settings

    def _lay_out_checkpoint(
        self, cell: Cell | None, party: Party | None, folder: Path
    ) -> None:
        """Puts the checkpoint that a run resumes, or cannot be told the place of, where it looks for its own."""
        if party is None or cell is None:
            return
        name, step = "seed", 0
        if cell.kind == "resumed" and party.starts_from:
            name = f"{cell.name}/{party.starts_from}"
            step = scenarios.halfway(self.plan.steps)
        elif scenarios.loads_from_elsewhere(self._known[party.tree]):
            return
        shutil.copytree(
            self._checkpoint(name, step),
            folder / "dump" / "checkpoint" / f"step-{step}",
        )

    def _options(
        self, cell: Cell | None, party: Party | None, place: devices.Place, folder: Path
    ) -> dict[str, object]:
        resumes = cell is not None and cell.kind == "resumed"
        halfway = scenarios.halfway(self.plan.steps)
        return {
            "steps": self._steps(cell, party),
            "done": halfway if resumes and party and party.starts_from else 0,
            "halfway": halfway if resumes else None,
            "device": place.device,
            "nudged": bool(party and party.nudged),
            # A dispatch mode would keep the model from being compiled.
            "collectives": not (cell and cell.compiled),
            "weights": str(folder / "weights"),
            "overrides": self.model.overrides,
            "trainer": self._trainers[party.tree if party else "base"],
        }

    def _named(self, found: trace.Trace) -> trace.Trace:
        """A run whose errors name files where the user has them."""
        ranks = []
        for rank in found.ranks:
            if rank.error:
                message, text = rank.error["message"], rank.error["traceback"]
                error: trace.Error = {
                    **rank.error,
                    "message": self.trees.named(message),
                    "traceback": self.trees.named(text),
                }
                rank = dataclasses.replace(rank, error=error)
            ranks.append(rank)
        return dataclasses.replace(found, ranks=tuple(ranks))

    def _complete(
        self, found: trace.Trace, outcome: launch.Outcome, kept: Path
    ) -> trace.Trace:
        """Gives a run that failed without a Python exception of its own (killed, timed out) an error to show."""
        if outcome.status == 0 and not outcome.timed_out:
            return found
        log = launch.torchrun_log(kept)
        killed = launch.killed_rank(log)
        if killed and killed[1] == signal.SIGTERM and found.first_error:
            # torchrun itself has ended a rank that was slow to follow the failed one.
            killed = None
        silent = _silent_rank(found, log)
        ranks = found.ranks or (trace.RankTrace(rank=0),)
        blamed = next((rank.rank for rank in ranks if not rank.ended), ranks[0].rank)
        traceback: str | None = None
        if outcome.timed_out:
            kind = "Timeout"
            message = f"not over after {self.plan.timeout:g} seconds (--timeout)"
        elif killed:
            # The exceptions of the other ranks only say that they lost this one.
            blamed, number = killed
            kind, message = "Killed", f"ended by signal {number}"
        elif silent is not None:
            # Its trace could not be written, on a full disk say: its log tells.
            blamed, path = silent, kept / f"rank{silent}.log"
            if path.is_file():
                log = path.read_text(encoding="utf-8", errors="replace")
            kind, message, traceback = launch.first_traceback(log)
            if disk.free_bytes(kept) < 2**16:
                message += f" (the disk of {kept} is full)"
        elif found.first_error:
            return found
        else:
            kind, message = "Death", f"torchrun ended with status {outcome.status}"
        if blamed not in {rank.rank for rank in ranks}:
            # It ended before it had a trace.
            ranks = tuple(sorted((*ranks, trace.RankTrace(blamed)), key=_by_rank))
        if traceback is None:
            traceback = "\n".join(log.splitlines()[-25:])
        error: trace.Error = {
            "time": 0.0,
            "traceback": traceback,
            "type": kind,
            "message": message,
        }
        return dataclasses.replace(
            found,
            ranks=tuple(
                dataclasses.replace(rank, error=error) if rank.rank == blamed else rank
                for rank in ranks
            ),
        )


def _rehearsed(name: str, said: str) -> trace.Trace:
    """A run that is known from the rehearsal to fail."""
    kind, _, message = said.partition(": ")
    error: trace.Error = {
        "type": kind,
        "message": f"{message} (rehearsed)",
        "traceback": said,
        "time": 0.0,
    }
    return trace.Trace(name, (trace.RankTrace(0, error=error),))


def _unnudged(name: str, traces: dict[str, trace.Trace]) -> str:
    """The run of which another is the same with its rounding changed: one rank, or FSDP of the base revision, where there is one."""
    if name == "single-nudged":
        return "single"
    return "control" if "control" in traces else name.replace("nudged", "reference")


def _noise(cell: Cell, traces: dict[str, trace.Trace]) -> span.Pair | None:
    """The runs that show what rounding makes of a cell's FSDP; None where that was not measured, or a run of it crashed, which the judge will say."""
    name = "resumed-nudged" if cell.kind == "resumed" else "nudged"
    name = "single-nudged" if "single" in traces else name
    nudged, plain = traces.get(name), traces.get(_unnudged(name, traces))
    if nudged is None or plain is None:
        return None
    if any(run.first_error or not run.steps for run in (plain, nudged)):
        return None
    return plain, nudged


def _why_not(wrong: trace.Trace) -> str:
    """What a run ended with that was to show something; nothing where it went well."""
    failed = wrong.first_error
    return f" (it ended with {trace.first_line(failed[1])})" if failed else ""


def _by_rank(rank: trace.RankTrace) -> int:
    return rank.rank


def _silent_rank(found: trace.Trace, log: str) -> int | None:
    """The first rank that failed, by torchrun's `log`, and has neither an error nor its end in its trace."""
    told = {rank.rank for rank in found.ranks if rank.error or rank.ended}
    failed = [rank for rank, status in launch.failed_ranks(log) if status > 0]
    return next((rank for rank in failed if rank not in told), None)


def _can_be_kept(cell: Cell | None, party: Party | None) -> bool:
    """Whether a run is the base revision's alone: from no checkpoint of another run, and with none that another needs."""
    if cell is None or party is None:
        return True
    needed = {PARTIES[name].starts_from for name in cell.parties}
    return party.tree == "base" and not party.starts_from and party.name not in needed


def _digest_of(checkpoint: Path) -> str:
    """The digest of the tensors of a checkpoint; its metadata has a random name in it."""
    found = hashlib.sha256()
    for path in sorted(checkpoint.glob("*.distcp")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]
