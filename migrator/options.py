"""What the commands of the command line have in common: options, how much is said, errors, help."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from migrator import terminal
from migrator.errors import TitanMigrateError
from migrator.signals import ENDED
from migrator.terminal import kept

if TYPE_CHECKING:
    from rich.console import Console

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 92}

PATH = click.argument("path", type=click.Path(path_type=Path), default=".")
BASE = click.option(
    "--base",
    metavar="REV",
    help="The unmigrated revision.  [default: HEAD, or the parent of the migration's commit]",
)
REV = click.option(
    "--rev", metavar="REV", help="The migrated revision.  [default: the working tree]"
)


def _from_here(
    context: click.Context, option: click.Parameter, given: str | None
) -> str | None:
    """A folder or a wheel as it is named from here; a version as it is."""
    there = given is not None and Path(given).exists()
    return str(Path(given or "").resolve()) if there else given


TORCHTITAN = click.option(
    "--torchtitan",
    metavar="PATH|VERSION",
    callback=_from_here,
    help="The torchtitan that a checkout uses and does not hold: a folder or a wheel, which is "
    "read and never written, or a release to download.  [default: pyproject.toml's, a submodule, an "
    "installed one that is pinned]",
)


_VERBOSITY = "titan-migrate.verbosity"


def say(message: str) -> None:
    """Say it on stderr; on a terminal no word is broken, and no command that has a line to itself."""
    shown = terminal.screen()
    if shown is None:
        click.echo(message, err=True)
        return
    for line in message.split("\n"):
        shown.print(line, soft_wrap=line.startswith("    "))


def verbosity() -> int:
    """-1 for --quiet, 1 for --verbose, else 0."""
    level: int = click.get_current_context().meta.get(_VERBOSITY, 0)
    return level


def screen() -> Console | None:
    """The terminal that what nobody needs is told on; None where there is none, or `-q` wants none."""
    return terminal.screen() if verbosity() >= 0 else None


def tell(message: str | None) -> None:
    """Say what nobody needs who only asks for the exit code."""
    if message is not None and verbosity() >= 0:
        say(message)


def handled(command: Callable[..., int | None]) -> Callable[..., None]:
    """Turn the tool's own errors into a sentence on stderr and an exit code."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> None:
        with kept("stderr"):
            with kept("stdout") as stdout:
                code = _ended(command, *args, **kwargs)
            if stdout is not None and stdout.error is not None and stdout.matters:
                # Where the reader went away (`diff | head`) it has what it wanted.
                if not isinstance(stdout.error, BrokenPipeError):
                    say(_unwritten(stdout.error, code))
                    code = max(code, TitanMigrateError.exit_code)
            sys.exit(code)

    return run


def _ended(command: Callable[..., int | None], *args: Any, **kwargs: Any) -> int:
    """The exit code of a command, whose errors are said."""
    try:
        return command(*args, **kwargs) or 0
    except TitanMigrateError as error:
        say(f"titan-migrate: {_inert(str(error))}")
        return error.exit_code
    except ImportError:
        # GitPython's, where there is no git.
        if shutil.which("git") is not None:
            raise
        say(f"titan-migrate: {_without_git(_command())}")
        return TitanMigrateError.exit_code
    except KeyboardInterrupt:
        say("titan-migrate: interrupted.")
        return 130
    except SystemExit as left:
        if left.code in ENDED:
            say("titan-migrate: terminated.")
        raise


def _unwritten(error: OSError, code: int) -> str:
    all_the_same = ""
    if _command() == "apply" and code == 0:
        all_the_same = " The migration is written all the same."
    return (
        f"titan-migrate: stdout could not be written ({error.strerror}), and what is there is "
        f"incomplete: send it where there is room.{all_the_same}"
    )


def _command() -> str:
    return click.get_current_context().info_name or "this"


def _inert(message: str) -> str:
    """A message that may name files of the checkout, for logs of CI, which act on what starts a line."""
    from migrator.render import inert

    return "\n    | ".join(inert(line) for line in message.split("\n"))


def verbosity_options(what: str) -> Callable[..., Any]:
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


def show_version(context: click.Context, option: click.Parameter, given: bool) -> None:
    """What --version prints."""
    if given and not context.resilient_parsing:
        from migrator.version import line

        click.echo(line())
        context.exit()


def complete_codes(
    context: click.Context, option: click.Parameter, begun: str
) -> list[CompletionItem]:
    from codemods.rules import all_rules

    return _completed(begun.upper(), {rule.CODE: rule.TITLE for rule in all_rules()})


def complete_cells(
    context: click.Context, option: click.Parameter, begun: str
) -> list[CompletionItem]:
    from migrator.verify.choose.scenarios import CELLS

    return _completed(begun, {name: cell.what for name, cell in CELLS.items()})


def _completed(begun: str, words: Mapping[str, str]) -> list[CompletionItem]:
    """What the last name of a comma-separated list may become; words: name -> what it is."""
    *before, last = begun.rpartition(",")
    return [
        CompletionItem("".join(before) + word, help=what)
        for word, what in words.items()
        if word.startswith(last)
    ]


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
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
        TORCHTITAN,
        click.option(
            "--exclude",
            multiple=True,
            metavar="GLOB",
            help="Leave files alone, by a pattern as in a .gitignore at the top of the checkout; "
            "may be repeated.",
        ),
        click.option(
            "--ignore",
            multiple=True,
            metavar="CODES",
            shell_complete=complete_codes,
            help="Rules to leave out, written the same way.",
        ),
        click.option(
            "--select",
            multiple=True,
            metavar="CODES",
            shell_complete=complete_codes,
            help="Rules to run instead of all, by code or beginning of codes: TM106,TM2.",
        ),
    ):
        command = option(command)
    return command


def no_git_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--no-git", is_flag=True, help="Accept a folder that is not a git checkout."
    )(command)


def without_git(command: Callable[..., Any]) -> Callable[..., Any]:
    """For what only reads: the same option, which says nothing there."""
    return click.option("--no-git", is_flag=True, hidden=True, expose_value=False)(
        command
    )


def cache_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--no-cache",
        is_flag=True,
        envvar="TITAN_MIGRATE_NO_CACHE",
        show_envvar=True,
        help="Plan anew, and keep nothing: else what was planned for the same files is taken over.",
    )(command)


def precision_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--keep-precision",
        is_flag=True,
        help="Keep computing in fp32, as DDP did in forks without autocast: calls pass "
        "torch.float32 for both dtypes.",
    )(command)


def format_option(help: str, *formats: str) -> Callable[..., Any]:
    return click.option(
        "--format",
        "output",
        type=click.Choice(formats),
        default="text",
        show_default=True,
        help=help,
    )


class Commands(click.Group):
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
                error.message += f" Did you mean {close[0]}?"  # type: ignore[misc]  # Final to click's annotations alone
            raise


def examples(*lines: str) -> str:
    """The end of a command's help."""
    return "\n".join(
        ("\b", "Examples:", *(f"  titan-migrate {line}" for line in lines))
    )


def names(option: str, given: str | None) -> tuple[str, ...]:
    """The names of a comma-separated list, each once; none where the option is not given."""
    words = (word.strip() for word in (given or "").split(","))
    found = tuple(dict.fromkeys(word for word in words if word))
    if given is not None and not found:
        raise TitanMigrateError(
            f"{option} names nothing: give names with commas between them."
        )
    return found


def refuse_without_git(command: str) -> None:
    if shutil.which("git") is None:
        raise TitanMigrateError(_without_git(command))


def _without_git(command: str) -> str:
    return f"{command} needs git, and there is none on PATH: install it, or put it on PATH."
