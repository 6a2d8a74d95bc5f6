"""What a rule has to say about one place."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

Status = Literal["rewrite", "done", "opted-out", "left", "hazard"]
"""What becomes of a place.

``rewrite``: the tool rewrites it. ``done``: it needs nothing any more.
``opted-out``: the line says ``# titan-migrate: ignore[CODE]``.
``left``: it must change, and a person has to do it; nothing is written before.
``hazard``: nothing has to change for the code to run; a person should look.
"""


Severity = Literal["silent", "loud", "note"]
"""How bad a hazard is, the worst first.

``silent``: figures are wrong and nothing raises. ``loud``: it raises, aborts or hangs.
``note``: nothing breaks; something is otherwise than before.
"""


@dataclass(frozen=True, order=True)
class Finding:
    """One place in the checkout and what becomes of it.

    Args:
        path: relative to the root of the checkout.
        line: from 1.
        code: the rule, ``TM101`` and so on.
        message: one sentence, what is there and why it matters.
        status: what becomes of it.
        suggestion: code to write instead, where a person has to.
        severity: of a hazard; the engine puts its rule's where a rule leaves it open.
    """

    path: str
    line: int
    code: str
    message: str
    status: Status = "rewrite"
    suggestion: str | None = None
    severity: Severity | None = None


def kind_of(severity: Severity | None) -> str:
    """What a hazard is called: ``silent hazard``, ``loud hazard`` or ``note``."""
    if severity == "note":
        return "note"
    return f"{severity} hazard" if severity else "hazard"


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Findings by severity, those without one first, and else in the order given."""
    return sorted(findings, key=lambda finding: rank(finding.severity))


def rank(severity: Severity | None) -> int:
    """0 for what is no hazard, then from 1, the worst first."""
    return get_args(Severity).index(severity) + 1 if severity else 0


class File(Protocol):
    """What a finding of several lines has to know of a file."""

    @property
    def path(self) -> str: ...

    def opted_out(self, line: int, code: str) -> bool: ...


def hazard_of_lines(
    file: File, code: str, message: str, lines: Mapping[int, str]
) -> Finding:
    """One hazard for all lines of a file that have the same to be said of them.

    Args:
        file: in which they are. Lines that opt out are not named, unless all do.
        code: of the rule.
        message: without the lines.
        lines: line, from 1 -> what to write there.
    """
    kept = [line for line in sorted(lines) if not file.opted_out(line, code)]
    named = kept or sorted(lines)
    where = f"line{'s' * (len(named) > 1)} {', '.join(map(str, named))}"
    advice = "\n".join(dict.fromkeys(lines[line] for line in named))
    return Finding(file.path, named[0], code, f"{message} ({where})", "hazard", advice)
