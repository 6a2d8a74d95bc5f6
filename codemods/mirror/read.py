"""Read ``apply_fsdp`` as nodes, without what only serves sharding."""

import ast
import re
from collections.abc import Iterable, Sequence

import libcst as cst

from codemods import layout
from codemods.mirror import arguments
from codemods.mirror.arguments import SHARDING_KEYWORDS
from codemods.mirror.effects import SHARDING_CALL, acts
from codemods.mirror.fold import constants_of, fold
from codemods.mirror.names import assigned_in, names_in
from codemods.mirror.nodes import AnyNode, Block, Plain, Wrap, walk
from codemods.mirror.records import CannotMirror, Wishes
from codemods.mirror.words import of_replicate, reworded
from codemods.nodes import spelled

_LOG = ("logger", "logging")
_FACTOR = "set_gradient_divide_factor"
_BY_THE_MESH = re.compile(
    r"[\w.\[\]\"']*(\bsize\(\w*\)|world_size|divide_factor|dp_degree|num_replicas)"
)
"""A factor that is the number of ranks, by which FSDP and replicate divide by themselves."""
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
    nodes = reader.statements(body)
    _keep_effects(nodes, reader.of_sharding | _of_sharding(tree, apply_fsdp))
    return nodes, reader.divides_off


def _keep_effects(nodes: Sequence[AnyNode], of_sharding: set[str]) -> None:
    """Have assignments that do something stay, read or not, unless they serve sharding."""
    plain = [node for node in walk(nodes) if isinstance(node, Plain) and node.target]
    serving, before = set(of_sharding), set[str]()
    while serving != before:
        before = set(serving)
        for node in plain:
            if node.target in serving:
                serving |= names_in(node.text)
    for node in plain:
        if node.target not in serving and acts(node.text):
            node.effect = True


def _of_sharding(tree: cst.Module, function: cst.FunctionDef) -> set[str]:
    """The names in what is passed for sharding alone, whatever it is passed to."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(tree.code_for_node(function).strip())):
        values: list[ast.AST] = []
        if isinstance(node, ast.keyword) and node.arg in SHARDING_KEYWORDS:
            values = [node.value]
        elif isinstance(node, ast.Dict):
            values = [v for k, v in zip(node.keys, node.values) if _is_of_sharding(k)]
        elif isinstance(node, ast.Assign):
            values = [
                node.value
                for target in node.targets
                if isinstance(target, ast.Subscript) and _is_of_sharding(target.slice)
            ]
        elif isinstance(node, ast.Call) and SHARDING_CALL.match(
            spelled(node.func).rpartition(".")[2]
        ):
            values = [node]
        found |= {n for value in values for n in names_in(ast.unparse(value))}
    return found


def _is_of_sharding(key: ast.expr | None) -> bool:
    return isinstance(key, ast.Constant) and key.value in SHARDING_KEYWORDS


class _Reader:
    """Knows, besides the nodes, whether it has met a return or the switching-off.

    And the names in what it has left out, for it serves sharding.
    """

    def __init__(
        self,
        tree: cst.Module,
        constants: tuple[dict[str, object], dict[str, object]],
        wishes: Wishes,
    ) -> None:
        self.tree, self.constants, self.wishes = tree, constants, wishes
        self.experts, self.known = constants
        self.stopped = False
        self.divides_off = False
        self.of_sharding: set[str] = set()

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
            self._refuse_acting(statement.iter, body)
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
            if _does_more_than_assign(code):
                raise CannotMirror("it holds a match that does more than assign")
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
        terms, verdict = fold(self.tree, statement.test, self.known)
        gone = statement.orelse if verdict else statement.body
        if verdict is not None and self._does_more_than_shard(gone):
            terms, verdict = fold(self.tree, statement.test, self.experts)
        if verdict is not None:
            self._leave_out(statement.test)
            self._leave_out(statement.orelse if verdict else statement.body)
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
        self._refuse_acting(statement.test, [*body, *orelse])
        return [Block(comments, blank, "if", terms, body, orelse)]

    def _simple(self, small: cst.BaseSmallStatement) -> AnyNode | None:
        if isinstance(small, cst.Return):
            self.stopped = True
            if small.value is None:
                return None
            return Plain([], False, self._code(small), effect=True)
        if isinstance(small, cst.Pass):
            return None
        if isinstance(small, cst.Assert) and not acts(self._code(small.test)):
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
        text = self._code(small)
        if isinstance(small, cst.Expr):
            if not acts(text) or self._is_of_sharding(small.value):
                return None
            if _FACTOR in text:
                raise CannotMirror(f"`{text}` is not followed")
            return Plain([], False, text, effect=True)
        if isinstance(small, cst.Raise):
            text = reworded(text)
        return Plain([], False, text, effect=True)

    def _call(self, call: cst.Call) -> AnyNode | None:
        name = self._code(call.func)
        last = name.rpartition(".")[2]
        if self._is_wrap(call):
            return arguments.wrap(self.tree, call, self.wishes.mesh_keyword)
        self._refuse_hidden_wraps(call)
        if SHARDING_CALL.match(last):
            return None
        if name.split(".")[0] in _LOG:
            code = self._code(call)
            does = any(acts(self._code(arg.value)) for arg in call.args)
            if not does and layout.normal(code) not in self.wishes.said:
                return None
            return Plain([], False, reworded(code), effect=True)
        if _DIVISION_OFF.search(last) or last in self.wishes.division_helpers:
            return self._undivides(call)
        if last == "set_requires_all_reduce":
            raise CannotMirror(f"`{self._code(call)}` is about shards and replicas")
        if last == _FACTOR:
            factor = self._value(self._code(call.args[0].value) if call.args else "")
            if factor in ("1", "1.0"):
                return self._undivides(call)
            # A factor is applied twice by replicate when reductions are forced to SUM;
            # unset, replicate averages, which is what the number of ranks meant.
            if not _BY_THE_MESH.fullmatch(factor):
                raise CannotMirror(
                    f"it divides gradients by `{factor}`, which may not be the number of ranks"
                )
            return None
        text = self._code(call)
        if last in ("print", "warn"):
            text = reworded(text)
        return Plain([], False, text, effect=True)

    def _value(self, name: str) -> str:
        """What a constant of the module is, or the name where there is none."""
        for line in self.tree.body:
            if isinstance(line, cst.SimpleStatementLine):
                for small in line.body:
                    if isinstance(small, cst.Assign) and len(small.targets) == 1:
                        if self._code(small.targets[0].target) == name:
                            return self._code(small.value)
        return name

    def _undivides(self, call: cst.Call) -> Plain:
        self.divides_off = True
        return Plain([], False, self._code(call), effect=True, undivides=True)

    def _is_of_sharding(self, value: cst.BaseExpression) -> bool:
        """Whether all that a comprehension does for each is of no use to replicate."""
        if not isinstance(value, (cst.ListComp, cst.SetComp, cst.GeneratorExp)):
            return False
        done = value.elt
        return isinstance(done, cst.Call) and bool(
            SHARDING_CALL.match(self._code(done.func).rpartition(".")[2])
        )

    def _does_more_than_shard(
        self, part: cst.BaseSuite | cst.If | cst.Else | None
    ) -> bool:
        """Whether a branch wraps, or has another effect than to refuse."""
        if part is None:
            return False
        reader = _Reader(self.tree, self.constants, self.wishes)
        try:
            if isinstance(part, cst.If):
                nodes = reader._if(part, [], False)
            else:
                suite = part.body if isinstance(part, cst.Else) else part
                nodes = reader.statements(_body(suite))
        except CannotMirror:
            return True
        return any(
            isinstance(node, Wrap)
            or (
                isinstance(node, Plain)
                and node.effect
                and not node.text.startswith(("raise ", "return"))
            )
            for node in walk(nodes)
        )

    def _leave_out(self, part: cst.CSTNode | None) -> None:
        """Know the names in a part that serves sharding."""
        if part is not None:
            found = re.findall(r"[^\W\d]\w*", self._code(part))
            self.of_sharding |= set(found)

    def _refuse_acting(
        self, asked: cst.BaseExpression, done: Sequence[AnyNode]
    ) -> None:
        """What is asked may do something itself, and would go where nothing is done."""
        if not done and acts(self._code(asked)):
            raise CannotMirror(
                f"`{self._code(asked)}` does something where it is asked"
            )

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


def _does_more_than_assign(code: str) -> bool:
    """Whether a match has an effect besides the variables that it sets."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, (ast.With, ast.For, ast.While, ast.Delete)):
            return True
        if isinstance(node, ast.Expr) and acts(ast.unparse(node)):
            if not spelled(node.value).startswith(_LOG):
                return True
        targets = node.targets if isinstance(node, ast.Assign) else []
        if not all(isinstance(target, ast.Name) for target in targets):
            return True
    return False


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
