"""Which rules run, and on which files."""

import re
import warnings
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from codemods.rules import all_rules, meant_by
from codemods.steps import FOLLOWS, step_of
from codemods.targets import Target

MAY_BE_ALONE = ("TM105",)
"""Rules that may be left out by themselves in a checkout that uses a torchtitan and holds none: its autocast is that torchtitan's to open."""


class SelectionError(ValueError):
    """A selection that names what there is not, or splits what belongs together."""


@dataclass(frozen=True)
class Selection:
    """What of a migration is wanted.

    Args:
        select: codes or prefixes of codes (``TM1``); empty means every rule.
        ignore: codes or prefixes to leave out. The longer of two prefixes wins, and
            ``ignore`` where both are the same.
        exclude: patterns of paths to leave alone, as in a ``.gitignore``.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def takes(self, code: str) -> bool:
        """Whether a rule runs; one that tells of another's work does not without it."""
        if code in FOLLOWS and not self.takes(FOLLOWS[code]):
            return False
        wanted = _longest(self.select, code) if self.select else 0
        return wanted is not None and (_longest(self.ignore, code) or -1) < wanted

    @property
    def left_out(self) -> tuple[str, ...]:
        """The codes of the rules that do not run."""
        if not self.select and not self.ignore:
            return ()  # without importing the rules, which takes a while
        return tuple(r.CODE for r in all_rules() if not self.takes(r.CODE))

    def excluded(self, paths: Iterable[str]) -> frozenset[str]:
        """Those of these paths that are left alone.

        Raises:
            SelectionError: a pattern is none.
        """
        if not self.exclude:
            return frozenset()
        import pathspec  # takes a while

        for pattern in self.exclude:
            # A match takes as many steps as there are ways to place the wildcards.
            if any(part.count("*") > 3 for part in pattern.split("/")) or (
                pattern.count("**") > 3
            ):
                raise SelectionError(
                    f"exclude: {pattern!r} has too many wildcards; three in a part, or three "
                    "times **, are the most."
                )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)
                spec = pathspec.GitIgnoreSpec.from_lines(self.exclude)
        except (ValueError, re.error) as error:
            raise SelectionError(
                f"exclude: {error}. Write patterns as in a .gitignore."
            ) from error
        return frozenset(spec.match_files(paths))

    def check(self, target: Target, alone: Collection[str] = ()) -> None:
        """Refuse what cannot be meant.

        Args:
            target: the API to write for.
            alone: rules that may be left out by themselves in this checkout.

        Raises:
            SelectionError: a code is no rule's, nothing is left, or rules are split
                that belong together.
        """
        codes = [rule.CODE for rule in all_rules()]
        for key, words in (("select", self.select), ("ignore", self.ignore)):
            for word in words:
                _check_code(key, word, codes)
        if not any(map(self.takes, codes)):
            raise SelectionError(
                "select and ignore together leave no rule to run: ignore fewer codes, or "
                "select others."
            )
        for code in codes:
            step = step_of(code, target)
            apart = [
                c
                for c in step.codes
                if self.takes(c) != self.takes(code) and c not in alone
            ]
            if apart and self.takes(code):
                raise SelectionError(
                    f"{_listed(step.codes)} belong together: {step.apart} Select all of "
                    f"them or none; {_listed(apart)} {'is' if len(apart) == 1 else 'are'} left out."
                )


def _longest(prefixes: Iterable[str], code: str) -> int | None:
    """How long the longest of the prefixes is that fits a code."""
    return max((len(p) for p in prefixes if code.startswith(p)), default=None)


def _check_code(key: str, word: str, codes: list[str]) -> None:
    if re.fullmatch(r"TM\d*", word) and any(c.startswith(word) for c in codes):
        return
    meant = meant_by(word)
    hint = f" Did you mean {meant}?" if meant else ""
    raise SelectionError(
        f"{key}: there is no rule {word!r}.{hint} Give codes or their beginnings, as "
        "TM106 or TM2; `titan-migrate explain` lists all."
    )


def _listed(codes: Iterable[str]) -> str:
    *first, last = codes
    return f"{', '.join(first)} and {last}" if first else last
