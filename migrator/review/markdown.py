"""A review as Markdown for the body of a pull request.

What comes from the checkout goes through ``text``, ``code`` or ``_block``, and then
says nothing to Markdown, to HTML, or to the log of a CI that this is printed in.
"""

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from migrator.review.model import (
    Cell,
    File,
    Hazard,
    Hunk,
    Rehearsed,
    Review,
    Rule,
    Verified,
    plural,
)
from migrator.verify.show import markdown
from migrator.verify.show.markdown import fenced, folded, table

LIMIT = 65536
"""Characters that GitHub takes in the body of a pull request."""

_ROOM = LIMIT - 1536
"""Something is left for what a person adds."""

_MOST = (1000, 100, 30, 10, 3)
"""How many of anything are listed, the first for which there is room."""

_LONGEST = 1000
"""Characters of one text of the checkout."""

_MARKS = {"passed": "✅ passed", "failed": "❌ **failed**", "not run": "⚪ not run"}


def as_markdown(review: Review) -> str:
    """The whole document, short enough for GitHub.

    Hunks that the tool wrote are under a pull request's changes, and not repeated. Of
    those by hand, what there is no room for is left out, the longest first, and after
    them what else is listed, each with a sentence that says so.
    """
    by_hand = [hunk for hunk in review.hunks if hunk.touch.by_hand]
    hunks = sorted(by_hand, key=lambda hunk: len(_hunk(hunk)))

    def document(shown: int, most: int) -> str:
        ids = frozenset(map(id, hunks[:shown]))
        return _Document(review, ids, most).text()

    most = next((n for n in _MOST if len(document(0, n)) < _ROOM), _MOST[-1])
    fitting = bisect_left(
        range(1, len(hunks) + 1), True, key=lambda n: len(document(n, most)) >= _ROOM
    )
    return document(fitting, most)


@dataclass(frozen=True)
class _Document:
    """How a review is written.

    Args:
        review: what.
        shown: ids of the hunks that there is room for.
        most: how many of anything are listed.
    """

    review: Review
    shown: frozenset[int]
    most: int

    def text(self) -> str:
        review = self.review
        parts = ["## DDP becomes the composable replicate", ""]
        parts += [text(" ".join(review.about)), ""]
        facts = [f"{name} {code(value)}" for name, value in review.facts.items()]
        parts += [f"{', '.join(facts)}.", ""] if facts else []
        if review.problems:
            parts += ["### Before the tool writes anything", ""]
            parts += [*self._listed(f"- {text(p)}" for p in review.problems), ""]
        if review.files:
            parts += self._changes()
        if review.hazards:
            parts += self._hazards()
        if isinstance(review.verified, Verified):
            parts += self._verdicts(review.verified)
        elif review.verified:
            parts += ["### Verdicts", "", text(review.verified), ""]
        if review.files or review.hazards:
            parts += ["### For the reviewer", "", *_to_check(review), ""]
        if review.claims:
            parts += self._claims()
        return "\n".join(parts).rstrip() + "\n"

    def _listed(self, items: Iterable[str]) -> list[str]:
        """As many as there is room for, and how many there are besides."""
        items = list(items)
        more = len(items) - self.most
        return items[: self.most] + [f"- … and {more} more"] * (more > 0)

    def _changes(self) -> list[str]:
        review = self.review
        counts = (
            f"{plural(len(review.files), 'file')}, {plural(len(review.hunks), 'hunk')}"
        )
        rows = [_file(file) for file in review.files]
        heads = ("file", "lines", "rules")
        more = len(rows) - self.most
        if more > 0:
            rows = [*rows[: self.most], [f"… and {more} more", "", ""]]
        parts = ["### What changed, and why", ""]
        parts += [f"{counts}, +{review.added} −{review.removed}.", ""]
        parts += table(heads, rows)
        by_hand = [hunk for hunk in review.hunks if hunk.touch.by_hand]
        left_out = len(by_hand) - len(self.shown)
        if left_out:
            parts += [
                f"{plural(left_out, 'hunk')} of {len(by_hand)} by hand left out, for a pull "
                "request's text has room for no more: the diff has them all.",
                "",
            ]
        for rule in review.rewriting():
            parts += self._rule(rule)
        per_file = [
            (file, [h for h in file.hunks if h.touch.by_hand]) for file in review.files
        ]
        edited = [(file, found) for file, found in per_file if found or file.notes]
        if edited:
            parts += self._by_hand(edited)
        return parts

    def _rule(self, rule: Rule) -> list[str]:
        """What one rule changed, where and why."""
        found = [
            (file, hunk)
            for file in self.review.files
            for hunk in file.hunks
            if rule.code in hunk.codes
        ]
        files = len({file.path for file, _ in found})
        title = f"<b>{rule.code}</b> {text(rule.title)}: {plural(len(found), 'hunk')} in {plural(files, 'file')}"
        reasons = [
            f"- {code(f'{file.path}:{reason.line}')}: {text(reason.message)}"
            for file, hunk in found
            for reason in hunk.reasons
            if reason.code == rule.code
        ]
        return folded(title, [*_paragraphs(rule.why), *self._listed(reasons), ""])

    def _by_hand(self, found: Sequence[tuple[File, Sequence[Hunk]]]) -> list[str]:
        parts = ["#### Changed by hand", ""]
        parts += ["The tool did not write this, or not all of it.", ""]
        items = []
        for file, hunks in found:
            items += [f"- {code(file.path)}: {text(note)}" for note in file.notes]
            if hunks:
                items.append(f"- {code(file.path)}: {plural(len(hunks), 'hunk')}")
        parts += [*self._listed(items), ""]
        for file, hunks in found:
            shown = [hunk for hunk in hunks if id(hunk) in self.shown]
            body = [line for hunk in shown for line in _hunk(hunk).split("\n")]
            if body:
                parts += folded(_code_html(file.path), body)
        return parts

    def _hazards(self) -> list[str]:
        parts = ["### Left for a person", ""]
        for n, hazard in enumerate(self.review.hazards):
            if n == self.most:
                more = len(self.review.hazards) - n
                parts += [f"- … and {more} more: `titan-migrate check` lists all", ""]
                break
            parts += _hazard(hazard)
        return parts

    def _verdicts(self, verified: Verified) -> list[str]:
        title = "**failed**" if verified.word == "failed" else verified.word
        if not verified.ours:
            title = "of another tree" if verified.ours is False else f"{title}, unsure"
        parts = [f"### Verdicts: {title}", ""]
        mark = "" if verified.ours else "⚠️ "
        parts += [f"{mark}{text(verified.sentence)}", ""]
        figures = ("loss", "grad_norm", "gradients", "parameters")
        heads = ("model", "cell", "verdict", *figures, "as DDP did", "computed in")
        rows = [
            [
                text(cell.model),
                code(cell.cell),
                _MARKS[cell.word],
                *(_or_dash(cell.figures.get(name, "")) for name in figures),
                _or_dash(cell.as_ddp),
                _or_dash(cell.computed_in),
            ]
            for cell in verified.cells[: self.most]
        ]
        parts += table(heads, rows)
        parts += [
            "Largest relative differences of the migrated tree from FSDP of the same tree.",
            "",
        ]
        if verified.untrained:
            parts += [text(verified.untrained), ""]
        if verified.took:
            parts += [
                f"{text(verified.took)} {text(', '.join(verified.versions))}.",
                "",
            ]
        if verified.rehearsed:
            parts += self._rehearsed(verified.rehearsed)
        items = [item for cell in verified.cells for item in _said(cell)]
        parts += [*self._listed(items), ""]
        curves = [cell for cell in verified.cells if cell.plot]
        if curves:
            body = [
                "GitHub does not show files of a disk: drag each image out of the report's folder to where it belongs.",
                "",
            ]
            for cell in curves[: self.most]:
                name = f"{text(cell.model)}, {cell.cell}"
                png = (cell.plot or "").removesuffix(".svg").removesuffix(".png")
                body += [f"![Loss and grad_norm of {name}](plots/{png}.png)", ""]
            parts += folded("Curves of loss and grad_norm", body)
        return parts

    def _rehearsed(self, rehearsed: Rehearsed) -> list[str]:
        items = [
            f"- **{text(scene.model)}, {text(scene.layout)} {scene.word} in rehearsal:** {text(sentence)}"
            for scene in rehearsed.scenes
            if scene.word in ("failed", "broken")
            for sentence in scene.said
        ]
        said = f"Rehearsed before anything trained: {rehearsed.counted}. {rehearsed.limits}"
        early = [f"It ended early: {text(rehearsed.problem)}", ""]
        return [
            said,
            "",
            *(early if rehearsed.problem else []),
            *self._listed(items),
            "",
        ]

    def _claims(self) -> list[str]:
        parts = ["### How to see it again", ""]
        parts += [
            "`CHECKOUT` stands for the folder of the checkout, `BEFORE` and `FILE` for new ones.",
            "",
        ]
        for claim in self.review.claims:
            parts += [text(claim.says), "", *_block("\n".join(claim.commands), "sh")]
            parts += [f"shows: {text(claim.expect)}", ""]
        return parts


def _to_check(review: Review) -> Iterator[str]:
    """What a person ticks off before this is merged."""
    worse = [hazard for hazard in review.hazards if hazard.severity != "note"]
    if worse:
        yield f"- [ ] Somebody has looked at each hazard above ({len(worse)}): nothing else does."
    if any(hazard.code == "TM214" for hazard in review.hazards):
        yield (
            "- [ ] The precision is meant: runs in bf16 are compared with FSDP of this "
            "revision, not with DDP."
        )
    if any((h.code, h.severity) == ("TM209", "note") for h in review.hazards):
        yield "- [ ] The larger gradients are meant: training.max_norm is chosen for them."
    if review.by_hand:
        yield "- [ ] What was changed by hand is read line by line: the tool did not write it."
    yield from _proved(review.verified)
    yield (
        "- [ ] Nobody plans to merge upstream's main of April 2026 or later: PR 2900 there replaces "
        "what is written here."
    )


def _proved(verified: Verified | str) -> Iterator[str]:
    """Whether it was shown that this trains, and what of it was not."""
    if not isinstance(verified, Verified) or not verified.ours:
        yield "- [ ] `titan-migrate verify` has passed on this revision."
    elif verified.word != "passed":
        yield f"- [ ] The verdict above is {verified.word}: do not merge before it passes."
    else:
        yield "- [x] `titan-migrate verify` has passed on this revision."
    if isinstance(verified, Verified) and verified.rehearsed is None:
        yield "- [ ] The plans are rehearsed: this verdict is without (`--no-rehearse`)."
    if isinstance(verified, Verified) and verified.models_left:
        names = ", ".join(map(text, verified.models_left))
        yield f"- [ ] Nobody trains these models soon, or somebody has tried them: {names}."


def text(value: str) -> str:
    """Text that says nothing to Markdown, cut off where it is very long."""
    return markdown.text(_cut(value))


def _or_dash(value: str) -> str:
    return text(value) if value not in ("", "-") else "-"


def code(value: str) -> str:
    """A name, likewise."""
    return markdown.code(_cut(value))


def _cut(value: str) -> str:
    return value if len(value) <= _LONGEST else f"{value[:_LONGEST]} …"


def _file(file: File) -> list[str]:
    rules = ", ".join(file.codes)
    hand = "by hand" if file.by_hand or file.notes else ""
    lines = f"+{file.added} −{file.removed}"
    return [code(file.path), lines, ", ".join(filter(None, (rules, hand)))]


def _hazard(hazard: Hazard) -> list[str]:
    where = f"{code(f'{hazard.path}:{hazard.line}')}"
    if hazard.before:
        where += " of the base, changed since"
    parts = [f"- **{hazard.code}** ({hazard.kind}) {where}: {text(hazard.message)}", ""]
    if hazard.suggestion:
        long = len(hazard.suggestion) > 4 * _LONGEST
        instead = "# long: `titan-migrate check` shows it"
        shown = instead if long else hazard.suggestion
        block = _block(
            shown, "toml" if "\n[training]\n" in f"\n{shown}\n" else "python"
        )
        parts += [f"  {line}".rstrip() for line in block]
    return parts


def _said(cell: Cell) -> Iterator[str]:
    name = f"{text(cell.model)}, {cell.cell}"
    for failure in cell.failures:
        yield f"- **{name} failed:** {text(failure)}"
    if cell.word == "not run":
        yield f"- {name}: {text(cell.sentence)}"
    for note in cell.notes:
        yield f"- {name}: {text(note)}"


def _paragraphs(why: str) -> list[str]:
    """The reason of a rule, each paragraph in one line."""
    found: list[str] = []
    for paragraph in re.split(r"\n\s*\n", why):
        found += [text(paragraph), ""]
    return found


def _hunk(hunk: Hunk) -> str:
    lines = [hunk.head]
    for sign, row in hunk.unified():
        lines.append(f"{sign}{row.line.text}")
        if not row.line.ended:
            lines.append("\\ No newline at end of file")
    return "\n".join(_block("\n".join(lines), "diff"))


def _block(content: str, language: str) -> list[str]:
    """Text in a fence, without what a log would take for a command of its own."""
    inert = re.sub(r"(?m)^(\s*):(?=:)", r"\1\\x3a", content)
    return fenced(inert.replace("##[", "#\\x23["), language=language)


def _code_html(name: str) -> str:
    """A name as code where Markdown is not read, as in a summary."""
    shown = re.sub(r"[^\w ./-]", lambda found: f"&#{ord(found[0])};", _cut(name))
    return f"<code>{shown}</code>"
