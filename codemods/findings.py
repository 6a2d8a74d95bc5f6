"""What a rule has to say about one place."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

Status = Literal["rewrite", "done", "opted-out", "left", "hazard"]
"""What becomes of a place.

``rewrite``: the tool rewrites it. ``done``: it needs nothing any more.
``opted-out``: the line says ``# titan-migrate: ignore[CODE]``.
``left``: it must change, and a person has to do it; nothing is written before.
``hazard``: nothing has to change for the code to run; a person should look.
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
    """

    path: str
    line: int
    code: str
    message: str
    status: Status = "rewrite"
    suggestion: str | None = None


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
