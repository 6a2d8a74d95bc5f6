"""One source file: its bytes, its text, its syntax trees, its names, its lines."""

import ast
import codecs
import io
import re
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from codemods.names import Definition, Import, ModuleNames
from codemods.once import once

if TYPE_CHECKING:
    import libcst as cst

_Found = TypeVar("_Found")

_TREES = 16
"""As many concrete syntax trees are kept, those that were of use last."""

_OPT_OUT = re.compile(r"#\s*titan-migrate:\s*(?:ignore\[([^\]]*)\])?")


class UnreadableSource(Exception):
    """A file that cannot be decoded or parsed; says which, where and why."""

    def __init__(self, path: str, line: int | None, reason: str) -> None:
        self.path, self.line, self.reason = path, line, reason
        super().__init__(f"{path}{f':{line}' if line else ''}: {reason}")


def opt_outs(line: str) -> tuple[str, ...] | None:
    """The codes of the ``# titan-migrate: ignore[...]`` on a line, None without one.

    A comment for titan-migrate that is not of this shape has no codes.
    """
    found = _OPT_OUT.search(line)
    if found is None:
        return None
    return tuple(word for word in re.split(r"[,\s]+", found[1] or "") if word)


@dataclass(frozen=True)
class Exported:
    """What a module has under a name.

    Args:
        bound: whether it gives the name to something of its own.
        origin: where it imports it from: module, and the name there, None for the module itself.
        stars: the modules of which it imports all.
    """

    bound: bool
    origin: tuple[str, str | None] | None
    stars: tuple[str, ...]


@dataclass(frozen=True)
class SourceFile:
    """A Python file of the checkout.

    Args:
        path: relative to the root of the checkout, with forward slashes.
        raw: its bytes on disk.
        excluded: whether the selection leaves it alone.
        dependency: what the torchtitan is imported as that it is of and that the checkout
            uses, which is read and never written; "" for the checkout's own files.
        root: what its path begins with before its module does, as ``src/``.
    """

    path: str
    raw: bytes
    excluded: bool = False
    dependency: str = ""
    root: str = ""

    def mentions(self, word: bytes) -> bool:
        """Whether its bytes hold a word; nothing is parsed for this."""
        return word in self.raw

    def found(self, pattern: "re.Pattern[bytes]") -> list[Any]:
        """All that a pattern finds in its bytes."""
        return pattern.findall(self.raw)

    def all(self, of: "Callable[[SourceFile], _Found]") -> "_Found":
        """All of some kind that is found in it, most often nothing.

        Args:
            of: finds it, in this file alone. Two that are equal find the same.
        """
        return of(self)

    @once
    def exported(self, name: str) -> Exported:
        """What its module level has under a name."""
        top = self.names.top
        found = top.imports.get(name)
        origin = None if found is None else (found.module, found.name)
        return Exported(
            name in top.bound, origin, tuple(star.module for star in top.stars)
        )

    def lookup(self, spelling: str, scope: str = "") -> Import | Definition | None:
        """What a name stands for in it, seen from a scope; see ``ModuleNames.lookup``.

        Who wants the line of an import too asks ``names``.
        """
        return self.names.lookup(spelling, scope)

    @property
    def imports(self) -> tuple[tuple[str, str | None], ...]:
        """Module and name of all that it imports anywhere; a star's name is ``*``."""
        return tuple(
            (found.module, found.name)
            for scope in self.names.scopes.values()
            for found in (*scope.imports.values(), *scope.stars)
        )

    @cached_property
    def encoding(self) -> str:
        """The declared encoding (PEP 263); ``utf-8-sig`` where there is a BOM."""
        try:
            return tokenize.detect_encoding(io.BytesIO(self.raw).readline)[0]
        except SyntaxError as error:
            raise UnreadableSource(self.path, 1, str(error)) from error

    @cached_property
    def text(self) -> str:
        """The decoded text, line ends as they are on disk, without a BOM."""
        try:
            return self.raw.decode(self.encoding)
        except (UnicodeError, LookupError) as error:  # rot13 is no encoding of text
            raise UnreadableSource(self.path, None, str(error)) from error

    @cached_property
    def syntax(self) -> ast.Module:
        """The syntax tree of the standard library: fast, and it knows its lines."""
        if re.search(r"\r(?!\n)", self.text):
            reason = "has bare carriage returns as line ends; convert them first"
            raise UnreadableSource(self.path, None, reason)
        try:
            return ast.parse(self.text)
        except (RecursionError, MemoryError) as error:
            reason = "nests too deeply to be read"
            raise UnreadableSource(self.path, None, reason) from error
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None)
            message = getattr(error, "msg", str(error))
            raise UnreadableSource(
                self.path, line, f"does not parse: {message}"
            ) from error

    @cached_property
    def names(self) -> ModuleNames:
        """All scopes of the file and every use of a name in it."""
        return ModuleNames(self.path, self.package, self.syntax)

    @property
    def tree(self) -> "cst.Module":
        """The concrete syntax tree, for rewriting; large, so that only a few are kept."""
        import libcst as cst

        try:
            return _concrete(self.text)
        except cst.ParserSyntaxError as error:
            raise UnreadableSource(self.path, error.raw_line, error.message) from error

    @cached_property
    def lines(self) -> list[str]:
        return re.split(r"\r\n|\r|\n", self.text)

    @cached_property
    def _encoded_lines(self) -> list[bytes]:
        return [
            line.encode()
            for line in re.findall(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+$", self.text)
        ]

    def segment(self, node: ast.expr | ast.stmt | ast.arg) -> str:
        """The text of a node of ``syntax``, as it is written."""
        lines = self._encoded_lines[node.lineno - 1 : node.end_lineno]
        lines[-1] = lines[-1][: node.end_col_offset]
        lines[0] = lines[0][node.col_offset :]
        return b"".join(lines).decode().replace("\r\n", "\n")

    @property
    def module(self) -> str:
        """The dotted path from the root of the checkout, or from its own."""
        path = self.path.removeprefix(self.root)
        parts = path.removesuffix(".py").split("/")
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)

    @property
    def package(self) -> str:
        """The dotted package that relative imports in this file start from."""
        if self.path.endswith("__init__.py"):
            return self.module
        return self.module.rpartition(".")[0]

    def encode(self, text: str) -> bytes:
        """``text`` in this file's own encoding, with its BOM if it has one."""
        body = text.encode("utf-8" if self.encoding == "utf-8-sig" else self.encoding)
        return codecs.BOM_UTF8 + body if self.encoding == "utf-8-sig" else body

    def opted_out(self, line: int, code: str) -> bool:
        """Whether this line (from 1) says ``# titan-migrate: ignore[CODE]``, or is excluded."""
        text = self.lines[line - 1] if 0 < line <= len(self.lines) else ""
        return self.excluded or code in (opt_outs(text) or ())


@lru_cache(maxsize=_TREES)
def _concrete(text: str) -> "cst.Module":
    import libcst as cst  # takes a while

    return cst.parse_module(text)
