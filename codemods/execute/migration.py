"""A migration executed: what is known of it beside its text, and what it has shown."""

from collections.abc import Iterable, Mapping, Sequence

from codemods.bindings import Checkout
from codemods.execute.confirm import Place, Verdict, confirm
from codemods.execute.worlds import few_degrees
from codemods.findings import Finding
from codemods.plans import Facts
from codemods.plans.ties import ties_of
from codemods.shapes import first_parameter

_TOLD = "TM212"
"""The rule that tells a person which statements to take over."""


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
        findings: of the migration.
        degrees: of parallelism to execute it under; each branch once if left out.
        flips: also answer each open question the other way.
    """
    return confirm(
        facts.checkout,
        after,
        facts.target.mesh,
        degrees=few_degrees() if degrees is None else degrees,
        ties=_ties(facts),
        flips=flips,
        said={(f.path, f.line) for f in findings if f.code == _TOLD},
        templates={
            (f.definition.path, f.definition.name)
            for f in facts.written()
            if f.mirrors is None and f.branch is None
        },
        full_precision=facts.target.keep_precision,
        summed=bool(facts.survey.global_tokens),
    )


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
