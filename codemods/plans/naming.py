"""What new functions are called, and what replicate is called beside them."""

import re

from codemods.names import Definition
from codemods.plans.records import Facts
from codemods.survey import OLD

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
    return _free(facts, old, wanted, "ddp")


def name_beside(facts: Facts, sharding: Definition) -> str | None:
    """What a new function beside an ``apply_fsdp`` is called, None where it cannot be."""
    wanted = facts.target.function_name
    if sharding.name.startswith("_"):
        wanted = f"_{wanted}"
    return _free(facts, sharding, wanted, "fsdp")


def _free(facts: Facts, beside: Definition, wanted: str, word: str) -> str | None:
    top = facts.checkout.names(beside.path).top
    styled = re.sub(word, "replicate", beside.name)
    for name in (wanted, styled):
        # An import of the old name goes with its last call.
        known = name in top.bound or (name in top.imports and name != OLD)
        if not known and Definition(beside.path, name) not in facts.functions:
            return name
        if name == styled == wanted:
            break
    return None


def replicate_name(facts: Facts, path: str) -> str:
    """What the composable replicate is called in a module: DDP's may need the name."""
    needed = any(place == path for place, _ in facts.survey.direct_uses)
    return BESIDE_DDP if needed else "replicate"
