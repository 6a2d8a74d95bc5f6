"""Everything that a review says, put together from the checkout and from the report of ``verify``."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from difflib import SequenceMatcher
from pathlib import Path
from typing import Any

from codemods.attribution import lines
from codemods.findings import Finding, rank
from codemods.rules import all_rules
from codemods.steps import SINCE
from migrator import render
from migrator.changeset import Changeset
from migrator.errors import TitanMigrateError
from migrator.review import reproduce, verdicts
from migrator.review.compare import Compared, compare, text_of
from migrator.review.hunks import count, hunks_of, undone
from migrator.review.model import File, Hazard, Review, Rule, listed, plural, visible

_SHOWN = 5
_WIDTH = 80
"""How many lines a note shows, and how many characters of each."""


def review(path: Path, *, verify_report: Path | None = None, **options: Any) -> Review:
    """A review of a checkout's migration; nothing is written and nothing of it is run.

    Args:
        path: the folder of a torchtitan checkout, migrated or not.
        verify_report: the folder that ``verify`` wrote; the one beside the checkout
            where None, if there is one.
        options: as ``compare.compare`` takes them.

    Raises:
        TitanMigrateError: wrong use or environment, or a file could not be handled.
    """
    compared = compare(path, **options)
    nothing = compared.state == "nothing"
    files = tuple(sorted(_files(compared), key=lambda file: file.path))
    hazards = () if nothing else tuple(_hazards(compared))
    verified = "" if nothing else verdicts.read(path, compared, verify_report)
    used = {code for file in files for code in file.codes}
    used |= {hazard.code for hazard in hazards}
    problems = tuple(visible(problem) for problem in compared.outcome.problems)
    return Review(
        name=visible(compared.checkout.root.name),
        about=tuple(_about(compared, problems)),
        facts=_facts(compared),
        files=files,
        rules={
            rule.CODE: Rule(rule.CODE, rule.TITLE, rule.WHY.strip())
            for rule in all_rules()
            if rule.CODE in used
        },
        hazards=hazards,
        problems=problems,
        verified=verified,
        claims=() if nothing else tuple(reproduce.claims(compared, files, verified)),
    )


def _about(compared: Compared, problems: Sequence[str]) -> Iterator[str]:
    if compared.state == "nothing":
        yield render.sentence(Changeset(compared.checkout, compared.now))
        return
    yield from _state(compared, problems)
    if compared.outcome.target.mesh == "1d":
        yield f"It follows upstream's PR 2458. {SINCE}"


def _state(compared: Compared, problems: Sequence[str]) -> Iterator[str]:
    if compared.state == "plan" and problems:
        yield (
            "This is not migrated yet, and the tool writes nothing before a person has seen to "
            f"{plural(len(problems), 'place')}."
        )
        return
    if compared.state == "plan":
        yield "This is not migrated yet: shown is what titan-migrate apply would write."
        return
    yield "Shown is how the Python files of this tree differ from the base revision."
    if problems:
        yield (
            "The tool writes nothing for this base, for a person had to see to "
            f"{plural(len(problems), 'place')} first: so what it wrote afterwards cannot be told from what a person wrote, "
            "and all of it is marked as changed by hand."
        )
    elif compared.outcome.changes != compared.after:
        yield "What the tool would not write is marked as changed by hand."
    else:
        yield "It is exactly what the tool writes: nothing was changed by hand."
    left = len(compared.now.to_do)
    if left:
        are = "place still has" if left == 1 else "places still have"
        yield f"Not all is migrated: {left} {are} to change."
    if compared.others:
        differ = "differs" if compared.others == 1 else "differ"
        yield f"Besides, {plural(compared.others, 'other file')} {differ}, not Python and not shown."


def _facts(compared: Compared) -> dict[str, str]:
    if compared.state == "nothing":
        return {}
    about = compared.outcome.about
    found = {"torchtitan": about.generation}
    if about.dependency.name:
        found["torchtitan"] = f"a dependency, {about.dependency.name}"
    if compared.base:
        found["Base"] = compared.base[:12]
    head = _head(compared)
    if head:
        found["Revision"] = head
    line = render.target_line(Changeset(compared.checkout, compared.outcome))
    found["Target"] = line.removeprefix("Target ").removesuffix(".")
    return found


def _head(compared: Compared) -> str:
    """The commit that the tree is, or is based on."""
    checkout = compared.checkout
    if not checkout.is_git:
        return ""
    try:
        head = checkout.git("rev-parse", "--verify", "HEAD^{commit}").strip()
    except TitanMigrateError:
        return ""  # no commit yet
    # Asked for its status, a submodule would run the filters that it configures.
    listed = checkout.status()
    changed = any(letters != "??" for letters, _ in listed)
    return head[:12] + (" and uncommitted changes" if changed else "")


def _files(compared: Compared) -> Iterator[File]:
    by_path: dict[str, list[Finding]] = {}
    for finding in compared.outcome.findings:
        if finding.status == "rewrite":
            by_path.setdefault(finding.path, []).append(finding)
    for path, raw in compared.after.items():
        file = compared.before[path]
        before = text_of(path, file.raw) if file is not None else ""
        after = text_of(path, raw or b"")
        stages = compared.stages(path)
        hunks = hunks_of(before, after, stages, by_path.get(path, ()))
        notes = list(_notes(compared, path, before, after))
        # The last net: whoever reviews must not take a person's work for the tool's.
        other = compared.outcome.changes.get(path) != raw
        if other and not notes and not any(hunk.touch.by_hand for hunk in hunks):
            notes.append(
                "Changed by hand: this is not what the tool writes. Hold it against "
                "titan-migrate diff of the base to see where."
            )
        yield File(visible(path, ""), hunks, *count(hunks), tuple(notes))
    for path in sorted(compared.outcome.changes.keys() - compared.after.keys()):
        note = "Changed by hand: the tool would change this file, and it is as it was."
        yield File(visible(path, ""), (), 0, 0, (note,))


def _notes(compared: Compared, path: str, before: str, after: str) -> Iterator[str]:
    if compared.before[path] is None:
        yield "Changed by hand: this file is new."
    elif compared.after[path] is None:
        yield "Changed by hand: this file is gone."
    elif path in compared.outcome.changes:
        stages = compared.outcome.stages[path]
        gone, lacking = undone(before, stages[-1].text, after, stages)
        if gone:
            where = f"line{'' if len(gone) == 1 else 's'} {listed(map(str, gone))}"
            yield f"Changed by hand: what the tool would change at {where} of the base is as it was."
        if lacking:
            yield _lacks(lacking)
    file = compared.before[path]
    if file and compared.after[path] and before == after:
        yield "Only its encoding differs, or its byte order mark."


def _lacks(lacking: Sequence[str]) -> str:
    """That lines which the tool writes are not there, with the first of them."""
    shown = [visible(line.strip(), "") for line in lacking if line.strip()]
    cut = [f"{line[:_WIDTH]}…" if len(line) > _WIDTH else line for line in shown]
    parts = [f"“{line}”" for line in cut[:_SHOWN]]
    more = len(lacking) - len(parts)
    if parts and more:
        parts.append(f"{more} more")
    which = f": {listed(parts)}" if parts else ", all of them blank"
    are = "is" if len(lacking) == 1 else "are"
    return f"Changed by hand: of what the tool writes, {plural(len(lacking), 'line')} {are} not here{which}."


def _hazards(compared: Compared) -> Iterator[Hazard]:
    """Places for a person; those at lines of the tree before that were changed, too."""
    now = _for_a_person(compared.now.findings)
    found = [_hazard(finding) for finding in now]
    if compared.state == "done":
        before = _for_a_person(compared.outcome.findings)
        found += [
            replace(_hazard(finding, True), before=finding.path in compared.after)
            for finding in _gone(compared, before, now)
        ]
    yield from sorted(
        found,
        key=lambda h: (not h.must, rank(h.severity), h.path, h.line, h.code, h.before),
    )


def _gone(
    compared: Compared, before: Sequence[Finding], now: Sequence[Finding]
) -> Iterator[Finding]:
    """Findings in the tree before that are not in the one after, by line and else by what they say."""
    here = {(finding.path, finding.line, finding.code): finding for finding in now}
    changed = []
    for finding in before:
        line = _line_now(compared, finding)
        if line is None:
            changed.append(finding)
        elif here.pop((finding.path, line, finding.code), None) is None:
            yield finding
    others = Counter((f.path, f.code, f.message) for f in here.values())
    for finding in changed:
        said = (finding.path, finding.code, finding.message)
        if not others[said]:
            yield finding
        others[said] -= others[said] > 0


def _line_now(compared: Compared, finding: Finding) -> int | None:
    """Where the line of a finding in the tree before is now; None where it was changed."""
    if finding.path not in compared.after:
        return finding.line
    file, raw = compared.before[finding.path], compared.after[finding.path]
    assert file is not None
    was, now = lines(file.text), lines(text_of(finding.path, raw or b""))
    for old, new, size in SequenceMatcher(None, was, now).get_matching_blocks():
        if old < finding.line <= old + size:
            return finding.line - old + new
    return None


def _for_a_person(findings: Sequence[Finding]) -> list[Finding]:
    return [f for f in findings if f.status in ("hazard", "left")]


def _hazard(finding: Finding, before: bool = False) -> Hazard:
    suggestion = finding.suggestion
    return Hazard(
        path=visible(finding.path, ""),
        line=finding.line,
        code=finding.code,
        message=visible(finding.message),
        suggestion=visible(suggestion, "\n\t") if suggestion else None,
        must=finding.status == "left" and not before,
        before=before,
        severity=finding.severity,
    )
