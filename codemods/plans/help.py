"""What the help of the configuration says of DDP, and whether the new words are certain."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

from codemods.autocast import choices, mixed_precision, of_a_test
from codemods.nodes import of_kind
from codemods.plans.records import Facts
from codemods.plans.sites import of_ours
from codemods.source import SourceFile
from codemods.wording import SENTENCES, About, Sentence

_OPTIONS = {"compute": "mixed_precision_param", "reduce": "mixed_precision_reduce"}


@dataclass(frozen=True)
class Help:
    """A sentence of a string that is not so under replicate.

    Args:
        line: of the sentence, from 1.
        last: of the string, on which a comment can stand.
        raw: the string as it is written, with ``\\n`` as line ends.
        sentence: which one.
        certain: whether the words to put instead are true for sure.
    """

    line: int
    last: int
    raw: str
    sentence: Sentence
    certain: bool


def lies(facts: Facts) -> Iterator[tuple[SourceFile, Help]]:
    """Every sentence of a help or a docstring that stops being so."""
    if not facts.moves:
        return
    certain = _certain(facts)
    for file in facts.checkout.mentioning("DDP", "takes effect"):
        if file.excluded or of_a_test(file.path) or not of_ours(facts, file.path):
            continue
        for node in of_kind(file.syntax, ast.Constant):
            if isinstance(node.value, str):
                for sentence in SENTENCES:
                    said = _said(facts, file, node, node.value, sentence, certain)
                    if said is not None:
                        yield file, said


def _said(
    facts: Facts,
    file: SourceFile,
    node: ast.Constant,
    text: str,
    sentence: Sentence,
    certain: set[About],
) -> Help | None:
    loose = sentence.loose.search(text)
    if loose is None or (facts.target.keep_precision and sentence.about != "method"):
        return None
    raw = file.segment(node)
    exact = sentence.exact.search(raw) if _is_one_literal(raw) else None
    before = raw[: exact.start()] if exact else text[: loose.start()]
    return Help(
        node.lineno + before.count("\n"),
        node.end_lineno or node.lineno,
        raw,
        sentence,
        exact is not None and sentence.about in certain,
    )


def _is_one_literal(raw: str) -> bool:
    """Whether this is one string, and neither several in a row nor a part of an f-string."""
    if not re.match(r"[rRuU]?[\"']", raw):
        return False
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(raw).readline))
    except (tokenize.TokenError, SyntaxError):
        return False
    strings = [token for token in tokens if token.string.strip()]
    return len(strings) == 1 and strings[0].type == tokenize.STRING


def _certain(facts: Facts) -> set[About]:
    """What the sentences may be about for the new words to be true of all of the tree."""
    if not is_whole(facts):
        return set()
    found: set[About] = {"method"}
    if _follows(facts, "reduce"):
        found.add("reduce")
    if _follows(facts, "compute") and _autocast_goes(facts):
        found.add("compute")
    return found


def is_whole(facts: Facts) -> bool:
    """Whether nothing of the checkout stays DDP's."""
    survey = facts.survey
    calls = [call.site for call in facts.calls]
    old = [s for s in survey.call_sites if s.reference.definition in survey.definitions]
    return (
        not any(finding.status == "left" for finding in facts.findings)
        and all(facts.becomes(definition) for definition in survey.definitions)
        and all(any(site is call for call in calls) for site in (*old, *survey.inline))
        and not (survey.direct_uses or survey.class_uses or survey.unresolved)
    )


def _follows(facts: Facts, about: About) -> bool:
    """Whether every job's replicate casts to what the option says."""
    option = _OPTIONS[about]
    calls = [call for call in facts.calls if not call.standalone]
    return bool(calls) and all(
        any(option in argument for argument in call.arguments)
        or option in call.function.plan.text
        for call in calls
    )


def _autocast_goes(facts: Facts) -> bool:
    """Whether autocast is off wherever replicate casts, and stays on for a single device."""
    if mixed_precision(facts.checkout) != "here":
        return False
    found = [
        (file, choice)
        for file in facts.checkout.mentioning("autocast")
        if not of_a_test(file.path)
        for choice in choices(facts.checkout, file)
    ]
    return bool(found) and all(
        choice.state in ("open", "done") and not file.mentions(b"TM105")
        for file, choice in found
    )
