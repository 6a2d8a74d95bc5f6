"""TM211: DDP in other places, not touched."""

import ast
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding
from codemods.plans import Facts
from codemods.survey import OLD, exported, function_of

CODE = "TM211"
TITLE = "DDP in other places"
WHAT = "DDP's replicate or the name apply_ddp is used in a way that is not followed."
WHY = """\
A function called apply_ddp that does not call DDP's replicate, a direct call of DDP's
replicate in other code, and the name apply_ddp inside a string (a patch in a test, a
getattr) are not rewritten: what they mean cannot be told from their name.
"""
UPSTREAM = """\
None. `from torch.distributed._composable import replicate` is still DDP's in every
version of PyTorch.
"""
RISK = """\
Code that calls DDP's replicate goes on training under DDP, with no word of it. A name
in a string is looked up at run time and is not found, or a test patches nothing.
"""
PROOF = """\
Where the model that is trained passes through it, `dp` fails: the migrated tree "still
trains under DDP", or a rank "failed with" an AttributeError. Strings are not parsed,
and tests not run: run yours.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/tools/wrapping.py",
    before="""\
DESCRIPTIONS = {
    "apply_ddp": "replicate the whole model with apply_ddp(model, mesh)",
""",
    after="""\
'apply_replicate'
""",
)


def find(facts: Facts) -> Iterator[Finding]:
    for definition in facts.survey.other_definitions:
        node = function_of(facts.checkout, definition)
        assert node is not None
        yield Finding(
            definition.path,
            node.lineno,
            CODE,
            "a function called apply_ddp that does not call DDP's replicate: not touched",
            "hazard",
            "# wrap with torch.distributed._composable.replicate_with_fsdp.replicate",
        )
    survey = facts.survey
    for path, line in survey.direct_uses:
        yield Finding(
            path,
            line,
            CODE,
            "DDP's replicate is called here, outside of any apply_ddp: not touched",
            "hazard"
            if survey.definitions or survey.migrated or survey.inline
            else "left",
            "# call apply_replicate, or wrap with replicate_with_fsdp.replicate",
        )
    if facts.target.function_name != OLD:
        yield from _strings(facts)
        yield from _patches(facts)
        yield from _unknown_modules(facts)


def _unknown_modules(facts: Facts) -> Iterator[Finding]:
    """``module.apply_ddp(...)`` on a module that cannot be told from the text."""
    for file in facts.checkout.mentioning(f".{OLD}("):
        methods = {
            node.name
            for outer in ast.walk(file.syntax)
            if isinstance(outer, ast.ClassDef)
            for node in outer.body
            if isinstance(node, ast.FunctionDef)
        }
        for use in file.names.uses:
            if (
                not use.spelling.endswith(f".{OLD}")
                or use.call is None
                or OLD in methods
            ):
                continue
            if facts.checkout.resolve(file.path, use.scope, use.spelling) is None:
                fresh = use.spelling.replace(OLD, facts.target.function_name)
                message = f"it cannot be told what {use.spelling} is: not touched"
                yield Finding(
                    file.path, use.node.lineno, CODE, message, "hazard", f"{fresh}(...)"
                )


def _patches(facts: Facts) -> Iterator[Finding]:
    """``module.apply_ddp = ...``: it would set a name that nobody reads any more."""
    for file in facts.checkout.mentioning(f".{OLD}"):
        for node in ast.walk(file.syntax):
            if (
                isinstance(node, ast.Attribute)
                and node.attr == OLD
                and not isinstance(node.ctx, ast.Load)
            ):
                fresh = f"{ast.unparse(node.value)}.{facts.target.function_name} = ..."
                message = f"{ast.unparse(node)} is set here: nobody reads it any more"
                yield Finding(file.path, node.lineno, CODE, message, "hazard", fresh)


def _strings(facts: Facts) -> Iterator[Finding]:
    for file in facts.checkout.mentioning(OLD):
        in_all = {line for line, name in exported(file) if name == OLD}
        documentation = {
            id(node.value)
            for node in ast.walk(file.syntax)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in ast.walk(file.syntax):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in documentation
                and node.lineno not in in_all
                and (node.value == OLD or node.value.endswith(f".{OLD}"))
            ):
                yield Finding(
                    file.path,
                    node.lineno,
                    CODE,
                    f"the string {node.value!r} names apply_ddp: not touched",
                    "hazard",
                    repr(node.value.replace(OLD, facts.target.function_name)),
                )
