"""Comments and messages of ``apply_fsdp``, as far as they are true of replicate."""

import io
import re
import tokenize
from collections.abc import Sequence

_SHARDING = re.compile(
    r"shard|prefetch|fsdp|gather|offload|(forward|backward) pass", re.IGNORECASE
)
_PRAGMA = re.compile(r"#\s*(pyrefly|type|noqa|pyre|mypy|pylint)\b")
_TIES = re.compile(
    r"\b(un)?ti(ed?|es|ying)\b|\btying\b|weights? (is|are) shared|shar(e|es|ed|ing)\b.*weight"
    r"|weight.?sharing",
    re.IGNORECASE,
)
_WORDS = (
    (r"\bFSDP2?\b|\bfully_shard\b", "replicate"),
    (r"\b(fully )?sharded\b", "wrapped"),
    (r"\b(fully )?sharding\b", "wrapping"),
    (r"\b(fully )?shard\b", "wrap"),
)
_STRINGS = (tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))


def is_pragma(comment: str) -> bool:
    """Whether a comment speaks to a checker, of the line below it."""
    return bool(_PRAGMA.match(comment))


def of_replicate(comments: Sequence[str]) -> list[str]:
    """The lines of one comment, less those that are true of sharding only.

    What it says of tied weights holds for any groups, so that stays, in other words.
    """
    pragmas = [comment for comment in comments if is_pragma(comment)]
    prose = " ".join(c for c in comments if c not in pragmas)
    if not _SHARDING.search(prose) or "gradient division" in prose:
        return list(comments)
    fresh = [c if c in pragmas else _said(c) for c in comments]
    if _TIES.search(prose) and not _SHARDING.search(_said(prose)):
        return fresh
    return pragmas


def reworded(statement: str) -> str:
    """A statement whose strings speak of replicate where they spoke of FSDP."""
    lines = statement.split("\n")
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(statement).readline))
    except (tokenize.TokenError, SyntaxError):
        return statement
    for token in reversed(tokens):
        (row, start), (end_row, end) = token.start, token.end
        if token.type in _STRINGS and row == end_row:
            line = lines[row - 1]
            said = re.sub(*_WORDS[0], line[start:end])
            lines[row - 1] = line[:start] + said + line[end:]
    return "\n".join(lines)


def _said(comment: str) -> str:
    for pattern, word in _WORDS:
        comment = re.sub(pattern, word, comment)
    return comment
