"""Read ``apply_fsdp`` as nodes, without what only serves sharding."""

import re
from collections.abc import Iterable, Sequence

import libcst as cst

from codemods import layout
from codemods.mirror import arguments
from codemods.mirror.fold import constants_of, fold
from codemods.mirror.names import assigned_in, names_in
from codemods.mirror.nodes import AnyNode, Block, Plain
from codemods.mirror.records import CannotMirror, Wishes
from codemods.mirror.words import of_replicate, reworded

_SHARDING_CALL = re.compile(
    r"^set_modules_to_\w+_prefetch$|^set_reshard_|^set_unshard_|^register_fsdp_|^_set_unshard"
)
_DIVISION_OFF = re.compile(r"disable_\w*gradient_division$")


def read(
    tree: cst.Module,
    apply_fsdp: cst.FunctionDef,
    params: Sequence[cst.Param],
    wishes: Wishes,
) -> tuple[list[AnyNode], bool]:
    """What ``apply_fsdp`` does.

    Args:
        tree: the module that defines it.
        apply_fsdp: its definition.
        params: of it, in order.
        wishes: how ``fully_shard`` is spelled here, and what replicate calls its mesh.

    Returns:
        Its nodes without the docstring, and whether it switches off the division of
        gradients.

    Raises:
        CannotMirror: something in it is not followed.
    """
    body = list(_body(apply_fsdp.body))
    if apply_fsdp.get_docstring() is not None:
        body = body[1:]
    reader = _Reader(tree, constants_of(tree, params), wishes)
    return reader.statements(body), reader.divides_off


class _Reader:
    """Knows, besides the nodes, whether it has met a return or the switching-off."""

    def __init__(
        self, tree: cst.Module, constants: dict[str, object], wishes: Wishes
    ) -> None:
        self.tree, self.constants, self.wishes = tree, constants, wishes
        self.stopped = False
        self.divides_off = False

    def _code(self, node: cst.CSTNode) -> str:
        return self.tree.code_for_node(node).strip()

    def statements(self, statements: Iterable[cst.BaseStatement]) -> list[AnyNode]:
        nodes: list[AnyNode] = []
        for statement in statements:
            if self.stopped:
                break
            nodes += self._statement(statement)
        return nodes

    def _statement(self, statement: cst.BaseStatement) -> list[AnyNode]:
        comments, blank = _leading(statement)
        if isinstance(statement, cst.SimpleStatementLine):
            return self._line(statement, comments, blank)
        if isinstance(statement, cst.If):
            return self._if(statement, comments, blank)
        if isinstance(statement, cst.For):
            if statement.orelse is not None:
                raise CannotMirror("it has a loop with an else")
            head = (
                f"for {self._code(statement.target)} in "
                f"{layout.flatten(self._code(statement.iter))}"
            )
            body = self.statements(_body(statement.body))
            return [Block(comments, blank, head, [], body)]
        if isinstance(statement, cst.With):
            items = ", ".join(self._code(item).rstrip(",") for item in statement.items)
            body = self.statements(_body(statement.body))
            return [Block(comments, blank, f"with {items}", [], body)]
        if self._wraps_inside(statement):
            kind = type(statement).__name__
            raise CannotMirror(f"it calls fully_shard inside a {kind} block")
        if isinstance(statement, cst.Match):
            # Only what it assigns could matter; nothing that replicate needs is
            # chosen by a match in any torchtitan, so it must turn out dead.
            code = self._code(statement)
            return [
                Plain([], False, code, target=name)
                for name in sorted(assigned_in(code))
            ]
        raise CannotMirror(f"it holds a {type(statement).__name__} block")

    def _line(
        self, line: cst.SimpleStatementLine, comments: list[str], blank: bool
    ) -> list[AnyNode]:
        nodes = [self._simple(small) for small in line.body]
        kept = [node for node in nodes if node is not None]
        if kept:
            kept[0].comments, kept[0].blank = comments, blank
            comment, last = line.trailing_whitespace.comment, kept[-1]
            if comment and isinstance(last, Plain):
                for text in of_replicate([comment.value]):
                    last.text += f"  {text}"
        return kept

    def _if(self, statement: cst.If, comments: list[str], blank: bool) -> list[AnyNode]:
        terms, verdict = fold(self.tree, statement.test, self.constants)
        if verdict is True:
            nodes = self.statements(_body(statement.body))
            if nodes:
                nodes[0].comments, nodes[0].blank = comments, blank
            return nodes
        orelse: list[AnyNode] = []
        if isinstance(statement.orelse, cst.If):
            orelse = self._if(statement.orelse, *_leading(statement.orelse))
        elif isinstance(statement.orelse, cst.Else):
            orelse = self.statements(_body(statement.orelse.body))
        if verdict is False:
            return orelse
        body = self.statements(_body(statement.body))
        if self.stopped:
            raise CannotMirror("it returns early on a condition")
        return [Block(comments, blank, "if", terms, body, orelse)]

    def _simple(self, small: cst.BaseSmallStatement) -> AnyNode | None:
        if isinstance(small, cst.Return):
            self.stopped = True
            if small.value is None:
                return None
            return Plain([], False, self._code(small), effect=True)
        if isinstance(small, (cst.Pass, cst.Assert)):
            return None
        if isinstance(small, cst.Expr) and isinstance(small.value, cst.Call):
            return self._call(small.value)
        if isinstance(small, (cst.Assign, cst.AnnAssign)):
            keyword = self.wishes.mesh_keyword
            if isinstance(small.value, cst.Call) and self._is_wrap(small.value):
                return arguments.wrap(self.tree, small.value, keyword)
            self._refuse_hidden_wraps(small)
            return arguments.assignment(self.tree, small, keyword)
        self._refuse_hidden_wraps(small)
        if isinstance(small, cst.Expr):
            return None
        text = self._code(small)
        if isinstance(small, cst.Raise):
            text = reworded(text)
        return Plain([], False, text, effect=True)

    def _call(self, call: cst.Call) -> AnyNode | None:
        name = self._code(call.func)
        last = name.rpartition(".")[2]
        if self._is_wrap(call):
            return arguments.wrap(self.tree, call, self.wishes.mesh_keyword)
        self._refuse_hidden_wraps(call)
        if _SHARDING_CALL.match(last) or name.split(".")[0] in ("logger", "logging"):
            return None
        if _DIVISION_OFF.search(last) or last == self.wishes.division_helper:
            self.divides_off = True
            return Plain([], False, self._code(call), effect=True)
        if last == "set_gradient_divide_factor":
            if call.args and self._code(call.args[0].value) in ("1", "1.0"):
                self.divides_off = True
                return Plain([], False, self._code(call), effect=True)
            # Any other factor is applied twice by replicate when reductions are
            # forced to SUM; unset, replicate averages, which is what it meant.
            return None
        text = self._code(call)
        if last in ("print", "warn"):
            text = reworded(text)
        return Plain([], False, text, effect=True)

    def _is_wrap(self, call: cst.Call) -> bool:
        name = self._code(call.func)
        return name in self.wishes.fully_shard or name.split(".")[-1] == "fully_shard"

    def _refuse_hidden_wraps(self, node: cst.CSTNode) -> None:
        """Nothing that shards may be taken over, by whatever way it does."""
        names = names_in(self._code(node))
        for function in self.tree.body:
            if not isinstance(function, cst.FunctionDef):
                continue
            if function.name.value in names and self._wraps_inside(function):
                raise CannotMirror(f"it wraps through {function.name.value}")
        if names & self.wishes.fully_shard or "fully_shard" in names:
            raise CannotMirror("it passes fully_shard on")

    def _wraps_inside(self, statement: cst.CSTNode) -> bool:
        return any(
            name in self.wishes.fully_shard or name == "fully_shard"
            for name in names_in(self._code(statement))
        )


def _leading(statement: cst.BaseStatement) -> tuple[list[str], bool]:
    """The comments above a statement that still hold, and whether a blank line is."""
    assert isinstance(statement, (cst.SimpleStatementLine, cst.BaseCompoundStatement))
    lines = statement.leading_lines
    comments = [line.comment.value for line in lines if line.comment]
    blank = any(line.comment is None for line in lines)
    comments = of_replicate(comments)
    return comments, blank


def _body(suite: cst.BaseSuite) -> Sequence[cst.BaseStatement]:
    if isinstance(suite, cst.IndentedBlock):
        return suite.body
    assert isinstance(suite, cst.SimpleStatementSuite)
    return [cst.SimpleStatementLine(body=suite.body)]
