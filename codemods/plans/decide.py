"""All decisions for a checkout: its definitions first, then every call."""

from codemods.findings import Finding
from codemods.names import Definition
from codemods.plans import outside
from codemods.plans.calls import decide_call
from codemods.plans.functions import existing, function_for
from codemods.plans.records import Facts, NewFunction
from codemods.survey import Survey, function_of
from codemods.targets import Target


def decide(survey: Survey, target: Target) -> Facts:
    """The decisions for a checkout that still carries DDP."""
    facts = Facts(survey, target)
    opted_out = {d for d in survey.definitions if _definition_opted_out(survey, d)}
    for definition in survey.definitions:
        if definition not in opted_out and not _name_taken(facts, definition):
            function = function_for(facts, definition)
            taken = facts.functions.setdefault(function.definition, function)
            if taken is not function:
                _two_of_one_name(facts, definition, taken)
    for definition in survey.migrated:
        facts.functions[definition] = existing(facts, definition)
    for site in survey.call_sites:
        decide_call(facts, site)
    outside.report(facts)
    return facts


def _two_of_one_name(facts: Facts, definition: Definition, other: NewFunction) -> None:
    """Report two functions of a module that would both get the new name."""
    node = function_of(facts.checkout, definition)
    assert node is not None and other.replaces is not None
    facts.findings.append(
        Finding(
            definition.path,
            node.lineno,
            "TM101",
            f"{definition.name} wraps with DDP as {other.replaces.name} does, and both would "
            f"be called {other.definition.name}: call one of them in place of the other",
            "left",
            f"{definition.name} = {other.replaces.name}",
        )
    )


def _definition_opted_out(survey: Survey, definition: Definition) -> bool:
    node = function_of(survey.checkout, definition)
    file = survey.files[definition.path]
    return node is not None and file.opted_out(node.lineno, "TM101")


def _name_taken(facts: Facts, definition: Definition) -> bool:
    """Whether the module has something else of the new name; reported if so."""
    name = facts.target.function_name
    if name == definition.name:
        return False
    top = facts.checkout.names(definition.path).top
    if name not in top.bound and name not in top.imports:
        return False
    node = function_of(facts.checkout, definition)
    assert node is not None
    facts.findings.append(
        Finding(
            definition.path,
            node.lineno,
            "TM101",
            f"there is something else called {name} in this module: rename it first, or "
            "choose another name with --function-name",
            "left",
            f"def {name}(...)",
        )
    )
    return True
