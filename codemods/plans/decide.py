"""All decisions for a checkout: its definitions first, then every call."""

from codemods.names import Definition
from codemods.phases import phase
from codemods.plans import by_name, decorated, outside, passed_on, rivals
from codemods.plans.calls import decide_call, decide_inline
from codemods.plans.functions import existing, function_for
from codemods.plans.records import Facts
from codemods.survey import Survey, function_of
from codemods.targets import Target


@phase
def decide(survey: Survey, target: Target) -> Facts:
    """The decisions for a checkout that still carries DDP."""
    facts = Facts(survey, target)
    opted_out = {d for d in survey.definitions if _definition_opted_out(survey, d)}
    for definition in survey.definitions:
        if definition not in opted_out:
            function = function_for(facts, definition)
            if function is not None:
                facts.functions[function.definition] = function
    for definition in survey.replicates:
        facts.functions[definition] = existing(facts, definition)
    for site in survey.call_sites:
        decide_call(facts, site)
    for site in survey.inline:
        decide_inline(facts, site)
    outside.report(facts)
    passed_on.report(facts)
    by_name.report(facts)
    decorated.report(facts)
    rivals.report(facts)
    return facts


def _definition_opted_out(survey: Survey, definition: Definition) -> bool:
    node = function_of(survey.checkout, definition)
    file = survey.files[definition.path]
    return node is not None and file.opted_out(node.lineno, "TM101")
