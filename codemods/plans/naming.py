"""What new functions are called, and what replicate is called beside them."""

import re
from collections.abc import Collection

from codemods.names import Definition
from codemods.plans.records import Facts
from codemods.survey import OLD

_COMPOSABLE = "torch.distributed._composable.replicate"
"""What the names of DDP's replicate and of the new one begin with."""

BESIDE_DDP = "replicate_with_fsdp"
"""The new replicate where DDP's keeps the name, named after its module."""


def new_name(facts: Facts, old: Definition) -> str | None:
    """What an ``apply_ddp`` is called afterwards, None where the names are taken.

    A private function stays private. A second one in the same module follows its own
    style: ``enable_ddp`` becomes ``enable_replicate``.
    """
    wanted = facts.target.function_name
    if wanted == old.name or (wanted == OLD and "ddp" in old.name.lower()):
        return old.name
    if old.name.startswith("_"):
        wanted = f"_{wanted}"
    using = {r.path for r in facts.survey.references if r.definition == old}
    return _free(facts, old, wanted, "ddp", using)


def name_beside(facts: Facts, sharding: Definition) -> str | None:
    """What a new function beside an ``apply_fsdp`` is called, None where it cannot be."""
    wanted = facts.target.function_name
    if sharding.name.startswith("_"):
        wanted = f"_{wanted}"
    sites = (*facts.survey.call_sites, *facts.survey.inline)
    using = {s.reference.path for s in sites if s.fsdp_definition == sharding}
    return _free(facts, sharding, wanted, "fsdp", using)


def _free(
    facts: Facts, beside: Definition, wanted: str, word: str, using: Collection[str]
) -> str | None:
    """The first name that is neither taken where the function is nor where it is used."""
    top = facts.checkout.names(beside.path).top
    styled = re.sub(word, "replicate", beside.name)
    private = "_" if wanted.startswith("_") else ""
    for name in (wanted, styled, f"{private}apply_{BESIDE_DDP}"):
        # An import of the old name goes with its last call.
        known = name in top.bound or (name in top.imports and name != OLD)
        known |= any(_is_other(facts, path, name, beside.path) for path in using)
        if not known and Definition(beside.path, name) not in facts.functions:
            return name
    return None


def _is_other(facts: Facts, path: str, name: str, home: str) -> bool:
    """Whether a file has something else of a name than what its home is to define."""
    for qualname, scope in facts.checkout.names(path).scopes.items():
        if path != home and name in scope.bound and not scope.is_class:
            return True
        if path == home and name in scope.bound and qualname and not scope.is_class:
            return True
        if name in scope.imports and name != OLD:
            found = facts.checkout.resolve(path, qualname, name)
            if found is None or found.path != home:
                return True
    return False


def replicate_name(facts: Facts, path: str) -> str:
    """What the composable replicate is called in a module: another may need the name."""
    needed = any(place == path for place, _ in facts.survey.direct_uses)
    top = facts.checkout.names(path).top
    known = top.imports.get("replicate")
    if known is None:
        needed |= "replicate" in top.bound
    else:
        needed |= not f"{known.module}.replicate".startswith(_COMPOSABLE)
    return BESIDE_DDP if needed else "replicate"
