"""Folders that hold packages and are none themselves, as ``src`` in many repositories."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace

from codemods.source import SourceFile

_SRC = "src/"
"""The folder that packages lie in by convention, as setuptools finds them by itself."""

_IMPORTED = re.compile(rb"^[ \t]*(?:from|import)[ \t]+(\w+)", re.MULTILINE)


def rooted(files: Mapping[str, SourceFile]) -> dict[str, SourceFile]:
    """The files, those below such a folder with what their modules are named from.

    A folder is one where no file imports a package of its name, and one imports what lies
    in it, or where it is called src and holds packages.

    Args:
        files: path -> file, of the checkout itself.
    """
    imported = {
        name.decode() for file in files.values() for name in _IMPORTED.findall(file.raw)
    }
    roots = tuple(f"{folder}/" for folder in _roots(files) if folder not in imported)
    inside = {
        root: {path.split("/")[1] for path in files if path.startswith(root)}
        for root in roots
    }
    taken = [
        root
        for root, names in inside.items()
        if {name.removesuffix(".py") for name in names} & imported
        or (
            root == _SRC and any(f"{root}{name}/__init__.py" in files for name in names)
        )
    ]
    return {path: _below(file, taken) for path, file in files.items()}


def _roots(files: Iterable[str]) -> set[str]:
    """The folders at the top that are no packages."""
    tops = {path.split("/")[0] for path in files if "/" in path}
    return {top for top in tops if f"{top}/__init__.py" not in files}


def _below(file: SourceFile, roots: Iterable[str]) -> SourceFile:
    for root in roots:
        if file.path.startswith(root):
            return replace(file, root=root)
    return file
