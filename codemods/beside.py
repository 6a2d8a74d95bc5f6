"""What is said beside a call: log lines in its branch, comments above and in it."""

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from codemods.guards import go_with_it, guards, is_guard
from codemods.nodes import nodes, spelled
from codemods.once import once
from codemods.source import SourceFile
from codemods.wording import NAME, of_replicate

_SAYS = re.compile(r"(\w*log\w*\.)?(debug|info|warning|warn|print|log|info_once)$")
# Words with which a sentence says more than which kind of data parallelism is used.
_SAYS_MORE = re.compile(
    r"FSDP|HSDP|\bnot\b|n't|\bonly\b|support|\bwhole\b|entire|bucket|requir|must|because|"
    r"1-?D\b|\b1 dim|reduce|gradient|hook|sync|wraps?\b|unused|autocast|\bAMP\b|precision",
    re.IGNORECASE,
)
# Or of what DDP has or does.
_IS_SUBJECT = re.compile(
    rf"{NAME.pattern}(?:['’]s\b|\s+(?:\w+s|can|may|will|would|had|did|never|cannot)\b)"
)
_HOLDERS = (ast.If, ast.Try, ast.With, ast.For)


@dataclass(frozen=True)
class Said:
    """A log line or a comment that speaks of DDP.

    Args:
        line: from 1.
        text: the statement as ``ast.unparse`` has it, or the comment.
        fresh: what it says of replicate, for a comment or the words of a log line.
        certain: whether that is true for sure.
        is_comment: whether it is a comment.
    """

    line: int
    text: str
    fresh: str
    certain: bool
    is_comment: bool


def said_beside(file: SourceFile, call: ast.Call) -> Iterator[Said]:
    """Every log line and comment beside a call that speaks of DDP.

    Those of the branch that the call is in, above that branch, and at the call itself;
    where the call is in no branch, those right beside it.

    Args:
        file: that the call is in.
        call: of what was DDP.
    """
    path = _way_to(file.syntax, call)
    block, statement = path[-1]
    branch = len(path) > 1 and isinstance(path[-2][1], _HOLDERS)
    for node in block if branch else _talking(block, block.index(statement)):
        text = spelled(node)
        if _is_said(node) and NAME.search(text):
            yield Said(node.lineno, text, of_replicate(text), _certain(text), False)
    comments = _comments(file)
    lines = _lines_of(statement, comments)
    if branch:
        lines = _lines_of_branch(path[-2][1], block, comments)
    for guard in filter(is_guard, block):
        above = _right_above(comments, guard.lineno)
        kept = not go_with_it([comments[number].text for number in above])
        lines -= _lines_of(guard, comments) - (above if kept else set())
    for number in sorted(lines):
        text = comments[number].text
        if NAME.search(text):
            yield Said(number, text, of_replicate(text), _certain(text), True)


def said_around(
    file: SourceFile, function: ast.FunctionDef
) -> Iterator[tuple[int, str]]:
    """Line of what a function says of DDP anywhere, and the same said of replicate.

    Log lines, and values that are nothing but its name: ``"FSDP" if sharded else "DDP"``.
    Not what guards against more than one dimension say.
    """
    refusing = {
        id(node)
        for guard in guards(file.syntax)
        for part in guard.refusal
        for node in nodes(part)
    }
    for node in nodes(function):
        if not isinstance(node, ast.stmt) or id(node) in refusing:
            continue
        names_it = isinstance(node, ast.Assign) and any(
            isinstance(inner, ast.Constant)
            and isinstance(inner.value, str)
            and NAME.fullmatch(inner.value)
            for inner in nodes(node.value)
        )
        text = spelled(node)
        if names_it or (_is_said(node) and NAME.search(text)):
            yield node.lineno, of_replicate(text)


def _lines_of(node: ast.stmt, comments: "dict[int, _Comment]") -> set[int]:
    """The lines of comment in a statement and right above it."""
    within = range(node.lineno, (node.end_lineno or node.lineno) + 1)
    return {n for n in comments if n in within} | _right_above(comments, node.lineno)


def _lines_of_branch(
    holder: ast.stmt, block: Sequence[ast.stmt], comments: "dict[int, _Comment]"
) -> set[int]:
    """The lines of comment in a block, below it at its depth, and above what holds it."""
    last = max(node.end_lineno or node.lineno for node in block)
    while comments.get(last + 1, _NO_COMMENT).column >= block[0].col_offset:
        last += 1
    within = range(_begins(holder, block), last + 1)
    return {n for n in comments if n in within} | _right_above(comments, holder.lineno)


def _certain(text: str) -> bool:
    return not (_SAYS_MORE.search(text) or _IS_SUBJECT.search(text))


def _way_to(tree: ast.Module, call: ast.Call) -> list[tuple[list[ast.stmt], ast.stmt]]:
    """The blocks around a call, from outside in, with the statement of each that holds it."""
    found: list[tuple[list[ast.stmt], ast.stmt]] = []
    node: ast.AST = tree
    while True:
        inner = next(
            (
                (block, statement)
                for block in _blocks(node)
                for statement in block
                if any(child is call for child in nodes(statement))
            ),
            None,
        )
        if inner is None:
            return found
        found.append(inner)
        node = inner[1]


def _blocks(node: ast.AST) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        block = getattr(node, name, None)
        if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
            yield block
    for handler in getattr(node, "handlers", ()):
        yield handler.body


def _begins(holder: ast.stmt, block: Sequence[ast.stmt]) -> int:
    """The first line that belongs to a block, below the head of its statement."""
    body = getattr(holder, "body", [])
    if block is body:
        head = getattr(holder, "test", None)
        return (getattr(head, "end_lineno", None) or holder.lineno) + 1
    return (body[-1].end_lineno or 0) + 1


def _talking(block: Sequence[ast.stmt], at: int) -> list[ast.stmt]:
    """The log lines right before and right after a statement of a block."""
    start, end = at, at + 1
    while start > 0 and _is_said(block[start - 1]):
        start -= 1
    while end < len(block) and _is_said(block[end]):
        end += 1
    return list(block[start:end])


def _is_said(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and bool(_SAYS.match(spelled(node.value.func)))
    )


@dataclass(frozen=True)
class _Comment:
    """A comment, and the column it stands at where it is alone on its line, else -1."""

    text: str
    column: int


_NO_COMMENT = _Comment("", -1)


def comments_of(file: SourceFile) -> dict[int, str]:
    """Line -> its comment."""
    return {line: comment.text for line, comment in _comments(file).items()}


@once
def _comments(file: SourceFile) -> dict[int, _Comment]:
    """Line -> its comment."""
    lines = io.StringIO(file.text.replace("\r\n", "\n")).readline
    return {
        token.start[0]: _Comment(
            token.string,
            -1 if token.line[: token.start[1]].strip() else token.start[1],
        )
        for token in tokenize.generate_tokens(lines)
        if token.type == tokenize.COMMENT
    }


def _right_above(comments: dict[int, _Comment], line: int) -> set[int]:
    """The lines of comment without a gap above a line."""
    found = set()
    while comments.get(line - 1, _NO_COMMENT).column >= 0:
        line -= 1
        found.add(line)
    return found
