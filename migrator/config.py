"""What the checkout's pyproject.toml says: `[tool.titan-migrate]`, and how long a line is."""

import sys
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from codemods.layout import WIDTH
from codemods.selection import Selection, SelectionError
from migrator.errors import TitanMigrateError
from migrator.place import Place

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KEYS = ("select", "ignore", "exclude")
"""What the table may hold as lists of strings, like the options of those names."""

TORCHTITAN = "torchtitan"
"""What it may hold besides: the folder of the torchtitan that the checkout uses."""

_OF_RUFF = ("ruff.toml", ".ruff.toml")


def selection(root: Place, given: Mapping[str, tuple[str, ...]]) -> Selection:
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


def idle(
    selection: Selection, paths: Iterable[str], others: Callable[[], Iterable[str]]
) -> list[str]:
    """The patterns of exclude that fit no file, misspelt most likely.

    Args:
        selection: what was chosen.
        paths: of the Python files of the checkout.
        others: those of the texts in it, which are read only where it matters.
    """
    found = []
    for pattern in selection.exclude:
        alone = Selection(exclude=(pattern.removeprefix("!"),))
        try:
            if not alone.excluded(paths) and not alone.excluded(others()):
                found.append(pattern)
        except SelectionError:
            continue  # it will be refused, with what is wrong with it
    return found


def torchtitan_of(root: Place) -> str | None:
    """The folder that the checkout names as the torchtitan which it uses, from its root.

    Raises:
        TitanMigrateError: the table cannot be read, or the folder is not there.
    """
    path = root / "pyproject.toml"
    table = _tool(path).get("titan-migrate", {})
    named = table.get(TORCHTITAN) if isinstance(table, dict) else None
    if named is None:
        return None
    if not isinstance(named, str) or not named.strip():
        raise TitanMigrateError(
            f"{path}: torchtitan of [tool.titan-migrate] has to be the path of a folder, as "
            'torchtitan = "third_party/torchtitan".'
        )
    if not (root / named).is_dir():
        raise TitanMigrateError(
            f"{path}: torchtitan of [tool.titan-migrate] names {named}, which is no folder. "
            "Mend it; a submodule comes with `git submodule update --init`."
        )
    return named


def line_length(root: Place) -> int:
    """How many columns the checkout's formatter fills: black's, or ruff's where that is alone.

    Args:
        root: the top of the checkout.

    Raises:
        TitanMigrateError: a file that would say it cannot be read.
    """
    tool = _tool(root / "pyproject.toml")
    settings = [tool.get("ruff"), *(_toml(root / name) for name in _OF_RUFF)]
    if "black" in tool or "ufmt" in tool or _runs_black(root):
        settings = [tool.get("black")]
    for table in settings:
        if isinstance(table, dict):
            width = table.get("line-length", table.get("line_length"))
            if type(width) is int and width > 0:
                return width
    return WIDTH


def _runs_black(root: Place) -> bool:
    """Whether a pre-commit hook formats with black: ruff may only lint, then."""
    hooks = root / ".pre-commit-config.yaml"
    text = hooks.read_bytes() if hooks.is_file() else b""
    return b"ufmt" in text or b"/black" in text


def _tool(path: Place) -> dict[str, Any]:
    tool = _toml(path).get("tool", {})
    return tool if isinstance(tool, dict) else {}


def _table(path: Place) -> dict[str, tuple[str, ...]]:
    table = _tool(path).get("titan-migrate", {})
    if not isinstance(table, dict):
        raise TitanMigrateError(
            f"{path}: tool.titan-migrate has to be a table, as [tool.titan-migrate] and its "
            "keys below it."
        )
    lists = {key: value for key, value in table.items() if key != TORCHTITAN}
    return {key: _strings(path, key, value) for key, value in lists.items()}


def _toml(path: Place) -> dict[str, Any]:
    """What a file says, nothing where it is not there."""
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
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Among them is TOMLDecodeError, and what Python says to too many digits.
        raise TitanMigrateError(
            f"{path} is not TOML that can be read ({error}): mend it and run again."
        ) from error


def _strings(path: Place, key: str, value: Any) -> tuple[str, ...]:
    if key not in KEYS:
        known = (*KEYS, TORCHTITAN)
        close = get_close_matches(key, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else "."
        raise TitanMigrateError(
            f"{path}: [tool.titan-migrate] has no key {key!r}{hint} "
            f"Its keys are {', '.join(known)}."
        )
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        example = "torchtitan/experiments" if key == "exclude" else "TM106"
        raise TitanMigrateError(
            f"{path}: {key} of [tool.titan-migrate] has to be a list of strings, as "
            f'{key} = ["{example}"].'
        )
    return tuple(value)
