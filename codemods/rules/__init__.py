"""One file per rule; a new file here is a new rule.

A rule module defines

- ``CODE``: ``TM101`` to ``TM199`` rewrite, ``TM201`` to ``TM299`` report a hazard;
- ``TITLE``: a few words;
- ``WHY``: a paragraph for ``titan-migrate explain CODE``;
- ``find(facts)``: yields a ``Finding`` for every place, found with ``ast``;
- ``rewrite(tree, path, facts)``: returns the changed libcst tree of one file, called
  for the files in which ``find`` yielded something to rewrite. Hazards have none.
"""

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType
from typing import Protocol, TYPE_CHECKING

if TYPE_CHECKING:
    import libcst as cst

    from codemods.findings import Finding
    from codemods.plans import Facts


class Rule(Protocol):
    """The shape of a rule module."""

    CODE: str
    TITLE: str
    WHY: str
    find: "Callable[[Facts], Iterator[Finding]]"


class RewritingRule(Rule, Protocol):
    """The shape of a rule module that rewrites."""

    rewrite: "Callable[[cst.Module, str, Facts], cst.Module]"


@cache
def all_rules() -> tuple[ModuleType, ...]:
    """Every rule module, by code."""
    names = [info.name for info in pkgutil.iter_modules(__path__)]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return tuple(sorted(modules, key=lambda module: module.CODE))
