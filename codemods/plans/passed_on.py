"""``apply_ddp`` passed on as a value: who calls it, and with what, is not followed."""

import ast

from codemods import layout
from codemods.findings import Finding
from codemods.nodes import nodes
from codemods.plans.mesh import suggested_mesh
from codemods.plans.records import Facts, MeshEdit, NewFunction
from codemods.plans.values import arguments
from codemods.siblings import sibling_of
from codemods.survey import CallSite, Reference, enclosing_line


def report(facts: Facts) -> None:
    """Add a finding for every value that has to become another one to ``facts``."""
    for reference in facts.survey.references:
        file = facts.survey.files[reference.path]
        function = facts.becomes(reference.definition)
        if _is_out_of_date(facts, reference):
            function = facts.functions.get(reference.definition)
        if reference.kind != "value" or function is None:
            continue
        if file.opted_out(reference.line, "TM102"):
            continue
        facts.findings.append(
            Finding(
                reference.path,
                reference.line,
                "TM102",
                f"{reference.spelling} is passed on as a value, so what it is called "
                "with cannot be followed: call it by name here",
                "left",
                to_write(facts, reference, function),
            )
        )


def _is_out_of_date(facts: Facts, reference: Reference) -> bool:
    """Whether a name meant DDP's function of a torchtitan that has replicate's instead."""
    if reference.definition not in facts.survey.replicating:
        return False
    place = (reference.path, reference.spelling)
    imported = {
        r.imported
        for r in facts.survey.references
        if r.kind == "import" and (r.path, r.spelling) == place
    }
    asked = imported or {reference.spelling.rpartition(".")[2]}
    return reference.definition.name not in asked


def to_write(
    facts: Facts, reference: Reference, function: NewFunction, fresh: str | None = None
) -> str:
    """The call, where what shards beside it shows its arguments; else the new name.

    Args:
        facts: about the checkout.
        reference: the place.
        function: what the name stands for afterwards.
        fresh: that name, where it is not the spelling with another last part.
    """
    tree = facts.survey.files[reference.path].syntax
    around = enclosing_line(tree, reference.line)
    place = ast.Call(
        ast.Name(reference.spelling), [], [], lineno=reference.line, col_offset=0
    )
    beside = sibling_of(facts.checkout, reference.path, place, around)
    if around is not None and beside.branch and beside.call and beside.call.args:
        site = CallSite(reference, beside.call, around, beside)
        mesh = MeshEdit(suggested_mesh(facts, reference.path))
        passed = arguments(facts, site, function, mesh, beside.call.args[0])
        if not isinstance(passed, str):
            return layout.bracketed(f"{function.plan.name}(", passed, ")")
    head, _, _ = reference.spelling.rpartition(".")
    fresh = fresh or f"{head}.{function.definition.name}".lstrip(".")
    statements = [
        node
        for node in nodes(tree)
        if isinstance(node, ast.stmt)
        and node.lineno <= reference.line <= (node.end_lineno or 0)
    ]
    return _renamed(statements[-1], reference.spelling, fresh) if statements else fresh


def _renamed(statement: ast.stmt, old: str, fresh: str) -> str:
    """A statement with another name for what it names; of a long one the name alone."""

    class Renaming(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            if isinstance(node, ast.expr) and ast.unparse(node) == old:
                return ast.parse(fresh, mode="eval").body
            return super().generic_visit(node)

    if isinstance(
        statement, (ast.FunctionDef, ast.ClassDef, ast.If, ast.For, ast.With)
    ):
        return fresh
    copied = ast.parse(ast.unparse(statement))
    return ast.unparse(Renaming().visit(copied))
