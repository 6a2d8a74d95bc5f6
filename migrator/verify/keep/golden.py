"""Golden runs: those of a base revision in one file, against which later trees are verified without training it again.

The file (`record.write`) holds, besides its format and version:

    base    the base revision's full hash
    facts   name -> value of what has to be the same here
    cells   title of a model -> names of the cells that were asked for
    runs    one for each run of the base revision: `where` (model/cell/run), and as `record.packed` says
    noise   model/cell -> "parameters" -> the relative difference that rounding makes, times the margin, and its source
    bitwise model/cell of those in which replicate was bitwise as DDP

Weights are not in it: parameters are held against a golden run's by their digests, norms and sums.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from migrator.verify.errors import VerifyError
from migrator.verify.keep import record
from migrator.verify.train.launch import Outcome

Noise = Mapping[str, Sequence[Any]]
"""Quantity -> tolerance (relative), and where it comes from."""

_AGAIN = "export it again here, or leave --against out"


class Exported:
    """What `--export` gathers of one verify and writes at its end.

    Args:
        path: the file.
        facts: what has to be the same where it is used.
        base: the base revision's full hash.
        named: as of `record.packed`.
    """

    def __init__(
        self,
        path: Path,
        facts: Mapping[str, str],
        base: str,
        named: Callable[[str], str] = lambda text: text,
    ) -> None:
        self.path = path
        self._named = named
        self.cells: dict[str, list[str]] = {}
        self.noise: dict[str, Noise] = {}
        self.bitwise: list[str] = []
        self._head = {"facts": dict(facts), "base": base}
        self._runs: dict[str, dict[str, Any]] = {}

    def add(self, where: str, what: str, outcome: Outcome, traces: Path) -> None:
        """Takes a run of the base revision along; `where` is model/cell/run, the rest as of `record.packed`."""
        run = record.packed(what, outcome, traces, self._named)
        self._runs[where] = {"where": where, **run}

    def write(self) -> None:
        """Writes the file, whole or not at all; raises VerifyError where it cannot be."""
        values = {
            **self._head,
            "cells": self.cells,
            "runs": list(self._runs.values()),
            "noise": self.noise,
            "bitwise": self.bitwise,
        }
        try:
            record.write(self.path, values)
        except OSError as error:
            raise VerifyError(
                f"{self.path} could not be written ({error.strerror}): name another file with --export."
            ) from None


def refuse_place(path: Path) -> None:
    """Raises VerifyError where no file can be written, before minutes are spent on what would be in it."""
    folder = path.absolute().parent
    if path.is_dir() or not folder.is_dir():
        why = "it is a folder" if path.is_dir() else f"there is no folder {folder}"
        raise VerifyError(
            f"--export {path}: {why}. Name a file in a folder that is there."
        )


class Golden:
    """A file of golden runs, read. Raises VerifyError where it cannot be."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            values = record.read(path)
            self._facts = {str(k): str(v) for k, v in values["facts"].items()}
            self._cells = {str(k): list(v) for k, v in values["cells"].items()}
            self._noise = dict(values["noise"])
            self.bitwise = frozenset(map(str, values["bitwise"]))
            self._runs = [(str(r["where"]), str(r["what"]), r) for r in values["runs"]]
        except OSError as error:
            raise VerifyError(
                f"--against {path} could not be read ({error.strerror}): name a file that"
                " `titan-migrate verify --export` wrote."
            ) from None
        except record.Damaged as error:
            raise self._unusable(str(error)) from None
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._unusable("it is damaged, or holds no golden runs") from None

    def _unusable(self, why: str) -> VerifyError:
        return VerifyError(f"--against {self.path} cannot be used: {why}: {_AGAIN}.")

    def refuse_others(self, facts: Mapping[str, str]) -> None:
        """Raises VerifyError for the first fact that differs here, with both values."""
        for name in {**self._facts, **facts}:
            there, here = (side.get(name, "none") for side in (self._facts, facts))
            if there != here:
                raise self._unusable(f"{name} is {there} in it, and {here} here")

    def refuse_cells(self, titles: Iterable[str], cells: Iterable[str]) -> None:
        """Raises VerifyError where the file was made without a model or a cell that is asked for."""
        names = list(cells)
        for title in titles:
            lacking = [n for n in names if n not in self._cells.get(title, ())]
            if lacking:
                has = "; ".join(f"{k}: {', '.join(v)}" for k, v in self._cells.items())
                raise self._unusable(
                    f"it has no runs of {title} in {', '.join(lacking)} (it has {has})"
                )

    def get(self, where: str, what: str, traces: Path) -> Outcome | None:
        """Lays a golden run out in `traces`; None where the file has none such, for it was not needed then.

        Raises VerifyError where the run of that name was told something else.
        """
        for _, told, run in self._runs:
            if told == what:
                try:
                    return record.laid_out(run, traces)
                except record.Damaged as error:
                    raise self._unusable(str(error)) from None
        for name, told, _ in self._runs:
            if name == where:
                raise self._unusable(_difference(where, told, what))
        return None

    def noise(self, where: str) -> dict[str, tuple[float, str]]:
        """The tolerances of a cell (model/cell) as they were measured with weights; empty where they were not."""
        try:
            found = self._noise.get(where, {}).items()
            return {str(k): (float(v[0]), str(v[1])) for k, v in found}
        except (AttributeError, TypeError, ValueError, IndexError):
            raise self._unusable("its noise is damaged") from None


def _difference(where: str, there: str, here: str) -> str:
    """In which setting two runs of one name differ."""
    try:
        one, other = _flat(json.loads(there)), _flat(json.loads(here))
    except ValueError:
        return f"the settings of {where} in it are damaged"
    for name in {**one, **other}:
        if one.get(name) != other.get(name):
            return f"{name} of {where} is {one.get(name)} in it, and {other.get(name)} here"
    return f"the settings of {where} are others in it"


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """A nested object as one, its keys joined by dots."""
    if not isinstance(value, dict):
        return {name: value}
    return {
        deeper: leaf
        for key, item in value.items()
        for deeper, leaf in _flat(item, f"{name}.{key}" if name else key).items()
    }
