"""The command line: parses arguments and calls one function each."""

import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from migrator.errors import TitanMigrateError

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 92}

_PATH = click.argument("path", type=click.Path(path_type=Path), default=".")


_VERBOSITY = "titan-migrate.verbosity"


def _say(message: str) -> None:
    click.echo(message, err=True)


def _verbosity() -> int:
    """-1 for --quiet, 1 for --verbose, else 0."""
    return click.get_current_context().meta.get(_VERBOSITY, 0)


def _tell(message: str | None) -> None:
    """Say what nobody needs who only asks for the exit code."""
    if message is not None and _verbosity() >= 0:
        _say(message)


def _handled(command: Callable[..., int | None]) -> Callable[..., None]:
    """Turn the tool's own errors into a sentence on stderr and an exit code."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        try:
            code = command(*args, **kwargs)
        except TitanMigrateError as error:
            _say(f"titan-migrate: {error}")
            code = error.exit_code
        except BrokenPipeError:
            # The reader of a pipe went away (`diff | head`): not an error.
            sys.stderr.close()
            code = 0
        except KeyboardInterrupt:
            _say("titan-migrate: interrupted.")
            code = 130
        except SystemExit as left:
            if left.code == 143:
                _say("titan-migrate: terminated.")
            raise
        sys.exit(code or 0)

    return run


def _verbosity_options(what: str) -> Callable[..., Any]:
    """-q and -v; ``what`` is what -v shows."""

    def keep(context: click.Context, option: click.Parameter, given: bool) -> None:
        if not given:
            return
        if context.meta.get(_VERBOSITY):
            raise click.UsageError("-q and -v contradict each other: give one of them.")
        context.meta[_VERBOSITY] = -1 if option.name == "quiet" else 1

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for names, help in (
            (("-v", "--verbose"), what),
            (("-q", "--quiet"), "Say nothing but errors; the exit code tells."),
        ):
            command = click.option(
                *names, is_flag=True, expose_value=False, callback=keep, help=help
            )(command)
        return command

    return add


def _complete_codes(
    context: click.Context, option: click.Parameter, begun: str
) -> list[CompletionItem]:
    from codemods.rules import all_rules

    return _completed(begun.upper(), {rule.CODE: rule.TITLE for rule in all_rules()})


def _complete_cells(
    context: click.Context, option: click.Parameter, begun: str
) -> list[CompletionItem]:
    from migrator.verify.scenarios import CELLS

    return _completed(begun, {name: cell.what for name, cell in CELLS.items()})


def _completed(begun: str, words: Mapping[str, str]) -> list[CompletionItem]:
    """What the last name of a comma-separated list may become; words: name -> what it is."""
    *before, last = begun.rpartition(",")
    return [
        CompletionItem("".join(before) + word, help=what)
        for word, what in words.items()
        if word.startswith(last)
    ]


def _target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option(
            "--function-name",
            type=click.Choice(["apply_replicate", "apply_ddp"]),
            help="What apply_ddp is called afterwards.  [default: apply_replicate for 1d, "
            "apply_ddp for 2d]",
        ),
        click.option(
            "--torch",
            "torch_version",
            metavar="VERSION",
            help="The torch that the migrated code will run on, instead of the one in this "
            "environment.",
        ),
        click.option(
            "--target",
            type=click.Choice(["auto", "1d", "2d"]),
            default="auto",
            show_default=True,
            help="The replicate API to write for: 1d for torch 2.10 and later, 2d for 2.9; "
            "auto goes by the installed torch.",
        ),
        click.option(
            "--exclude",
            multiple=True,
            metavar="GLOB",
            help="Leave files alone, by a pattern as in a .gitignore; may be repeated.",
        ),
        click.option(
            "--ignore",
            multiple=True,
            metavar="CODES",
            shell_complete=_complete_codes,
            help="Rules to leave out, by code or beginning of codes: TM106,TM2.",
        ),
        click.option(
            "--select",
            multiple=True,
            metavar="CODES",
            shell_complete=_complete_codes,
            help="Rules to run instead of all.",
        ),
        click.option(
            "--no-git",
            is_flag=True,
            help="Accept a folder that is not a git checkout.",
        ),
    ):
        command = option(command)
    return command


def _format_option(help: str, *formats: str) -> Callable[..., Any]:
    return click.option(
        "--format",
        "output",
        type=click.Choice(formats),
        default="text",
        show_default=True,
        help=help,
    )


class _Commands(click.Group):
    """Says which command somebody may have meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        given = args[0]
        if self.get_command(ctx, given) is None and Path(given).is_dir():
            raise click.UsageError(
                f"{given} is a folder: say what to do with it, as `titan-migrate check {given}`.",
                ctx,
            )
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            close = get_close_matches(given, self.list_commands(ctx), n=1)
            if close and close[0] not in error.format_message():
                error.message += f" Did you mean {close[0]}?"
            raise


def _examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\n".join(
        ("\b", "Examples:", *(f"  titan-migrate {line}" for line in lines))
    )


@click.group(
    cls=_Commands,
    context_settings=_CONTEXT,
    epilog="Exit codes: 0 fine, 1 findings or a failed verdict, 2 wrong use or environment, "
    "3 a file could not be handled.",
)
@click.version_option(package_name="titan-migrate")
def main() -> None:
    """Move a torchtitan checkout from DDP to the composable replicate.

    \b
      titan-migrate check ./torchtitan      what is there, what has to change
      titan-migrate diff ./torchtitan       the patch
      titan-migrate apply ./torchtitan      write it
      titan-migrate verify ./torchtitan     train both and compare
      titan-migrate report ./torchtitan     the pull request's text, or a page
      titan-migrate explain TM101           what a rule does and why
      titan-migrate demo                    all of it on torchtitan 0.2.1
    """


def _planned(
    path: Path,
    target: str,
    torch_version: str | None,
    function_name: str | None,
    no_git: bool,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    exclude: tuple[str, ...],
) -> Any:
    from migrator import apply, checkout
    from migrator.terminal import working

    with working("Reading the checkout", quiet=_verbosity() < 0):
        found = checkout.open_checkout(path, require_git=not no_git)
        return apply.plan(
            found,
            apply.resolve_target(target, torch_version, function_name),
            _selection(found.root, select, ignore, exclude),
        )


def _selection(
    root: Path,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    exclude: tuple[str, ...],
) -> Any:
    from migrator import config

    given = {
        "select": _names("--select", ",".join(select) if select else None),
        "ignore": _names("--ignore", ",".join(ignore) if ignore else None),
        "exclude": exclude,
    }
    return config.selection(root, given)


def _made_inert(error: TitanMigrateError) -> TitanMigrateError:
    """An error that may name files of the checkout, for CI logs, which act on what starts a line."""
    from migrator import render

    lines = str(error).split("\n")
    error.args = ("\n    | ".join(render.inert(line) for line in lines),)
    return error


@main.command(
    context_settings=_CONTEXT,
    epilog=_examples(
        "check ./torchtitan",
        "check --torch 2.9.1 --statistics",
        "check --select TM2 --exclude torchtitan/experiments",
        "check --format sarif > titan-migrate.sarif",
    ),
)
@_PATH
@_target_options
@_verbosity_options("Show what is done already and what opted out too.")
@_format_option(
    "text for people on stderr; on stdout json for programs, github for annotations "
    "in GitHub Actions, sarif for code scanning and editors.",
    "text",
    "json",
    "github",
    "sarif",
)
@click.option("--statistics", is_flag=True, help="Count the findings of each rule too.")
@_handled
def check(path: Path, output: str, statistics: bool, **target: Any) -> int:
    """Say what has to change; exit 1 if something has.

    PATH is the folder of a checkout, by default this one. Nothing is written and
    nothing of the checkout is run.
    """
    from migrator import render

    try:
        changeset = _planned(path, **target)
    except TitanMigrateError as error:
        raise _made_inert(error)
    if output == "json":
        click.echo(render.as_json(changeset, written=False, statistics=statistics))
    else:
        _tell(render.sentence(changeset))
        _tell(render.target_line(changeset))
        _tell(render.selection_line(changeset))
        if output == "sarif":
            click.echo(render.as_sarif(changeset))
        elif output == "github":
            for line in render.as_github(changeset):
                # GitHub reads UTF-8, whatever this locale has.
                click.echo(line.encode("utf-8", "backslashreplace"))
        else:
            for line in render.text(changeset, verbose=_verbosity() > 0):
                _tell(line)
            if changeset.changes:
                _tell(
                    "`titan-migrate diff` shows the patch, `titan-migrate apply` writes it."
                )
        if statistics:
            for line in render.statistics(changeset):
                _say(line)
    return 1 if changeset.outcome.to_do else 0


@main.command(
    context_settings=_CONTEXT,
    epilog=_examples(
        "diff ./torchtitan --stat",
        "diff ./torchtitan > migration.patch",
        "diff --target 2d --unified 10",
        "diff --ignore TM106 | git apply",
    ),
)
@_PATH
@_target_options
@_verbosity_options("Show the hazards too, on stderr.")
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
@_handled
def diff(
    path: Path, context: int, stat: bool, color: str, no_pager: bool, **target: Any
) -> None:
    """Print the migration as a patch that `git apply` takes.

    PATH is the folder of a checkout, by default this one. Only the patch goes to stdout.
    """
    from migrator import apply, patch, render

    changeset = _planned(path, **target)
    apply.refuse_incomplete(changeset)
    _tell(render.target_line(changeset))
    _tell(render.selection_line(changeset))
    if not changeset.changes:
        _tell(render.sentence(changeset))
    if _verbosity() > 0:
        for line in render.hazards(changeset):
            _tell(line)
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
    context_settings=_CONTEXT,
    epilog=_examples(
        "apply ./torchtitan",
        "apply ./torchtitan --torch 2.10 --function-name apply_ddp",
        "apply --exclude 'torchtitan/experiments/my_*'",
        "apply --branch replicate --commit",
        "apply --patches ../patches",
    ),
)
@_PATH
@_target_options
@_verbosity_options("Show every place that was rewritten.")
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
@_format_option(
    "text for people on stderr, json for programs on stdout.", "text", "json"
)
@_handled
def apply_command(
    path: Path,
    output: str,
    allow_dirty: bool,
    branch: str | None,
    commit: bool,
    hooks: bool,
    patches: Path | None,
    **target: Any,
) -> None:
    """Migrate the checkout in place: every change, or none.

    PATH is the folder of a checkout, by default this one. Files with uncommitted changes are refused, so `git checkout .` undoes it all.
    With --commit the migration is committed on a new branch, one step after the other;
    with --patches it is written to a folder and nothing here changes.
    """
    from migrator import apply, render

    _refuse_outlets(path, branch, commit, hooks, patches, allow_dirty, target["no_git"])
    changeset = _planned(path, **target)
    apply.refuse_incomplete(changeset)
    made: dict[str, Any] = {}
    advice = (
        "Review it with `git diff`, prove it with `titan-migrate verify`, undo it with "
        "`git checkout .`"
    )
    if changeset.changes and branch is not None:
        from migrator.branch import commit_on_branch

        commits, reworked = commit_on_branch(changeset, branch, with_hooks=hooks)
        made = {"branch": branch, "commits": [vars(commit) for commit in commits]}
        advice = _told(f"On the new branch {branch}:", commits)
        if reworked:
            made["changed_by_hooks"] = reworked
            files = ", ".join(map(render.inert, reworked))
            advice += f"\nA hook changed these files, and they are committed as it left them: {files}"
        advice += "\nReview it with `git log -p`, prove it with `titan-migrate verify`."
    elif changeset.changes and patches is not None:
        from migrator.mail import write_patches

        commits, files = write_patches(changeset, patches)
        made = {"commits": [vars(commit) for commit in commits]}
        made["patches"] = [str(file) for file in files]
        advice = _told("Patches, and nothing here changed:", files)
        advice += f"\nTake them on this revision with `git am {shlex.quote(str(patches))}/*.patch`."
    elif patches is None:
        if not allow_dirty:
            apply.refuse_dirty(changeset)
        changeset.write()
    written = patches is None
    if output == "json":
        click.echo(render.as_json(changeset, written=written, made=made))
        return
    if changeset.changes:
        _tell(render.target_line(changeset))
    else:
        _tell(render.sentence(changeset))
    _tell(render.selection_line(changeset))
    heading = "Rewritten" if written else "In the patches"
    for line in render.rewritten(changeset, _verbosity() > 0, heading):
        _tell(line)
    if changeset.changes:
        _tell(advice)


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
    _refuse_without_git(f"apply {wanted}")

    from migrator.checkout import open_checkout

    if not open_checkout(path, require_git=False).is_git:
        raise TitanMigrateError(
            f"{path} is not a git checkout, and {wanted} makes commits on one: run `git init` "
            "and commit first, or leave it out."
        )


def _told(heading: str, entries: Iterable[Any]) -> str:
    return "\n".join([heading, *(f"  {entry}" for entry in entries)])


@main.command(
    context_settings=_CONTEXT,
    epilog=_examples("explain", "explain TM101", "explain TM2xx"),
)
@click.argument("code", required=False, shell_complete=_complete_codes)
@_handled
def explain(code: str | None) -> None:
    """Say what a rule does and why; without CODE, list all."""
    from migrator.explain import explanation, overview

    click.echo(explanation(code) if code else overview())


def _names(option: str, given: str | None) -> tuple[str, ...]:
    """The names of a comma-separated list, each once; none where the option is not given."""
    words = (word.strip() for word in (given or "").split(","))
    names = tuple(dict.fromkeys(word for word in words if word))
    if given is not None and not names:
        raise TitanMigrateError(
            f"{option} names nothing: give names with commas between them."
        )
    return names


def _refuse_without_git(command: str) -> None:
    if shutil.which("git") is None:
        raise TitanMigrateError(
            f"{command} needs git, and there is none on PATH: install it, or put it on PATH."
        )


@main.command(
    context_settings=_CONTEXT,
    epilog=_examples(
        "verify ./torchtitan",
        "verify --cells dp,dp-bf16 --model llama3,qwen3:untied",
        "verify --base v0.2.1 --rev my-migration --report ./verdict",
        "verify --full --device cuda --timeout 3600",
    ),
)
@_PATH
@_verbosity_options("Show loss and grad_norm by step for every cell.")
@click.option(
    "--quick", is_flag=True, help="The cells dp, dp+tp, dp+pp (this is the default)."
)
@click.option(
    "--full",
    is_flag=True,
    help="Every cell, on every model unless --model says which: hours on a CPU.",
)
@click.option(
    "--cells",
    metavar="NAME,...",
    shell_complete=_complete_cells,
    help="Ways of training to compare, of dp, dp+tp, dp+pp, dp-bf16, dp-accumulate, "
    "dp-compile, dp-checkpoint, dp-validate, fsdp, hsdp, export.",
)
@click.option(
    "--model",
    "models",
    metavar="NAME,...",
    help="Models that have a debug flavor: NAME, NAME/FLAVOR, NAME:tied, NAME:untied, or all. "
    " [default: llama3]",
)
@click.option(
    "--precision",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="What parameters are cast to, where the cell does not say.",
)
@click.option(
    "--base",
    metavar="REV",
    help="The unmigrated revision.  [default: HEAD, or the parent of the migration's commit]",
)
@click.option(
    "--rev", metavar="REV", help="The migrated revision.  [default: the working tree]"
)
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
@_handled
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
    """Train the base revision and the migrated tree, and compare them.

    Comes after `apply`: PATH is the migrated checkout, the migration committed or not.
    All start from one seed checkpoint; FSDP of the same tree is the reference. Exit 1
    where a cell fails, 2 where none could run. The checkout is not touched.
    """
    chosen = {"--quick": quick, "--full": full, "--cells": cells is not None}
    if sum(chosen.values()) > 1:
        both = " and ".join(name for name, given in chosen.items() if given)
        raise TitanMigrateError(f"{both} contradict each other: give one of them.")
    names, titles = _names("--cells", cells), _names("--model", models)
    _refuse_without_git("verify")

    from migrator.terminal import console_on_stdout
    from migrator.verify import run_verify
    from migrator.verify.nodes import nodes_of
    from migrator.verify.run import follow_verify
    from migrator.verify.scenarios import CELLS, QUICK

    among = nodes_of(nnodes, node_rank, rdzv_endpoint)
    console = console_on_stdout(quiet=_verbosity() < 0)
    if among.rank:
        own = {name: options[name] for name in ("base", "rev", "report_dir")}
        return follow_verify(path, console=console, among=among, **own)
    verification = run_verify(
        path,
        console=console,
        by_step=_verbosity() > 0,
        cells=names or (tuple(CELLS) if full else QUICK),
        model=titles or ("all" if full else "llama3",),
        among=among,
        **options,
    )
    return verification.exit_code


@main.command(
    context_settings=_CONTEXT,
    epilog=_examples(
        "report ./torchtitan | gh pr edit --body-file -",
        "report ./torchtitan --html review.html",
        "report ./torchtitan --base v0.2.2 --verify-report ./titan-migrate-report",
    ),
)
@_PATH
@_target_options
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
@_handled
def report(
    path: Path,
    page: Path | None,
    no_git: bool,
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
    from migrator.checkout import open_checkout
    from migrator.terminal import working

    checkout = open_checkout(path, require_git=not no_git)
    selection = _selection(checkout.root, select, ignore, exclude)
    try:
        if page is not None:
            review.refuse(page, checkout)
        with working("Reading the checkout"):
            found = review.review(
                path, require_git=not no_git, selection=selection, **options
            )
    except TitanMigrateError as error:
        raise _made_inert(error)
    if page is None:
        # GitHub reads UTF-8, whatever this locale has.
        click.echo(review.as_markdown(found).encode("utf-8", "replace"), nl=False)
    else:
        review.write(review.as_html(found), page)
        _say(f"The report is in {page}: open it in a browser.")
    return 1 if found.blocked else 0


@main.command(
    context_settings=_CONTEXT,
    epilog=_examples("demo", "demo --torchtitan 0.2.2 --no-verify"),
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
@_handled
def demo(version: str, no_verify: bool) -> int:
    """Do all of it on a torchtitan from PyPI.

    Downloads the release, migrates it, trains both trees and says where the migrated
    tree and the diff are; that folder stays until you remove it.
    """
    _refuse_without_git("demo")

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
    context_settings=_CONTEXT,
    epilog=_examples(
        "completion bash >> ~/.bashrc",
        "completion zsh >> ~/.zshrc",
        "completion fish > ~/.config/fish/completions/titan-migrate.fish",
    ),
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands, options, codes and cells."""
    of_shell = get_completion_class(shell)
    assert of_shell is not None
    click.echo(of_shell(main, {}, "titan-migrate", _COMPLETE).source())


if __name__ == "__main__":
    main(prog_name="titan-migrate")
