"""What the commits of a migration say."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence

from codemods.findings import Finding, kind_of, worst_first
from codemods.rules import all_rules
from codemods.steps import Step
from migrator.changeset import Changeset
from migrator.render import inert, precision

BASE_TRAILER = "Titan-Migrate-Base"
"""The trailer by which the commit of a migration names the unmigrated revision."""

_WIDTH = 72


_WORDS = ("TM215", "TM216", "TM217", "TM218")
"""Hazards of words, which go with the help that is rewritten, where any is."""


def message(changeset: Changeset, steps: Sequence[Step], step: Step, base: str) -> str:
    """The message of the commit that takes one step.

    Args:
        changeset: the whole migration.
        steps: those of the whole series, in their order.
        step: what this commit takes of it; it names what is left for a person because of that.
        base: full hash of the unmigrated revision.
    """
    paragraphs = [_wrapped(part) for part in step.why.strip().split("\n\n")]
    paragraphs += [
        _wrapped(step.upstream),
        "\n".join(_rules(changeset.findings, step)),
    ]
    used = changeset.outcome.about.dependency.name
    if used:
        paragraphs.append(
            _wrapped(
                f"This is written for {inert(used)}, which the checkout uses and does not hold."
            )
        )
    paragraphs.append("\n".join(_notes(changeset, step)))
    hazards = [f for f in changeset.findings if f.status == "hazard"]
    own = [f for f in hazards if _home(f, steps) is step]
    if own:
        paragraphs.append("\n".join(_hazards(own)))
    paragraphs.append(f"{BASE_TRAILER}: {base}")
    return "\n\n".join([step.subject, *paragraphs]) + "\n"


def _rules(findings: Iterable[Finding], step: Step) -> Iterator[str]:
    yield "Rules, and in how many files each changed something:"
    done = [f for f in findings if f.status == "rewrite"]
    for rule in all_rules():
        files = {f.path for f in done if f.code == rule.CODE}
        if files and rule.CODE in step.codes:
            yield _wrapped(f"- {rule.CODE} {rule.TITLE}: {len(files)}", "  ")


def _notes(changeset: Changeset, step: Step) -> Iterator[str]:
    """What a reviewer has to know that no line of the diff says."""
    yield "Review notes:"
    sentence = precision(changeset)
    moves = "TM101" in step.codes or "TM102" in step.codes
    if sentence and moves:
        yield _wrapped(f"- {sentence}", "  ")
    yield _wrapped(
        "- Nothing was trained to write this. `titan-migrate verify` trains both revisions, "
        "compares them, and names what it did not train.",
        "  ",
    )
    if moves:
        yield _wrapped(
            "- Merging upstream's main of April 2026 or later meets PR 2900, which replaces "
            "what is written here: take upstream's then.",
            "  ",
        )


def _home(hazard: Finding, steps: Sequence[Step]) -> Step:
    """The step because of which a hazard is one."""
    helps = [step for step in steps if "TM107" in step.codes]
    return helps[0] if helps and hazard.code in _WORDS else steps[0]


def _hazards(hazards: Iterable[Finding]) -> Iterator[str]:
    """Where a person has to look, by severity and rule."""
    yield "Left for a person, with lines as in the base revision:"
    titles = {rule.CODE: rule.TITLE for rule in all_rules()}
    places: dict[tuple[str, str], dict[str, None]] = {}
    for hazard in worst_first(sorted(hazards, key=lambda hazard: hazard.code)):
        place = inert(f"{hazard.path}:{hazard.line}")
        alike = hazard.code, kind_of(hazard.severity)
        places.setdefault(alike, {})[place] = None
    for (code, kind), listed in places.items():
        yield _wrapped(f"- {code} {titles[code]} ({kind}):", "  ")
        # A place a line: no path is broken, and none can begin a line.
        yield from (f"  {place}" for place in listed)


def _wrapped(text: str, indent: str = "") -> str:
    return textwrap.fill(
        " ".join(text.split()),
        _WIDTH,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
