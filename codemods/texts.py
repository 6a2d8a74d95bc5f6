"""Files of a checkout that are not Python's: documentation, configurations, scripts, templates.

They are read to say what in them is not so any more, and never written.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

PATTERNS = (
    *("*.md", "*.mdx", "*.mdc", "*.rst", "*.txt", "*README", "*.cursorrules"),
    *("*.windsurfrules", "*.clinerules", "*.toml", "*.yaml", "*.yml"),
    *("*.sh", "*.bash", "*.slurm", "*.sbatch", "*.mk", "*.ipynb", "*Makefile"),
    *("*justfile", "*Dockerfile", "*.j2", "*.jinja", "*.jinja2", "*.tmpl", "*.tpl"),
    *("*.mako", "*.pyi", "*.json", "*.ini", "*.cfg"),
)
"""What to look for in any folder: a first choice, of which ``is_text`` takes some."""

LONGEST = 1_000_000
"""Bytes of the largest file that is read; what people write is smaller."""

_CONFIGS = (".toml", ".yaml", ".yml")
_SCRIPTS = (".sh", ".bash", ".slurm", ".sbatch", ".mk", ".ipynb")
_TEMPLATES = (".j2", ".jinja", ".jinja2", ".tmpl", ".tpl", ".mako")
_READ_BY_TOOLS = (".pyi", ".json", ".ini", ".cfg")
_SCRIPTS_NAMED = ("Makefile", "justfile", "Dockerfile")
_PROSE = (".md", ".mdx", ".mdc", ".rst")
_GUIDES = ("README", ".cursorrules", ".windsurfrules", ".clinerules")
_NAMED_TXT = re.compile(r"(^|/)(docs?/.*|README[^/]*)\.txt$", re.I)
_PROJECT = re.compile(r"(^|/)pyproject\.toml$")
# What was so once, and what others wrote.
_PASSED_OVER = re.compile(
    r"(^|/)(third[_-]?party|vendor(ed)?|node_modules|benchmarks?|licen[cs]es)/|"
    r"(^|/)(change(s|log)|history|news|releases?([_-]?notes)?)\.\w+$",
    re.I,
)
_OPT_OUT = re.compile(r"titan-migrate:\s*ignore\[([^\]]*)\]")


@dataclass(frozen=True)
class TextFile:
    """A file of the checkout that is not Python's.

    Args:
        path: relative to the root of the checkout, with forward slashes.
        raw: its bytes on disk.
        excluded: whether the selection leaves it alone.
    """

    path: str
    raw: bytes
    excluded: bool = False

    @cached_property
    def text(self) -> str:
        """What it says; bytes that are not UTF-8 are of no interest."""
        return self.raw.decode("utf-8", "replace")

    @cached_property
    def lines(self) -> list[str]:
        return re.split(r"\r\n|\r|\n", self.text)

    @property
    def is_config(self) -> bool:
        """Whether it is a configuration of a job, and not something to read."""
        return self.path.endswith(_CONFIGS) and not _PROJECT.search(self.path)

    @property
    def is_script(self) -> bool:
        """Whether programs are started or written from it, or read it: nobody else does."""
        name = self.path.rpartition("/")[2]
        return (
            name.endswith((*_SCRIPTS, *_TEMPLATES, *_READ_BY_TOOLS))
            or name in _SCRIPTS_NAMED
            or _PROJECT.search(name) is not None
        )

    def opted_out(self, line: int, code: str) -> bool:
        """Whether a line (from 1) holds ``titan-migrate: ignore[CODE]``, or is excluded.

        It stands in whatever the file takes for a comment: ``<!-- -->`` or ``#``.
        """
        text = self.lines[line - 1] if 0 < line <= len(self.lines) else ""
        found = _OPT_OUT.search(text)
        return self.excluded or (
            found is not None and code in re.split(r"[,\s]+", found[1])
        )


Texts = Callable[[], Mapping[str, TextFile]]
"""Path -> file, read when somebody asks: where there is nothing to do, nobody does."""


def none() -> Mapping[str, TextFile]:
    """No texts at all."""
    return {}


def is_text(path: str) -> bool:
    """Whether a file is documentation, a guide for whoever works here, or for tools to read.

    Histories, benchmarks and what was taken over from others say what was so, or what
    is so elsewhere, and stay true.
    """
    if _PASSED_OVER.search(path):
        return False
    name = path.rpartition("/")[2]
    return (
        path.endswith((*_PROSE, *_CONFIGS, *_SCRIPTS, *_TEMPLATES, *_READ_BY_TOOLS))
        or name in (*_GUIDES, *_SCRIPTS_NAMED)
        or _NAMED_TXT.search(path) is not None
    )
