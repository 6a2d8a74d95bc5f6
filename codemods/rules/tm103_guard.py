"""TM103: the guard against more than one dimension goes."""

import ast
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import cast

import libcst as cst
from libcst.metadata import MetadataWrapper, PositionProvider

from codemods.example import Example
from codemods.findings import Finding, Severity, Status
from codemods.guards import (
    Guard,
    commented_guards,
    guards,
    other_than_mesh,
    refuses,
    statements,
)
from codemods.plans import Facts
from codemods.plans.guarded import Guarded, Guards, Helper
from codemods.source import SourceFile
from codemods.targets import REPLICATE_MODULE

CODE = "TM103"
TITLE = "the guard against more than one dimension"
SEVERITY: Severity = "loud"
WHAT = "The guard against more than one dimension goes, however it is spelled."
WHY = """\
DDP could not be combined with tensor or pipeline parallelism, and three spellings of
a guard said so: world_mesh.ndim > 1, dp_mesh.ndim > 1 and world_size != mesh.size().
replicate composes, so the guard goes, with the variables that only it needed, but only
where the call behind it is replicate's: where DDP stays, its guard stays. A function
that does nothing but refuse goes with its last call. The dp_mesh.ndim spelling never
fires on a one-dimensional mesh: there DDP with tensor parallelism has silently trained
wrongly.
"""
UPSTREAM = """\
The reviewers of PR 1714 asked for it.
"""
RISK = """\
A guard that stays refuses what the migration is for. One that goes where DDP stays
lets DDP train beside tensor parallelism, wrongly and without a word.
"""
PROOF = """\
In `dp+tp` and `dp+pp`. Where the guard stays and fires, a rank of the migrated tree
"failed with" its RuntimeError; the base revision's is shown as "DDP refuses:" and fails
nothing. Where DDP stays, the migrated tree "still trains under DDP".
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/models/heron/infra/parallelize.py",
    before="""\
        dp_mesh = parallel_dims.get_mesh("dp_replicate")
        is_1d = dp_mesh.ndim == 1
        if not is_1d:
            raise RuntimeError("DDP has not supported > 1D parallelism")
        # nothing to shard: whole replicas
""",
    after="""\
        dp_mesh = parallel_dims.get_mesh("dp_replicate")
        # nothing to shard: whole replicas
""",
)


def find(facts: Facts) -> Iterator[Finding]:
    known = Guards(facts)
    if not known.any_followed:
        return
    for helper in known.helpers.values():
        yield from _of_helper(facts, known, helper)
    for file in known.files():
        seen: set[int] = set()
        for guarded in known.of(file):
            yield from _of_guard(facts, file, guarded)
            seen |= _parts(guarded.guard)
        for helper in known.helpers.values():
            if helper.definition.path == file.path:
                seen |= {id(inner) for inner in ast.walk(helper.node)}
        for line, _ in _commented(known, file):
            yield Finding(
                file.path, line, CODE, "a guard that is commented out goes too"
            )
        for node in ast.walk(file.syntax):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                seen.add(id(node.value))  # a docstring refuses nothing
        raises = b"raise" in file.raw or b"assert" in file.raw
        if not raises and not any(facts.calls_in(file.path)):
            continue
        for node in ast.walk(file.syntax):
            if id(node) not in seen and refuses(node):
                yield _left(
                    file,
                    node.lineno,
                    "this refuses more than one dimension in a shape that is not followed; "
                    "replicate composes, so take it out",
                    _instead(file, node),
                )


def _parts(guard: Guard) -> set[int]:
    """The nodes that are a guard's, without what it guards."""
    nodes = [guard.node] if guard.shape == "statement" else [guard.test]
    found = {id(n) for part in (*nodes, *guard.refusal) for n in ast.walk(part)}
    return found | {id(node) for node in guard.strings}


def _of_guard(facts: Facts, file: SourceFile, guarded: Guarded) -> Iterator[Finding]:
    guard = guarded.guard
    test, line = ast.unparse(guard.test), guard.node.lineno
    if guarded.fate in ("goes", "opted-out"):
        status: Status = "rewrite" if guarded.fate == "goes" else "opted-out"
        message = (
            f"replicate composes with other dimensions, so `{test}` need not be refused"
        )
        yield Finding(file.path, line, CODE, message, status)
    elif guarded.fate == "alone":
        yield _left(
            file,
            line,
            f"`{test}` is refused here for DDP, before no call that is followed; replicate "
            "composes, so take it out if what it guards is replicate's now",
            _behind(guard),
        )
    elif guarded.fate == "stays":
        yield from _stays(facts, file, guarded)


def _stays(facts: Facts, file: SourceFile, guarded: Guarded) -> Iterator[Finding]:
    """A guard whose call stays DDP's; not a word where the call is left for a person."""
    if guarded.unknown or any(
        f.path == file.path and f.line == guarded.line and f.status == "left"
        for f in facts.findings
    ):
        return
    message = "this guard stays: "
    if not guarded.call:
        message += "apply_ddp around it does"
        yield Finding(file.path, guarded.guard.node.lineno, CODE, message, "opted-out")
        return
    if guarded.elsewhere:
        yield _left(
            file,
            guarded.guard.node.lineno,
            f"{message}it guards {guarded.call} on line {guarded.line}, which is "
            f"{guarded.elsewhere}, and this checkout does not hold that",
            f"from {REPLICATE_MODULE} import replicate\n\n"
            f"replicate(model, {facts.target.mesh_keyword}=dp_mesh)",
        )
        return
    message += f"it guards {guarded.call} on line {guarded.line}, which stays DDP's"
    status: Status = "opted-out" if file.opted_out(guarded.line, "TM102") else "hazard"
    yield Finding(file.path, guarded.guard.node.lineno, CODE, message, status)


def _of_helper(facts: Facts, known: Guards, helper: Helper) -> Iterator[Finding]:
    file, name = facts.survey.files[helper.definition.path], helper.definition.name
    line = helper.node.lineno
    fate = known.helper_fate(helper)
    if file.opted_out(line, CODE):
        yield Finding(file.path, line, CODE, f"{name} stays as it is", "opted-out")
    elif fate == "goes":
        message = (
            f"{name} only refuses what replicate can do, and nothing else needs it"
        )
        yield Finding(file.path, line, CODE, message)
    elif fate in ("left over", "unused"):
        yield Finding(
            file.path,
            line,
            CODE,
            f"{name} refuses what replicate can do, and nothing here needs it: take it out "
            "unless code elsewhere calls it",
            "hazard",
        )
    elif fate == "unknown":
        yield _left(
            file,
            line,
            f"{name} refuses more than one dimension for DDP, and not every call of it is "
            "followed; replicate composes, so take it out with its calls",
            f"def {helper.node.name}({ast.unparse(helper.node.args)}):\n    pass",
        )


def _behind(guard: Guard) -> str:
    """What is there without a guard: what it keeps, or the statement behind it."""
    nodes = [*guard.kept, *(block[0] for block in guard.place.following if block)]
    return ast.unparse(nodes[0]) if nodes else "pass"


def _instead(file: SourceFile, string: ast.Constant) -> str:
    """The statement that holds a refusal, as far as it refuses anything else."""
    for node, _ in reversed(list(statements(file.syntax))):
        last = node.end_lineno or 0
        if isinstance(node, ast.If) and node.lineno <= string.lineno <= last:
            rest = other_than_mesh(node.test)
            if rest is not None:
                fresh = ast.If(rest, node.body, node.orelse)
                return ast.unparse(fresh)
    return "pass"


def _left(file: SourceFile, line: int, message: str, code: str) -> Finding:
    return Finding(
        file.path,
        line,
        CODE,
        message,
        "opted-out" if file.opted_out(line, CODE) else "left",
        code,
    )


def _commented(
    known: Guards, file: SourceFile
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Guards that are commented out, before or behind a call that is replicate's now."""
    if not re.search(rb"#\s*(el)?if |#\s*assert ", file.raw):
        return
    for line, comments in commented_guards(file.lines):
        if known.beside_followed(file, line + len(comments)):
            yield line, comments


def rewrite(tree: cst.Module, path: str, facts: Facts) -> cst.Module:
    known = Guards(facts)
    file = facts.survey.files[path]
    fates: dict[tuple[str, ...], list[bool]] = {}
    for guarded in known.of(file):
        gone = fates.setdefault(_signature(guarded.guard), [])
        gone.append(guarded.fate == "goes")
    syntax = ast.parse(tree.code)
    calls = {signature for signature in fates if signature[1] == "call"}
    going: dict[int, Guard] = {}
    for guard in [*guards(syntax), *_calls(syntax, calls)]:
        rest = fates.get(_signature(guard))
        if rest and rest.pop(0):
            going[guard.node.lineno] = guard

    def taken(name: str) -> bool:
        return any(other.path != path for other in facts.checkout.mentioning(name))

    going.update(_messages(list(going.values()), syntax, taken))
    helpers = {
        helper.definition.name
        for helper in known.helpers.values()
        if helper.definition.path == path and known.helper_fate(helper) == "goes"
    }
    comments = {texts for _, texts in _commented(known, file)}
    return MetadataWrapper(tree).visit(_Guards(going, helpers, comments))


def _signature(guard: Guard) -> tuple[str, ...]:
    """What a guard is known by while the code around it is rewritten."""
    if isinstance(guard.node, ast.Expr):
        return guard.place.scope, "call", ast.dump(guard.node)
    refusal = "" if isinstance(guard.node, ast.Assert) else _dump(guard.refusal)
    return guard.place.scope, guard.shape, ast.dump(guard.test), refusal


def _dump(nodes: Sequence[ast.stmt]) -> str:
    return " ".join(map(ast.dump, nodes))


def _calls(syntax: ast.Module, wanted: Collection[tuple[str, ...]]) -> Iterator[Guard]:
    for node, place in statements(syntax):
        if isinstance(node, ast.Expr):
            guard = Guard(node, place, "statement", node.value, (node,))
            if _signature(guard) in wanted:
                yield guard


def _messages(
    going: Sequence[Guard], syntax: ast.Module, taken: Callable[[str], bool]
) -> Iterator[tuple[int, Guard]]:
    """What sets a message that only guards that go have read.

    ``taken``: whether another file may read a name of this module.
    """
    refusing = {id(n) for g in going for part in g.refusal for n in ast.walk(part)}
    for guard in going:
        for name in guard.prepared:
            inside: Sequence[ast.AST] = list(ast.walk(guard.place.function or syntax))
            if name not in {_set_by(node) for node in inside}:
                inside = list(ast.walk(syntax))
                if taken(name):
                    continue
            reads = [
                n
                for n in inside
                if isinstance(n, ast.Name)
                and n.id == name
                and isinstance(n.ctx, ast.Load)
            ]
            if not all(id(read) in refusing for read in reads):
                continue
            for node in inside:
                if id(node) not in refusing and _set_by(node) == name:
                    assert isinstance(node, ast.Assign)
                    yield node.lineno, replace(guard, node=node)


def _set_by(node: ast.AST) -> str | None:
    """The name that a plain assignment sets."""
    target = node.targets[0] if isinstance(node, ast.Assign) else None
    return target.id if isinstance(target, ast.Name) else None


class _Guards(cst.CSTTransformer):
    """Takes out the guards that begin on some lines, and what is empty without them."""

    METADATA_DEPENDENCIES = (PositionProvider,)

    def __init__(
        self,
        going: dict[int, Guard],
        helpers: Collection[str],
        comments: Collection[tuple[str, ...]],
    ) -> None:
        super().__init__()
        self._going, self._helpers, self._comments = going, helpers, comments
        self._path: list[str] = []
        self._elifs: set[cst.If] = set()
        self._gone: set[int] = set()
        self._instead: dict[int, tuple[list[cst.BaseStatement], int]] = {}
        self._keep: list[cst.CSTNode] = []

    def _guard(self, node: cst.CSTNode) -> Guard | None:
        line = self.get_metadata(PositionProvider, node).start.line
        guard = self._going.get(line)
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
        if self._guard(original_node) is not None:
            self._drop(updated_node)
        return updated_node

    # Helpers

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:
        self._path.append(node.name.value)

    def leave_FunctionDef(
        self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef
    ) -> cst.FunctionDef:
        if ".".join(self._path) in self._helpers:
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


_ABOUT_IT = re.compile(
    r"\bDDP\b|\d-?D\b|dimension|support|parallelism|guard|\bTP\b|\bPP\b|compos|ndim",
    re.I,
)


def _kept(line: cst.BaseStatement) -> list[cst.EmptyLine]:
    """What stays of the lines above a guard: one blank line, and comments on other things."""
    leading: Sequence[cst.EmptyLine] = getattr(line, "leading_lines", ())
    blank = [x for x in leading if x.comment is None][:1]
    comments = [x for x in leading if x.comment]
    if any(_ABOUT_IT.search(x.comment.value) for x in comments if x.comment):
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
