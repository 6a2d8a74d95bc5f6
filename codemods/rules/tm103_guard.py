"""TM103: the guard against more than one dimension goes."""

import ast
import re
import textwrap
from collections.abc import Iterator
from typing import cast

import libcst as cst

from codemods import edit
from codemods.findings import Finding
from codemods.plans import Facts

CODE = "TM103"
TITLE = "the guard against more than one dimension"
WHY = """\
DDP could not be combined with tensor or pipeline parallelism, and three spellings of
a guard said so: world_mesh.ndim > 1, dp_mesh.ndim > 1 and world_size != mesh.size().
replicate composes, so the guard goes, with the variables that only it needed. The
dp_mesh.ndim spelling never fires on a one-dimensional mesh: there DDP with tensor
parallelism has silently trained wrongly.
"""

_MESSAGE = re.compile(r"(DDP|replicate).*(> ?1-?D|1-?D|> 1 dim|one.dimension)", re.I | re.S)


def is_guard(node: ast.stmt) -> bool:
    """Whether a statement only refuses a mesh of more than one dimension for DDP."""
    if isinstance(node, ast.If) and not node.orelse and len(node.body) == 1:
        only = node.body[0]
        return isinstance(only, ast.Raise) and bool(_MESSAGE.search(ast.unparse(only)))
    if isinstance(node, ast.Assert) and node.msg is not None:
        return bool(_MESSAGE.search(ast.unparse(node.msg)))
    return False


def find(facts: Facts) -> Iterator[Finding]:
    if not facts.functions:
        return
    for file in facts.checkout.mentioning("DDP"):
        if b"raise" not in file.raw and b"assert" not in file.raw:
            continue
        for node in ast.walk(file.syntax):
            if isinstance(node, (ast.If, ast.Assert)) and is_guard(node):
                test = ast.unparse(node.test)
                yield Finding(
                    file.path,
                    node.lineno,
                    CODE,
                    f"replicate composes with other dimensions, so `{test}` need not "
                    "be refused",
                    "opted-out" if file.opted_out(node.lineno, CODE) else "rewrite",
                )


def rewrite(tree: cst.Module, path: str, facts: Facts) -> cst.Module:
    holding = [
        outer.name
        for outer in facts.survey.files[path].syntax.body
        if isinstance(outer, (ast.FunctionDef, ast.ClassDef))
        and any(is_guard(n) for n in ast.walk(outer) if isinstance(n, ast.stmt))
    ]
    return cast(cst.Module, tree.visit(_Guards(tree, holding)))


class _Guards(edit.ScopedTransformer):
    def _is_guard(self, node: cst.If | cst.SimpleStatementLine) -> bool:
        if isinstance(node, cst.If):
            only = node.body.body
            line = only[0] if len(only) == 1 else None
            small = line.body[0] if isinstance(line, cst.SimpleStatementLine) else line
            if not isinstance(small, cst.Raise):
                return False
        code = self.code(node)
        if f"ignore[{CODE}" in code:
            return False
        if "DDP" not in code and "replicate" not in code:
            return False
        # An `elif` is an If that is only reached as the orelse of another.
        parsed = ast.parse(textwrap.dedent(re.sub(r"^(\s*)elif\b", r"\1if", code)))
        return len(parsed.body) == 1 and is_guard(parsed.body[0])

    def leave_If(
        self, original_node: cst.If, updated_node: cst.If
    ) -> cst.BaseStatement | cst.RemovalSentinel:
        if isinstance(original_node.orelse, cst.If) or updated_node.orelse:
            return updated_node
        return cst.RemoveFromParent() if self._is_guard(original_node) else updated_node

    def leave_SimpleStatementLine(
        self,
        original_node: cst.SimpleStatementLine,
        updated_node: cst.SimpleStatementLine,
    ) -> cst.BaseStatement | cst.RemovalSentinel:
        if isinstance(original_node.body[0], cst.Assert) and self._is_guard(original_node):
            return cst.RemoveFromParent()
        return updated_node
