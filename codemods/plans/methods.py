"""Methods that wrap their own model with DDP: named, and what to write instead."""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

import libcst as cst

from codemods import layout, mirror
from codemods.mirror import CannotMirror
from codemods.names import Definition
from codemods.nodes import nodes
from codemods.plans.records import Facts
from codemods.plans.wishes import wishes_for
from codemods.source import SourceFile
from codemods.targets import REPLICATE_MODULE


@dataclass(frozen=True)
class Method:
    """A method and the line in it that wraps with DDP.

    Args:
        path: of the file.
        line: from 1.
        cls: the class around it.
        node: the method.
        what: what it wraps with, for people.
    """

    path: str
    line: int
    cls: ast.ClassDef
    node: ast.FunctionDef
    what: str

    @property
    def name(self) -> str:
        return f"{self.cls.name}.{self.node.name}"


def methods(facts: Facts) -> Iterator[Method]:
    """The methods that wrap with DDP's replicate, or by that name with DDP itself."""
    lines = facts.survey.direct_uses
    for file in facts.checkout.mentioning("_composable", "DistributedDataParallel"):
        for outer in nodes(file.syntax):
            for node in outer.body if isinstance(outer, ast.ClassDef) else ():
                if not isinstance(node, ast.FunctionDef):
                    continue
                assert isinstance(outer, ast.ClassDef)
                inside = range(node.lineno, (node.end_lineno or 0) + 1)
                used = [line for path, line in lines if path == file.path]
                for line in sorted({line for line in used if line in inside}):
                    yield Method(file.path, line, outer, node, "DDP's replicate")
                if node.name == "apply_ddp":
                    for line in _wrapped_by_class(facts, file, inside):
                        what = "DistributedDataParallel"
                        yield Method(file.path, line, outer, node, what)


def named(facts: Facts, name: str) -> str | None:
    """``Backend.apply_ddp (path:line)`` of a class of the checkout with such a method."""
    for file in facts.checkout.mentioning(f"def {name}("):
        for outer in nodes(file.syntax):
            if isinstance(outer, ast.ClassDef):
                for node in outer.body:
                    if isinstance(node, ast.FunctionDef) and node.name == name:
                        return f"{outer.name}.{name} ({file.path}:{node.lineno})"
    return None


def _wrapped_by_class(facts: Facts, file: SourceFile, inside: range) -> Iterator[int]:
    for use in file.names.uses:
        if use.call is not None and use.node.lineno in inside:
            origin = facts.checkout.external(file.path, use.scope, use.spelling) or ""
            if origin.endswith(".DistributedDataParallel"):
                yield use.node.lineno


def to_write(facts: Facts, method: Method) -> str:
    """The method that wraps with replicate: mirrored from the one that shards."""
    mirrored = _mirrored(facts, method)
    if mirrored is not None:
        return mirrored
    model = next((arg.arg for arg in method.node.args.args), "model")
    mesh = next((a.arg for a in method.node.args.args if "mesh" in a.arg), "dp_mesh")
    passed = f"{facts.target.mesh_keyword}={mesh}"
    return (
        f"from {REPLICATE_MODULE} import replicate\n\n"
        f"for block in {model}.layers.children():\n"
        f"    replicate(block, {passed})\n"
        f"replicate({model}, {passed})"
    )


def _mirrored(facts: Facts, method: Method) -> str | None:
    file = facts.survey.files[method.path]
    home = Definition(method.path, "apply_fsdp")
    # No function to write: it is advice.
    wishes = wishes_for(facts, method.path, home, None, (), "")
    wishes = replace(
        wishes,
        name="apply_replicate",
        replicate="replicate",
        fully_shard=wishes.fully_shard | {"fully_shard"},
        log=None,
    )
    for node in _methods_of(file.tree, method.cls.name):
        if "fully_shard(" not in file.tree.code_for_node(node):
            continue
        try:
            plan = mirror.derive(file.tree, _without_import(node), wishes)
        except CannotMirror:
            continue
        # The mesh comes behind the model, where that is not the object itself.
        model = re.escape(plan.wraps[-1])
        order = re.compile(rf"\(self, ({plan.mesh}), ({model}\b[^,)]*)")
        text = order.sub(r"(self, \2, \1", plan.text, count=1)
        lines = text.split("\n")
        start = next(i for i, line in enumerate(lines) if line.endswith(":")) + 1
        imports = [f"{layout.INDENT}from {REPLICATE_MODULE} import replicate"]
        policy = "MixedPrecisionPolicy"
        if f"{policy}(" in text and policy not in file.names.top.imports:
            imports.append(
                f"{layout.INDENT}from torch.distributed.fsdp import {policy}"
            )
        return "\n".join([*lines[:start], *imports, "", *lines[start:]])
    return None


def _methods_of(tree: cst.Module, name: str) -> Iterator[cst.FunctionDef]:
    for outer in tree.body:
        if isinstance(outer, cst.ClassDef) and outer.name.value == name:
            for node in outer.body.body:
                if isinstance(node, cst.FunctionDef):
                    yield node


def _without_import(node: cst.FunctionDef) -> cst.FunctionDef:
    """A method without the imports at its head, which replicate does not need."""
    lines = [
        line
        for line in node.body.body
        if not isinstance(line, cst.SimpleStatementLine)
        or not isinstance(line.body[0], cst.ImportFrom)
    ]
    block = node.body
    if not isinstance(block, cst.IndentedBlock):
        return node
    kept = [line for line in lines if isinstance(line, cst.BaseStatement)]
    return node.with_changes(body=block.with_changes(body=kept))
