"""`titan-migrate sweep`: what is asked for, and where the answer goes."""

import contextlib
import re
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click

from migrator import terminal
from migrator.checkout import Checkout
from migrator.errors import TitanMigrateError
from migrator.render import inert
from migrator.review.output import refuse as refuse_page
from migrator.review.output import write as write_page
from migrator.series.commits import refuse_no_identity
from migrator.signals import terminable
from migrator.sweep import run, table
from migrator.sweep.merge import merged
from migrator.sweep.objects import Repository
from migrator.sweep.page import as_html
from migrator.sweep.patches import MARK, place_of, refuse, said_in
from migrator.sweep.plan import Options
from migrator.sweep.plan import refuse as refuse_options
from migrator.sweep.row import WORDS, Row
from migrator.sweep.sarif import as_sarif
from migrator.version import installed_torch


def sweep(
    paths: Sequence[Path],
    output: str,
    *,
    refs: tuple[str, ...],
    since: str | None,
    jobs: int | None,
    shard: str | None,
    no_cache: bool,
    patches: Path | None,
    page: Path | None,
    verbosity: int,
    **options: Any,
) -> int:
    """Sweep repositories and print the table.

    Args:
        paths: the repositories.
        output: the format.
        refs: patterns, none for branches.
        since: a date as git takes it.
        jobs: how many processes work, None for one a core.
        shard: which part of the refs, ``3/16``.
        no_cache: whether every tree is planned anew.
        patches: the folder for patches, None for none.
        page: the file for a page, None for none.
        verbosity: -1 where nobody wants to see how far it is, 1 to say where results are kept.
        options: those of ``Options``.

    Returns:
        The exit code.

    Raises:
        TitanMigrateError: wrong use or a wrong environment.
    """
    part = _part(shard)
    repositories = _repositories(paths)
    if page is not None:
        for path in repositories:
            refuse_page(page, Checkout(path.resolve(), is_git=True))
    asked_of = Options(**options)
    refuse_options(asked_of)
    request = run.Request(
        repositories,
        asked_of,
        refs,
        _seconds(paths[0], since) if since else None,
        part,
        jobs or run.cores(),
        not no_cache,
        _for_patches(patches, paths) if patches else None,
    )
    quiet = verbosity < 0
    tell = run.untold if quiet else partial(click.echo, err=True)
    # A bar stands still below lines of text, and not below what programs read.
    beside = output != "text" and sys.stdout.isatty()
    with terminable(), _progress(quiet or beside) as (watch, write):
        rows = _Kept(run.sweep(request, watch, tell))
        asked = f"{request.options}, torch {installed_torch()}"
        named = [*map(str, repositories)]
        with _told_to_go_on(run.untold if no_cache else tell):
            _print(rows, output, named, part, run.untold if quiet else write, asked)
    if verbosity > 0 and not no_cache:
        click.echo(f"Results are kept in {run.kept_in(request)}.", err=True)
    if patches is not None:
        lines = [*_of_patches(patches, rows.rows)]
        if not (refs or since or part):
            lines += _of_gone(patches, rows.rows)
        for line in lines:
            tell(line)
    remarks = [f"This is part {part[0]} of {part[1]}."] if part else []
    _write_page(page, rows.rows, remarks)
    return table.exit_code(rows.rows)


def merge(paths: Sequence[Path], output: str, page: Path | None) -> int:
    """Print one table made of several.

    Args:
        paths: what ``sweep --format json`` wrote.
        output: the format.
        page: the file for a page, None for none.

    Returns:
        The exit code.

    Raises:
        TitanMigrateError: a file is no table.
    """
    if page is not None:
        refuse_page(page, Checkout(page.parent.resolve(), is_git=False))
    found, said, asked = merged(paths)
    _print(_Kept(found), output, {row.repository for row in found}, None, asked=asked)
    for line in said:
        click.echo(line, err=True)
    _write_page(page, found, said)
    return table.exit_code(found)


def _write_page(page: Path | None, rows: Sequence[Row], remarks: Sequence[str]) -> None:
    if page is not None:
        write_page(as_html(rows, remarks), page)
        click.echo(f"The page is in {page}: open it in a browser.", err=True)


@contextlib.contextmanager
def _told_to_go_on(tell: Callable[[str], None]) -> Iterator[None]:
    """Tells where a sweep is broken off that the same command goes on."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        tell("What was planned is kept: the same command goes on from here.")
        raise


def _of_patches(home: Path, rows: Sequence[Row]) -> Iterator[str]:
    """Where patches are, and which of those that are there are of what a ref was before."""
    written = [row for row in rows if row.patches and Path(row.patches, MARK).is_file()]
    if written:
        refs = "1 ref" if len(written) == 1 else f"{len(written)} refs"
        yield f"The patches of {refs} are in {home}: `git am` takes those of a folder."
    for row in rows:
        place = place_of(home, Path(row.repository), row.ref)
        if row.planned.state != "ready" and (place / MARK).is_file():
            ref = inert(table.short(row.ref))
            yield (
                f"{place} has patches of what {ref} was before; there are none for what it is "
                f"now ({WORDS[row.planned.state]}): take the folder away."
            )


def _of_gone(home: Path, rows: Sequence[Row]) -> Iterator[str]:
    """Which patches are of branches that are not there any more, where all were looked at."""
    places = {place_of(home, Path(row.repository), row.ref) for row in rows}
    repositories = {str(Path(row.repository).resolve()) for row in rows}
    for place in sorted({*home.iterdir()} - places):
        said = said_in(place)
        ref = str(said.get("ref"))
        if said.get("repository") in repositories and run.is_branch(ref):
            yield (
                f"{place} has patches of {inert(table.short(ref))}, which is not there any "
                "more: take the folder away."
            )


class _Kept:
    """Rows that are gone through once, and kept."""

    def __init__(self, rows: Iterable[Row]) -> None:
        self._rows = rows
        self.rows: list[Row] = []

    def __iter__(self) -> Iterator[Row]:
        for row in self._rows:
            self.rows.append(row)
            yield row


def _print(
    rows: Iterable[Row],
    output: str,
    repositories: Collection[str],
    part: tuple[int, int] | None,
    write: Callable[[str], None] = click.echo,
    asked: str = "",
) -> None:
    if output == "text":
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
        for line in table.as_text(rows, repositories, width):
            write(line)
        return
    formats: dict[str, Callable[[], Iterator[str]]] = {
        "json": lambda: table.as_json(rows, part, asked),
        "csv": lambda: table.as_csv(rows),
        "sarif": lambda: as_sarif(rows),
    }
    for piece in formats[output]():
        # Programs read UTF-8, whatever this locale has.
        click.echo(piece.encode("utf-8", "backslashreplace"), nl=False)


def _repositories(paths: Sequence[Path]) -> tuple[Path, ...]:
    """The paths, each of which has to be a repository, and each another."""
    seen: dict[Path, Path] = {}
    for path in paths:
        with Repository(path) as repository:
            # "." says nothing in a table that others are put to.
            named = path if path.name not in ("", "..") else path.resolve()
            seen.setdefault(repository.common, named)
    return tuple(seen.values())


def _for_patches(home: Path, paths: Sequence[Path]) -> Path:
    """The folder for patches, which is there now."""
    for path in paths:
        with Repository(path) as repository:
            refuse(home, repository)
            refuse_no_identity(Checkout(path.resolve(), is_git=True))
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise TitanMigrateError(
            f"{home} could not be made ({error.strerror}): name another folder with --patches."
        ) from error
    return home


def _part(shard: str | None) -> tuple[int, int] | None:
    if shard is None:
        return None
    found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", shard)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise TitanMigrateError(
            f"--shard {shard}: write it as 3/16, for the third of sixteen parts."
        )
    return int(found[1]), int(found[2])


def _seconds(folder: Path, since: str) -> int:
    """A date as git takes it, in seconds since 1970."""
    with Repository(folder) as repository:
        started = int(time.time())
        found = int(repository.git("rev-parse", f"--since={since}").partition("=")[2])
    # What git does not understand is now to it.
    if found >= started and since.strip() not in ("now", "today"):
        raise TitanMigrateError(
            f"--since {since}: git takes this for no date that is past; write 2026-05-01, or "
            "'6 months ago'."
        )
    return found


@contextlib.contextmanager
def _progress(quiet: bool) -> Iterator[tuple[run.Watch, Callable[[str], None]]]:
    """Shows on a terminal how far a sweep is, and how long it will take.

    Returns:
        What is told how far it is, and what writes a line to stdout meanwhile.
    """
    console = terminal.screen()
    if quiet or console is None or terminal.plain():
        yield run.untold, click.echo
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    # No thread of its own: processes are made while it is shown.
    progress = Progress(
        TextColumn("Planning"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("trees"),
        TimeRemainingColumn(),
        console=console,
        redirect_stdout=False,
        auto_refresh=False,
        transient=True,
    )
    task = progress.add_task("trees", total=None)

    def watch(told: run.Told) -> None:
        progress.update(task, total=told.trees, completed=told.planned, refresh=True)

    def above(line: str) -> None:
        progress.console.print(line, soft_wrap=True)

    with progress:
        yield watch, above if sys.stdout.isatty() else click.echo
