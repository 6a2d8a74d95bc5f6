"""The command line: parses arguments and calls one function each."""

import gc
import json
import shlex
import shutil
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
from click.shell_completion import get_completion_class

from codemods.targets import Asked
from migrator.errors import TitanMigrateError
from migrator.options import (
    BASE,
    CONTEXT,
    PATH,
    REV,
    TORCHTITAN,
    Commands,
    cache_option,
    complete_cells,
    complete_codes,
    examples,
    format_option,
    handled,
    names,
    no_git_option,
    precision_option,
    refuse_without_git,
    say,
    screen,
    show_version,
    target_options,
    tell,
    verbosity,
    verbosity_options,
    without_git,
)


@click.group(
    cls=Commands,
    context_settings=CONTEXT,
    epilog="Exit codes: 0 fine, 1 findings or a failed verdict, 2 wrong use or environment, "
    "3 a file could not be handled, 4 a rehearsal that broke by itself.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="Show version, revision and the torch found, and exit.",
)
def main() -> None:
    """Move a torchtitan checkout from DDP to the composable replicate.

    \b
      titan-migrate check ./torchtitan      what is there, what has to change
      titan-migrate diff ./torchtitan       the patch
      titan-migrate apply ./torchtitan      write it
      titan-migrate rehearse ./torchtitan   wrap every model on simulated ranks
      titan-migrate verify ./torchtitan     train both and compare
      titan-migrate report ./torchtitan     the pull request's text, or a page
      titan-migrate sweep repo.git          every branch and fork in one run
      titan-migrate explain TM101           what a rule does and why
      titan-migrate demo                    all of it on torchtitan 0.2.1
    """


def _planned(
    path: Path,
    target: Asked,
    torch_version: str | None,
    function_name: str | None,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    exclude: tuple[str, ...],
    torchtitan: str | None,
    keep_precision: bool,
    no_cache: bool,
    require_git: bool = False,
) -> Any:
    # The process ends soon, and all that it holds with it: to look for what could be freed
    # takes longer than a `check`.
    gc.disable()
    from migrator import apply, kept
    from migrator.terminal import working

    found = _opened(path, require_git, torchtitan)
    if path.resolve() != found.root.resolve():
        tell(f"{path} is in the checkout {found.root}, which is taken as a whole.")
    with working("Reading the checkout", quiet=verbosity() < 0):
        planned = (apply if no_cache else kept).plan(
            found,
            apply.resolve_target(
                target, torch_version, function_name, found.root, keep_precision
            ),
            _selection(found, select, ignore, exclude),
        )
    gc.freeze()  # for the end of the process, which looks again
    return planned


def _opened(path: Path, require_git: bool, torchtitan: str | None) -> Any:
    from migrator.checkout import open_checkout

    found = open_checkout(path, require_git=require_git, torchtitan=torchtitan)
    if not found.is_git and (found.root / ".git").exists():
        tell("There is no git on PATH, so files that git ignores are read too.")
    return found


def _selection(
    checkout: Any,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    exclude: tuple[str, ...],
) -> Any:
    from migrator import config

    given = {
        "select": names("--select", ",".join(select) if select else None),
        "ignore": names("--ignore", ",".join(ignore) if ignore else None),
        "exclude": exclude,
    }
    selection = config.selection(checkout.root, given)
    for pattern in config.idle(selection, checkout.files, lambda: checkout.texts):
        tell(
            f"exclude: no file here fits {pattern!r}, so it leaves nothing out; patterns are "
            "as in a .gitignore at the top of the checkout."
        )
    return selection


@main.command(
    context_settings=CONTEXT,
    epilog=examples(
        "check ./torchtitan",
        "check --torch 2.9.1 --statistics",
        "check --select TM2 --exclude torchtitan/experiments",
        "check --format sarif > titan-migrate.sarif",
    ),
)
@PATH
@target_options
@precision_option
@cache_option
@without_git
@verbosity_options("Show what is done already and what opted out too.")
@format_option(
    "text for people on stderr; on stdout json for programs, github for annotations "
    "in GitHub Actions, sarif for code scanning and editors.",
    "text",
    "json",
    "github",
    "sarif",
)
@click.option("--statistics", is_flag=True, help="Count the findings of each rule too.")
@handled
def check(path: Path, output: str, statistics: bool, **target: Any) -> int:
    """Say what has to change; exit 1 if something has.

    PATH is the folder of a checkout, by default this one. Nothing is written and
    nothing of the checkout is run.
    """
    changeset = _planned(path, **target)
    from migrator import render
    from migrator.render.json import as_json

    if output == "json":
        click.echo(as_json(changeset, written=False, statistics=statistics))
    else:
        tell(render.sentence(changeset))
        tell(render.target_line(changeset))
        tell(render.selection_line(changeset))
        if output == "sarif":
            from migrator.render.sarif import as_sarif

            click.echo(as_sarif(changeset))
        elif output == "github":
            from migrator.render.github import as_github

            for line in as_github(changeset):
                # GitHub reads UTF-8, whatever this locale has.
                click.echo(line.encode("utf-8", "backslashreplace"))
        else:
            shown = screen()
            if shown is None:
                for line in render.text(changeset, verbose=verbosity() > 0):
                    tell(line)
            else:
                from migrator.render.screen import whole

                for part in whole(changeset, verbosity() > 0):
                    shown.print(part, crop=False)
            for line in render.ways(changeset, str(path)):
                tell(line)
            if changeset.changes:
                place = shlex.quote(str(path))
                if target["torchtitan"]:
                    place += f" --torchtitan {shlex.quote(target['torchtitan'])}"
                tell(
                    f"`titan-migrate diff {place}` shows the patch, `titan-migrate apply "
                    f"{place}` writes it."
                )
        if statistics:
            for line in render.statistics(changeset):
                say(line)
    return 1 if changeset.outcome.to_do else 0


@main.command(
    context_settings=CONTEXT,
    epilog=examples(
        "diff ./torchtitan --stat",
        "diff ./torchtitan > migration.patch",
        "diff --target 2d --unified 10",
        "diff --ignore TM106 | git apply",
    ),
)
@PATH
@target_options
@precision_option
@cache_option
@without_git
@verbosity_options("Show the hazards too, on stderr.")
@click.option(
    "-U",
    "--unified",
    "context",
    type=click.IntRange(min=0),
    metavar="N",
    default=3,
    show_default=True,
    help="Lines of context around each change; a patch with 0 needs `git apply "
    "--unidiff-zero`.",
)
@click.option(
    "--stat", is_flag=True, help="How many lines change in each file, and no patch."
)
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    show_default=True,
    help="auto colours on a terminal, unless NO_COLOR is set.",
)
@click.option(
    "--no-pager",
    is_flag=True,
    help="Start no pager. Else, on a terminal only, the one of GIT_PAGER, of your own "
    "core.pager or of PAGER, or less; never one that the checkout configures.",
)
@handled
def diff(
    path: Path, context: int, stat: bool, color: str, no_pager: bool, **target: Any
) -> None:
    """Print the migration as a patch that `git apply` takes.

    PATH is the folder of a checkout, by default this one. Only the patch goes to stdout.
    """
    from migrator import apply, patch, render

    changeset = _planned(path, **target)
    apply.refuse_incomplete(changeset)
    tell(render.target_line(changeset))
    tell(render.selection_line(changeset))
    if not changeset.changes:
        tell(render.sentence(changeset))
    if verbosity() > 0:
        for line in render.hazards(changeset):
            tell(line)
    colour = patch.wants_colour(color)
    if stat:
        counts = (patch.count(*part) for part in changeset.patches())
        width = shutil.get_terminal_size().columns
        shown = patch.diffstat(counts, width, colour).encode()
    elif colour:
        parts = changeset.patches(context)
        shown = b"".join(patch.coloured(part) for _, part in parts)
    else:
        shown = changeset.diff(context)
    patch.show(shown, paged=not no_pager)


@main.command(
    "apply",
    context_settings=CONTEXT,
    epilog=examples(
        "apply ./torchtitan",
        "apply ./torchtitan --torch 2.10 --function-name apply_ddp",
        "apply --exclude 'torchtitan/experiments/my_*'",
        "apply --branch replicate --commit",
        "apply --patches ../patches",
    ),
)
@PATH
@target_options
@precision_option
@cache_option
@no_git_option
@verbosity_options("Show every place that was rewritten.")
@click.option("--allow-dirty", is_flag=True, help="Write over uncommitted changes too.")
@click.option(
    "--branch", metavar="NAME", help="With --commit: the new branch, switched to."
)
@click.option(
    "--commit",
    is_flag=True,
    help="Commit too, as a short series on the new branch of --branch, without hooks, "
    "signing and filters.",
)
@click.option(
    "--hooks",
    is_flag=True,
    help="Commit with the hooks, the signing and the filters that your git has.",
)
@click.option(
    "--patches",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write the same series to DIR, new or empty, as patches for `git am`, and change "
    "nothing here.",
)
@format_option(
    "text for people on stderr, json for programs on stdout.", "text", "json"
)
@handled
def apply_command(
    path: Path,
    output: str,
    allow_dirty: bool,
    branch: str | None,
    commit: bool,
    hooks: bool,
    patches: Path | None,
    no_git: bool,
    **target: Any,
) -> None:
    """Migrate the checkout in place: every change, or none.

    PATH is the folder of a checkout, by default this one. Files with uncommitted changes
    are refused, so that git can undo it.
    With --commit the migration is committed on a new branch, one step after the other;
    with --patches it is written to a folder and nothing here changes.
    """
    from migrator import apply, render
    from migrator.render.json import as_json

    _refuse_outlets(path, branch, commit, hooks, patches, allow_dirty, no_git)
    changeset = _planned(path, require_git=not no_git, **target)
    if output == "json" and changeset.outcome.problems:
        click.echo(as_json(changeset, written=False))
    apply.refuse_incomplete(changeset)
    made: dict[str, Any] = {}
    advice = ""
    if changeset.changes and branch is not None:
        made, advice = _committed(changeset, branch, hooks)
    elif changeset.changes and patches is not None:
        made, advice = _mailed(changeset, patches)
    elif patches is None:
        if not allow_dirty:
            apply.refuse_dirty(changeset)
        advice = apply.way_back(changeset)
        changeset.write()
    written = patches is None
    if output == "json":
        click.echo(as_json(changeset, written=written, made=made))
        return
    what = render.target_line if changeset.changes else render.sentence
    tell(what(changeset))
    tell(render.selection_line(changeset))
    heading = "Rewritten" if written else "In the patches"
    for line in render.rewritten(changeset, verbosity() > 0, heading):
        tell(line)
    if changeset.changes:
        tell(render.precision(changeset))
        tell(render.inert(advice, keep="\n"))
    elif branch is not None or patches is not None:
        tell("So no commit was made.")
    shown = screen()
    if shown is None:
        for line in render.hazards(changeset):
            tell(line)
    else:
        from migrator.render.screen import to_look_at

        for part in to_look_at(changeset):
            shown.print(part, crop=False)


def _refuse_outlets(
    path: Path,
    branch: str | None,
    commit: bool,
    hooks: bool,
    patches: Path | None,
    allow_dirty: bool,
    no_git: bool,
) -> None:
    """Refuse options of `apply` that contradict each other, or lack something."""
    if commit and branch is None:
        raise TitanMigrateError("--commit needs a new branch: name it with --branch.")
    for option, given in (("--branch", branch is not None), ("--hooks", hooks)):
        if given and not commit:
            raise TitanMigrateError(
                f"{option} is for commits: pass --commit with it, or leave it out."
            )
    contrary = {
        "--commit": commit,
        "--patches": patches is not None,
        "--allow-dirty": allow_dirty,
        "--no-git": no_git,
    }
    if not commit and patches is None:
        return
    wanted, *others = (option for option, given in contrary.items() if given)
    if others:
        raise TitanMigrateError(
            f"{wanted} and {others[0]} contradict each other: leave one of them out."
        )
    refuse_without_git(f"apply {wanted}")

    from migrator.checkout import open_checkout

    if not open_checkout(path, require_git=False).is_git:
        raise TitanMigrateError(
            f"{path} is not a git checkout, and {wanted} makes commits on one: run `git init` "
            f"and commit first, or leave {wanted} out."
        )


def _committed(changeset: Any, branch: str, hooks: bool) -> tuple[dict[str, Any], str]:
    """Commit on a new branch; what was made, for programs and for people."""
    from migrator import render
    from migrator.apply import git_there, proof
    from migrator.series.branch import commit_on_branch

    commits, reworked = commit_on_branch(changeset, branch, with_hooks=hooks)
    made = {"branch": branch, "commits": [vars(commit) for commit in commits]}
    advice = _told(f"On the new branch {branch}:", commits)
    if reworked:
        made["changed_by_hooks"] = reworked
        files = ", ".join(map(render.inert, reworked))
        advice += f"\nA hook changed these files, and they are committed as it left them: {files}"
    checkout = changeset.checkout
    advice += f"\nReview it with `{git_there(checkout)} log -p`, prove it with `{proof(checkout)}`."
    return made, advice


def _mailed(changeset: Any, folder: Path) -> tuple[dict[str, Any], str]:
    """Write mail patches; what was made, for programs and for people."""
    from migrator.series.mail import write_patches

    commits, files = write_patches(changeset, folder)
    made = {
        "commits": [vars(commit) for commit in commits],
        "patches": [str(file) for file in files],
    }
    advice = _told("Patches, and nothing here changed:", files)
    advice += f"\nTake them on this revision with `git am {shlex.quote(str(folder))}/*.patch`."
    return made, advice


def _told(heading: str, entries: Iterable[Any]) -> str:
    return "\n".join([heading, *(f"  {entry}" for entry in entries)])


@main.command(
    context_settings=CONTEXT,
    epilog=examples("explain", "explain TM101", "explain TM2xx"),
)
@click.argument("code", required=False, shell_complete=complete_codes)
@handled
def explain(code: str | None) -> None:
    """Say what a rule does and why; without CODE, list all."""
    from migrator.explain import explanation, overview

    click.echo(explanation(code) if code else overview())


@main.command(
    context_settings=CONTEXT,
    epilog=examples(
        "rehearse ./torchtitan",
        "rehearse --model llama3/405B --world dp_replicate=128,tp=8",
        "rehearse --config train_configs/llama3_70b.toml --world-size 1024 -- --compile.enable",
    ),
)
@PATH
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@verbosity_options("No more than without.")
@click.option(
    "--model",
    "models",
    metavar="NAME,...",
    help="NAME, NAME/FLAVOR, NAME/* for every flavor, NAME:tied, NAME:untied, all or all/*.  "
    "[default: the configuration's, or all]",
)
@click.option(
    "--world",
    "worlds",
    multiple=True,
    metavar="DEGREES",
    help="A layout of ranks, as dp_replicate=128,tp=8; may be repeated.  "
    "[default: a small table]",
)
@click.option(
    "--world-size",
    type=click.IntRange(min=1),
    help="Ranks, laid out by the degrees of the configuration.",
)
@click.option(
    "--config",
    metavar="FILE",
    help="The fork's job configuration, or the name of one in train_configs.  "
    "[default: torchtitan's defaults]",
)
@BASE
@REV
@TORCHTITAN
@click.option(
    "--step/--no-step",
    default=None,
    help="Count what a step costs.  [default: where --model or --config names the model]",
)
@click.option("--json", "as_json", is_flag=True, help="Everything on stdout, as JSON.")
@handled
def rehearse(
    path: Path,
    models: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Wrap every model on as many ranks as you like, in seconds, and compare the plans.

    PATH is the migrated checkout. Models are made on the meta device in a world of
    one process; nothing trains. What follows -- goes to torchtitan's own parser.
    Exit 1 where a plan is wrong, 2 where nothing could be rehearsed, 4 where the
    rehearsal itself broke.
    """
    titles = names("--model", models)
    refuse_without_git("rehearse")

    from migrator.terminal import console_on_stdout
    from migrator.verify.rehearsal import run_rehearse

    console = console_on_stdout(quiet=as_json or verbosity() < 0)
    rehearsal = run_rehearse(path, titles=titles, console=console, **options)
    if as_json:
        click.echo(json.dumps(rehearsal.to_dict(), indent=1))
    return rehearsal.exit_code


@main.command(
    context_settings=CONTEXT,
    epilog=examples(
        "verify ./torchtitan",
        "verify --cells dp,dp-bf16 --model llama3,qwen3:untied",
        "verify --base v0.2.1 --rev my-migration --report ./verdict",
        "verify --full --device cuda --timeout 3600",
        "verify --export base.runs.gz",
        "verify --against base.runs.gz --no-cache",
    ),
)
@PATH
@verbosity_options("Show loss and grad_norm by step for every cell.")
@click.option(
    "--quick",
    is_flag=True,
    help="The cells dp, dp+tp, dp+pp, dp-bf16, dp-together, dp-fresh, dp-unseeded (this is the default).",
)
@click.option(
    "--full",
    is_flag=True,
    help="Every cell, on every model unless --model says which: hours on a CPU.",
)
@click.option(
    "--cells",
    metavar="NAME,...",
    shell_complete=complete_cells,
    help="Ways of training to compare, of dp, dp+tp, dp+pp, dp-bf16, dp-together, dp-fresh, dp-unseeded, dp-accumulate, "
    "dp-compile, dp-recompute, dp-selective, dp-fused, dp-foreach, dp-early, dp-bfloat16, dp-float8, dp+tp+pp, "
    "dp-checkpoint, dp-validate, fsdp, hsdp, cp, ep, export.",
)
@click.option(
    "--model",
    "models",
    metavar="NAME,...",
    help="Models that have a debug flavor: NAME, NAME/FLAVOR, NAME:tied, NAME:untied, "
    "those changed, or all.  [default: llama3, or the first whose plan is changed]",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="What parameters are cast to, where the cell does not say.",
)
@BASE
@REV
@TORCHTITAN
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Optimizer steps.",
)
@click.option(
    "--nproc",
    type=click.IntRange(min=2),
    help="Data-parallel ranks.  [default: 2 on a CPU; what the GPUs are enough for]",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="auto takes GPUs where there are enough for a cell.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=1),
    default=600,
    show_default=True,
    help="Seconds that one training run may take.",
)
@click.option(
    "--report",
    "report_dir",
    type=click.Path(path_type=Path),
    help="Where the report goes; with several nodes, a folder that all of them share.  "
    "[default: titan-migrate-report beside the checkout]",
)
@click.option(
    "--nnodes",
    type=int,
    default=1,
    show_default=True,
    help="Nodes that train together. Start the same command on every node; node 0 judges.",
)
@click.option(
    "--node-rank", type=int, help="This node's number, from 0.  [default: SLURM_NODEID]"
)
@click.option(
    "--rdzv-endpoint",
    metavar="HOST:PORT",
    help="Node 0's address and a port that is free there, for several nodes.",
)
@click.option(
    "--rehearse/--no-rehearse",
    "rehearsed",
    default=True,
    help="Rehearse every model first, and do not train where that fails.  [default: do]",
)
@click.option(
    "--cache/--no-cache",
    "cached",
    default=True,
    help="Take runs of the base revision that an earlier verify made on this machine.  "
    "[default: do]",
)
@click.option(
    "--export",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the base revision's runs to FILE, for --against.",
)
@click.option(
    "--against",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Take the base revision's runs from FILE, which --export wrote, and do not train it.",
)
@click.option(
    "--sensitivity",
    is_flag=True,
    help="Plant the smallest error that would show, in a run more for each cell, and see it.",
)
@handled
def verify(
    path: Path,
    quick: bool,
    full: bool,
    cells: str | None,
    models: str | None,
    nnodes: int,
    node_rank: int | None,
    rdzv_endpoint: str | None,
    **options: Any,
) -> int:
    """Train the trees before and after, and compare them.

    Comes after `apply`: PATH is the migrated checkout, the migration committed or not.
    All start from one seed checkpoint; FSDP of the same tree is the reference. Exit 1
    where a cell fails, 2 where none could run. The checkout is not touched.
    """
    chosen = {"--quick": quick, "--full": full, "--cells": cells is not None}
    if sum(chosen.values()) > 1:
        both = " and ".join(name for name, given in chosen.items() if given)
        raise TitanMigrateError(f"{both} contradict each other: give one of them.")
    chosen_cells, titles = names("--cells", cells), names("--model", models)
    refuse_without_git("verify")

    from migrator.terminal import console_on_stdout
    from migrator.verify import run_verify
    from migrator.verify.choose.scenarios import CELLS, QUICK
    from migrator.verify.run import follow_verify
    from migrator.verify.train.nodes import nodes_of

    among = nodes_of(nnodes, node_rank, rdzv_endpoint)
    console = console_on_stdout(quiet=verbosity() < 0)
    if among.rank:
        own = {
            name: options[name] for name in ("base", "rev", "report_dir", "torchtitan")
        }
        return follow_verify(path, console=console, among=among, **own)
    verification = run_verify(
        path,
        console=console,
        by_step=verbosity() > 0,
        cells=chosen_cells or (tuple(CELLS) if full else QUICK),
        model=titles or (("all",) if full else ()),
        among=among,
        **options,
    )
    return verification.exit_code


@main.command(
    context_settings=CONTEXT,
    epilog=examples(
        "report ./torchtitan | gh pr edit --body-file -",
        "report ./torchtitan --html review.html",
        "report ./torchtitan --base v0.2.2 --verify-report ./titan-migrate-report",
    ),
)
@PATH
@target_options
@precision_option
@without_git
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write one page instead, which needs no network and no other file.",
)
@click.option(
    "--base",
    metavar="REV",
    help="The unmigrated revision.  [default: as verify finds it]",
)
@click.option(
    "--verify-report",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="What verify wrote.  [default: titan-migrate-report beside the checkout, if it is there]",
)
@handled
def report(
    path: Path,
    page: Path | None,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    exclude: tuple[str, ...],
    **options: Any,
) -> int:
    """Show the migration to a reviewer: as Markdown, or as one page.

    PATH is the folder of a checkout, migrated or not. What changed by file and rule, and
    why; hazards with code to write; the verdicts; how to see each of it again. Nothing
    of the checkout is run or written.
    """
    from migrator import review
    from migrator.terminal import working

    checkout = _opened(path, False, options["torchtitan"])
    selection = _selection(checkout, select, ignore, exclude)
    if page is not None:
        review.refuse(page, checkout)
    with working("Reading the checkout"):
        found = review.review(path, require_git=False, selection=selection, **options)
    if page is None:
        # GitHub reads UTF-8, whatever this locale has.
        click.echo(review.as_markdown(found).encode("utf-8", "replace"), nl=False)
    else:
        review.write(review.as_html(found), page)
        say(f"The report is in {page}: open it in a browser.")
    return 1 if found.blocked else 0


@main.command(
    context_settings=CONTEXT,
    epilog=examples(
        "sweep ./torchtitan",
        "sweep forks/*.git --since '6 months ago' --html sweep.html",
        "sweep ./torchtitan --refs 'refs/tags/*' --format csv > sweep.csv",
        "sweep ./torchtitan --shard 3/16 --format json > 3.json",
        "sweep --merge 1.json 2.json 3.json",
    ),
)
@click.argument("paths", metavar="REPO...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--refs",
    multiple=True,
    metavar="GLOB",
    help="Refs to look at, by full name or as git calls them for short; may be repeated.  "
    "[default: branches, and those of remotes]",
)
@click.option(
    "--since",
    metavar="DATE",
    help="Leave out refs whose last commit is older; a date as git takes it.",
)
@target_options
@precision_option
@verbosity_options("Say where results are kept.")
@click.option(
    "--patches",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write a series for `git am` for each ref that can be migrated, in a folder of its own "
    "in DIR.",
)
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write one page too, which needs no network: how many refs are done, can be migrated "
    "now, or need a person, and for which reason.",
)
@click.option(
    "--jobs",
    "-j",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many processes work.  [default: one a core]",
)
@click.option(
    "--shard",
    metavar="K/N",
    help="Look at the Kth of N parts of the refs only, for arrays of jobs; every ref is in one.",
)
@click.option(
    "--merge",
    is_flag=True,
    help="Put tables together that --format json wrote; REPO... are these files.",
)
@click.option(
    "--no-cache",
    is_flag=True,
    envvar="TITAN_MIGRATE_NO_CACHE",
    show_envvar=True,
    help="Plan every tree anew, and keep no result.",
)
@format_option(
    "text for people; json for programs and for --merge, csv for spreadsheets, sarif for "
    "code scanning. All on stdout, row by row.",
    "text",
    "json",
    "csv",
    "sarif",
)
@handled
def sweep(
    paths: tuple[Path, ...],
    output: str,
    merge: bool,
    page: Path | None,
    **asked: Any,
) -> int:
    """Say of every branch of many repositories what would become of it.

    REPO is a repository, bare or with a working tree. Its trees are read from git's objects:
    nothing is checked out and nothing in it changes. Each distinct tree is planned once, as
    `diff` plans it. What was planned is kept, so that a sweep which was broken off goes on
    where it was.
    """
    from migrator.sweep import command

    if not paths:
        raise click.UsageError(
            "name the tables to merge." if merge else "name a repository, or several."
        )
    if merge:
        _refuse_beside_merge()
        return command.merge(paths, output, page)
    refuse_without_git("sweep")
    for key in ("select", "ignore"):
        given = asked[key]
        asked[key] = names(f"--{key}", ",".join(given) if given else None)
    return command.sweep(paths, output, page=page, verbosity=verbosity(), **asked)


def _refuse_beside_merge() -> None:
    """Refuse options that tables which are there cannot follow any more."""
    context = click.get_current_context()
    beside = [
        max(option.opts, key=len)
        for option in context.command.params
        if option.name not in ("paths", "merge", "page", "output")
        and context.get_parameter_source(option.name or "")
        is click.core.ParameterSource.COMMANDLINE
    ]
    if beside:
        raise click.UsageError(
            f"--merge puts tables together that are there, and takes no {', '.join(beside)}: "
            "pass it to the sweeps that write them."
        )


@main.command(
    context_settings=CONTEXT,
    epilog=examples("demo", "demo --torchtitan 0.2.2 --no-verify"),
)
@click.option(
    "--torchtitan",
    "version",
    metavar="VERSION",
    default="0.2.1",
    show_default=True,
    help="The release to migrate.",
)
@click.option("--no-verify", is_flag=True, help="Do not train.")
@handled
def demo(version: str, no_verify: bool) -> int:
    """Do all of it on torchtitan from PyPI.

    Downloads the release, says what is there, migrates it, trains both trees and says
    what it means. The migrated tree, the diff and the page for reviewers stay in a
    folder that is named; where the demo breaks off, nothing stays.
    """
    refuse_without_git("demo")
    if not no_verify and find_spec("torch") is None:
        from migrator.version import adding

        raise TitanMigrateError(
            "demo trains, and there is no torch in this environment: run "
            f"`{adding('demo')}`, or pass --no-verify."
        )

    from migrator.demo import run_demo
    from migrator.terminal import console_on_stdout
    from migrator.verify import VerifyError

    try:
        passed = run_demo(version, console=console_on_stdout(), verify=not no_verify)
    except (VerifyError, FileNotFoundError) as error:
        raise TitanMigrateError(str(error)) from error
    return 0 if passed else 1


_COMPLETE = "_TITAN_MIGRATE_COMPLETE"


@main.command(
    context_settings=CONTEXT,
    epilog=examples(
        "completion bash >> ~/.bashrc",
        "completion zsh >> ~/.zshrc",
        "completion fish > ~/.config/fish/completions/titan-migrate.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what a shell needs to complete names.

    Commands, options, rule codes and cells.
    """
    of_shell = get_completion_class(shell)
    assert of_shell is not None
    click.echo(of_shell(main, {}, "titan-migrate", _COMPLETE).source())


if __name__ == "__main__":
    main(prog_name="titan-migrate")
