"""Tables of parts of a sweep, put together."""

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from migrator.errors import TitanMigrateError
from migrator.sweep.row import Row


def merged(files: Sequence[Path]) -> tuple[list[Row], list[str], str]:
    """The rows of several tables, by repository and ref; of a ref in two, the later file's.

    Args:
        files: what ``sweep --format json`` wrote.

    Returns:
        The rows, what is to be said of them (parts that are missing), and what was asked.

    Raises:
        TitanMigrateError: a file is none of these, or two were asked otherwise.
    """
    found: dict[tuple[str, str], Row] = {}
    shards: list[str] = []
    asked: dict[tuple[str, str], Path] = {}
    for file in files:
        rows, shard, how = _read(file)
        for row in rows:
            found[row.repository, row.ref] = row
        shards += [shard] * (shard is not None)
        asked.setdefault(how, file)
    if len(asked) > 1:
        one, other, *_ = asked.values()
        raise TitanMigrateError(
            f"{one} and {other} were made with other options, another torch or another "
            "titan-migrate, so their rows do not go together: make them alike, and merge again."
        )
    last = next(iter(asked))[1] if asked else ""
    return [found[key] for key in sorted(found)], list(_missing(shards)), last


def _read(file: Path) -> tuple[list[Row], Any, tuple[str, str]]:
    try:
        table = json.loads(file.read_bytes())
        how, shard = (str(table["tool"]), str(table["asked"])), table["shard"]
        if shard is not None and not re.fullmatch(r"\d{1,6}/\d{1,6}", shard):
            raise ValueError(f"{shard!r} is no shard")
        return [Row.of_data(row) for row in table["rows"]], shard, how
    except OSError as error:
        raise TitanMigrateError(
            f"{file} could not be read ({error.strerror}): name tables that "
            "`sweep --format json` wrote."
        ) from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise TitanMigrateError(
            f"{file} is no table of a sweep, or not whole: write it anew with "
            "`sweep --format json`, and merge again."
        ) from error


def _missing(shards: Iterable[str]) -> Iterable[str]:
    parts = [tuple(map(int, shard.split("/"))) for shard in shards]
    for size in sorted({size for _, size in parts}):
        lacking = sorted(set(range(1, size + 1)) - {n for n, of in parts if of == size})
        if lacking:
            named = ", ".join(f"{n}/{size}" for n in lacking)
            yield f"Of the shards, {named} {'is' if len(lacking) == 1 else 'are'} not here."
