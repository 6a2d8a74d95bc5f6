"""The trainer that trains, where a checkout derives one from that of a torchtitan which it does not hold."""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codemods.autocast import of_a_test, trained_outside
from codemods.bindings import Checkout
from codemods.names import Definition
from codemods.nodes import dotted
from codemods.source import SourceFile, UnreadableSource
from migrator.verify.choose.models import GRAFTED


@dataclass(frozen=True)
class Trainer:
    """Who trains.

    derived: ``module:Class`` of every trainer that the checkout derives. started: the one
    of them that it starts, "" where that is not one alone, so that torchtitan's trains.
    """

    derived: tuple[str, ...] = ()
    started: str = ""

    @property
    def said(self) -> str:
        """Who trains, as a sentence; empty where nothing derives from torchtitan's."""
        names = [name.replace(":", ".") for name in self.derived]
        if self.started:
            return f"Trained by {self.started.replace(':', '.')}."
        if names:
            return (
                f"Trained by torchtitan's own Trainer: of {', '.join(names)}, which derive from it, "
                "not one alone is started in this checkout, so none was seen."
            )
        return ""


def trainer_of(tree: Path) -> Trainer:
    """Who trains a tree that holds the checkout's own packages, with `torchtitan/` beside them."""
    if not (tree / GRAFTED).is_file():
        return Trainer()
    files = Checkout(dict(_own(tree)))
    derived = _derived(files)
    used = [one for one in derived if _is_used(files, one)]
    started = used if used else derived
    return Trainer(
        tuple(_dotted(files, one) for one in derived),
        _dotted(files, started[0]) if len(started) == 1 else "",
    )


def _own(tree: Path) -> Iterator[tuple[str, SourceFile]]:
    for path in sorted(tree.rglob("*.py")):
        name = path.relative_to(tree).as_posix()
        if path.is_file() and not name.startswith("torchtitan/"):
            file = SourceFile(name, path.read_bytes())
            if not of_a_test(name) and b"Trainer" in file.raw:
                with contextlib.suppress(UnreadableSource):  # nobody starts that
                    _ = file.names  # raises
                    yield name, file


def _dotted(files: Checkout, one: Definition) -> str:
    return f"{files.files[one.path].module}:{one.name}"


def _derived(files: Checkout) -> list[Definition]:
    """The classes of modules that derive from torchtitan's Trainer, by way of each other too."""
    found = [
        Definition(file.path, node.name)
        for file, _, node in trained_outside(files)
        if node in file.syntax.body and isinstance(node, ast.ClassDef)
    ]
    for one in found:  # grows
        for file in files.files.values():
            for node in file.syntax.body:
                if isinstance(node, ast.ClassDef) and one in _bases(files, file, node):
                    known = Definition(file.path, node.name)
                    found += [known] * (known not in found)
    return found


def _bases(
    files: Checkout, file: SourceFile, node: ast.ClassDef
) -> list[Definition | None]:
    return [files.resolve(file.path, "", dotted(base) or "") for base in node.bases]


def _is_used(files: Checkout, one: Definition) -> bool:
    """Whether a class is made or handed on somewhere, and not only derived from."""
    for file in files.files.values():
        bases = {
            id(base)
            for node in ast.walk(file.syntax)
            if isinstance(node, ast.ClassDef)
            for base in node.bases
        }
        for use in file.names.uses:
            if id(use.node) not in bases:
                if files.resolve(file.path, use.scope, use.spelling) == one:
                    return True
    return False
