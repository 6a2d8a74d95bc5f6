"""Where a call site is: in which model's folder, inside or outside of the training loop."""

import re

from codemods.plans.records import Facts, NewCall
from codemods.survey import CallSite, divides_by_global_tokens, function_of


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
    return standalone(site) and not divides_by_global_tokens(
        facts.survey.files[site.reference.path]
    )


def standalone(site: CallSite) -> bool:
    """A call with neither an ``apply_fsdp`` beside it nor a configuration in reach."""
    if site.fsdp_call is not None:
        return False
    if site.function is None:
        return True
    return not parameters(site) & {"job_config", "training", "config"}


def parameters(site: CallSite) -> set[str]:
    """The names that the function around a call takes, none at module level."""
    if site.function is None:
        return set()
    arguments = site.function.args
    return {arg.arg for arg in (*arguments.args, *arguments.kwonlyargs)}


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
