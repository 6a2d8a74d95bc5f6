"""`[tool.titan-migrate]` of the checkout's pyproject.toml."""

import sys
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from codemods.selection import Selection
from migrator.errors import TitanMigrateError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KEYS = ("select", "ignore", "exclude")
"""What the table may hold; each is a list of strings, like the option of that name."""


def selection(root: Path, given: Mapping[str, tuple[str, ...]]) -> Selection:
    """What is selected by the command line, and by the checkout where that says nothing.

    Args:
        root: the top of the checkout.
        given: key -> what the command line gives for it; an empty tuple is nothing. Where it
            gives select or ignore, the checkout's say nothing.

    Raises:
        TitanMigrateError: the table cannot be read, or has a key or a value that it may not have.
    """
    table = _table(root / "pyproject.toml")
    if given["select"] or given["ignore"]:
        table = {key: words for key, words in table.items() if key == "exclude"}
    chosen = {key: given[key] or table.get(key, ()) for key in KEYS}
    # `explain TM2xx` is how people name a family.
    for key in ("select", "ignore"):
        chosen[key] = tuple(word.removesuffix("xx") for word in chosen[key])
    return Selection(**chosen)


def _table(path: Path) -> dict[str, tuple[str, ...]]:
    if not path.is_file():
        return {}
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8"
        raise TitanMigrateError(
            f"{path} could not be read ({reason}): mend it and run again."
        ) from error
    try:
        tool = tomllib.loads(text).get("tool", {})
    except (ValueError, RecursionError) as error:
        # Among them is TOMLDecodeError, and what Python says to too many digits.
        raise TitanMigrateError(
            f"{path} is not TOML that can be read ({error}): mend it and run again."
        ) from error
    table = tool.get("titan-migrate", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise TitanMigrateError(f"{path}: tool.titan-migrate has to be a table.")
    return {key: _strings(path, key, value) for key, value in table.items()}


def _strings(path: Path, key: str, value: Any) -> tuple[str, ...]:
    if key not in KEYS:
        close = get_close_matches(key, KEYS, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise TitanMigrateError(
            f"{path}: [tool.titan-migrate] has no key {key!r}{hint}. "
            f"Its keys are {', '.join(KEYS)}."
        )
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        example = "torchtitan/experiments" if key == "exclude" else "TM106"
        raise TitanMigrateError(
            f"{path}: {key} of [tool.titan-migrate] has to be a list of strings, as "
            f'{key} = ["{example}"].'
        )
    return tuple(value)
