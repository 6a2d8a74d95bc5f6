"""Code in few words, and statements laid out as black leaves them.

The rules write what is right, on one line where it can be; ``laid_out`` then gives the
statements that differ the layout that black has for them, in the checkout's line
length. Statements of a fork that another hand laid out stay as they are.
"""

import ast
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache, lru_cache

from codemods.nodes import nodes

WIDTH = 88
"""Columns of a line, where the checkout does not say."""

INDENT = "    "

_USUAL = frozenset(["PY310"])
"""Black's name of the Python that is taken for a module's, where it is not known."""

_MANY = 10_000
"""Lines between the first and the last that differ, from where on they are compared roughly."""


def flatten(expression: str) -> str:
    """``expression`` on one line, unless that would lose a comment or a string."""
    if "\n" not in expression:
        return expression.strip()
    flat = re.sub(r"\s*\n\s*", " ", expression.strip())
    flat = re.sub(r"([\[({]) ", r"\1", flat)
    flat = re.sub(r",? ([\])}])", r"\1", flat)
    try:
        same = ast.dump(ast.parse(flat, mode="eval")) == ast.dump(
            ast.parse(f"({expression})", mode="eval")
        )
    except SyntaxError:
        same = False
    return flat if same and "#" not in expression else expression.strip()


def normal(code: str) -> str:
    """A statement or an expression in one spelling, whatever its layout.

    Args:
        code: with its margin, and the comments above; an ``elif`` counts as an ``if``.
    """
    lines = code.split("\n")
    while lines and (not lines[0].strip() or lines[0].lstrip().startswith("#")):
        del lines[0]
    code = re.sub(r"\A\s*elif\b", "if", textwrap.dedent("\n".join(lines)))
    try:
        return ast.unparse(ast.parse(code))
    except SyntaxError:
        return ast.unparse(ast.parse(f"({code.strip()})", mode="eval"))


def bracketed(
    head: str, items: Sequence[str], tail: str, *, exploded: bool = False
) -> str:
    """``head`` + items + ``tail``, on one line or with a line for each item.

    Args:
        head: up to and with the opening bracket, ``replicate(``.
        items: what stands between the commas.
        tail: from the closing bracket on, ``)`` or ``) -> None:``.
        exploded: one item a line and a comma after the last, which black keeps so.

    Returns:
        The text, its first line without indentation, the others indented relative
        to it.
    """
    if not exploded:
        return f"{head}{', '.join(items)}{tail}"
    inner = [indented(f"{item},", 1) for item in items]
    return "\n".join([head, *inner, tail])


def joined(terms: Sequence[str], operator: str = "and") -> str:
    """Terms joined by ``and`` or ``or``, in brackets where one goes over several lines."""
    text = f" {operator} ".join(terms)
    return f"({text})" if "\n" in text else text


def indented(text: str, depth: int) -> str:
    """``text`` with ``depth`` indentation steps before every line that has any.

    Lines inside a triple-quoted string stay: they are what the string says.
    """
    pad = INDENT * depth
    inside: set[int] = set()
    if '"""' in text or "'''" in text:
        for node in nodes(_parsed(text)):
            if isinstance(node, (ast.Constant, ast.JoinedStr)):
                inside |= set(range(node.lineno, node.end_lineno or 0))
    return "\n".join(
        line if number in inside else pad + line if line.strip() else ""
        for number, line in enumerate(text.split("\n"))
    )


def _parsed(text: str) -> ast.AST:
    try:
        return ast.parse(text)
    except SyntaxError:
        return ast.Module(body=[], type_ignores=[])


# Layout


@dataclass(frozen=True)
class _Piece:
    """A simple statement, or the head of one that holds others.

    Args:
        start: its first line, from 0.
        end: the line after its last.
        is_head: what it holds comes after it.
    """

    start: int
    end: int
    is_head: bool

    def meets(self, start: int, end: int) -> bool:
        """Whether lines are among its own, or between two of them where there are none."""
        if start == end:
            return self.start < start < self.end
        return self.start < end and start < self.end


@lru_cache(maxsize=64)
def laid_out(before: str, after: str, width: int = WIDTH, indent: str = INDENT) -> str:
    """``after`` with those statements as black lays them out that ``before`` has otherwise.

    A statement stays as it is written where that which it takes the place of, or
    comes after, is not in black's layout either. But no line that was written here stays
    too long.

    Args:
        before: a whole module.
        after: the same, rewritten.
        width: columns that a line may have.
        indent: one step of indentation.

    Returns:
        A module of the same syntax tree.
    """
    if "\r" in after:
        if after.count("\r") != after.count("\n"):
            return after
        before, after = before.replace("\r", ""), after.replace("\r", "")
        return laid_out(before, after, width, indent).replace("\n", "\r\n")
    old, new = before.split("\n"), after.split("\n")
    try:
        theirs, ours = ast.parse(before), ast.parse(after)
    except (SyntaxError, ValueError):
        return after
    blocks = _differing(old, new)
    is_in_layout = _layout_of(theirs, old, width, indent)
    versions = _versions_of(ours, after)
    lines, below = list(new), len(new)
    for piece in sorted(_pieces(ours, new), key=lambda p: -p.start):
        met = [block for block in blocks if piece.meets(block[2], block[3])]
        text = "\n".join(new[piece.start : piece.end])
        too_long = "\n" not in text and len(text) > width
        if not met or piece.end > below:  # two that share a line
            continue
        if not too_long and not all(is_in_layout(b[0], b[1]) for b in met):
            continue
        done = as_black(
            text, width, indent=indent, is_head=piece.is_head, versions=versions
        )
        if done is not None:
            lines[piece.start : piece.end] = done.split("\n")
            below = piece.start
    result = "\n".join(lines)
    if result == after or ast.dump(ast.parse(result)) != ast.dump(ours):
        return after
    return result


def _differing(
    old: Sequence[str], new: Sequence[str]
) -> list[tuple[int, int, int, int]]:
    """Where lines differ: start and end in the old, start and end in the new."""
    shorter = min(len(old), len(new))
    top = next((i for i in range(shorter) if old[i] != new[i]), shorter)
    rest = shorter - top
    end = next((i for i in range(rest) if old[-1 - i] != new[-1 - i]), rest)
    middle = old[top : len(old) - end], new[top : len(new) - end]
    # Exact takes time with the square of how often a line stands there.
    quick = max(map(len, middle)) > _MANY
    return [
        (a + top, b + top, c + top, d + top)
        for kind, a, b, c, d in SequenceMatcher(
            None, *middle, autojunk=quick
        ).get_opcodes()
        if kind != "equal"
    ]


def _pieces(tree: ast.Module, lines: Sequence[str]) -> set[_Piece]:
    """Every statement of a module, what it holds apart."""
    found = set()
    for node in nodes(tree):
        if not isinstance(node, (ast.stmt, ast.ExceptHandler)) or _is_text(node):
            continue
        if isinstance(node, ast.Match):
            continue  # holds cases, which hold statements
        body = getattr(node, "body", None)
        start, end = node.lineno - 1, node.end_lineno or node.lineno
        if isinstance(body, list):
            first = body[0]
            decorators = getattr(first, "decorator_list", ())
            end = min(n.lineno for n in (first, *decorators)) - 1
            while end > start and re.match(r"\s*(#|$)", lines[end - 1]):
                end -= 1
        if end > start:
            found.add(_Piece(start, end, isinstance(body, list)))
    return found


def _is_text(node: ast.AST) -> bool:
    """A docstring, whose layout is its content."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _layout_of(
    tree: ast.Module, lines: Sequence[str], width: int, indent: str
) -> Callable[[int, int], bool]:
    """Whether what stands on lines of a module is as black lays it out.

    Where no statement stands on them, that above them counts, whole functions as one.
    """
    pieces = _pieces(tree, lines)

    @cache
    def good(piece: _Piece) -> bool:
        text = "\n".join(lines[piece.start : piece.end])
        return text == as_black(
            text, width, indent=indent, is_head=piece.is_head, versions=frozenset()
        )

    def is_in_layout(start: int, end: int) -> bool:
        chosen = [piece for piece in pieces if piece.meets(start, end)]
        if not chosen:
            above = [n for n in tree.body if n.lineno <= start][-1:]
            chosen = [
                piece
                for piece in pieces
                for node in above
                if piece.meets(node.lineno - 1, node.end_lineno or node.lineno)
            ]
        return all(map(good, chosen))

    return is_in_layout


def _versions_of(tree: ast.Module, source: str) -> frozenset[str]:
    """The Pythons that can read a module, which black finds out from all of it."""
    if any(isinstance(node, ast.JoinedStr) for node in nodes(tree)):
        return frozenset(
            ["PY36"]
        )  # to find out more takes a while, and changes nothing
    from black import detect_target_versions
    from black.parsing import InvalidInput, lib2to3_parse

    try:
        found = detect_target_versions(lib2to3_parse(source))
        return frozenset(version.name for version in found)
    except InvalidInput:
        return _USUAL


@lru_cache(maxsize=2048)
def as_black(
    text: str,
    width: int = WIDTH,
    *,
    indent: str = INDENT,
    is_head: bool = False,
    versions: frozenset[str] = _USUAL,
) -> str | None:
    """A statement as black lays it out; None where black cannot read it.

    Quotes stay as they are.

    Args:
        text: whole lines, with their indentation.
        width: columns that a line may have.
        indent: one step of indentation.
        is_head: it is the head of a statement whose body is left out.
        versions: black's names of the Pythons that can read the module. Where all of
            them can, a comma follows a last argument ``**a`` too.
    """
    import black  # takes a while
    from black.mode import Mode, TargetVersion
    from black.parsing import InvalidInput

    margin = re.match(r"[ \t]*", text)[0]  # type: ignore[index]
    depth, rest = divmod(len(margin), len(indent))
    if margin != indent * depth or (indent != INDENT and re.search("\"\"\"|'''", text)):
        return None
    above = [f"{indent * step}if x:" for step in range(depth)]
    before = {"elif": "if x:", "except": "try:"}.get(text.split()[0].rstrip(":"))
    if before:
        above += [f"{margin}{before}", f"{margin}{indent}pass"]
    below = [f"{margin}{indent}pass"] if is_head else []
    targets = {TargetVersion[name] for name in versions}
    mode = Mode(targets, width, string_normalization=False)
    try:
        done = black.format_str("\n".join([*above, text, *below]) + "\n", mode=mode)
    except InvalidInput:
        return None
    lines = done.rstrip("\n").split("\n")
    text = "\n".join(lines[len(above) : len(lines) - len(below)]).strip("\n")
    return text if indent == INDENT else reindented(text, indent)


def reindented(text: str, indent: str) -> str:
    """``text`` with other steps of indentation than ours."""
    lines = []
    for line in text.split("\n"):
        bare = line.lstrip(" ")
        steps, rest = divmod(len(line) - len(bare), len(INDENT))
        lines.append(indent * steps + " " * rest + bare)
    return "\n".join(lines)
