"""Which torchtitan a checkout asks for: its submodules, lock files, requirements, pyproject, conda."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version

from migrator.pins import Written, locked_packages, pinning_files
from migrator.place import Place

NAME = "torchtitan"

_WRITTEN = Written(NAME)
_FROM_GIT = re.compile(r"git\+\S*?/torchtitan(?:\.git)?(?:@(?P<revision>[\w./-]+))?")
_SOURCE = re.compile(r"""^\s*torchtitan\s*=\s*\{.*?\b(?:git|url)\s*=\s*["']""")
_REVISION = re.compile(r"""\b(?:rev|tag|branch)\s*=\s*["'](?P<revision>[^"']+)["']""")
_FOLDER = re.compile(
    r"""^\s*torchtitan\s*=\s*\{.*?\bpath\s*=\s*["'](?P<path>[^"']+)["']"""
)
_EDITABLE = re.compile(
    r"(?:^|\s)(?:-e|--editable)[\s=]+(?P<path>[\w./-]*\btorchtitan)/?(?=[\s\[\"']|$)"
)
_TABLE = re.compile(r"""^\s*\[[^\]]*\.["']?torchtitan["']?\]\s*$""")
_ALONE = re.compile(
    r"""(?<![\w./="'-])(?<!=\s)["']?torchtitan(?:\[[\w,\s-]*\])?["']?\s*(?:[],;]|$)"""
)
_SUBMODULE = re.compile(r"^\s*(path|url)\s*=\s*(.*?)\s*$")


@dataclass(frozen=True)
class Wanted:
    """A line that says which torchtitan the code runs on.

    Args:
        path: of the file, from the checkout's root; of the folder for a submodule.
        line: from 1; 0 for a submodule.
        text: ``torchtitan==0.2.2``, ``torchtitan at 73a0e69``.
        spec: the versions that it allows, None where it names a revision.
        revision: of git, "" where it names none.
        folder: where it lies, from the root, "" where that is not said.
    """

    path: str
    line: int
    text: str
    spec: SpecifierSet | None = None
    revision: str = ""
    folder: str = ""

    @property
    def is_submodule(self) -> bool:
        return not self.line

    @property
    def place(self) -> str:
        """``requirements.txt:1, torchtitan==0.2.2``, ``third_party/torchtitan at 73a0e69``."""
        return f"{self.path}:{self.line}, {self.text}" if self.line else self.text

    @property
    def exact(self) -> str | None:
        """The one version that it names, if it names one."""
        named = {
            clause.version
            for clause in self.spec or ()
            if clause.operator in ("==", "===") and not clause.version.endswith(".*")
        }
        return named.pop() if len(named) == 1 else None

    def allows(self, version: str | None, revision: str | None) -> bool:
        """Whether a torchtitan is what the line asks for.

        Args:
            version: of the package, None where it does not say.
            revision: of git, whole, None where it has none.
        """
        if self.revision:
            return bool(revision) and (
                str(revision).startswith(self.revision)
                or self.revision.startswith(str(revision))
            )
        if self.spec is None or version is None:
            return self.spec is None
        try:
            return self.spec.contains(Version(version), prereleases=True)
        except InvalidVersion:
            return False


def wanted(root: Place, gitlinks: Callable[[], dict[str, str]]) -> list[Wanted]:
    """Every line below the root that says which torchtitan it is, the most exact kinds first.

    Args:
        root: of the checkout.
        gitlinks: path of a submodule -> the commit that the checkout names.
    """
    found = list(_submodules(root, gitlinks))
    for path, text in pinning_files(root):
        reads = _locked if path.endswith(".lock") else _named
        found += list(reads(path, text))
    # What a source says beats the version beside it.
    found.sort(
        key=lambda one: (
            not (one.is_submodule or one.path.endswith(".lock")),
            one.spec is not None,
        )
    )
    return found


def _submodules(
    root: Place, gitlinks: Callable[[], dict[str, str]]
) -> Iterator[Wanted]:
    listed = root / ".gitmodules"
    if not listed.is_file():
        return
    said: list[dict[str, str]] = []
    for line in listed.read_bytes().decode("utf-8", "replace").splitlines():
        if line.lstrip().startswith("["):
            said.append({})
        elif said and (pair := _SUBMODULE.match(line)):
            said[-1][pair[1]] = pair[2]
    links: dict[str, str] | None = None
    for module in said:
        path, url = module.get("path", ""), module.get("url", "")
        last = url.rstrip("/").removesuffix(".git").rpartition("/")[2]
        if not path or NAME not in (last, path.rpartition("/")[2]):
            continue
        links = gitlinks() if links is None else links
        revision = links.get(path, "")
        text = f"{path} at {revision[:7]}" if revision else path
        yield Wanted(path, 0, text, None, revision, path)


def _locked(path: str, text: str) -> Iterator[Wanted]:
    lines = text.split("\n")
    line = next(
        (n for n, at in enumerate(lines, 1) if at.strip() == f'name = "{NAME}"'), 1
    )
    for package in locked_packages(text):
        if package.get("name") == NAME:
            yield _of_package(path, line, package)


def _of_package(path: str, line: int, package: dict[str, Any]) -> Wanted:
    source = package.get("source")
    source = source if isinstance(source, dict) else {}
    git = str(source.get("git", ""))
    revision = git.rpartition("#")[2] if "#" in git else ""
    revision = str(source.get("resolved_reference", revision))
    folder = str(source.get("editable", source.get("directory", "")))
    if revision:
        return Wanted(path, line, f"{NAME} at {revision[:7]}", None, revision)
    version = str(package.get("version", ""))
    spec = _spec(f"=={version}") if version and not folder else None
    text = f"{NAME}=={version}" if spec else f"{NAME} in {folder}"
    return Wanted(path, line, text, spec, "", folder)


def _named(path: str, text: str) -> Iterator[Wanted]:
    lines = [re.split(r"(?:^|\s)#", line)[0] for line in text.split("\n")]
    for number, code in enumerate(lines, 1):
        if _TABLE.match(code):
            rest = takewhile(
                lambda line: not line.lstrip().startswith("["), lines[number:]
            )
            code = f"{NAME} = {{ {', '.join(filter(None, map(str.strip, rest)))} }}"
        if NAME in code and (found := _of_line(path, number, code)) is not None:
            yield found


def _of_line(path: str, number: int, code: str) -> Wanted | None:
    if found := _FOLDER.search(code) or _EDITABLE.search(code):
        folder = found["path"].removeprefix("./")
        return Wanted(path, number, f"{NAME} in {folder}", None, "", folder)
    source = _SOURCE.search(code)
    if source or (found := _FROM_GIT.search(code)):
        found = _REVISION.search(code) if source else found
        revision = (found and found["revision"]) or ""
        text = f"{NAME} at {revision}" if revision else f"{NAME} from git"
        return Wanted(path, number, text, None, revision)
    written = _WRITTEN.spec_in(code, conda=path.endswith(("yml", "yaml")))
    if written is None and _ALONE.search(code):
        return Wanted(path, number, NAME, SpecifierSet())
    spec = _spec(written) if written else None
    if spec is None:
        return None
    return Wanted(path, number, NAME + re.sub(r"\s+", "", written or ""), spec)


def _spec(text: str) -> SpecifierSet | None:
    try:
        return SpecifierSet(text, prereleases=True)
    except InvalidSpecifier:
        return None
