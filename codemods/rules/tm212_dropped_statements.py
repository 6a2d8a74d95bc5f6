"""TM212: what ``apply_ddp`` did besides wrapping."""

import ast
import re
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.guards import is_guard
from codemods.nodes import nodes
from codemods.plans import Facts
from codemods.survey import function_of

CODE = "TM212"
TITLE = "statements of apply_ddp that are not taken over"
SEVERITY: Severity = "silent"
WHAT = "apply_ddp does something besides wrapping that the new function does not."
WHY = """\
The new function mirrors apply_fsdp, so what a fork's apply_ddp did besides wrapping,
compiler switches and logging (freezing a module, say) is not in it. If the FSDP path
does it elsewhere there is nothing to do; if not, add it.
"""
UPSTREAM = """\
None. It follows from mirroring apply_fsdp (TM101).
"""
RISK = """\
What was frozen is trained, what was cast is not, and nothing raises.
"""
PROOF = """\
Not as a failure: replicate is held against FSDP, which does not do it either. Where it
changed what DDP trained, `dp` notes "The baseline departs from FSDP of its own
revision" and by how much: look at that note.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/models/robin/infra/parallelize.py",
    before="""\
def apply_ddp(model: nn.Module, dp_mesh: DeviceMesh):
    model.encoder.requires_grad_(False)
    replicate(
""",
    after="""\
model.encoder.requires_grad_(False)
""",
)

_KNOWN = re.compile(r"optimize_ddp|\breplicate\b|DistributedDataParallel|\blog\w*\.")


def find(facts: Facts) -> Iterator[Finding]:
    for definition in facts.survey.definitions:
        function = facts.becomes(definition)
        node = function_of(facts.checkout, definition)
        if function is None or node is None:
            continue
        called = _replicate_names(facts, definition.path)
        body = [s for s in node.body if not _goes(s, called)]
        for statement in body:
            text = ast.unparse(statement)
            if isinstance(
                statement, (ast.Return, ast.Import, ast.ImportFrom, ast.Pass)
            ):
                continue
            if isinstance(statement, ast.Expr) and isinstance(
                statement.value, ast.Constant
            ):
                continue
            if _serves_what_goes(statement, body):
                continue
            if ast.unparse(ast.parse(text)) in function.plan.text:
                continue
            yield Finding(
                definition.path,
                statement.lineno,
                CODE,
                f"`{text.splitlines()[0]}` is not taken over into {function.plan.name}",
                "hazard",
                text,
            )


def _goes(statement: ast.stmt, called: set[str]) -> bool:
    """Whether a statement is DDP's own: a switch of its compiler, the wrapping, a log line.

    So is a guard against more dimensions than DDP composes with.
    """
    if is_guard(statement):
        return True
    text = ast.unparse(statement)
    return bool(_KNOWN.search(text)) or any(f"{name}(" in text for name in called)


def _serves_what_goes(statement: ast.stmt, rest: list[ast.stmt]) -> bool:
    """A plain value in a variable that nothing but what goes reads."""
    if not isinstance(statement, ast.Assign):
        return False
    if any(isinstance(node, ast.Call) for node in nodes(statement.value)):
        return False
    names = {t.id for t in statement.targets if isinstance(t, ast.Name)}
    if len(names) < len(statement.targets):
        return False  # an attribute is there for others
    return not any(
        isinstance(node, ast.Name) and node.id in names
        for other in rest
        if other is not statement
        for node in nodes(other)
    )


def _replicate_names(facts: Facts, path: str) -> set[str]:
    """What DDP's replicate is called in a file."""
    scopes = facts.checkout.names(path).scopes.values()
    return {
        local
        for scope in scopes
        for local, imported in scope.imports.items()
        if imported.name == "replicate"
    }
