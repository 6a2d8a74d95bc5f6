"""Folders that hold packages and are none themselves, as ``src`` in many repositories."""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace

from codemods.once import once
from codemods.source import SourceFile

_SRC = "src"
"""What a folder of packages is called by convention, as setuptools finds it by itself."""

_IMPORTED = re.compile(
    rb"^[ \t]*(?:import[ \t]+([\w.]+)|from[ \t]+(\w[\w.]*)[ \t]+import[ \t]+\(?(\w*))",
    re.MULTILINE,
)


def rooted(files: Mapping[str, SourceFile]) -> dict[str, SourceFile]:
    """The files, those below such a folder with what their modules are named from.

    A folder at the top is one where no file imports a package of its name, and one imports
    what lies in it; a deeper one, as ``packages/lab``, where what is imported is found from
    there and from nowhere above. So is one called src that holds packages.

    Args:
        files: path -> file, of the checkout itself.
    """
    imported: dict[str, set[str]] = {}
    for name in imports_of(files):
        imported.setdefault(name.split(".")[0], set()).add(name)
    inside: dict[str, set[str]] = {}
    for path in files:
        for folder in _above(path)[1:]:
            inside.setdefault(folder, set()).add(path[len(folder) :].split("/")[0])
    roots = {folder for folder in inside if _is_root(files, folder, inside, imported)}

    def root_of(path: str) -> str:
        root = ""
        for folder in _above(path)[1:]:
            if f"{folder}__init__.py" in files:
                break
            root = folder if folder in roots else root
        return root

    roots_of = {path: root_of(path) for path in files}
    return {
        path: file if file.root == roots_of[path] else _rooted_at(file, roots_of[path])
        for path, file in files.items()
    }


@once
def _rooted_at(file: SourceFile, root: str) -> SourceFile:
    return replace(file, root=root)


def _is_root(
    files: Collection[str],
    folder: str,
    inside: Mapping[str, Collection[str]],
    imported: Mapping[str, Collection[str]],
) -> bool:
    last, names = folder.split("/")[-2], inside[folder]
    if last == _SRC and any(f"{folder}{name}/__init__.py" in files for name in names):
        return last not in imported or folder != f"{_SRC}/"
    known = {name.removesuffix(".py") for name in names} & imported.keys()
    if folder == f"{last}/":
        return last not in imported and bool(known)
    within = any(_at(files, folder, n) for name in known for n in imported[name])
    return within and not any(
        str(_at(files, outer, name)).startswith(folder)
        for outer in _above(folder)
        for name in imported.get(folder[len(outer) :].split("/")[0], ())
    )


def imports_of(files: Mapping[str, SourceFile]) -> set[str]:
    """The dotted names that the files import, relative imports apart."""
    found = set()
    for file in files.values():
        for alone, module, name in file.found(_IMPORTED):
            found.add((alone or module).decode())
            if name:
                found.add(f"{module.decode()}.{name.decode()}")
    return found


def _above(path: str) -> list[str]:
    """The folders that a path lies in, from the top, which is ""."""
    parts = path.removesuffix("/").split("/")[:-1]
    return ["", *("/".join(parts[: n + 1]) + "/" for n in range(len(parts)))]


def _at(files: Collection[str], root: str, name: str) -> str | None:
    """The file of a dotted name as seen from a folder."""
    place = root + name.replace(".", "/")
    return next(
        (p for p in (f"{place}.py", f"{place}/__init__.py") if p in files), None
    )
