"""Which files have to do with the model that is trained.

A helper that only a generator, a benchmark of kernels or a test imports says nothing of
training, whatever it does with parameters.
"""

import ast
import re
from collections.abc import Collection, Iterable, Iterator, Mapping

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


@once
def imported_by(checkout: Checkout, file: SourceFile) -> frozenset[str]:
    """The files that one imports anywhere; read by pattern, which is fast and enough."""
    return frozenset(_imported(checkout, file))


def _imported(checkout: Checkout, file: SourceFile) -> Iterator[str]:
    for found in file.found(_IMPORT):
        source, names, modules = (part.decode(errors="replace") for part in found)
        for module in filter(None, (word.split() for word in modules.split(","))):
            yield from filter(None, [checkout.path_of(module[0])])
        if not source:
            continue
        home = _absolute(file, source)
        yield from filter(None, [checkout.path_of(home)])
        for name in re.findall(r"(\w+)(?:\s+as\s+\w+)?", names):
            yield from filter(None, [checkout.path_of(f"{home}.{name}")])


def _absolute(file: SourceFile, source: str) -> str:
    level = len(source) - len(source.lstrip("."))
    node = ast.ImportFrom(module=source[level:] or None, names=[], level=level)
    return absolute_module(file.package, node)
