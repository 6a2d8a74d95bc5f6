"""TM106: the MoE state-dict adapter accepts Replicate placements."""

import ast
from collections.abc import Iterator

import libcst as cst

from codemods import edit
from codemods.example import Example
from codemods.findings import Finding
from codemods.nodes import nodes
from codemods.plans import Facts
from codemods.source import SourceFile

CODE = "TM106"
TITLE = "the MoE state-dict adapter accepts Replicate"
WHAT = "The MoE state-dict adapter for Hugging Face takes Replicate placements."
WHY = """\
Under DDP expert weights are plain tensors; under replicate they are DTensors with a
Replicate placement. The adapter that splits grouped experts for Hugging Face asks
every placement for its .dim, which Replicate does not have, so the export raises.
A replicated dimension holds all experts: it is no shard of any dim.
"""
UPSTREAM = """\
None. It rests on runs of 0.2.0 to 0.2.2: MoEStateDictAdapter raises on a Replicate
placement, and the export worked under DDP.
"""
RISK = """\
Left as it is, the training runs and the export at its end raises. A change that took a
replicated dimension for a shard would write a part of the experts.
"""
PROOF = """\
`export` on a MoE model (--cells export --model deepseek_v3): a rank of the migrated
tree "failed with" an AttributeError where DDP exports. Experts that are lost or change
places "do not come back from the export as they were trained".
"""
EXAMPLE = Example(
    fixture="v0_2_1",
    path="torchtitan/models/utils.py",
    before="""\
            if placement.dim == dim:
                cuts.append(name)

        start_index, end_index = None, None
""",
    after="""\
            if not placement.is_replicate() and placement.dim == dim:
                cuts.append(name)

        start_index, end_index = 0, dim_size
""",
)

_INDICES = ("_caculate_indices_from_placements", "_calculate_indices_from_placements")
_SHARDED = "not placement.is_replicate() and"
_REPLICATED = "placement.is_replicate() or"
"""Where what is sharded on a dim becomes Replicate, a Replicate stays one."""


def find(facts: Facts) -> Iterator[Finding]:
    if not facts.functions:
        return
    for file in facts.checkout.mentioning("StateDictAdapter"):
        if file.mentions(b"placement.dim"):
            yield from file.all(_in_file)


def _in_file(file: SourceFile) -> tuple[Finding, ...]:
    found: list[tuple[ast.stmt, str]] = []
    for node in nodes(file.syntax):
        if isinstance(node, ast.If) and is_bare_dim(node.test):
            found.append((node, "a Replicate placement has no .dim"))
        if isinstance(node, ast.FunctionDef) and node.name in _INDICES:
            local = "without a shard on this dim every expert is local"
            found += [(pair, local) for pair in node.body if is_none_pair(pair)]
    return tuple(
        Finding(
            file.path,
            node.lineno,
            CODE,
            what,
            "opted-out" if file.opted_out(node.lineno, CODE) else "rewrite",
        )
        for node, what in found
    )


def is_bare_dim(test: ast.expr) -> bool:
    """``placement.dim == <something>``, with nothing before that asks for a shard."""
    return (
        isinstance(test, ast.Compare)
        and len(test.ops) == 1
        and isinstance(test.ops[0], ast.Eq)
        and ast.unparse(test.left) == "placement.dim"
    )


def is_none_pair(node: ast.stmt) -> bool:
    """``start_index, end_index = None, None``."""
    return ast.unparse(node).replace("(", "").replace(")", "") == (
        "start_index, end_index = None, None"
    )


def rewrite(tree: cst.Module, path: str, facts: Facts) -> cst.Module:
    classes = [
        node.name
        for node in facts.survey.files[path].syntax.body
        if isinstance(node, (ast.ClassDef, ast.FunctionDef))
    ]
    return tree.visit(_Adapter(tree, classes))


class _Adapter(edit.ScopedTransformer):
    def leave_If(self, original_node: cst.If, updated_node: cst.If) -> cst.If:
        test = self.code(original_node.test)
        if not is_bare_dim(ast.parse(f"({test})", mode="eval").body):
            return updated_node
        if self.opted_out(original_node, CODE):
            return updated_node
        stays = "Replicate()" in self.code(original_node.body)
        first = _REPLICATED if stays else _SHARDED
        fresh = edit.expression(self.tree, f"{first} {test}")
        return updated_node.with_changes(test=fresh)

    def leave_SimpleStatementLine(
        self,
        original_node: cst.SimpleStatementLine,
        updated_node: cst.SimpleStatementLine,
    ) -> cst.BaseStatement:
        node = updated_node.body[0]
        if not isinstance(node, cst.Assign) or self.scope.rpartition(".")[2] not in (
            _INDICES
        ):
            return updated_node
        code = self.code(node)
        if self.opted_out(original_node, CODE) or not is_none_pair(
            ast.parse(code).body[0]
        ):
            return updated_node
        fresh = edit.expression(self.tree, "0, dim_size")
        return updated_node.with_changes(body=[node.with_changes(value=fresh)])
