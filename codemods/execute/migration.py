"""A migration executed: what is known of it beside its text, and what it has shown."""

import ast
from collections.abc import Iterable, Iterator, Mapping, Sequence

from codemods import meshes
from codemods.autocast import FUNCTION as AUTOCAST
from codemods.autocast import of_a_test
from codemods.bindings import Checkout
from codemods.execute.confirm import Known, confirm, lines_of
from codemods.execute.placements import takes_placements
from codemods.execute.records import Place, Verdict
from codemods.execute.tree import Tree
from codemods.execute.worlds import degrees_of, few_degrees
from codemods.findings import Finding
from codemods.nodes import nodes
from codemods.plans import Facts
from codemods.plans.ties import ties_of
from codemods.shapes import first_parameter
from codemods.survey import parallel_dims_files

_GUARDS, _NOT_TAKEN_OVER = GOING = "TM103", "TM212"
"""The rules that say what goes: guards, and statements that a person may want to keep."""


def executed(
    facts: Facts,
    after: Checkout,
    findings: Iterable[Finding],
    degrees: Sequence[Mapping[str, int]] | None = None,
    *,
    flips: bool = False,
) -> Verdict:
    """Execute what a migration changes.

    Args:
        facts: about the checkout as it is.
        after: as it would be.
        findings: of the migration; of these, what ``GOING`` says.
        degrees: of parallelism to execute it under; each branch once if left out, and
            each axis of the fork's own.
        flips: also answer each open question the other way.
    """
    known = Known(
        facts.target.mesh,
        ties=_ties(facts),
        said=set(_said(facts.checkout, findings)),
        templates={
            (f.definition.path, f.definition.name)
            for f in facts.written()
            if f.mirrors is None and f.branch is None
        },
        full_precision=facts.target.keep_precision,
        summed={(d.path, d.name) for d in facts.summing},
        due=set(_due(facts)),
        averaging={
            (call.site.reference.path, call.site.reference.scope)
            for call in facts.calls
            if call.standalone
            and call.site.reference.path not in facts.survey.global_tokens
        },
    )
    if degrees is None:
        degrees = [*few_degrees(), *degrees_of(_own(facts.checkout))]
    return confirm(facts.checkout, after, known, degrees, flips=flips)


def _own(checkout: Checkout) -> list[str]:
    """The numbers that a ParallelDims of the fork has beside torchtitan's degrees."""
    homes = [file.path for file, _ in parallel_dims_files(checkout)]
    return [*dict.fromkeys(n for h in homes for n in meshes.own_degrees(checkout, h))]


def _said(checkout: Checkout, findings: Iterable[Finding]) -> Iterator[tuple[str, int]]:
    """Path and line of what goes, as findings say: all that such a statement holds."""
    for finding in findings:
        if (finding.code, finding.status) == (_GUARDS, "rewrite"):
            yield finding.path, finding.line
        elif finding.code == _NOT_TAKEN_OVER:
            for node in nodes(checkout.files[finding.path].syntax):
                if isinstance(node, ast.stmt) and node.lineno == finding.line:
                    yield from lines_of(finding.path, [node])


def _due(facts: Facts) -> Iterator[Place]:
    """The choices of autocast and the adapters of state dicts, changed or not."""
    tree = Tree(facts.checkout)
    for file in facts.checkout.mentioning(AUTOCAST, "placement.dim"):
        if facts.functions and not file.excluded and not of_a_test(file.path):
            places = file.mentions(b"placement.dim")
            for name, (node, _) in tree.functions(file.path).items():
                chooses = node.name == AUTOCAST and "autocast(" in ast.unparse(node)
                if chooses or (places and takes_placements(node)):
                    yield file.path, name


def _ties(facts: Facts) -> dict[Place, list[tuple[str, str]]]:
    """The modules with one weight, as a plan names them, by the place of the plan."""
    found: dict[Place, list[tuple[str, str]]] = {}
    for call in facts.calls:
        function = call.site.function
        model = first_parameter(function) if function is not None else None
        if model is None or model == "self" or not call.site.sibling.steps:
            continue
        pairs = ties_of(facts, [call.site])
        if pairs:
            place = (call.site.reference.path, call.site.reference.scope)
            found[place] = [(f"{model}.{a}", f"{model}.{b}") for a, b in pairs]
    return found
