"""Results of phases of a migration, taken over where all that they depend on is the same."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

from codemods.attribution import Stage
from codemods.bindings import Checkout
from codemods.plans import Facts
from codemods.source import SourceFile
from codemods.survey import Survey
from migrator.sweep.watch import (
    FAR,
    TOLD,
    Difference,
    Files,
    Trace,
    WatchedCheckout,
    Words,
    noting,
    same,
    watched_facts,
    watched_survey,
)

KEPT = 128
"""As many results are known, those that were of use last."""

_NUMBERED = 12
"""As much that one field of surveys, or of facts, may say is told apart."""


@dataclass(frozen=True)
class _Known:
    """A result of a phase.

    Args:
        kind: which phase, and of what.
        values: what it was called with, its first argument apart.
        told: field of the survey or of the facts -> the number of what it says, where it has asked.
        files: those of its checkout.
        trace: what it has read of these.
        result: it.
    """

    kind: tuple[str, Any]
    values: tuple[Any, ...]
    told: dict[str, int]
    files: Files
    trace: Trace
    result: Any


class Reuse:
    """Takes results of phases over, and keeps those that it has to work out.

    Args:
        kept: how many.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._known: deque[_Known] = deque(maxlen=kept)
        self._numbered: dict[tuple[bool, str], _Numbered] = {}
        self._at_hand: Files = {}
        self._differences: dict[int, Difference] = {}
        self._words = Words({})
        self.taken, self.worked_out = 0, 0

    def _number(self, first: Any, name: str) -> int:
        """The number of what a field of a survey or of facts says."""
        known: dict[str, int] = first.__dict__.setdefault("_numbers", {})
        if name not in known:
            by_place = isinstance(first, Facts)
            own = name in TOLD[Facts] if by_place else True
            value = getattr(first if own else first.survey, name)
            numbered = self._numbered.setdefault((by_place, name), _Numbered(by_place))
            known[name] = numbered.number(value)
        return known[name]

    def _difference(self, before: Files, after: Files) -> Difference:
        """Between files that a result was worked out of and those at hand; many results are of the same."""
        if self._at_hand is not after:
            self._at_hand, self._differences = after, {}
        if id(before) not in self._differences:
            self._differences[id(before)] = Difference(before, after)
        return self._differences[id(before)]

    def _words_of(self, files: Files) -> Callable[[str], list[SourceFile]]:
        """Gives the files that hold a word, which are mostly those of a tree before."""
        between = Difference(self._words.files, files)
        if len(between.paths) > FAR:
            self._words = Words(files)
            between = Difference(files, files)
        return partial(self._words.held, between)

    def result(self, function: Callable[..., Any], given: tuple[Any, ...]) -> Any:
        """What a phase gives; see ``codemods.phases``."""
        checkout, survey, facts = _parts(given[0])
        values = (_added(checkout), *given[1:])
        found = _found_in(checkout)
        if "files" not in found:
            found["files"] = dict(checkout.files)
            found["words"] = self._words_of(found["files"])
        read = found["files"]
        # Rules are grouped, and files rewritten one by one: each is a phase of its own.
        own = given[1] if given[1:] and isinstance(given[1], frozenset | str) else None
        kind = function.__qualname__, own
        for at, one in enumerate(self._known):
            if one.kind != kind or one.values != values:
                continue
            if any(self._number(given[0], name) != n for name, n in one.told.items()):
                continue
            between = self._difference(one.files, read)
            if one.trace.holds(between, checkout, survey, facts):
                self.taken += 1
                del self._known[at]
                self._known.appendleft(one)
                return _of(one.result, given[0])
        self.worked_out += 1
        trace = Trace()
        first, watched = _watched(given[0])
        with noting(trace):
            result = function(first, *given[1:])
        watched.forget()
        if isinstance(result, Survey | Facts):
            trace.count_whole(read)
        # Facts hold the survey, whatever was asked of it.
        asked = TOLD[Survey] if isinstance(result, Facts) else trace.told
        if survey is not None:  # whose files are read without a word
            asked = {*asked, "dependency"}
        told = {name: self._number(given[0], name) for name in asked}
        known = _Known(kind, values, told, read, trace, _slim(result))
        self._known.appendleft(known)
        return _of(result, given[0])


def _parts(first: Any) -> tuple[Checkout, Survey | None, Facts | None]:
    if isinstance(first, Facts):
        return first.checkout, first.survey, first
    if isinstance(first, Survey):
        return first.checkout, first, None
    assert isinstance(first, Checkout)
    return first, None, None


def _found_in(checkout: Checkout) -> dict[str, Any]:
    """What was found in the files of a checkout, by those that are added: files come, and none is changed."""
    known: dict[frozenset[str], dict[str, Any]]
    known = checkout.__dict__.setdefault("_found", {})
    return known.setdefault(checkout.added, {})


def _watched(first: Any) -> tuple[Any, WatchedCheckout]:
    checkout = _parts(first)[0]
    watched = WatchedCheckout(checkout.files, checkout.added, _found_in(checkout))
    if isinstance(first, Facts):
        return watched_facts(first, watched), watched
    if isinstance(first, Survey):
        return watched_survey(first, watched), watched
    return watched, watched


class _Numbered:
    """Numbers for what a field says: the same has the same one.

    Args:
        by_place: whether syntax trees are the same where they have the same code at the
            same place; else where they are the same ones.
    """

    def __init__(self, by_place: bool) -> None:
        self._by_place = by_place
        self._known: deque[tuple[int, Any]] = deque(maxlen=_NUMBERED)
        self._last = 0

    def number(self, said: Any) -> int:
        for number, known in self._known:
            if same(known, said, self._by_place):
                return number
        self._last += 1
        self._known.appendleft((self._last, said))
        return self._last


def _added(checkout: Checkout) -> tuple[Any, ...]:
    return tuple(checkout.files[path] for path in sorted(checkout.added))


def _slim(result: Any) -> Any:
    """A result without the syntax trees of each rule's work, of which a sweep tells nothing."""
    if isinstance(result, tuple):
        return tuple(() if _are_stages(part) else part for part in result)
    return result


def _are_stages(part: Any) -> bool:
    return isinstance(part, tuple) and all(isinstance(one, Stage) for one in part)


def _of(result: Any, first: Any) -> Any:
    """A result that is of this checkout, whichever it was worked out for."""
    checkout = _parts(first)[0]
    if isinstance(result, Survey):
        return _survey_of(result, checkout)
    if isinstance(result, Facts):
        watched = result.checkout
        for path in sorted(watched.added - checkout.added):
            checkout.add(watched.files[path])
        # Decisions name call sites, and these are told apart by being the same object: so
        # the survey is the one that was decided on, which says the same as this one's.
        survey = _survey_of(result.survey, checkout)
        return replace(result, survey=survey, derived=dict(result.derived))
    return result


def _survey_of(survey: Survey, checkout: Checkout) -> Survey:
    known = {one.name: getattr(survey, one.name) for one in fields(Survey)}
    return Survey(**{**known, "checkout": checkout})
