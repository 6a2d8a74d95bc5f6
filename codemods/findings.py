"""What a rule has to say about one place."""

from dataclasses import dataclass
from typing import Literal

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
