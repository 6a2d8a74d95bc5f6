"""What a condition asks, one by one."""

import ast
from collections.abc import Mapping, Sequence

from codemods.nodes import dotted

_OPPOSITE: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
}

_MORE_THAN_ONE = (" > 1", " != 1", " >= 2")
_ONE = (" == 1", " <= 1", " < 2")


def written_out(test: ast.expr, known: Mapping[str, ast.expr] = {}) -> ast.expr:
    """A condition on several values as an ``or`` or an ``and`` of one on each.

    ``any(d > 1 for d in (tp, pp))``, ``any([tp > 1, pp > 1])``, ``max(tp, pp) > 1`` and
    ``tp * pp > 1`` are ``tp > 1 or pp > 1``. What is something else stays as it is.

    Args:
        test: the condition.
        known: what names around it stand for.
    """
    if isinstance(test, ast.Name) and test.id in known:
        return written_out(known[test.id])
    if isinstance(test, ast.Call):
        asked = _of_each(test, known)
        name = test.func.id if isinstance(test.func, ast.Name) else ""
        kind = {"any": ast.Or, "all": ast.And}.get(name)
        if asked and kind is not None:
            return asked[0] if len(asked) == 1 else ast.BoolOp(kind(), asked)
    if isinstance(test, ast.Compare):
        degrees = _degrees(test, known)
        parts = [ast.Compare(d, test.ops, test.comparators) for d in degrees]
        if parts:
            many = ast.unparse(test).endswith(_MORE_THAN_ONE)
            return ast.BoolOp(ast.Or() if many else ast.And(), list(parts))
    return test


def alternatives(
    test: ast.expr, known: Mapping[str, ast.expr] = {}, true: bool = True
) -> list[ast.expr]:
    """The conditions each of which makes a test true, or false where ``true`` is not."""
    test = written_out(test, known)
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return alternatives(test.operand, known, not true)
    if isinstance(test, ast.BoolOp):
        parts = [alternatives(value, known, true) for value in test.values]
        if isinstance(test.op, ast.Or) == true:
            return [one for part in parts for one in part]
        joined = [_joined(ast.Or(), part) for part in parts]
        several = [part for part in parts if len(part) > 1]
        if len(several) != 1:
            return [_joined(ast.And(), joined)]
        at = parts.index(several[0])
        return [
            _joined(ast.And(), [*joined[:at], one, *joined[at + 1 :]])
            for one in several[0]
        ]
    return [test if true else _negated(test)]


def _joined(kind: ast.boolop, parts: list[ast.expr]) -> ast.expr:
    return parts[0] if len(parts) == 1 else ast.BoolOp(kind, parts)


def _negated(test: ast.expr) -> ast.expr:
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        opposite = _OPPOSITE.get(type(test.ops[0]))
        if opposite is not None:
            return ast.Compare(test.left, [opposite()], test.comparators)
    return ast.UnaryOp(ast.Not(), test)


def _of_each(call: ast.Call, known: Mapping[str, ast.expr]) -> list[ast.expr]:
    """What ``any`` or ``all`` asks of each of some values; nothing where they are not all written."""
    if len(call.args) != 1 or call.keywords:
        return []
    (given,) = call.args
    if not isinstance(given, (ast.GeneratorExp, ast.ListComp, ast.SetComp)):
        return _elements(given, known)
    if len(given.generators) != 1:
        return []
    (loop,) = given.generators
    if loop.ifs or not isinstance(loop.target, ast.Name):
        return []
    name = loop.target.id
    return [_put(given.elt, name, value) for value in _elements(loop.iter, known)]


def _elements(node: ast.expr, known: Mapping[str, ast.expr]) -> list[ast.expr]:
    if isinstance(node, ast.Name):
        node = known.get(node.id, node)
    if isinstance(node, ast.Dict):
        return []
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        # {"tp": parallel_dims.tp, ...}.values()
        held = node.func.value
        held = known.get(held.id, held) if isinstance(held, ast.Name) else held
        if node.func.attr == "values" and isinstance(held, ast.Dict):
            return list(held.values)
    if not isinstance(node, (ast.Tuple, ast.List, ast.Set)):
        return []
    starred = any(isinstance(one, ast.Starred) for one in node.elts)
    return [] if starred else list(node.elts)


def _put(elt: ast.expr, name: str, value: ast.expr) -> ast.expr:
    """An expression with a value for each use of a name."""

    class Put(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> ast.expr:
            return value if node.id == name else node

        def visit_Call(self, node: ast.Call) -> ast.AST:
            self.generic_visit(node)
            if dotted(node.func) != "getattr" or len(node.args) < 2:
                return node
            read = _text(node.args[1])
            return ast.Attribute(node.args[0], read, ast.Load()) if read else node

    # Read anew: a copy would keep what is remembered of its nodes.
    fresh = ast.parse(ast.unparse(elt), mode="eval").body
    return Put().visit(fresh)  # type: ignore[no-any-return] # as it is untyped


def _text(node: ast.expr) -> str:
    """A string, also one with a string put into it; "" of anything else."""
    if isinstance(node, ast.JoinedStr):
        return "".join(
            _text(part.value if isinstance(part, ast.FormattedValue) else part)
            for part in node.values
        )
    return str(node.value) if isinstance(node, ast.Constant) else ""


def _degrees(test: ast.Compare, known: Mapping[str, ast.expr]) -> Sequence[ast.expr]:
    """The degrees of which a test asks for the greatest, or the product; none where it does not."""
    left = test.left
    if not ast.unparse(test).endswith((*_MORE_THAN_ONE, *_ONE)):
        return []
    if isinstance(left, ast.Call) and not left.keywords:
        called = dotted(left.func)
        if called in ("max", "math.prod", "prod") and left.args:
            one = len(left.args) == 1
            degrees = _elements(left.args[0], known) if one else left.args
            return degrees if len(degrees) > 1 else []
    if isinstance(left, ast.BinOp) and isinstance(left.op, ast.Mult):
        return [*_factors(left.left), *_factors(left.right)]
    return []


def _factors(node: ast.expr) -> list[ast.expr]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult):
        return [*_factors(node.left), *_factors(node.right)]
    return [node]
