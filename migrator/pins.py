"""The torch that a checkout is pinned to: read from its own files, line by line.

Lock files, requirements, pyproject, conda environments and Dockerfiles all name a
version in the same few forms, so that one pattern serves; a lock file is read as TOML.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import Version

from migrator.place import Place, inside

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_PLACES = (
    "uv.lock",
    "poetry.lock",
    "requirements*.txt",
    "requirements/*.txt",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
    "environment*.y*ml",
    "conda*.y*ml",
    "pixi.toml",
    "Dockerfile*",
    "*.Dockerfile",
    "docker/*",
    ".ci/docker/*",
)
"""Where a torch is pinned, by patterns from the root."""

_LONGEST = 4_000_000
_VERSION = r"\d+(?:\.\w+)*(?:\.\*)?(?:[-+!][\w.]+)?"
_CLAUSE = rf"(?:===|==|~=|>=|<=|!=|<|>)\s*{_VERSION}"


class Written:
    """The ways in which people write the versions of a package that they take.

    Args:
        name: of the package.
        conda: what conda calls it, as a pattern.
    """

    def __init__(self, name: str, conda: str = "") -> None:
        value = rf"""^\s*{name}\s*=\s*(?:\{{.*?\bversion\s*=\s*)?["']"""
        clauses = rf"(?P<spec>{_CLAUSE}(?:\s*,\s*{_CLAUSE})*)"
        self._requirement = re.compile(
            rf"(?<![\w./-]){name}(?:\[[\w,\s-]*\])?\s*\(?{clauses}"
        )
        self._poetry = re.compile(
            rf"""{value}(?P<sign>\^|~|)(?P<version>{_VERSION})["']"""
        )
        self._poetry_range = re.compile(rf"""{value}{clauses}["']""")
        self._conda = re.compile(
            rf"^\s*-\s*[\"']?(?:\S+::)?{conda or name}\s*=\s*(?P<version>{_VERSION})"
        )

    def spec_in(self, code: str, *, conda: bool) -> str | None:
        """The specifier that a line gives for the package, None where it gives none.

        Args:
            code: the line, without its comment.
            conda: whether it is of an environment of conda's.
        """
        if found := self._requirement.search(code) or self._poetry_range.search(code):
            return found["spec"]
        if found := self._poetry.search(code):
            return _of_poetry(found["sign"], found["version"])
        if conda and (found := self._conda.search(code)):
            version = found["version"]
            return f"=={version}" if version.count(".") > 1 else f"=={version}.*"
        return None


_TORCH = Written("torch", conda="(?:py)?torch")

_RELEASES = [Version(f"2.{minor}.{patch}") for minor in range(60) for patch in range(4)]
"""Versions to try a range with; torch 2 has had up to four of each."""


@dataclass(frozen=True)
class Pin:
    """A line that says which torch the code runs on.

    Args:
        path: of the file, from the checkout's root.
        line: from 1.
        text: the requirement, ``torch==2.9.1``.
        newest: the newest torch that it allows: the one that is named where one is, else
            the newest of its minor release, None where it sets no upper end.
        exact: it allows one version alone.
    """

    path: str
    line: int
    text: str
    newest: str | None
    exact: bool

    @property
    def place(self) -> str:
        return f"{self.path}:{self.line}"


def torch_pins(root: Place) -> list[Pin]:
    """Every line below the root that pins torch, lock files first.

    Args:
        root: of the checkout.
    """
    found = []
    for name, text in pinning_files(root):
        reads = _locked if name.endswith(".lock") else _named
        found += list(reads(name, text))
    return found


def pinning_files(root: Place) -> Iterator[tuple[str, str]]:
    """The path, from the root, and the text of each file that may pin a package; lock files first."""
    seen = set()
    for pattern in _PLACES:
        for path in sorted(root.glob(pattern)):
            if path in seen or not path.is_file() or path.stat().st_size > _LONGEST:
                continue
            seen.add(path)
            text = path.read_bytes().decode("utf-8", "replace")
            yield inside(root, path) or path.name, text


def locked_packages(text: str) -> list[dict[str, Any]]:
    """The packages that a lock file lists; none where it is not read as one."""
    try:
        listed = tomllib.loads(text).get("package")
    except tomllib.TOMLDecodeError:
        return []
    packages = listed if isinstance(listed, list) else []
    return [package for package in packages if isinstance(package, dict)]


def _locked(path: str, text: str) -> Iterator[Pin]:
    line = next(
        (
            n
            for n, at in enumerate(text.split("\n"), 1)
            if at.strip() == 'name = "torch"'
        ),
        1,
    )
    versions = {
        str(package["version"])
        for package in locked_packages(text)
        if package.get("name") == "torch" and "version" in package
    }
    for version in sorted(versions):
        pin = _pin(path, line, f"=={version}")
        if pin is not None:
            yield pin


def _named(path: str, text: str) -> Iterator[Pin]:
    for number, line in enumerate(text.split("\n"), 1):
        code = line.split("#")[0]
        spec = _TORCH.spec_in(code, conda=path.endswith(("yml", "yaml")))
        pin = _pin(path, number, spec) if spec else None
        if pin is not None:
            yield pin


def _of_poetry(sign: str, version: str) -> str:
    """A specifier for poetry's own signs."""
    major, minor = (re.findall(r"\d+", version) + ["0"])[:2]
    if sign == "^":
        return f">={version},<{int(major) + 1}"
    if sign == "~":
        return f">={version},=={major}.{minor}.*"
    return f"=={version}"


def _pin(path: str, line: int, spec: str) -> Pin | None:
    try:
        allowed = SpecifierSet(spec, prereleases=True)
    except InvalidSpecifier:
        return None
    text = "torch" + re.sub(r"\s+", "", spec)
    for one in allowed:
        if one.operator in ("==", "===") and not one.version.endswith(".*"):
            return Pin(path, line, text, one.version, exact=True)
    fitting = [version for version in _RELEASES if version in allowed]
    newest = str(fitting[-1]) if fitting and fitting[-1] != _RELEASES[-1] else None
    if not fitting:
        return None
    return Pin(path, line, text, newest, exact=False)
