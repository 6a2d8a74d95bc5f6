"""TM105: ``maybe_enable_amp`` leaves mixed precision to replicate."""

import ast
from collections.abc import Iterator
from typing import cast

import libcst as cst

from codemods import edit
from codemods.example import Example
from codemods.findings import Finding, Status
from codemods.plans import Facts
from codemods.source import SourceFile

CODE = "TM105"
TITLE = "maybe_enable_amp leaves mixed precision to replicate"
WHAT = "maybe_enable_amp returns a null context where replicate casts by its policy."
WHY = """\
Under DDP mixed precision was autocast. replicate casts by a MixedPrecisionPolicy, so
autocast on top of it would cast twice, and the branch that switches mixed precision
off under tensor or pipeline parallelism would say something untrue. With replicate
norms, softmax and the loss run in param_dtype, as they do under FSDP; compare bf16
runs with FSDP of the same version, and fp32 runs with DDP.
"""
UPSTREAM = """\
The reviewers of PR 1714 asked for mixed precision by the policy, and so for this
change.
"""
RISK = """\
With autocast left on, a bf16 run computes like neither FSDP nor DDP. A model whose plan
has no replicate branch loses its autocast (TM207).
"""
PROOF = """\
`dp-bf16` (not in --quick) says that the migrated tree "runs under autocast, and FSDP
does not". The other cells train in fp32 and do not show it.
"""
EXAMPLE = Example(
    fixture="v0_2_1",
    path="torchtitan/distributed/utils.py",
    before='''\
def maybe_enable_amp(
    parallel_dims: ParallelDims, mixed_precision_param: str, device_type: str
) -> contextlib.AbstractContextManager[None]:
    """What a forward pass runs under: autocast, or nothing."""
    if parallel_dims.fsdp_enabled:
        # the mixed-precision policy of fully_shard does the casts
        logger.info("Mixed precision training is handled by fully_shard")
        return contextlib.nullcontext()
''',
    after="""\
    if parallel_dims.fsdp_enabled:
        # the mixed-precision policy of fully_shard does the casts
        logger.info("Mixed precision training is handled by fully_shard")
        return contextlib.nullcontext()
    elif parallel_dims.dp_replicate_enabled:
        # the mixed-precision policy of replicate does the casts
        logger.info("Mixed precision training is handled by replicate")
        return contextlib.nullcontext()
""",
)

_FUNCTION = "maybe_enable_amp"
_SHARDED = "fsdp_enabled"
_REPLICATED = "dp_replicate_enabled"


def find(facts: Facts) -> Iterator[Finding]:
    if not facts.functions:
        return
    yield from _bound_otherwise(facts)
    for file in facts.checkout.mentioning(f"def {_FUNCTION}"):
        for node in ast.walk(file.syntax):
            if not isinstance(node, ast.FunctionDef) or node.name != _FUNCTION:
                continue
            branch = _sharded_branch(node)
            status: Status
            if any(_leaves_it(n) for n in ast.walk(node) if isinstance(n, ast.If)):
                status = "done"
            elif file.opted_out(node.lineno, CODE):
                status = "opted-out"
            elif (
                branch is None
                or _REPLICATED in ast.unparse(branch)
                or not facts_have_property(facts)
            ):
                yield _left(file, node)
                continue
            else:
                status = "rewrite"
            yield Finding(
                file.path,
                node.lineno,
                CODE,
                "replicate does mixed precision by its policy, so no autocast on top",
                status,
            )


def _left(file: SourceFile, node: ast.stmt) -> Finding:
    return Finding(
        file.path,
        node.lineno,
        CODE,
        f"this {_FUNCTION} has a shape that is not followed: return a null context "
        "where replicate does mixed precision",
        "left",
        f"if parallel_dims.{_REPLICATED}:\n    return contextlib.nullcontext()",
    )


def _bound_otherwise(facts: Facts) -> Iterator[Finding]:
    """Modules that make the name stand for something else than a function of that name."""
    for file in facts.checkout.mentioning(_FUNCTION):
        for node in file.syntax.body:
            if isinstance(node, ast.Assign):
                bound = {ast.unparse(target) for target in node.targets}
            elif isinstance(node, ast.ImportFrom):
                others = (n.asname for n in node.names if n.name != _FUNCTION)
                bound = set(filter(None, others))
            else:
                continue
            if _FUNCTION in bound and not file.opted_out(node.lineno, CODE):
                yield _left(file, node)


def _leaves_it(node: ast.If) -> bool:
    """Whether a branch is taken whenever replicate is on, and returns a null context."""
    test = node.test
    asked = [test]
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.Or):
        asked = test.values
    last = node.body[-1]
    return (
        any(isinstance(one, ast.Attribute) and one.attr == _REPLICATED for one in asked)
        and isinstance(last, ast.Return)
        and last.value is not None
        and "nullcontext" in ast.unparse(last.value)
    )


def facts_have_property(facts: Facts) -> bool:
    """Whether ParallelDims says if dp_replicate is on, as every release does."""
    return any(True for _ in facts.checkout.mentioning(f"def {_REPLICATED}"))


def _sharded_branch(node: ast.FunctionDef) -> ast.If | None:
    for inner in node.body:
        if isinstance(inner, ast.If) and _is_sharded(ast.unparse(inner.test)):
            return inner
    return None


def _is_sharded(test: str) -> bool:
    return test.endswith(f".{_SHARDED}") and " " not in test


def rewrite(tree: cst.Module, path: str, facts: Facts) -> cst.Module:
    return tree.visit(_Amp(tree, _holders(facts.survey.files[path])))


def _holders(file: SourceFile) -> list[str]:
    """The functions and classes of a module that hold the function."""
    return [
        outer.name
        for outer in file.syntax.body
        if isinstance(outer, (ast.FunctionDef, ast.ClassDef))
        and any(getattr(node, "name", None) == _FUNCTION for node in ast.walk(outer))
    ]


class _Amp(edit.ScopedTransformer):
    """Adds a branch like the one for FSDP, in the words of that one."""

    def _inside(self) -> bool:
        return self.scope.rpartition(".")[2] == _FUNCTION

    def leave_If(self, original_node: cst.If, updated_node: cst.If) -> cst.If:
        if not self._inside() or not _is_sharded(self.code(original_node.test)):
            return updated_node
        code = self.code(original_node)
        if _REPLICATED in code:
            return updated_node
        test = self.code(original_node.test).replace(_SHARDED, _REPLICATED)
        branch = cast(
            cst.If,
            edit.statement(self.tree, f"if {test}:\n    pass"),
        )
        body = cast(cst.IndentedBlock, updated_node.body)
        fresh = branch.with_changes(
            leading_lines=[],
            body=body.with_changes(body=[self._reworded(s) for s in body.body]),
            orelse=updated_node.orelse,
        )
        if updated_node.orelse is None and not _always_leaves(original_node):
            return updated_node
        return updated_node.with_changes(orelse=fresh)

    def _reworded(self, line: cst.BaseStatement) -> cst.BaseStatement:
        text = self.code(line)
        return edit.statement(
            self.tree,
            text.rstrip()
            .replace("fully_shard", "replicate")
            .replace("FSDP", "replicate"),
        )

    def leave_SimpleString(
        self, original_node: cst.SimpleString, updated_node: cst.SimpleString
    ) -> cst.SimpleString:
        if not self._inside():
            return updated_node
        value = updated_node.value.replace(
            "FSDP/HSDP/CP is enabled", "FSDP/HSDP/CP or replicate is enabled"
        )
        return updated_node.with_changes(value=value)

    def leave_EmptyLine(
        self, original_node: cst.EmptyLine, updated_node: cst.EmptyLine
    ) -> cst.EmptyLine:
        comment = updated_node.comment
        if (
            not self._inside()
            or comment is None
            or "DDP or single" not in comment.value
        ):
            return updated_node
        value = comment.value.replace("DDP or single", "single")
        return updated_node.with_changes(comment=comment.with_changes(value=value))


def _always_leaves(node: cst.If) -> bool:
    last = cast(cst.IndentedBlock, node.body).body[-1]
    return isinstance(last, cst.SimpleStatementLine) and isinstance(
        last.body[-1], (cst.Return, cst.Raise)
    )
