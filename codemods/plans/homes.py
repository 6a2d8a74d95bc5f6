"""Where a new function is put that mirrors what the checkout does not hold, and how it is imported."""

import ast
import keyword
from collections.abc import Sequence
from os.path import commonpath
from pathlib import PurePosixPath

from codemods.bindings import Checkout
from codemods.names import absolute_module
from codemods.nodes import nodes
from codemods.once import once
from codemods.outside import uses_torchtitan
from codemods.plans.records import Facts
from codemods.roots import imports_of
from codemods.source import SourceFile
from codemods.survey import CallSite

MODULE = "replicate.py"
"""What a new file is called that several plans import their function from."""

_HEAD = b'"""Data parallelism by replicate, as several plans here share it."""\n'


def home_of(facts: Facts, sites: Sequence[CallSite]) -> tuple[str, str]:
    """The file that a function is put in, and the function there that it follows.

    Args:
        facts: about the checkout.
        sites: the calls that will use it.

    Returns:
        The file of the calls where it is one; else a new file in the lowest package that
        they have in common, "" for what stands before. Where there is no such package,
        the first of the files.
    """
    files = sorted({site.reference.path for site in sites})
    shared = _shared(facts, files) if len(files) > 1 else None
    if shared is None:
        first = next(s for s in sites if s.reference.path == files[0])
        return files[0], first.reference.scope.partition(".")[0]
    if shared not in facts.survey.files:
        root = facts.survey.files[files[0]].root
        facts.checkout.add(SourceFile(shared, _HEAD, root=root))
    return shared, ""


def sharing_with(
    facts: Facts, site: CallSite, sites: Sequence[CallSite]
) -> list[CallSite]:
    """Those of the calls that one new function will do for, this one among them.

    All of the packages beside its own where it can be imported, else those of the file.
    """
    path, files = site.reference.path, facts.survey.files
    near = [s for s in sites if files[s.reference.path].root == files[path].root]
    shared = all(_is_importable(facts, s.reference.path) for s in near)
    return [s for s in near if shared or s.reference.path == path] or [site]


def module_for(facts: Facts, path: str, home: str) -> str | None:
    """The module of one file as another can import it; None where that is not known.

    Args:
        facts: about the checkout.
        path: of the file that imports.
        home: of the file that it imports from.
    """
    if _is_importable(facts, home):
        return facts.survey.files[home].module
    file = facts.survey.files[path]
    for node in nodes(file.syntax):
        if isinstance(node, ast.ImportFrom):
            module = absolute_module(file.package, node)
            if facts.checkout.path_of(module) == home:
                return "." * node.level + (node.module or "")
    return None


def _is_importable(facts: Facts, path: str) -> bool:
    """Whether the dotted name of a file is one that code may import.

    In a repository that uses torchtitan its first part is also a package or a module of
    that name, or is imported somewhere: who knows what is on its path.
    """
    file = facts.survey.files[path]
    parts = file.module.split(".")
    if not all(part.isidentifier() and not keyword.iskeyword(part) for part in parts):
        return False
    if file.dependency or not uses_torchtitan(facts.checkout):
        return True
    top = f"{file.root}{parts[0]}"
    if f"{top}/__init__.py" in facts.checkout.own or f"{top}.py" == path:
        return True
    return parts[0] in _imported(facts.checkout)


@once
def _imported(checkout: Checkout) -> set[str]:
    """The first parts of all that is imported."""
    return {name.split(".")[0] for name in imports_of(checkout.own)}


def _shared(facts: Facts, files: Sequence[str]) -> str | None:
    folder = commonpath([PurePosixPath(path).parent.as_posix() for path in files])
    if folder in ("", ".", facts.survey.files[files[0]].root.removesuffix("/")):
        return None
    path = f"{folder}/{MODULE}"
    return None if path in facts.survey.files else path
