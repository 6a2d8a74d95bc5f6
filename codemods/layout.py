"""Code laid out as black lays it out, for the few shapes that the rules write.

black is what torchtitan's reviewers run, but no need of this package at run time:
the shapes are few, and the tests hold them against the real black and usort.
"""

import ast
import io
import re
import textwrap
import tokenize
from collections.abc import Sequence

WIDTH = 88
INDENT = "    "


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
    head: str,
    items: Sequence[str],
    tail: str,
    *,
    depth: int,
    exploded: bool = False,
) -> str:
    """``head`` + items + ``tail`` as black would break it.

    Args:
        head: up to and with the opening bracket, ``replicate(``.
        items: what stands between the commas, each on one line.
        tail: from the closing bracket on, ``)`` or ``) -> None:``.
        depth: indentation steps of the line that ``head`` starts on.
        exploded: one item a line whatever fits (black's magic trailing comma).

    Returns:
        The text, its first line without indentation, the others indented relative
        to it.
    """
    one_line = head + ", ".join(items) + tail
    room = WIDTH - depth * len(INDENT)
    if not exploded and len(one_line) <= room and "\n" not in one_line:
        return one_line
    # A lone * or ** item keeps black 22 from adding a comma only in definitions
    # for Python 2; for every version supported here the comma is right.
    inner = INDENT + ", ".join(items)
    if not exploded and items and len(inner) <= room:
        return f"{head}\n{inner}\n{tail}"
    lines = [head]
    # black adds a comma where it splits at commas, which one item alone has not.
    alone = len(items) == 1 and not exploded and not head.startswith("def ")
    for item in items:
        broken = _broken(item if alone else item + ",", room - len(INDENT))
        lines += [INDENT + line for line in broken.split("\n")]
    return "\n".join([*lines, tail])


# From the loosest to the tightest, as black splits them.
_OPERATORS = (
    ("if", "else"),
    ("or",),
    ("and",),
    ("<", "<=", "==", "!=", ">=", ">", "in", "is", "not"),
    ("|",),
    ("^",),
    ("&",),
    ("<<", ">>"),
    ("+", "-"),
    ("*", "/", "//", "%", "@"),
)


def _broken(item: str, room: int) -> str:
    """An item too long for its line, broken as black does.

    Before its loosest operators, or else in its last bracket: what is inside goes on
    one line, and else one line each, of which every one is broken again.
    """
    if len(item) <= room or "\n" in item or item.startswith(("for ", "if ")):
        return item
    lines = _at_operators(item)
    if len(lines) > 1 and all(len(line) <= room for line in lines):
        return "\n".join(lines)
    opening = _opening_of_last(item)
    comma = "," if item.endswith(",") else ""
    closing = len(item) - len(comma) - 1
    body = item[opening + 1 : closing]
    if opening < 0 or not body:
        return item
    inside = [body] if len(body) <= room - len(INDENT) else _inside(body)
    broken = "\n".join(_broken(line, room - len(INDENT)) for line in inside)
    inner = "\n".join(INDENT + line for line in broken.split("\n"))
    return f"{item[: opening + 1]}\n{inner}\n{item[closing:]}"


def _inside(body: str) -> list[str]:
    """What stands in a bracket, cut where it binds least: a comprehension, commas."""
    depth = 0
    commas: list[int] = []
    clauses: list[int] = []
    for token in _tokens(body):
        if token.string in ("]", ")", "}"):
            depth -= 1
        elif depth == 0 and token.string == ",":
            commas.append(token.start[1])
        elif depth == 0 and (
            token.string == "for" or (clauses and token.string == "if")
        ):
            clauses.append(token.start[1])
        if token.string in ("[", "(", "{"):
            depth += 1
    if clauses:
        edges = [0, *clauses, len(body)]
        return [body[a:b].strip() for a, b in zip(edges, edges[1:])]
    if not commas:
        return [body]
    edges = [-1, *commas, len(body)]
    parts = [body[a + 1 : b].strip() for a, b in zip(edges, edges[1:])]
    return [f"{part}," for part in parts if part]


def _at_operators(item: str) -> list[str]:
    """``item`` cut before those operators outside of brackets that bind least."""
    depth, outside, previous = 0, [], ""
    for token in _tokens(item.removesuffix(",")):
        if token.string in ("]", ")", "}"):
            depth -= 1
        # Without an operand before it, a sign is part of its operand.
        elif depth == 0 and (previous[-1:].isalnum() or previous[-1:] in "_])}\"'"):
            outside.append((token.string, token.start[1]))
        if token.string in ("[", "(", "{"):
            depth += 1
        previous = token.string
    for operators in _OPERATORS:
        cuts = [place for operator, place in outside if operator in operators]
        if cuts:
            edges = [0, *cuts, len(item)]
            return [item[a:b].rstrip() for a, b in zip(edges, edges[1:])]
    return [item]


def _opening_of_last(item: str) -> int:
    """Where the bracket opens that closes at the end of ``item``, before its comma; -1 where none does."""
    depth = 0
    for token in reversed(_tokens(item.removesuffix(","))):
        if token.string in ("]", ")", "}"):
            depth += 1
        elif depth == 0:
            return -1
        elif token.string in ("[", "(", "{"):
            depth -= 1
            if depth == 0:
                return token.start[1]
    return -1


def _tokens(line: str) -> list[tokenize.TokenInfo]:
    """The tokens of one line of code; none where it is not one."""
    try:
        found = list(tokenize.generate_tokens(io.StringIO(line).readline))
    except (tokenize.TokenError, SyntaxError):
        return []
    return [token for token in found if token.string.strip()]


def conjunction(
    head: str, terms: Sequence[str], tail: str, *, depth: int, operator: str = "and"
) -> str:
    """``head`` + terms joined by ``and`` or ``or`` + ``tail``, in brackets when too long."""
    joined = f" {operator} ".join(terms)
    one_line = f"{head}{joined}{tail}"
    if len(one_line) <= WIDTH - depth * len(INDENT):
        return one_line
    together = INDENT + joined
    if len(together) <= WIDTH - depth * len(INDENT):
        return "\n".join([f"{head}(", together, f"){tail}"])
    inner = [INDENT + terms[0], *(f"{INDENT}{operator} {t}" for t in terms[1:])]
    return "\n".join([f"{head}(", *inner, f"){tail}"])


def conditional(
    head: str,
    chosen: str,
    terms: Sequence[str],
    called: tuple[str, Sequence[str], str],
    tail: str,
    *,
    depth: int,
    operator: str = "or",
    exploded: bool = False,
) -> str:
    """``head`` + ``chosen if terms else called`` + ``tail`` as black would break it.

    Args:
        head: what stands before it on its line, ``context = ``.
        chosen: on one line.
        terms: of the condition, each on one line.
        called: what is taken otherwise, as the ``head``, items and ``tail`` of ``bracketed``.
        tail: what follows, ``:`` of a ``with``.
        depth: indentation steps of the line that ``head`` starts on.
        operator: what joins the terms.
        exploded: the call has a magic trailing comma.
    """
    asked = f"if {f' {operator} '.join(terms)}"
    before, items, after = called
    whole = f"{chosen} {asked} else {before}{', '.join(items)}{after}"
    room = WIDTH - depth * len(INDENT)
    if "\n" not in whole and not exploded:
        if len(head + whole + tail) <= room:
            return head + whole + tail
        if len(INDENT + whole) <= room:
            return f"{head}(\n{INDENT}{whole}\n){tail}"
    asking = [asked]
    if len(INDENT + asked) > room:
        asking = [f"if {terms[0]}", *(f"{operator} {term}" for term in terms[1:])]
    last = bracketed(f"else {before}", items, after, depth=depth + 1, exploded=exploded)
    lines = [chosen, *asking, *last.split("\n")]
    return "\n".join([f"{head}(", *(INDENT + line for line in lines), f"){tail}"])


def indented(text: str, depth: int) -> str:
    """``text`` with ``depth`` indentation steps before every line that has any.

    Lines inside a triple-quoted string stay: they are what the string says.
    """
    pad = INDENT * depth
    inside: set[int] = set()
    if '"""' in text or "'''" in text:
        for node in ast.walk(_parsed(text)):
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
