"""What every rule needs to change a libcst tree: parsing, scopes, imports."""

import ast
import re
import sys
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import cast

import libcst as cst

from codemods import layout
from codemods.source import opt_outs

_Line = cst.SimpleStatementLine | cst.BaseCompoundStatement


def _in_style(tree: cst.Module, text: str) -> str:
    """``text`` with the indentation and line ends of ``tree``."""
    if tree.default_indent != layout.INDENT:
        text = layout.reindented(text, tree.default_indent)
    # What is taken from the checkout brings its own line ends.
    return text.replace("\r\n", "\n").replace("\n", tree.default_newline)


def expression(tree: cst.Module, text: str) -> cst.BaseExpression:
    """An expression to put into ``tree``; further lines indented relative to it."""
    return cst.parse_expression(_in_style(tree, text), config=tree.config_for_parsing)


def statement(tree: cst.Module, text: str) -> cst.BaseStatement:
    """A statement to put into ``tree``, written at column 0."""
    parsed = cst.parse_module(
        _in_style(tree, text) + tree.default_newline, config=tree.config_for_parsing
    )
    found = parsed.body[0]
    if parsed.header and hasattr(found, "leading_lines"):
        above = [
            line if line.comment else line.with_changes(indent=False)
            for line in parsed.header
        ]
        found = found.with_changes(leading_lines=above)
    return cast(cst.BaseStatement, found)


@lru_cache(maxsize=4)
def code_of(tree: cst.Module) -> str:
    """The code of a tree. To write it out takes longer than to parse it, so each statement is written once."""
    if not tree.body or not tree.has_trailing_newline:
        return tree.code
    around = (tree.header, tree.footer)
    above, below = ("".join(map(tree.code_for_node, lines)) for lines in around)
    return above + _of_body(tree) + below


_LAST: dict[tuple[_Line, str, str], str] = {}
"""Statement, indentation and line end -> its code, of the module that was written last."""


def _of_body(tree: cst.Module) -> str:
    ways = tree.default_indent, tree.default_newline
    keys = [(line, *ways) for line in tree.body]
    written = {key: _LAST.get(key) or tree.code_for_node(key[0]) for key in keys}
    _LAST.clear()
    _LAST.update(written)
    return "".join(written[key] for key in keys)


@lru_cache(maxsize=4)
def syntax_of(tree: cst.Module) -> ast.Module:
    """The same tree as the standard library has it, of the code as it is now."""
    return ast.parse(code_of(tree))


def name_of(node: cst.BaseExpression | None) -> str | None:
    """``a.b.c`` for a chain of attributes on a name, else None."""
    parts: list[str] = []
    while isinstance(node, cst.Attribute):
        parts.append(node.attr.value)
        node = node.value
    if not isinstance(node, cst.Name):
        return None
    return ".".join([node.value, *reversed(parts)])


class ScopedTransformer(cst.CSTTransformer):
    """A transformer that knows where it is.

    ``scope`` is the qualified name of the function or class around, as in
    ``codemods.names``; ``depth`` counts the indented blocks around. Of the
    module's own functions and classes only those whose scope is among ``scopes`` are
    gone into, which is most of the time of a rewrite saved.
    """

    def __init__(self, tree: cst.Module, scopes: Collection[str]) -> None:
        super().__init__()
        self.tree = tree
        self._entered = {scope.partition(".")[0] for scope in scopes}
        self._path: list[str] = []
        self.depth = 0

    @property
    def scope(self) -> str:
        return ".".join(self._path)

    def code(self, node: cst.CSTNode) -> str:
        return self.tree.code_for_node(node)

    def opted_out(self, node: cst.CSTNode, code: str) -> bool:
        """Whether the first line of a statement opts out of a rule."""
        lines = (line.strip() for line in self.code(node).split("\n"))
        first = next((line for line in lines if line and line[0] != "#"), "")
        return code in (opt_outs(first) or ())

    def visit_FunctionDef(self, node: cst.FunctionDef) -> bool:
        return bool(self._path) or self.depth > 0 or node.name.value in self._entered

    def visit_ClassDef(self, node: cst.ClassDef) -> bool:
        return bool(self._path) or self.depth > 0 or node.name.value in self._entered

    def visit_FunctionDef_body(self, node: cst.FunctionDef) -> None:
        self._path.append(node.name.value)

    def leave_FunctionDef_body(self, node: cst.FunctionDef) -> None:
        self._path.pop()

    def visit_ClassDef_body(self, node: cst.ClassDef) -> None:
        self._path.append(node.name.value)

    def leave_ClassDef_body(self, node: cst.ClassDef) -> None:
        self._path.pop()

    def visit_IndentedBlock(self, node: cst.IndentedBlock) -> None:
        self.depth += 1

    def leave_IndentedBlock(
        self, original_node: cst.IndentedBlock, updated_node: cst.IndentedBlock
    ) -> cst.BaseSuite:
        self.depth -= 1
        return updated_node


# Imports


def import_names(node: cst.ImportFrom) -> list[tuple[str, str | None]]:
    """(name, alias) of a ``from`` import; empty for a star."""
    if isinstance(node.names, cst.ImportStar):
        return []
    return [
        (
            name_of(alias.name) or "",
            name_of(alias.asname.name) if alias.asname else None,
        )
        for alias in node.names
    ]


def module_of(node: cst.ImportFrom) -> str:
    """The module of a ``from`` import as written, with its leading dots."""
    return "." * len(node.relative) + (name_of(node.module) or "")


_COMMENT = re.compile(r"#.*")
_HEAD = re.compile(r"from\s+[\w.]+\s+import\s*\(\s*(#.*)?")


def from_import(
    tree: cst.Module,
    line: cst.SimpleStatementLine,
    module: str,
    names: Sequence[tuple[str, str | None]],
) -> cst.SimpleStatementLine:
    """``line`` rewritten to import ``names``, sorted as usort does.

    A list that holds comments keeps its lines, if each has one name: only the names
    change. Of any other list the comments go above it.
    """
    ordered = sorted(dict.fromkeys(names), key=lambda n: (n[0].casefold(), n[1] or ""))
    old = cast(cst.ImportFrom, line.body[0])
    within = _COMMENT.findall(tree.code_for_node(old))
    kept = _in_place(tree, line, module, ordered) if within else None
    if kept is not None:
        return kept
    items = [f"{name} as {alias}" if alias else name for name, alias in ordered]
    text = f"from {module} import {', '.join(items)}"
    fresh = cast(cst.SimpleStatementLine, statement(tree, text))
    above = [cst.EmptyLine(comment=cst.Comment(comment)) for comment in within]
    return line.with_changes(
        body=fresh.body, leading_lines=[*line.leading_lines, *above]
    )


def _in_place(
    tree: cst.Module,
    line: cst.SimpleStatementLine,
    module: str,
    names: Sequence[tuple[str, str | None]],
) -> cst.SimpleStatementLine | None:
    """The list with its comments: every line stays with its name, in sorted order.

    None where it has not one name a line.
    """
    code = tree.code_for_node(line.with_changes(leading_lines=()))
    head, *middle, tail = code.strip().splitlines()
    if not _HEAD.fullmatch(head.strip()) or not tail.strip().startswith(")"):
        return None
    entries: dict[str, list[str]] = {}
    above: list[str] = []
    for text in middle:
        above.append(text.strip())
        found = re.match(r"\s*(\w+)( as \w+)?\s*,?\s*(#.*)?$", text)
        if found:
            entries[found[1]] = above
            above = []
        elif not text.strip().startswith("#"):
            return None
    fresh = [name for name, _ in names if name not in entries]
    gone = [name for name in entries if name not in dict(names)]
    for name, old in zip(fresh, gone):
        lines = entries.pop(old)
        alias = dict(names)[name]
        as_alias = f" as {alias}" if alias else ""
        lines[-1] = re.sub(rf"^{old}\b( as \w+)?", f"{name}{as_alias}", lines[-1])
        entries[name] = lines
    for name in fresh[len(gone) :]:
        entries[name] = [f"{name},"]
    ordered = [text for name, _ in names for text in entries[name]]
    head = re.sub(r"^from\s+[\w.]+", f"from {module}", head.strip())
    body = "\n".join([head, *(layout.INDENT + text for text in ordered), ")"])
    rest = tail.strip().removeprefix(")")
    parsed = cast(cst.SimpleStatementLine, statement(tree, body + rest))
    return line.with_changes(body=parsed.body)


OWN = frozenset({"torchtitan"})
"""The packages that a fork of torchtitan has."""


def _category(module: str, own: Collection[str]) -> int:
    """Where usort puts an import: future, standard library, others, own, relative."""
    top = module.split(".")[0]
    if not top:
        return 4
    if top == "__future__":
        return 0
    if top in sys.stdlib_module_names:
        return 1
    return 3 if top in own else 2


def _sort_key(
    module: str, is_from: bool, own: Collection[str]
) -> tuple[int, bool, str]:
    return _category(module, own), is_from, module.casefold()


def add_import(
    tree: cst.Module,
    module: str,
    name: str | None,
    alias: str | None = None,
    own: Collection[str] = OWN,
) -> cst.Module:
    """Import ``name`` from ``module`` at the top, where usort would put it.

    Args:
        tree: the module to change.
        module: absolute, or relative with its dots.
        name: what to import, or None for ``import module``.
        alias: what to call it here, or None.
        own: the packages that the checkout has itself.
    """
    suffix = f" as {alias}" if alias else ""
    if name is None:
        text = f"import {module}{suffix}"
        if text in _plain_imports(tree):
            return tree
    else:
        extended = _with_one_more(tree, module, name, alias)
        if extended is not None:
            return extended
        text = f"from {module} import {name}{suffix}"
    fresh = cast(cst.SimpleStatementLine, statement(tree, text))
    at = _place(tree.body, _sort_key(module, name is not None, own), own)
    body = _inserted(tree.body, at, fresh, _category(module, own), own)
    return tree.with_changes(body=body)


def _plain_imports(tree: cst.Module) -> set[str]:
    """The text of every ``import module`` at the top."""
    return {
        tree.code_for_node(line.body[0])
        for line in tree.body
        if isinstance(line, cst.SimpleStatementLine)
        and isinstance(line.body[0], cst.Import)
    }


def _with_one_more(
    tree: cst.Module, module: str, name: str, alias: str | None
) -> cst.Module | None:
    """``tree`` with a name in the import from ``module`` that it has; None without one."""
    for index, line in enumerate(tree.body):
        if not isinstance(line, cst.SimpleStatementLine):
            continue
        node = line.body[0]
        if not isinstance(node, cst.ImportFrom) or module_of(node) != module:
            continue
        names = import_names(node)
        if not names:
            continue
        if (name, alias) in names:
            return tree
        body = list(tree.body)
        body[index] = from_import(tree, line, module, [*names, (name, alias)])
        return tree.with_changes(body=body)
    return None


def _inserted(
    lines: Sequence[_Line],
    at: int,
    fresh: cst.SimpleStatementLine,
    category: int,
    own: Collection[str],
) -> list[_Line]:
    """``lines`` with an import of a category at an index, groups kept apart by a blank line."""
    body = list(lines)
    before = body[at - 1] if at else None
    follows_import = isinstance(before, cst.SimpleStatementLine) and isinstance(
        before.body[0], (cst.Import, cst.ImportFrom)
    )
    following = body[at] if at < len(body) else None
    apart = follows_import and _category_of(before, own) != category
    if following is not None and (
        not follows_import or (apart and _category_of(following, own) == category)
    ):
        # The new line takes over the blank lines and comments above the next one.
        fresh = fresh.with_changes(
            leading_lines=getattr(following, "leading_lines", ())
        )
        body[at] = following.with_changes(leading_lines=())
        if _category_of(following, own) not in (None, category):
            blank = cst.EmptyLine(indent=False)
            body[at] = following.with_changes(leading_lines=[blank])
    elif apart:
        fresh = fresh.with_changes(leading_lines=[cst.EmptyLine(indent=False)])
    body.insert(at, fresh)
    return body


def _category_of(line: _Line | None, own: Collection[str]) -> int | None:
    """The category of an import statement, None for anything else."""
    node = line.body[0] if isinstance(line, cst.SimpleStatementLine) else None
    if isinstance(node, cst.ImportFrom):
        return _category(module_of(node), own)
    if isinstance(node, cst.Import):
        return _category(name_of(node.names[0].name) or "", own)
    return None


def _place(
    body: Sequence[_Line],
    key: tuple[int, bool, str],
    own: Collection[str],
) -> int:
    """The index to insert an import at."""
    after = -1
    first = None
    for index, line in enumerate(body):
        if not isinstance(line, cst.SimpleStatementLine):
            if isinstance(line, (cst.FunctionDef, cst.ClassDef)):
                break
            continue
        node = line.body[0]
        if isinstance(node, cst.ImportFrom):
            other = _sort_key(module_of(node), True, own)
        elif isinstance(node, cst.Import):
            other = _sort_key(name_of(node.names[0].name) or "", False, own)
        elif isinstance(node, cst.Expr) and isinstance(
            node.value, (cst.SimpleString, cst.ConcatenatedString)
        ):
            if after < 0:
                after = index
            continue
        else:
            continue
        first = index if first is None else first
        if other <= key:
            after = index
    return after + 1 if after >= 0 else first or 0


def without_gap(
    original: cst.IndentedBlock, updated: cst.IndentedBlock
) -> cst.IndentedBlock:
    """A block whose first statements went, without the blank lines below them."""
    if len(updated.body) >= len(original.body) or not updated.body:
        return updated
    first, *others = updated.body
    leading = list(getattr(first, "leading_lines", ()))
    if not leading or first is original.body[0] or leading[0].comment:
        return updated
    while leading and not leading[0].comment:
        leading.pop(0)
    first = first.with_changes(leading_lines=leading)
    return updated.with_changes(body=[first, *others])


def drop_import(tree: cst.Module, local: str, scope: str = "") -> cst.Module:
    """Take the import that binds ``local`` out of ``tree``."""
    return tree.visit(_DropImport(tree, local, scope))


class _DropImport(ScopedTransformer):
    def __init__(self, tree: cst.Module, local: str, where: str) -> None:
        super().__init__(tree, [where])
        self.local, self.where = local, where

    def leave_IndentedBlock(
        self, original_node: cst.IndentedBlock, updated_node: cst.IndentedBlock
    ) -> cst.BaseSuite:
        block = without_gap(original_node, updated_node)
        return super().leave_IndentedBlock(original_node, block)

    def visit_SimpleStatementLine(self, node: cst.SimpleStatementLine) -> bool:
        return False

    def leave_SimpleStatementLine(
        self,
        original_node: cst.SimpleStatementLine,
        updated_node: cst.SimpleStatementLine,
    ) -> cst.BaseStatement | cst.RemovalSentinel:
        node = updated_node.body[0]
        if self.scope != self.where or len(updated_node.body) != 1:
            return updated_node
        if isinstance(node, cst.ImportFrom):
            names = import_names(node)
            kept = [n for n in names if (n[1] or n[0]) != self.local]
            if len(kept) == len(names):
                return updated_node
            if kept:
                return from_import(self.tree, updated_node, module_of(node), kept)
            return cst.RemoveFromParent()
        if isinstance(node, cst.Import):
            aliases = [
                alias
                for alias in node.names
                if (name_of(alias.asname.name) if alias.asname else name_of(alias.name))
                != self.local
            ]
            if len(aliases) == len(node.names):
                return updated_node
            if aliases:
                aliases[-1] = aliases[-1].with_changes(comma=cst.MaybeSentinel.DEFAULT)
                return updated_node.with_changes(
                    body=[node.with_changes(names=aliases)]
                )
            return cst.RemoveFromParent()
        return updated_node


def drop_assignment(tree: cst.Module, name: str, scope: str) -> cst.Module:
    """Take every plain assignment to a local variable out of one function."""
    return tree.visit(_DropAssignment(tree, name, scope))


class _DropAssignment(ScopedTransformer):
    def __init__(self, tree: cst.Module, name: str, where: str) -> None:
        super().__init__(tree, [where])
        self.name, self.where = name, where

    def visit_SimpleStatementLine(self, node: cst.SimpleStatementLine) -> bool:
        return False

    def leave_SimpleStatementLine(
        self,
        original_node: cst.SimpleStatementLine,
        updated_node: cst.SimpleStatementLine,
    ) -> cst.BaseStatement | cst.RemovalSentinel:
        if self.scope != self.where or len(updated_node.body) != 1:
            return updated_node
        node = updated_node.body[0]
        target = (
            node.targets[0].target
            if isinstance(node, cst.Assign) and len(node.targets) == 1
            else node.target
            if isinstance(node, cst.AnnAssign)
            else None
        )
        if isinstance(target, cst.Name) and target.value == self.name:
            return cst.RemoveFromParent()
        return updated_node


def is_dunder_all(node: cst.CSTNode) -> bool:
    """Whether a statement sets or extends ``__all__``."""
    if isinstance(node, cst.Assign):
        return any(name_of(t.target) == "__all__" for t in node.targets)
    if isinstance(node, (cst.AnnAssign, cst.AugAssign)):
        return name_of(node.target) == "__all__"
    return False


def quoted(node: cst.SimpleString, old: str, new: str) -> cst.SimpleString:
    """The string with its whole content changed from ``old`` to ``new``."""
    found = re.fullmatch(
        rf"(\w*(?:'''|\"\"\"|'|\")){re.escape(old)}('''|\"\"\"|'|\")", node.value
    )
    if not found:
        return node
    return node.with_changes(value=f"{found[1]}{new}{found[2]}")
