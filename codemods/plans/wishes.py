"""What a derived function must do beyond mirroring, in this checkout."""

import ast
import re
from collections.abc import Sequence

from codemods.mirror import Wishes
from codemods.names import Definition
from codemods.nodes import nodes, spelled
from codemods.plans.dimension import spelling
from codemods.plans.naming import replicate_name
from codemods.plans.records import Facts
from codemods.plans.sites import keeps_averaging, standalone
from codemods.plans.ties import has_stand_ins, ties_of
from codemods.plans.trainers import trainers_of
from codemods.shapes import FULLY_SHARD, first_parameter, is_ddp_replicate
from codemods.survey import CallSite, function_of

_LOGS = re.compile(r"\w*log\w*\.")
"""What a statement begins with that logs."""


def wishes_for(
    facts: Facts,
    source: str,
    home: Definition,
    apply_ddp: Definition | None,
    sites: Sequence[CallSite],
    name: str,
) -> Wishes:
    """The wishes for the mirror of one ``apply_fsdp``.

    Args:
        facts: about the checkout.
        source: the file of what is mirrored.
        home: what the new function will stand beside, or in the place of.
        apply_ddp: what the new function takes the place of, or None.
        sites: the calls that will use it.
        name: of the new function, empty for the usual one.
    """
    names = facts.checkout.names(source)
    fully_shard = frozenset(
        local
        for local, imported in names.top.imports.items()
        if FULLY_SHARD.match(f"{imported.module}.{imported.name}")
    )
    helpers = _division_helpers(facts)
    return Wishes(
        name=name or facts.target.function_name,
        mesh_keyword=facts.target.mesh_keyword,
        fully_shard=fully_shard,
        sum_gradients=summed(facts, home, name, sites),
        division_helper=next(iter(helpers), None),
        division_helpers=frozenset(helpers),
        averaging_option=any(keeps_averaging(facts, site) for site in sites),
        without_dtypes=any(standalone(facts, site) for site in sites),
        ties=ties_of(facts, sites),
        stand_ins=has_stand_ins(facts, sites),
        log=log_statement(facts, apply_ddp),
        said=_said(facts, apply_ddp),
        returns_model=returns_model(facts, apply_ddp, sites),
        dimension=_looked_up(facts, source),
        replicate=replicate_name(facts, home.path),
    )


def summed(
    facts: Facts, home: Definition, name: str, sites: Sequence[CallSite]
) -> bool:
    """Whether the training loops want gradients summed, whatever ``apply_fsdp`` does."""
    summed = trainers_of(facts, sites).sum
    if name and summed:
        facts.summing |= {Definition(home.path, name)}
    return summed


def _looked_up(facts: Facts, path: str) -> str | None:
    """The name of the mesh that is right as it is looked up: in mid 2024 the only one.

    A mesh by a name that is also there under sharding would do, but says what is not.
    """
    wanted = spelling(facts, path)
    if isinstance(wanted, str) or wanted.names != ("dp",):
        return None
    return "dp"


def _division_helpers(facts: Facts) -> list[str]:
    """The functions that switch the division of gradients off, torchtitan's own first."""
    word = "set_gradient_divide_factor(1"
    found = [
        node.name
        for file in (*facts.checkout.mentioning(word), *facts.checkout.providing(word))
        for node in file.syntax.body
        if isinstance(node, ast.FunctionDef)
        if word in spelled(node) and "fully_shard" not in spelled(node)
    ]
    return sorted(found, key=lambda name: not name.startswith("disable_"))


def _said(facts: Facts, apply_ddp: Definition | None) -> frozenset[str]:
    """What ``apply_ddp`` logs, wherever in it."""
    node = function_of(facts.checkout, apply_ddp) if apply_ddp else None
    return frozenset(
        spelled(inner)
        for inner in (nodes(node) if node is not None else ())
        if isinstance(inner, ast.Expr) and _LOGS.match(spelled(inner))
    )


def log_statement(facts: Facts, apply_ddp: Definition | None) -> str | None:
    """The line with which ``apply_ddp`` logs success, saying what is true now."""
    definition = apply_ddp or next(iter(facts.survey.definitions), None)
    node = function_of(facts.checkout, definition) if definition else None
    if definition is None or node is None:
        return None
    file = facts.survey.files[definition.path]
    for statement in reversed(node.body):
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            text = file.segment(statement)
            if _LOGS.match(text):
                if facts.target.function_name == "apply_ddp":
                    return text
                return re.sub(r"\bDDP\b", "replicate", text)
    return None


def returns_model(
    facts: Facts, apply_ddp: Definition | None, sites: Sequence[CallSite] = ()
) -> bool:
    """Whether ``apply_ddp`` returns its model, or a call of it takes it for that."""
    if any(value_is_used(facts, site) for site in sites):
        return True
    node = function_of(facts.checkout, apply_ddp) if apply_ddp else None
    first = first_parameter(node) if node else None
    return first is not None and any(
        isinstance(value, ast.Name) and value.id == first for value in _returned(node)
    )


def value_is_used(facts: Facts, site: CallSite) -> bool:
    """Whether a call is more than a statement."""
    around = site.function or facts.survey.files[site.reference.path].syntax
    return not any(
        isinstance(node, ast.Expr) and node.value is site.node for node in nodes(around)
    )


def other_value(facts: Facts, site: CallSite) -> str | None:
    """What the function of a call returns that is not its model, if anything."""
    definition = site.reference.definition
    node = function_of(facts.checkout, definition)
    if node is None or definition not in facts.survey.definitions:
        return None
    uses = {id(u.call): u for u in facts.checkout.names(definition.path).uses if u.call}

    def wraps(value: ast.AST) -> bool:
        use = uses.get(id(value))
        return use is not None and is_ddp_replicate(
            facts.checkout, definition.path, use
        )

    models = {first_parameter(node)} | {
        ast.unparse(target)
        for inner in nodes(node)
        if isinstance(inner, ast.Assign) and wraps(inner.value)
        for target in inner.targets
    }
    for value in _returned(node):
        if not wraps(value) and ast.unparse(value) not in models:
            return ast.unparse(value)
    return None


def _returned(node: ast.FunctionDef | None) -> list[ast.expr]:
    """The values that a function returns."""
    return [
        inner.value
        for inner in (nodes(node) if node else ())
        if isinstance(inner, ast.Return) and inner.value is not None
    ]
