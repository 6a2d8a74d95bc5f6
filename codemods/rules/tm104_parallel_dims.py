"""TM104: ParallelDims keeps a shard dimension of degree 1 (2-D target only)."""

import ast
import re
from collections.abc import Iterator

import libcst as cst

from codemods import edit, meshes
from codemods.example import Example
from codemods.findings import Finding, Status
from codemods.nodes import nodes
from codemods.plans import Facts
from codemods.source import SourceFile
from codemods.survey import parallel_dims_files

CODE = "TM104"
TITLE = "ParallelDims keeps dp_shard of degree 1 (2-D target)"
WHAT = "ParallelDims keeps dp_shard (or fsdp) of degree 1 beside dp_replicate."
WHY = """\
The replicate of torch 2.9 takes a two-dimensional mesh (dp_replicate, dp_shard) whose
second dimension has degree 1. ParallelDims leaves out dimensions of degree 1, so it
has to keep this one when dp_replicate > 1. Without dp_replicate the meshes stay as
they were. From torch 2.10 on replicate takes a one-dimensional mesh and this rule has
nothing to do.
"""
UPSTREAM = """\
PR 1714, whose expected log is `Building 2-D device mesh with ['dp_replicate',
'dp_shard'], [8, 1]`. PR 2458 needs it no more: its mesh has one dimension.
"""
RISK = """\
Without the dimension there is no two-dimensional mesh, and torch 2.9 raises on one of
one dimension. Kept without dp_replicate, it would change the meshes of FSDP.
"""
PROOF = """\
Under torch 2.9 `dp` fails: a rank of the migrated tree "failed with" the error of the
mesh. `fsdp` and `hsdp` (not in --quick) train FSDP and HSDP before and after; each
figure "has to be bitwise". Under torch 2.10 and later there is nothing to show.
"""
EXAMPLE = Example(
    fixture="v0_2_1",
    path="torchtitan/distributed/parallel_dims.py",
    before="""\
            return self.ep > 1
        return degree > 1
""",
    after="""\
            return self.ep > 1
        if name == "fsdp":
            # We keep the fsdp dim at degree 1 next to dp_replicate because
            # replicate takes a 2-D mesh.
            return degree > 1 or self.dp_replicate > 1
        return degree > 1
""",
    target="2d",
)

_KEEP = '{name} == "dp_shard" and {me}.dp_replicate > 1'


def find(facts: Facts) -> Iterator[Finding]:
    if facts.target.mesh != "2d" or not facts.functions:
        return
    homes = [
        (file, node)
        for file, node in parallel_dims_files(facts.checkout)
        if not file.dependency
    ]
    if not homes:
        yield from _out_of_reach(facts)
    for file, node in homes:
        found = list(_find_in(file, node))
        if not found:
            yield Finding(
                file.path,
                node.lineno,
                CODE,
                "this ParallelDims builds its meshes in a way that is not followed: keep "
                "a dimension of degree 1 for dp_shard (or fsdp) when dp_replicate > 1",
                "left",
                f"if d > 1 or ({_KEEP.format(name='name', me='self')}):",
            )
        for line, done in found:
            status: Status = "done" if done else "rewrite"
            if not done and file.opted_out(line, CODE):
                status = "opted-out"
            yield Finding(
                file.path,
                line,
                CODE,
                "a shard dimension of degree 1 stays when dp_replicate > 1, for the 2-D "
                "mesh that replicate takes in torch 2.9",
                status,
            )


def refuses(facts: Facts) -> bool:
    """Whether no call of the checkout can have its mesh, so that nothing is to be rewritten."""
    paths = {call.site.reference.path for call in facts.calls}
    return bool(paths) and paths == {f.path for f in find(facts) if f.status == "left"}


def _out_of_reach(facts: Facts) -> Iterator[Finding]:
    """The first call in each file, where no ParallelDims is here to keep the dimension."""
    where = "ParallelDims, which would keep it, is not in this checkout"
    if facts.checkout.dependency:
        where = (
            f"ParallelDims of {facts.survey.dependency.name} builds none, and is not this "
            "checkout's to change"
        )
    for path in sorted({call.site.reference.path for call in facts.calls}):
        if any(
            meshes.gives(facts.checkout, path, ("dp_replicate", shard), (3, 1))
            for shard in ("dp_shard", "fsdp")
        ):
            continue
        call = next(facts.calls_in(path))
        yield Finding(
            path,
            call.site.reference.line,
            CODE,
            f"the 2-D mesh needs dp_shard at degree 1, and {where}: take --target 1d",
            "left",
            f"{call.spelling}({', '.join(call.arguments)})",
        )


def _find_in(file: SourceFile, cls: ast.ClassDef) -> Iterator[tuple[int, bool]]:
    """(line, already done) of every place that leaves out the shard dimension."""
    for node in nodes(cls):
        if isinstance(node, ast.For) and _names_dp_shard(ast.unparse(node.iter)):
            for inner in node.body:
                if isinstance(inner, ast.If):
                    test = ast.unparse(inner.test)
                    if re.fullmatch(r"\w+ > 1", test):
                        yield inner.lineno, False
                    elif "dp_replicate" in test:
                        yield inner.lineno, True
        elif isinstance(node, ast.FunctionDef) and node.name == "_mesh_exist":
            last = node.body[-1]
            if isinstance(last, ast.Return):
                done = any("'fsdp'" in ast.unparse(s) for s in node.body)
                yield last.lineno, done


def _names_dp_shard(text: str) -> bool:
    return "'dp_shard'" in text or '"dp_shard"' in text


def rewrite(tree: cst.Module, path: str, facts: Facts) -> cst.Module:
    return tree.visit(_Builders(tree, ["ParallelDims"]))


class _Builders(edit.ScopedTransformer):
    _me: str | None = None

    def visit_FunctionDef(self, node: cst.FunctionDef) -> bool:
        params = node.params.params
        self._me = params[0].name.value if params else None
        return super().visit_FunctionDef(node)

    def leave_For(self, original_node: cst.For, updated_node: cst.For) -> cst.For:
        if "ParallelDims" not in self.scope:
            return updated_node
        if not _names_dp_shard(self.code(original_node.iter)):
            return updated_node
        if not isinstance(updated_node.body, cst.IndentedBlock):
            return updated_node
        target = updated_node.target
        names = [edit.name_of(e.value) for e in getattr(target, "elements", ())]
        if len(names) != 2 or None in names or not self._me:
            return updated_node
        keep = _KEEP.format(name=names[1], me=self._me)
        body = [self._kept(line, keep) for line in updated_node.body.body]
        block = updated_node.body.with_changes(body=body)
        return updated_node.with_changes(body=block)

    def _kept(self, line: cst.BaseStatement, keep: str) -> cst.BaseStatement:
        if not isinstance(line, cst.If) or self.opted_out(line, CODE):
            return line
        test = self.code(line.test)
        if not re.fullmatch(r"\w+ > 1", test):
            return line
        return line.with_changes(test=edit.expression(self.tree, f"{test} or ({keep})"))

    def leave_FunctionDef(
        self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef
    ) -> cst.FunctionDef:
        if updated_node.name.value != "_mesh_exist":
            return updated_node
        code = self.code(original_node)
        if '"fsdp"' in code or self.opted_out(original_node.body.body[-1], CODE):
            return updated_node
        params = [p.name.value for p in updated_node.params.params]
        if len(params) != 3 or not isinstance(updated_node.body, cst.IndentedBlock):
            return updated_node
        me, name, degree = params
        fresh = edit.statement(
            self.tree,
            f'if {name} == "fsdp":\n'
            "    # We keep the fsdp dim at degree 1 next to dp_replicate because\n"
            "    # replicate takes a 2-D mesh.\n"
            f"    return {degree} > 1 or {me}.dp_replicate > 1",
        )
        body = list(updated_node.body.body)
        body.insert(len(body) - 1, fresh)
        return updated_node.with_changes(body=updated_node.body.with_changes(body=body))
