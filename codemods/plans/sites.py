"""Where a call site is: in which model's folder, inside or outside of the training loop."""

import ast
import re

from codemods.autocast import FUNCTION as AUTOCAST
from codemods.autocast import of_a_test
from codemods.callers import Caller, Holder, callers, holder, holders, makers
from codemods.modules import PLAN_OF_A_SPEC, Function
from codemods.names import Definition
from codemods.nodes import dotted, nodes, taken
from codemods.plans.records import Facts, NewCall
from codemods.source import SourceFile
from codemods.survey import CallSite, divides_by_global_tokens, function_of

_CONFIGURATIONS = {"job_config", "training", "config"}
_OF_A_TRAINER = re.compile(r"\b(JobConfig|Training|TrainerConfig)\b")
_DEPTH = 4
"""Through how many functions a plan is looked for."""


def folder_of(path: str) -> str:
    """The folder of a model or an experiment, ``torchtitan/models/qwen3``."""
    found = re.match(r"(.*?\b(?:models|experiments)/[^/]+)/", path)
    return found[1] if found else path.rpartition("/")[0]


def of_ours(facts: Facts, path: str) -> bool:
    """Whether a file is not of an experiment that has its own way to replicate."""
    folder = folder_of(path)
    ours = {folder_of(site.reference.path) for site in facts.survey.call_sites}
    return folder in ours or "experiments/" not in path


def is_inline(facts: Facts, call: NewCall) -> bool:
    """Whether a call was of DDP's ``replicate`` itself."""
    return any(call.site is site for site in facts.survey.inline)


def keeps_averaging(facts: Facts, site: CallSite) -> bool:
    """A call outside of the training loop that divides by the global token count."""
    home = facts.survey.files[site.reference.path]
    return standalone(facts, site) and not home.all(divides_by_global_tokens)


def standalone(facts: Facts, site: CallSite) -> bool:
    """A call with neither an ``apply_fsdp`` beside it nor a configuration in reach.

    Not what a plan calls: torchtitan's own loop trains that model.
    """
    if site.fsdp_call is not None:
        return False
    file = facts.survey.files[site.reference.path]
    around = holders(file, site.node.lineno)
    if any(one.function and _is_configured(one.function) for one in around):
        return False
    return plan_above(facts, site) is None


def plan_above(facts: Facts, site: CallSite) -> str | None:
    """The plan that leads to a call which has none of a configuration, as it is called."""
    file = facts.survey.files[site.reference.path]
    return _plan(facts, file, holder(file, site.node.lineno), _DEPTH)


def _plan(facts: Facts, file: SourceFile, around: Holder, depth: int) -> str | None:
    """What trains a model in torchtitan's loop and leads to a function."""
    if around.function is None or not depth:
        return None
    if around.cls is None and _is_registered(facts, file, around):
        return around.function.name
    if _has_own_loop(facts, file):
        return None
    found = callers(facts.checkout, file, around)
    if around.cls is not None:
        found += makers(facts.checkout, file, around.cls)
    for caller in found:
        if of_a_test(caller.file.path) or caller.holder.function is None:
            continue
        if caller.holder.function is around.function:
            continue
        if _is_plan(facts, caller, caller.holder.function):
            return caller.holder.function.name
        above = _plan(facts, caller.file, caller.holder, depth - 1)
        if above is not None:
            return above
    return None


def _is_plan(facts: Facts, caller: Caller, function: Function) -> bool:
    """Whether a function that calls a helper is a plan, or torchtitan's own trainer."""
    if function.name.startswith("parallelize"):
        return True
    return _is_configured(function) and not _has_own_loop(facts, caller.file)


def _has_own_loop(facts: Facts, file: SourceFile) -> bool:
    """Whether a file trains by itself, and not as torchtitan's trainer does."""
    return file.mentions(b".backward(") and not (
        file.mentions(AUTOCAST.encode()) or file.path in facts.survey.global_tokens
    )


def _is_registered(facts: Facts, file: SourceFile, around: Holder) -> bool:
    """Whether a function is handed to torchtitan's trainer as the plan of a model."""
    sought = Definition(file.path, around.scope)
    for other in facts.checkout.mentioning(PLAN_OF_A_SPEC):
        for value in _registered(other):
            for inner in nodes(value):
                spelling = dotted(inner)
                if spelling is not None and sought == facts.checkout.resolve(
                    other.path, holder(other, value.lineno).scope, spelling
                ):
                    return True
    return False


def _registered(file: SourceFile) -> list[ast.expr]:
    """The values that a file gives as plans of models."""
    found: list[ast.expr] = []
    for node in nodes(file.syntax):
        if isinstance(node, ast.Call):
            found += [k.value for k in node.keywords if k.arg == PLAN_OF_A_SPEC]
    return found


def _is_configured(function: Function) -> bool:
    """Whether a function takes the configuration of a run."""
    given = function.args
    return any(
        arg.arg in _CONFIGURATIONS
        or (arg.annotation and _OF_A_TRAINER.search(ast.unparse(arg.annotation)))
        for arg in taken(given)
    )


def parameters(site: CallSite) -> set[str]:
    """The names that the function around a call takes, none at module level."""
    if site.function is None:
        return set()
    arguments = site.function.args
    every = taken(arguments)
    return {arg.arg for arg in every}


def first_that_moves(facts: Facts) -> tuple[str, int] | None:
    """Path and line of the first definition that moves, or of the first call of the dependency's: where it is said what is true of all."""
    moving = [d for d in facts.survey.definitions if facts.becomes(d)]
    if moving:
        definition = min(moving, key=lambda d: d.path)
        node = function_of(facts.checkout, definition)
        return (definition.path, node.lineno) if node else None
    sites = [call.site.reference for call in facts.calls]
    provided = [
        (r.path, r.line) for r in sites if r.definition in facts.survey.provided
    ]
    return min(provided, default=None)
