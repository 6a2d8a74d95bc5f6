"""Why a rewrite is not written, at the places that are left for a person then."""

import ast
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from codemods import layout
from codemods.execute.records import Mismatch
from codemods.findings import Finding
from codemods.names import Definition
from codemods.nodes import nodes
from codemods.survey import function_of

if TYPE_CHECKING:
    from codemods.plans import Facts, NewCall

_FIRST = ("TM102", "TM101", "TM104", "TM105", "TM106", "TM103", "TM107")
"""The rules that rewrite, those first whose place tells most of a function."""

_REPORT = (
    "; that is the tool's own fault: `.github/ISSUE_TEMPLATE` says how to report it"
)

_MOST = 2
"""How many differences of one function are told."""


@dataclass(frozen=True)
class Wrong:
    """Something that is wrong with what would be written.

    Args:
        path: of the file.
        what: what is wrong, in a sentence that another begins.
        line: from 1, of what would be written; 0 where it is not of one line.
        function: qualified name of the function that it is about, "" for none.
        own: it is the tool's fault, and nothing in the checkout makes it.
    """

    path: str
    what: str
    line: int = 0
    function: str = ""
    own: bool = False


def of_mismatch(found: Mismatch) -> Wrong:
    """What executing a function has shown."""
    world = f", with {found.world}" if found.world else ""
    what = f"executed as it would be written{world}, {found.what}"
    return Wrong(found.path, what, found.line, found.function)


def withheld(
    facts: "Facts", findings: Sequence[Finding], wrong: Iterable[Wrong]
) -> tuple[Finding, ...]:
    """The findings, with the places left that cannot be written.

    Args:
        facts: about the checkout as it is.
        findings: of the migration, of which none is left.
        wrong: what is wrong with it; not empty.
    """
    reasons: dict[Finding, list[str]] = {}
    for one in wrong:
        what = one.what + _REPORT * one.own
        told = reasons.setdefault(_place(facts, findings, one), [])
        if not any(_difference(what) == _difference(other) for other in told):
            told.append(_difference(what) if told else what)
    left = [_left(facts, place, told) for place, told in reasons.items()]
    kept = [finding for finding in findings if finding not in reasons]
    return tuple(
        sorted([*kept, *left], key=lambda f: (f.path, f.line, f.code, f.message))
    )


def _difference(what: str) -> str:
    """What differs, whatever the degrees with which that shows."""
    _, would, rest = what.rpartition(", it would ")
    return f"it would {rest}" if would else what


def _place(facts: "Facts", findings: Sequence[Finding], wrong: Wrong) -> Finding:
    """The place of the checkout that something wrong is about, as far as that is known."""
    inside = _lines(facts, wrong)
    near = [
        finding
        for finding in findings
        if finding.path == wrong.path and finding.status == "rewrite"
    ]
    within = [f for f in near if f.line in inside] if inside else []
    calls = {(c.site.reference.path, c.site.reference.line) for c in facts.calls}
    ordered = sorted(
        within or near,
        key=lambda f: (
            f.line != wrong.line or bool(wrong.function),
            f.code == "TM102" and (f.path, f.line) not in calls,
            f.code not in _FIRST or _FIRST.index(f.code),
            abs(f.line - wrong.line) if wrong.line else 0,
        ),
    )
    if ordered:
        return ordered[0]
    return Finding(wrong.path, wrong.line or 1, "TM102", "this has to go with the rest")


def _lines(facts: "Facts", wrong: Wrong) -> range:
    """The lines of the function that it is about, before anything is rewritten."""
    definition = Definition(wrong.path, wrong.function)
    fresh = facts.functions.get(definition)
    if fresh is not None and fresh.replaces is not None:
        definition = fresh.replaces
    node = _function(facts.survey.files[wrong.path].syntax, definition.name)
    return range(node.lineno, (node.end_lineno or 0) + 1) if node else range(0)


def _function(tree: ast.AST, name: str) -> ast.stmt | None:
    """The function or class of a qualified name."""
    here: ast.stmt | None = None
    for part in name.split("."):
        kinds = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
        found = [n for n in nodes(here or tree) if isinstance(n, kinds)]
        here = next((n for n in found if n.name == part and n is not here), None)
        if here is None:
            return None
    return here


def _left(facts: "Facts", place: Finding, reasons: Sequence[str]) -> Finding:
    call = _call(facts, place)
    told = "; ".join(reasons[:_MOST])
    if len(reasons) > _MOST:
        told += f"; and {len(reasons) - _MOST} more"
    return replace(
        place,
        status="left",
        message=f"this {'call of apply_ddp ' if call else ''}is left for a person: {told}",
        suggestion=_code(call) if call else _text(facts, place),
    )


def _call(facts: "Facts", place: Finding) -> "NewCall | None":
    for call in facts.calls_in(place.path):
        if place.code == "TM102" and call.site.reference.line == place.line:
            return call
    return None


def _code(call: "NewCall") -> str:
    """The call, and what it calls as far as that is followed, for a person to mend."""
    text = layout.bracketed(f"{call.spelling}(", call.arguments, ")")
    if call.mesh.variable:
        text = f"{call.mesh.variable} = {call.mesh.assigned}\n{text}"
    return f"{text}\n\n\n# as far as it is followed\n{call.function.plan.text}"


def _text(facts: "Facts", place: Finding) -> str | None:
    """The function that is written there, as far as it is followed."""
    for function in facts.written():
        old = function.replaces
        node = function_of(facts.checkout, old) if old else None
        if old and node and (old.path, node.lineno) == (place.path, place.line):
            return f"# as far as it is followed\n{function.plan.text}"
    return None
