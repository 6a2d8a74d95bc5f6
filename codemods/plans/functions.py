"""What each definition of ``apply_ddp`` becomes."""

from collections.abc import Sequence

import libcst as cst

from codemods import mirror
from codemods.findings import Finding
from codemods.mirror import CannotMirror, Parameter, Plan
from codemods.names import Definition
from codemods.plans.records import Facts, NewFunction
from codemods.plans.template import template
from codemods.plans.wishes import wishes_for
from codemods.survey import CallSite, function_of


def function_for(facts: Facts, definition: Definition) -> NewFunction:
    """What a definition of ``apply_ddp`` becomes: the mirror of its ``apply_fsdp``."""
    sites = [
        site
        for site in facts.survey.call_sites
        if site.reference.definition == definition
    ]
    local = Definition(definition.path, "apply_fsdp")
    candidates = [
        *([local] if function_of(facts.checkout, local) else []),
        *(s.fsdp_definition for s in sites if s.reference.path == definition.path),
        *(s.fsdp_definition for s in sites),
    ]
    name = facts.target.function_name
    reason = "this checkout has no apply_fsdp to derive it from"
    for candidate in filter(None, candidates):
        try:
            own = [s for s in sites if not _has_its_own(facts, s, candidate)]
            plan = _derive(facts, candidate, definition, own)
        except CannotMirror as error:
            reason = (
                f"{candidate.path} defines an apply_fsdp that is not followed: {error}"
            )
        else:
            place = Definition(definition.path, name)
            return NewFunction(place, plan, candidate, definition)
    node = function_of(facts.checkout, definition)
    assert node is not None
    facts.findings.append(
        Finding(
            definition.path,
            node.lineno,
            "TM210",
            f"{name} is written from a fixed template (blocks, then the root), because "
            f"{reason}. Compare its groups with how your model is built.",
            "hazard",
        )
    )
    plan = template(facts, definition, sites)
    return NewFunction(Definition(definition.path, name), plan, None, definition)


def _derive(
    facts: Facts,
    apply_fsdp: Definition,
    apply_ddp: Definition | None = None,
    sites: Sequence[CallSite] = (),
) -> Plan:
    """The mirror of one ``apply_fsdp``, for the call sites that will use it."""
    key = (apply_fsdp, apply_ddp, tuple(site.reference for site in sites))
    if key in facts.derived:
        return facts.derived[key]
    tree = facts.survey.files[apply_fsdp.path].tree
    node = next(
        n
        for n in tree.body
        if isinstance(n, cst.FunctionDef) and n.name.value == apply_fsdp.name
    )
    wishes = wishes_for(facts, apply_fsdp, apply_ddp, sites)
    plan = facts.derived[key] = mirror.derive(tree, node, wishes)
    return plan


def _has_its_own(facts: Facts, site: CallSite, usual: Definition) -> bool:
    """Whether the apply_fsdp beside a call wraps in other groups, so that it gets its own."""
    own = site.fsdp_definition
    if own is None or own == usual:
        return False
    try:
        return not _derive(facts, own).same_wrapping(_derive(facts, usual))
    except CannotMirror:
        return False


def own_plan(facts: Facts, site: CallSite, function: NewFunction) -> NewFunction:
    """The function that wraps as the ``apply_fsdp`` beside this call does.

    A folder with an ``apply_fsdp`` of its own, whose groups differ, gets an
    ``apply_replicate`` of its own beside it.
    """
    own = site.fsdp_definition
    if own is None or own == function.mirrors or function.replaces is None:
        return function
    for known in facts.functions.values():
        if known.mirrors == own:
            return known
    try:
        if function.mirrors is not None:
            usual = _derive(facts, function.mirrors)
            if _derive(facts, own).same_wrapping(usual):
                return function
        sharing = [s for s in facts.survey.call_sites if s.fsdp_definition == own]
        plan = _derive(facts, own, sites=sharing)
    except CannotMirror:
        return function
    place = Definition(own.path, facts.target.function_name)
    if facts.checkout.defines(place):
        return function
    added = NewFunction(place, plan, own, None)
    facts.functions[place] = added
    return added


def existing(facts: Facts, definition: Definition) -> NewFunction:
    """A function that is already migrated, with the signature it has."""
    node = function_of(facts.checkout, definition)
    assert node is not None
    file = facts.survey.files[definition.path]
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    without = len(node.args.posonlyargs + node.args.args) - len(node.args.defaults)
    parameters = tuple(
        Parameter(
            arg.arg,
            file.segment(arg),
            index < without,
        )
        for index, arg in enumerate(arguments)
    )
    text = file.segment(node)
    plan = Plan(
        definition.name,
        parameters,
        text,
        "gradient_division" in text or "set_gradient_divide_factor" in text,
        (),
    )
    local = Definition(definition.path, "apply_fsdp")
    mirrors = local if function_of(facts.checkout, local) else None
    return NewFunction(definition, plan, mirrors, None)
