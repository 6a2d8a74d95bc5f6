"""TM103: the guard against more than one dimension goes."""

import ast
import re
import textwrap
from collections.abc import Collection, Iterator
from typing import TypeGuard

import libcst as cst

from codemods import edit
from codemods.example import Example
from codemods.findings import Finding
from codemods.guards import is_guard, refuses
from codemods.plans import Facts

CODE = "TM103"
TITLE = "the guard against more than one dimension"
WHAT = "The guard against more than one dimension goes, however it is spelled."
WHY = """\
DDP could not be combined with tensor or pipeline parallelism, and three spellings of
a guard said so: world_mesh.ndim > 1, dp_mesh.ndim > 1 and world_size != mesh.size().
replicate composes, so the guard goes, with the variables that only it needed. The
dp_mesh.ndim spelling never fires on a one-dimensional mesh: there DDP with tensor
parallelism has silently trained wrongly.
"""
UPSTREAM = """\
The reviewers of PR 1714 asked for it.
"""
RISK = """\
A guard that stays refuses what the migration is for. One that goes where DDP stays
lets DDP train beside tensor parallelism, wrongly and without a word.
"""
PROOF = """\
In `dp+tp` and `dp+pp`. Where the guard stays and fires, a rank of the migrated tree
"failed with" its RuntimeError; the base revision's is shown as "DDP refuses:" and fails
nothing. Where DDP stays, the migrated tree "still trains under DDP".
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/models/heron/infra/parallelize.py",
    before="""\
        dp_mesh = parallel_dims.get_mesh("dp_replicate")
        is_1d = dp_mesh.ndim == 1
        if not is_1d:
            raise RuntimeError("DDP has not supported > 1D parallelism")
        # nothing to shard: whole replicas
""",
    after="""\
        dp_mesh = parallel_dims.get_mesh("dp_replicate")
        # nothing to shard: whole replicas
""",
)


def find(facts: Facts) -> Iterator[Finding]:
    if not facts.functions:
        return
    for file in facts.checkout.mentioning("DDP"):
        if b"raise" not in file.raw and b"assert" not in file.raw:
            continue
        seen: set[int] = set()
        for node in ast.walk(file.syntax):
            if isinstance(node, (ast.If, ast.Assert)) and is_guard(node):
                seen |= {id(inner) for inner in ast.walk(node)}
                test = ast.unparse(node.test)
                yield Finding(
                    file.path,
                    node.lineno,
                    CODE,
                    f"replicate composes with other dimensions, so `{test}` need not "
                    "be refused",
                    "opted-out" if file.opted_out(node.lineno, CODE) else "rewrite",
                )
            elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                seen.add(id(node.value))  # a docstring refuses nothing
        for node in ast.walk(file.syntax):
            if id(node) not in seen and refuses(node):
                opted_out = file.opted_out(node.lineno, CODE)
                yield Finding(
                    file.path,
                    node.lineno,
                    CODE,
                    "this refuses more than one dimension in a shape that is not followed; "
                    "replicate composes, so take it out",
                    "opted-out" if opted_out else "left",
                    "# no guard: replicate goes with other dimensions",
                )


def rewrite(tree: cst.Module, path: str, facts: Facts) -> cst.Module:
    holding = [
        outer.name
        for outer in facts.survey.files[path].syntax.body
        if isinstance(outer, (ast.FunctionDef, ast.ClassDef))
        and any(is_guard(n) for n in ast.walk(outer) if isinstance(n, ast.stmt))
    ]
    return tree.visit(_Guards(tree, holding))


class _Guards(edit.ScopedTransformer):
    def __init__(self, tree: cst.Module, scopes: Collection[str]) -> None:
        super().__init__(tree, scopes)
        self._elifs: set[cst.If] = set()

    def _is_guard(
        self, node: cst.CSTNode
    ) -> TypeGuard[cst.If | cst.SimpleStatementLine]:
        if isinstance(node, cst.SimpleStatementLine):
            if not isinstance(node.body[0], cst.Assert):
                return False
        elif not isinstance(node, cst.If) or node.orelse is not None:
            return False
        if isinstance(node, cst.If):
            only = node.body.body
            line = only[0] if len(only) == 1 else None
            small = line.body[0] if isinstance(line, cst.SimpleStatementLine) else line
            if not isinstance(small, cst.Raise):
                return False
        code = self.code(node)
        if self.opted_out(node, CODE):
            return False
        if "DDP" not in code and "replicate" not in code:
            return False
        # An `elif` is an If that is only reached as the orelse of another.
        parsed = ast.parse(textwrap.dedent(re.sub(r"^(\s*)elif\b", r"\1if", code)))
        return len(parsed.body) == 1 and is_guard(parsed.body[0])

    def visit_If(self, node: cst.If) -> None:
        if isinstance(node.orelse, cst.If):
            self._elifs.add(node.orelse)

    def leave_If(
        self, original_node: cst.If, updated_node: cst.If
    ) -> cst.BaseStatement | cst.RemovalSentinel:
        if original_node not in self._elifs or updated_node.orelse is not None:
            return updated_node
        return cst.RemoveFromParent() if self._is_guard(original_node) else updated_node

    def leave_IndentedBlock(
        self, original_node: cst.IndentedBlock, updated_node: cst.IndentedBlock
    ) -> cst.BaseSuite:
        body: list[cst.BaseStatement] = []
        blank = False
        for line in updated_node.body:
            if self._is_guard(line):
                # The blank line above a guard stays as one above what follows it.
                blank = blank or any(x.comment is None for x in line.leading_lines)
                continue
            leading = getattr(line, "leading_lines", None)
            if blank and body and leading is not None:
                if not any(x.comment is None for x in leading):
                    line = line.with_changes(
                        leading_lines=[cst.EmptyLine(indent=False), *leading]
                    )
            blank = False
            body.append(line)
        if len(body) != len(updated_node.body):
            updated_node = updated_node.with_changes(body=body)
        return super().leave_IndentedBlock(original_node, updated_node)
