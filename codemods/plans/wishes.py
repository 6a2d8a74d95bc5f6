"""What a derived function must do beyond mirroring, in this checkout."""

import ast
import re
from collections.abc import Sequence

from codemods.mirror import Wishes
from codemods.names import Definition
from codemods.plans.dimension import spelling
from codemods.plans.naming import replicate_name
from codemods.plans.records import Facts
from codemods.plans.sites import keeps_averaging, standalone
from codemods.plans.ties import ties_of
from codemods.shapes import FULLY_SHARD
from codemods.survey import CallSite, function_of


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
    return Wishes(
        name=name or facts.target.function_name,
        mesh_keyword=facts.target.mesh_keyword,
        fully_shard=fully_shard,
        sum_gradients=bool(facts.survey.global_tokens),
        division_helper=_division_helper(facts),
        averaging_option=any(keeps_averaging(facts, site) for site in sites),
        without_dtypes=any(standalone(site) for site in sites),
        ties=ties_of(facts, sites),
        log=log_statement(facts, apply_ddp),
        returns_model=returns_model(facts, apply_ddp),
        dimension=_looked_up(facts, source),
        replicate=replicate_name(facts, home.path),
    )


def _looked_up(facts: Facts, path: str) -> str | None:
    """The name of the mesh that is right as it is looked up: in mid 2024 the only one.

    A mesh by a name that is also there under sharding would do, but says what is not.
    """
    wanted = spelling(facts, path)
    if isinstance(wanted, str) or wanted.names != ("dp",):
        return None
    return "dp"


def _division_helper(facts: Facts) -> str | None:
    """torchtitan's own function that switches the division of gradients off."""
    for file in facts.checkout.mentioning("set_gradient_divide_factor(1"):
        for node in file.syntax.body:
            if not isinstance(node, ast.FunctionDef):
                continue
            text = ast.unparse(node)
            if "set_gradient_divide_factor(1" in text and "fully_shard" not in text:
                return node.name
    return None


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
            if re.match(r"\w*log\w*\.", text):
                if facts.target.function_name == "apply_ddp":
                    return text
                return re.sub(r"\bDDP\b", "replicate", text)
    return None


def returns_model(facts: Facts, apply_ddp: Definition | None) -> bool:
    """Whether ``apply_ddp`` returns its model."""
    node = function_of(facts.checkout, apply_ddp) if apply_ddp else None
    if not node or not node.args.args:
        return False
    return any(
        isinstance(n, ast.Return)
        and isinstance(n.value, ast.Name)
        and n.value.id == node.args.args[0].arg
        for n in ast.walk(node)
    )
