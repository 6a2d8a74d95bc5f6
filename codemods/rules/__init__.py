"""One file per rule; a new file here is a new rule.

A rule module defines

- ``CODE``: ``TM101`` to ``TM199`` rewrite, ``TM201`` to ``TM299`` report a hazard;
- ``TITLE``: a few words;
- ``find(facts)``: yields a ``Finding`` for every place, found with ``ast``;
- ``rewrite(tree, path, facts)``: returns the changed libcst tree of one file, called
  for the files in which ``find`` yielded something to rewrite. Hazards have none;
- ``SEVERITY``, where it reports hazards: ``silent``, ``loud`` or ``note``, of the worst it
  finds. A finding that is milder says so itself;

and, for ``titan-migrate explain CODE``, with a test that holds each to what it says,

- ``WHAT``: one sentence, what it rewrites or finds; a line of the README's table;
- ``WHY``: a paragraph;
- ``UPSTREAM``: what it follows: torchtitan's pull requests as ``PR 2458``, or ``None.``
  and what it rests on instead;
- ``RISK``: what goes wrong where the rewrite is wrong or the hazard is passed over;
- ``PROOF``: the cell of ``titan-migrate verify`` that shows it and the words it uses, in
  double quotes; where none does, that and what to look at instead;
- ``EXAMPLE``: an excerpt of a fixture, before and after.
"""

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import libcst as cst

    from codemods.example import Example
    from codemods.findings import Finding, Severity
    from codemods.plans import Facts


class Rule(Protocol):
    """The shape of a rule module."""

    CODE: str
    TITLE: str
    WHAT: str
    WHY: str
    UPSTREAM: str
    RISK: str
    PROOF: str
    EXAMPLE: "Example"
    find: "Callable[[Facts], Iterator[Finding]]"


class HazardRule(Rule, Protocol):
    """The shape of a rule module that reports a hazard."""

    SEVERITY: "Severity"


class RewritingRule(Rule, Protocol):
    """The shape of a rule module that rewrites."""

    rewrite: "Callable[[cst.Module, str, Facts], cst.Module]"


_LIKE_A_DIGIT = str.maketrans("OoIil", "00111")


def meant_by(word: str) -> str | None:
    """The code, or the beginning of codes, that a misspelt one stands for; None if it is unclear.

    Another digit is another rule; all else may be a slip: ``tm1O6``, ``T106``.
    """
    meant = "TM" + "".join(re.findall(r"\d", word.translate(_LIKE_A_DIGIT)))
    known = any(rule.CODE.startswith(meant) for rule in all_rules())
    return meant if known and meant != "TM" else None


@cache
def all_rules() -> tuple[ModuleType, ...]:
    """Every rule module, by code."""
    names = [info.name for info in pkgutil.iter_modules(__path__)]
    modules = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return tuple(sorted(modules, key=lambda module: module.CODE))
