"""Names that are put together at run time and may be ``apply_ddp``."""

import ast
import re
from collections.abc import Iterator

from codemods.names import Import
from codemods.nodes import children, dotted, nodes
from codemods.once import once
from codemods.plans.records import Facts
from codemods.plans.strings import is_only_named
from codemods.source import SourceFile

_PIECES = re.compile(
    # What it can begin with comes first, as that is quick to look for.
    rb"(?=[aA\"'}%])(?:apply_?[\"'{%]|[\"'}]_?ddp[\"']|%s_ddp)",
    re.IGNORECASE,
)
_ANY = r"[\w.]*"
"""What a part may be that is not written out."""


def files(facts: Facts) -> Iterator[SourceFile]:
    """The files with pieces of such a name."""
    for file in facts.checkout.mentioning("apply", "_ddp"):
        if file.found(_PIECES):
            yield file


def matching(facts: Facts, file: SourceFile, name: ast.expr) -> list[str]:
    """The names of functions that move that an expression, no literal, may have."""
    if isinstance(name, ast.Constant):
        return []
    pattern = _pattern(file, name)
    said = pattern.replace(_ANY, "").lower()
    if "apply" not in said and "ddp" not in said:
        return []
    known = {f.replaces.name for f in facts.functions.values() if f.replaces}
    return sorted(word for word in known if re.fullmatch(pattern, word))


def paths(facts: Facts, file: SourceFile) -> Iterator[tuple[ast.expr, str]]:
    """Dotted names that are put together, and the function that moves that each may be."""
    around = {id(child): n for n in nodes(file.syntax) for child in children(n)}
    known = [
        f"{facts.survey.files[f.replaces.path].module}.{f.replaces.name}"
        for f in facts.functions.values()
        if f.replaces
    ]
    for node in nodes(file.syntax):
        if not isinstance(node, (ast.JoinedStr, ast.BinOp, ast.Call)):
            continue
        if isinstance(around.get(id(node)), (ast.BinOp, ast.FormattedValue)):
            continue
        pattern = _pattern(file, node)
        said = pattern.replace(_ANY, "")
        if "apply" not in said or not re.search("[.:]", said):
            continue
        for full in known:
            module, _, name = full.rpartition(".")
            found = any(re.fullmatch(pattern, s) for s in (full, f"{module}:{name}"))
            if found and not is_only_named(file, around, node):
                yield node, full
                break


def _pattern(file: SourceFile, node: ast.expr, depth: int = 3) -> str:
    """A regular expression for what a text may be."""
    if isinstance(node, ast.Constant):
        return re.escape(node.value) if isinstance(node.value, str) else _ANY
    if isinstance(node, ast.JoinedStr):
        return "".join(_pattern(file, part, depth) for part in node.values)
    if isinstance(node, ast.FormattedValue) and depth:
        return _pattern(file, node.value, depth - 1)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        parts = (node.left, node.right)
        return "".join(_pattern(file, part, depth) for part in parts)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        return _filled(node.left, r"%\w")
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        return _of_method(file, node.func, node.args)
    if isinstance(node, ast.Name) and depth:
        values = _values(file).get(node.id, ())
        return _pattern(file, values[0], depth - 1) if len(values) == 1 else _ANY
    return _ANY


def _of_method(file: SourceFile, method: ast.Attribute, given: list[ast.expr]) -> str:
    """The same of ``"...".format(...)`` and ``"_".join([...])``."""
    if method.attr == "format":
        return _filled(method.value, r"\{[^}]*\}")
    parts = getattr(given[0], "elts", None) if given else None
    if method.attr == "join" and parts and isinstance(method.value, ast.Constant):
        between = re.escape(str(method.value.value))
        return between.join(_pattern(file, part, 1) for part in parts)
    return _ANY


def _filled(template: ast.expr, holes: str) -> str:
    if not isinstance(template, ast.Constant) or not isinstance(template.value, str):
        return _ANY
    return _ANY.join(re.escape(part) for part in re.split(holes, template.value))


@once
def _values(file: SourceFile) -> dict[str, tuple[ast.expr, ...]]:
    """Variable -> all that a file sets it to."""
    found: dict[str, tuple[ast.expr, ...]] = {}
    for node in nodes(file.syntax):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found[target.id] = (*found.get(target.id, ()), node.value)
    return found


def of_unknown(facts: Facts, file: SourceFile) -> Iterator[tuple[ast.Call, str]]:
    """Each ``getattr`` of who knows what by a name that may be one that moves.

    Not of what is imported: what that has is known (``by_name``), or is none of ours.
    """
    for use in file.names.uses:
        call = use.call
        if use.spelling != "getattr" or call is None or len(call.args) < 2:
            continue
        of = dotted(call.args[0])
        found = file.lookup(of, use.scope) if of else None
        if isinstance(found, Import) or (of or "").split(".")[0] in ("self", "cls"):
            continue
        for name in matching(facts, file, call.args[1]):
            yield call, name
