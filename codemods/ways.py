"""How the rest of a checkout is migrated where some places are left for a person."""

import ast
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from codemods.dependency import UNKNOWN, Dependency
from codemods.engine import WorkedOut, migrate
from codemods.findings import Finding
from codemods.outcome import Outcome
from codemods.selection import Selection
from codemods.source import SourceFile, UnreadableSource, opt_outs
from codemods.texts import Texts, none

_ROUNDS = 8

_TryOut = Callable[..., WorkedOut | None]
"""Migrates files with a selection."""


@dataclass(frozen=True)
class WaysOn:
    """What lets the rest be migrated, each by itself; tried out, not guessed.

    Args:
        exclude: files to leave alone, together; empty where that does not help.
        drawn_in: excluded file -> the files that have to go with it, because it calls
            what they define.
        lines: (path, line, code) of opt-outs that do instead; empty where they do not.
        rest: how many files are migrated if the files are left alone.
    """

    exclude: tuple[str, ...] = ()
    drawn_in: tuple[tuple[str, tuple[str, ...]], ...] = ()
    lines: tuple[tuple[str, int, str], ...] = ()
    rest: int = 0

    @property
    def patterns(self) -> tuple[str, ...]:
        """The files as patterns for ``--exclude``."""
        return tuple(map(pattern, self.exclude))


def ways_on(
    files: Mapping[str, SourceFile],
    outcome: Outcome,
    texts: Texts = none,
    dependency: Dependency = UNKNOWN,
) -> WaysOn:
    """What lets the rest be migrated; nothing where nothing else would be.

    Args:
        files: path -> file, of the whole checkout.
        outcome: what a migration of them would do, with places left.
        texts: reads the files that are not Python's.
        dependency: the torchtitan that the checkout uses and does not hold.
    """
    left = [f for f in outcome.findings if f.status == "left"]
    if not left or outcome.for_other_target:
        return WaysOn()
    tried = partial(_tried, outcome=outcome, texts=texts, dependency=dependency)
    exclude, drawn_in, rest = _by_files(files, outcome, left, tried)
    return WaysOn(exclude, drawn_in, _by_lines(files, outcome, left, tried), rest)


def pattern(path: str) -> str:
    """A path as a pattern of a ``.gitignore`` that fits this file alone."""
    escaped = re.sub(r"([\\*?\[\]!#])", r"\\\1", path)
    escaped = re.sub(r" $", r"\\ ", escaped)
    return escaped if "/" in path else f"/{escaped}"


def _by_files(
    files: Mapping[str, SourceFile],
    outcome: Outcome,
    left: list[Finding],
    try_out: _TryOut,
) -> tuple[tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...], int]:
    chosen = {finding.path for finding in left}
    drawn_in: dict[str, set[str]] = {}
    for _ in range(_ROUNDS):
        known = outcome.selection
        exclude = (*known.exclude, *map(pattern, sorted(chosen)))
        chosen_too = replace(known, exclude=exclude)
        tried = try_out(files, selection=chosen_too, write=False)
        if tried is not None and not tried.problems:
            tried = try_out(files, selection=chosen_too, write=True)
        if tried is None:
            break
        if not tried.problems:
            sets = tuple(
                (path, tuple(sorted(drawn_in[path]))) for path in sorted(drawn_in)
            )
            found = tuple(sorted(chosen)), sets, len(tried.changes)
            return found if tried.changes else ((), sets, 0)
        more: set[str] = set()
        for finding in tried.findings:
            if finding.status != "left":
                continue
            if finding.path not in chosen:
                more.add(finding.path)
                continue
            needed = {
                reference.definition.path
                for reference in tried.survey.references
                if reference.path == finding.path
            } - chosen
            if needed:
                drawn_in.setdefault(finding.path, set()).update(needed)
            more |= needed
        if not more:
            break
        chosen |= more
    return (), (), 0


def _by_lines(
    files: Mapping[str, SourceFile],
    outcome: Outcome,
    left: list[Finding],
    try_out: _TryOut,
) -> tuple[tuple[str, int, str], ...]:
    changed = dict(files)
    for finding in left:
        file = _opted_out(changed[finding.path], finding.line, finding.code)
        if file is None:
            return ()
        changed[finding.path] = file
    tried = try_out(changed, selection=outcome.selection, write=False)
    if tried is not None and not tried.problems:
        tried = try_out(changed, selection=outcome.selection, write=True)
    if tried is None or tried.problems:
        return ()
    if not any(finding.status == "rewrite" for finding in tried.findings):
        return ()
    return tuple(dict.fromkeys((f.path, f.line, f.code) for f in left))


def _opted_out(file: SourceFile, line: int, code: str) -> SourceFile | None:
    """The file with an opt-out at the end of a line; None where no comment can be there."""
    lines = file.text.splitlines(keepends=True)
    text = lines[line - 1].rstrip("\r\n")
    end = lines[line - 1][len(text) :]
    codes = opt_outs(text)
    if codes is not None:
        if code in codes:
            return file
        text = text.replace("ignore[", f"ignore[{code}, ", 1)
    else:
        text += f"  # titan-migrate: ignore[{code}]"
    lines[line - 1] = text + end
    fresh = SourceFile(file.path, file.encode("".join(lines)))
    try:
        same = ast.dump(fresh.syntax) == ast.dump(file.syntax)
    except UnreadableSource:
        return None
    return fresh if same else None


def _tried(
    files: Mapping[str, SourceFile],
    *,
    outcome: Outcome,
    texts: Texts,
    dependency: Dependency,
    selection: Selection,
    write: bool,
) -> WorkedOut | None:
    try:
        return migrate(
            files,
            outcome.target,
            selection,
            texts,
            dependency=dependency,
            write=write,
        )
    except (UnreadableSource, ValueError):
        return None
