"""Which files have to do with the model that is trained.

A helper that only a generator, a benchmark of kernels or a test imports says nothing of
training, whatever it does with parameters.
"""

import ast
import re
from collections.abc import Collection, Iterable, Mapping

from codemods.bindings import Checkout
from codemods.names import absolute_module
from codemods.once import once
from codemods.source import SourceFile

_BESIDE = re.compile(
    r"(^|/)(tests?|unit_tests|integration_tests|benchmarks?|docs|inference|generate)/"
    r"|(^|/)(test_[^/]*|[^/]*_test|conftest|generate|setup)\.py$"
)
"""Files that train nothing, by where they lie."""

_IMPORT = re.compile(
    rb"^[ \t]*(?:from[ \t]+(\.*[\w.]*)[ \t]+import[ \t]*(\([^)]*\)|(?:\\\r?\n|[^\n#])+)"
    rb"|import[ \t]+([^\n#]+))",
    re.MULTILINE,
)


def beside_training(path: str) -> bool:
    """Whether a file trains nothing, by where it lies: a test, a benchmark, a generator."""
    return bool(_BESIDE.search(path))


def files_of_training(checkout: Checkout, plans: Iterable[str]) -> frozenset[str]:
    """The files that import a plan, or are imported by one that does.

    Args:
        checkout: all its files.
        plans: the files in which a model is wrapped or a plan is called.

    Returns:
        Their paths, without tests and what else lies beside. All such files where
        ``plans`` names none.
    """
    known = [path for path in checkout.own if not _BESIDE.search(path)]
    starts = {path for path in plans if path in checkout.files}
    if not starts:
        return frozenset(known)
    imports = {path: imported_by(checkout, checkout.files[path]) for path in known}
    importers: dict[str, set[str]] = {}
    for path, found in imports.items():
        for other in found:
            importers.setdefault(other, set()).add(path)
    above = _closure(starts, importers)
    return _closure(above, imports) & frozenset(known)


def _closure(
    starts: Iterable[str], edges: Mapping[str, Collection[str]]
) -> frozenset[str]:
    reached, to_see = set(starts), list(starts)
    while to_see:
        for other in edges.get(to_see.pop(), ()):
            if other not in reached:
                reached.add(other)
                to_see.append(other)
    return frozenset(reached)


def imported_by(checkout: Checkout, file: SourceFile) -> frozenset[str]:
    """The files that one imports anywhere; read by pattern, which is fast and enough."""
    return frozenset(filter(None, map(checkout.path_of, file.all(_named))))


@once
def _named(file: SourceFile) -> tuple[str, ...]:
    """The dotted names that a file imports, of modules and of what is in them."""
    names: set[str] = set()
    for found in file.found(_IMPORT):
        source, imported, modules = (part.decode(errors="replace") for part in found)
        names |= {word.split()[0] for word in modules.split(",") if word.split()}
        if source:
            home = _absolute(file, source)
            inside = re.findall(r"(\w+)(?:\s+as\s+\w+)?", imported)
            names |= {home, *(f"{home}.{name}" for name in inside)}
    return tuple(names)


def _absolute(file: SourceFile, source: str) -> str:
    level = len(source) - len(source.lstrip("."))
    node = ast.ImportFrom(module=source[level:] or None, names=[], level=level)
    return absolute_module(file.package, node)
