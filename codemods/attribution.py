"""Which rules changed which lines of a file, from its text after each rule."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import libcst as cst

CLEANUP = "cleanup"
"""The stage that takes out what the rules before it left unused."""

LAYOUT = "layout"
"""The stage that lays out what the rules before it wrote: it is theirs still."""

BY_HAND = "hand"
"""A stage that no rule made: what a person changed afterwards."""


@dataclass(frozen=True)
class Stage:
    """The text of a file after one rule.

    Args:
        by: the rule's code, ``CLEANUP``, ``LAYOUT`` or ``BY_HAND``.
        source: the whole file; its tree takes a while to be written out, and is so when
            somebody asks.
    """

    by: str
    source: "str | cst.Module"

    @cached_property
    def text(self) -> str:
        if isinstance(self.source, str):
            return self.source
        from codemods.edit import code_of  # needs libcst, whose import takes a while

        return code_of(self.source)


@dataclass(frozen=True)
class Touch:
    """Who changed some lines.

    Args:
        codes: the rules that did.
        cleans_up: the rules that left unused what was taken out here besides.
        by_hand: whether a person did, too.
    """

    codes: frozenset[str] = frozenset()
    cleans_up: frozenset[str] = frozenset()
    by_hand: bool = False

    def __or__(self, other: "Touch") -> "Touch":
        return Touch(
            self.codes | other.codes,
            self.cleans_up | other.cleans_up,
            self.by_hand or other.by_hand,
        )


@dataclass(frozen=True)
class Attribution:
    """Who changed each line of a file between its first text and its last.

    Args:
        removed: line of the first text, from 0 -> who took it out.
        added: for each line of the last text, who wrote it; nobody, where it was there.
        everyone: all of them together.
    """

    removed: dict[int, Touch] = field(default_factory=dict)
    added: tuple[Touch, ...] = ()
    everyone: Touch = Touch()

    def of(self, old: range, new: range) -> Touch:
        """Who made a hunk.

        Args:
            old: its lines of the first text, from 0.
            new: its lines of the last text.
        """
        found = Touch()
        for line in old:
            found |= self.removed.get(line, Touch())
        for line in new:
            found |= self.added[line]
        # Two ways to see one change, first to last or stage by stage, may put it on
        # different lines. Then all who were at this file is what can be said.
        return found if found != Touch() else self.everyone


def lines(text: str) -> list[str]:
    """Lines with their ends, as git and SARIF see them: only a line feed ends one."""
    parts = text.split("\n")
    return [part + "\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def attribute(before: str, stages: Sequence[Stage]) -> Attribution:
    """Follow every line of a file through the stages of its migration.

    Args:
        before: the text that the first stage was given.
        stages: what came out of each, in order.
    """
    now = lines(before)
    # Of each line: which of the first text it is, if any, and who wrote it if none.
    origins: list[tuple[int | None, Touch]] = [(n, Touch()) for n in range(len(now))]
    first, everyone = now, Touch()
    removed: dict[int, Touch] = {}
    for stage in stages:
        after = lines(stage.text)
        fresh: list[tuple[int | None, Touch]] = []
        matcher = SequenceMatcher(None, now, after)
        for kind, start, end, new_start, new_end in matcher.get_opcodes():
            if kind == "equal":
                fresh += origins[start:end]
                continue
            written = Touch()
            for _, earlier in origins[start:end]:
                written |= earlier
            touch = written
            if stage.by != LAYOUT:
                touch = _touch(stage, now[start:end], after, first, removed)
            everyone |= touch
            written |= touch
            for line, _ in origins[start:end]:
                if line is not None:
                    removed[line] = touch
            fresh += [(None, written)] * (new_end - new_start)
        now, origins = after, fresh
    return Attribution(removed, tuple(touch for _, touch in origins), everyone)


def _touch(
    stage: Stage,
    gone: Sequence[str],
    after: Sequence[str],
    first: Sequence[str],
    removed: dict[int, Touch],
) -> Touch:
    """Who a stage's change is put down to; a clean-up to the rules that took out the last use."""
    if stage.by == BY_HAND:
        return Touch(by_hand=True)
    if stage.by != CLEANUP:
        return Touch(frozenset({stage.by}))
    unused = _words(gone) - _words(after)
    rules = {line: touch.codes for line, touch in removed.items() if touch.codes}
    users = [codes for line, codes in rules.items() if unused & _words([first[line]])]
    return Touch(cleans_up=frozenset().union(*(users or rules.values())))


def _words(texts: Iterable[str]) -> set[str]:
    return set(re.findall(r"\w+", " ".join(texts)))
