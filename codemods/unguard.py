"""Take guards out of a module, and what is empty without them."""

import ast
from collections.abc import Collection, Mapping, Sequence
from typing import cast

import libcst as cst

from codemods.guards import Guard, all_statements, go_with_it

Spot = tuple[int, int]
"""A line, and how many statements there are before one on it."""


_NAMED = (cst.FunctionDef, cst.ClassDef)
_STATEMENTS = (cst.SimpleStatementLine, cst.BaseCompoundStatement)


class Unguard(cst.CSTTransformer):
    """Takes out the guards that begin at some spots, and what is empty without them."""

    def __init__(
        self,
        syntax: ast.Module,
        going: Mapping[Spot, Guard],
        helpers: Collection[str],
        comments: Collection[tuple[str, ...]],
    ) -> None:
        super().__init__()
        # Both syntax trees have the same statements in the same order, so that one
        # tells the lines of the other; libcst would print and copy it all for them.
        lines = [node.lineno for node in all_statements(syntax)]
        self._rest, self._lines = lines[::-1], [0]
        self._going, self._helpers, self._comments = going, helpers, comments
        # Line of a function or class of the module -> how many statements it holds, where
        # nothing in it goes, so that nobody has to look.
        lasting = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        concerned = {name.partition(".")[0] for name in helpers}
        self._untouched = {
            node.lineno: sum(1 for _ in all_statements(node))
            for node in syntax.body
            if isinstance(node, lasting) and not comments
            if node.name not in concerned
            if not any(node.lineno <= at <= (node.end_lineno or 0) for at, _ in going)
        }
        self._path: list[str] = []
        self._elifs: set[cst.If] = set()
        self._gone: set[int] = set()
        self._instead: dict[int, tuple[list[cst.BaseStatement], int]] = {}
        self._keep: list[cst.CSTNode] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if isinstance(node, _STATEMENTS):
            self._lines.append(self._rest[-1])
        if isinstance(node, (cst.BaseSmallStatement, cst.BaseCompoundStatement)):
            within = self._untouched.get(self._rest.pop())
            if within is not None and isinstance(node, _NAMED):
                del self._rest[len(self._rest) - within :]
                super().on_visit(node)
                return False
        # There is no statement within these.
        inner = not isinstance(node, (cst.BaseSmallStatement, cst.BaseExpression))
        return super().on_visit(node) and inner

    def on_leave(
        self, original_node: cst.CSTNodeT, updated_node: cst.CSTNodeT
    ) -> cst.CSTNodeT | cst.RemovalSentinel | cst.FlattenSentinel[cst.CSTNodeT]:
        left = super().on_leave(original_node, updated_node)
        if isinstance(original_node, _STATEMENTS):
            self._lines.pop()
        return left

    def _guard(self, node: cst.CSTNode, before: int = 0) -> Guard | None:
        """The guard that the statement which is being left is or begins.

        With so many others before it on its line.
        """
        guard = self._going.get((self._lines[-1], before))
        is_if = isinstance(guard.node, ast.If) if guard else False
        return guard if is_if == isinstance(node, cst.If) else None

    def _drop(self, node: cst.CSTNode) -> None:
        self._keep.append(node)  # an id is only a node's own while the node lives
        self._gone.add(id(node))

    # Statements

    def visit_If(self, node: cst.If) -> None:
        if isinstance(node.orelse, cst.If):
            self._elifs.add(node.orelse)

    def leave_If(
        self, original_node: cst.If, updated_node: cst.If
    ) -> cst.BaseStatement | cst.RemovalSentinel:
        guard = self._guard(original_node)
        elif_ = original_node in self._elifs
        if guard is None:
            return self._without_nothing(original_node, updated_node, elif_)
        if guard.rest:
            test = _without_terms(updated_node.test, guard.test)
            return updated_node.with_changes(test=test, orelse=None)
        if elif_ and guard.shape == "else":
            fresh = cst.Else(updated_node.body, updated_node.leading_lines)
            return cast(cst.If, fresh)
        if elif_:
            # What is tested next takes its place in the chain.
            return cast(cst.If, updated_node.orelse) or cst.RemoveFromParent()
        if guard.shape == "statement":
            self._drop(updated_node)
        elif guard.shape == "head":
            after = updated_node.orelse
            kept: list[cst.BaseStatement] = (
                [after] if isinstance(after, cst.If) else _lines(after)
            )
            self._instead[id(updated_node)] = (kept, 0)
        else:
            drop = len(guard.refusal) if guard.shape == "return" else 0
            self._instead[id(updated_node)] = (_lines(updated_node), drop)
        self._keep.append(updated_node)
        return updated_node

    def _without_nothing(
        self, before: cst.If, after: cst.If, elif_: bool
    ) -> cst.BaseStatement | cst.RemovalSentinel:
        """An if, without those branches of which nothing is left but what they ask."""
        if isinstance(before.orelse, cst.Else) and isinstance(after.orelse, cst.Else):
            if before.orelse.body.body and not after.orelse.body.body:
                after = after.with_changes(orelse=None)
        if before.body.body and not after.body.body and not _does_something(after.test):
            if after.orelse is None:
                if elif_:
                    return cst.RemoveFromParent()
                self._drop(after)
            elif isinstance(after.orelse, cst.Else):
                return after.with_changes(
                    test=_negated(after.test), body=after.orelse.body, orelse=None
                )
        return after

    def leave_SimpleStatementLine(
        self,
        original_node: cst.SimpleStatementLine,
        updated_node: cst.SimpleStatementLine,
    ) -> cst.SimpleStatementLine:
        kept = [
            small
            for index, small in enumerate(updated_node.body)
            if self._guard(original_node, index) is None
        ]
        if not kept:
            self._drop(updated_node)
        elif len(kept) < len(updated_node.body):
            kept[-1] = kept[-1].with_changes(semicolon=cst.MaybeSentinel.DEFAULT)
            return updated_node.with_changes(body=kept)
        return updated_node

    def leave_For(
        self, original_node: cst.For, updated_node: cst.For
    ) -> cst.BaseStatement:
        """A loop over what guards asked one by one goes with them."""
        emptied = original_node.body.body and not updated_node.body.body
        if (
            emptied
            and not updated_node.orelse
            and not _does_something(updated_node.iter)
        ):
            self._drop(updated_node)
        return updated_node

    # Helpers

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self._path.append(node.name.value)

    def leave_FunctionDef(
        self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef
    ) -> cst.FunctionDef:
        body = updated_node.body.body
        emptied = original_node.body.body and not body
        if ".".join(self._path) in self._helpers or (
            emptied and original_node.name.value == "__post_init__"
        ):
            self._drop(updated_node)
        self._path.pop()
        return updated_node

    def visit_ClassDef(self, node: cst.ClassDef) -> None:
        self._path.append(node.name.value)

    def leave_ClassDef(
        self, original_node: cst.ClassDef, updated_node: cst.ClassDef
    ) -> cst.ClassDef:
        self._path.pop()
        return updated_node

    # Blocks

    def leave_IndentedBlock(
        self, original_node: cst.IndentedBlock, updated_node: cst.IndentedBlock
    ) -> cst.BaseSuite:
        body, over = self._cleaned(updated_node.body)
        footer = _without(self._comments, [*over, *updated_node.footer])
        if len(footer) == len(updated_node.footer) and not self._changed(
            updated_node.body, body
        ):
            return updated_node
        return updated_node.with_changes(body=body, footer=footer)

    def leave_Module(
        self, original_node: cst.Module, updated_node: cst.Module
    ) -> cst.Module:
        body, over = self._cleaned(updated_node.body)
        if not self._changed(updated_node.body, body):
            return updated_node
        return updated_node.with_changes(
            body=body, footer=[*over, *updated_node.footer]
        )

    def _changed(
        self, before: Sequence[cst.BaseStatement], after: Sequence[cst.BaseStatement]
    ) -> bool:
        return len(before) != len(after) or any(
            old is not new for old, new in zip(before, after)
        )

    def _cleaned(
        self, lines: Sequence[cst.BaseStatement]
    ) -> tuple[list[cst.BaseStatement], list[cst.EmptyLine]]:
        """A block without what goes, and the comments that are left over at its end."""
        body: list[cst.BaseStatement] = []
        over: list[cst.EmptyLine] = []
        skip, lost = 0, False
        for line in lines:
            if skip:
                skip -= 1
                over += _kept(line)
                continue
            if id(line) in self._gone:
                lost = True
                function = isinstance(line, cst.FunctionDef)
                over += [] if function else _kept(line)
                continue
            parts, skip = self._instead.get(id(line), ([line], 0))
            if parts and parts[0] is not line:
                over += _kept(line)
            for part in parts:
                if lost and not body and not over:
                    part = _at_the_top(part)
                body.append(self._led(part, over, first=not body))
                over = []
        return body, [x for x in over if x.comment]

    def _led(
        self, line: cst.BaseStatement, over: Sequence[cst.EmptyLine], first: bool
    ) -> cst.BaseStatement:
        """A statement below what was above the guards that went before it."""
        before = getattr(line, "leading_lines", None)
        if before is None:
            return line
        own = _without(self._comments, before)
        # The blank line above a guard stays as one above what follows it.
        if first and not any(x.comment for x in over):
            above: list[cst.EmptyLine] = []
        elif any(x.comment is None for x in own):
            above = [x for x in over if x.comment]
        else:
            above = list(over)
        merged = _one_blank([*above, *own]) if above or len(own) < len(before) else own
        if len(merged) == len(before) and not above:
            return line
        return line.with_changes(leading_lines=merged)


def _at_the_top(line: cst.BaseStatement) -> cst.BaseStatement:
    """A statement that comes to be the first of its block."""
    leading = list(getattr(line, "leading_lines", ()))
    while leading and leading[0].comment is None:
        del leading[0]
    changed = len(leading) != len(getattr(line, "leading_lines", ()))
    return line.with_changes(leading_lines=leading) if changed else line


def _lines(node: cst.If | cst.Else | None) -> list[cst.BaseStatement]:
    """The statements of a branch, each on lines of its own."""
    assert node is not None
    body = node.body
    if isinstance(body, cst.SimpleStatementSuite):
        trailing = body.trailing_whitespace
        return [cst.SimpleStatementLine(body.body, trailing_whitespace=trailing)]
    lines = list(cast(Sequence[cst.BaseStatement], body.body))
    if isinstance(node, cst.Else) and lines and node.leading_lines:
        above = [x for x in node.leading_lines if x.comment]
        own = getattr(lines[0], "leading_lines", ())
        lines[0] = lines[0].with_changes(leading_lines=[*above, *own])
    return lines


def _kept(line: cst.BaseStatement) -> list[cst.EmptyLine]:
    """What stays of the lines above a guard: one blank line, and comments on other things."""
    leading: Sequence[cst.EmptyLine] = getattr(line, "leading_lines", ())
    blank = [x for x in leading if x.comment is None][:1]
    comments = [x for x in leading if x.comment]
    if go_with_it([x.comment.value for x in comments if x.comment]):
        comments = []
    return [*blank, *comments]


def _one_blank(lines: Sequence[cst.EmptyLine]) -> list[cst.EmptyLine]:
    """Lines between statements with no blank line doubled."""
    found: list[cst.EmptyLine] = []
    for line in lines:
        if line.comment or not found or found[-1].comment:
            found.append(line if line.comment else cst.EmptyLine(indent=False))
    return found


def _without(
    comments: Collection[tuple[str, ...]], lines: Sequence[cst.EmptyLine]
) -> list[cst.EmptyLine]:
    """Lines between statements without the guards in them that are commented out."""
    texts = [line.comment.value.strip() if line.comment else "" for line in lines]
    found, index = [], 0
    while index < len(lines):
        length = next(
            (len(c) for c in comments if tuple(texts[index : index + len(c)]) == c), 0
        )
        if not length:
            found.append(lines[index])
        index += length or 1
    return found


def _does_something(test: cst.BaseExpression) -> bool:
    """Whether asking may have an effect of its own."""
    harmless = {"getattr", "hasattr", "isinstance", "len", "any", "all", "bool", "size"}
    for node in ast.walk(ast.parse(cst.Module([]).code_for_node(test).strip())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func).rpartition(".")[2]
            if called not in harmless:
                return True
        elif isinstance(node, (ast.Await, ast.Yield, ast.NamedExpr)):
            return True
    return False


def _without_terms(
    test: cst.BaseExpression, gone: ast.expr
) -> cst.BaseExpression | None:
    """A conjunction without those of its terms that another one consists of."""
    terms = gone.values if isinstance(gone, ast.BoolOp) else [gone]
    dumped = {ast.dump(term) for term in terms}

    def kept(node: cst.BaseExpression) -> cst.BaseExpression | None:
        code = cst.Module([]).code_for_node(node)
        if ast.dump(ast.parse(f"({code})", mode="eval").body) in dumped:
            return None
        if not isinstance(node, cst.BooleanOperation):
            return node
        if not isinstance(node.operator, cst.And):
            return node
        left, right = kept(node.left), kept(node.right)
        if left is None or right is None:
            rest = left or right
            if isinstance(rest, cst.BooleanOperation) and not rest.lpar:
                return rest.with_changes(lpar=node.lpar, rpar=node.rpar)
            return rest
        return node.with_changes(left=left, right=right)

    return kept(test)


def _negated(test: cst.BaseExpression) -> cst.BaseExpression:
    if isinstance(test, cst.UnaryOperation) and isinstance(test.operator, cst.Not):
        return test.expression
    simple = isinstance(test, (cst.Name, cst.Attribute, cst.Call, cst.Subscript))
    inner = (
        test
        if simple
        else test.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    )
    return cst.UnaryOperation(cst.Not(), inner)
