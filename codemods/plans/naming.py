"""What new functions are called, and what replicate is called beside them."""

import re
from collections.abc import Collection
from dataclasses import dataclass

from codemods.names import Definition
from codemods.plans.records import Facts
from codemods.source import SourceFile
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
    file = facts.checkout.files[beside.path]
    styled = re.sub(word, "replicate", beside.name)
    private = "_" if wanted.startswith("_") else ""
    for name in (wanted, styled, f"{private}apply_{BESIDE_DDP}"):
        # An import of the old name goes with its last call.
        at_top = [own for scope, own in file.all(_Having(name)) if not scope]
        known = True in at_top or (False in at_top and name != OLD)
        known |= any(_is_other(facts, path, name, beside.path) for path in using)
        if not known and Definition(beside.path, name) not in facts.functions:
            return name
    return None


def _is_other(facts: Facts, path: str, name: str, home: str) -> bool:
    """Whether a file has something else of a name than what its home is to define."""
    for scope, own in facts.checkout.files[path].all(_Having(name)):
        if own and (path != home or scope):
            return True
        if not own and name != OLD:
            found = facts.checkout.resolve(path, scope, name)
            if found is None or found.path != home:
                return True
    return False


@dataclass(frozen=True)
class _Having:
    """Finds the scopes of a file that have a name; whether as their own, or imported.

    What only a class has as its own is no name of the file.
    """

    name: str

    def __call__(self, file: SourceFile) -> tuple[tuple[str, bool], ...]:
        found: list[tuple[str, bool]] = []
        for qualname, scope in file.names.scopes.items():
            if self.name in scope.bound and not scope.is_class:
                found.append((qualname, True))
            if self.name in scope.imports:
                found.append((qualname, False))
        return tuple(found)


def replicate_name(facts: Facts, path: str) -> str:
    """What the composable replicate is called in a module: another may need the name."""
    needed = any(place == path for place, _ in facts.survey.direct_uses)
    known = facts.checkout.files[path].exported("replicate")
    if known.origin is None:
        needed |= known.bound
    else:
        needed |= not f"{known.origin[0]}.replicate".startswith(_COMPOSABLE)
    return BESIDE_DDP if needed else "replicate"
