"""What the commits of a migration say."""

import textwrap
from collections.abc import Iterable, Iterator

from codemods.findings import Finding, kind_of, worst_first
from codemods.rules import all_rules
from codemods.steps import Step
from migrator.changeset import Changeset
from migrator.render import inert, precision

BASE_TRAILER = "Titan-Migrate-Base"
"""The trailer by which the commit of a migration names the unmigrated revision."""

_WIDTH = 72


def message(changeset: Changeset, step: Step, base: str, last: bool) -> str:
    """The message of the commit that takes one step.

    Args:
        changeset: the whole migration.
        step: what this commit takes of it.
        base: full hash of the unmigrated revision.
        last: whether no commit follows; this one names what is left for a person.
    """
    paragraphs = [_wrapped(part) for part in step.why.strip().split("\n\n")]
    paragraphs += [
        _wrapped(step.upstream),
        "\n".join(_rules(changeset.findings, step)),
    ]
    used = changeset.outcome.survey.dependency.name
    if used:
        paragraphs.append(
            _wrapped(
                f"This is written for {inert(used)}, which the checkout uses and does not hold."
            )
        )
    sentence = precision(changeset)
    if sentence and "TM101" in step.codes:
        paragraphs.append(_wrapped(sentence))
    hazards = [f for f in changeset.findings if f.status == "hazard"]
    if last and hazards:
        paragraphs.append("\n".join(_hazards(hazards)))
    paragraphs += [
        "Check it with `titan-migrate verify`, which trains both and compares.",
        f"{BASE_TRAILER}: {base}",
    ]
    return "\n\n".join([step.subject, *paragraphs]) + "\n"


def _rules(findings: Iterable[Finding], step: Step) -> Iterator[str]:
    yield "Rules, and in how many files each changed something:"
    done = [f for f in findings if f.status == "rewrite"]
    for rule in all_rules():
        files = {f.path for f in done if f.code == rule.CODE}
        if files and rule.CODE in step.codes:
            yield _wrapped(f"- {rule.CODE} {rule.TITLE}: {len(files)}", "  ")


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
