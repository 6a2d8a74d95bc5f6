"""The torchtitan that a checkout uses and does not hold: found, read, and never written.

Named by ``--torchtitan`` or in pyproject.toml; else a submodule that is there, or an
installed one that is what the checkout asks for. Nothing is downloaded unasked.
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from codemods.dependency import PACKAGE, Dependency
from codemods.roots import imports_of
from codemods.source import SourceFile
from migrator.errors import FileProblem, TitanMigrateError
from migrator.place import Place, inside
from migrator.releases import cached, fetch, unpacked
from migrator.torchtitans import Wanted, wanted

_VERSION = re.compile(r"\d+(\.\d+)+[\w.+-]*")
_MARKS = ("models", "distributed", "components", "parallelisms", "experiments")
"""Folders that torchtitan has had."""

_DIMS = ("distributed", "parallelisms")
"""Those that have held ParallelDims."""

_NOTED = "torchtitan-*.dist-info"

_SAY = (
    'Say which one counts with --torchtitan PATH, or with `torchtitan = "PATH"` under '
    "[tool.titan-migrate] in pyproject.toml."
)


@dataclass(frozen=True)
class Found:
    """A torchtitan at hand.

    Args:
        package: the folder of the package itself.
        shown: what it is called where it says no version.
        version: of the package, None where it does not say.
        revision: the commit that git has there, None where there is none.
    """

    package: Place
    shown: str
    version: str | None = None
    revision: str | None = None

    @property
    def name(self) -> str:
        """``third_party/torchtitan at 73a0e69``, ``torchtitan 0.2.2``."""
        if self.revision:
            return f"{self.shown} at {self.revision[:7]}"
        return f"torchtitan {self.version}" if self.version else self.shown

    @cached_property
    def sources(self) -> Mapping[str, bytes]:
        """Path within the package -> bytes, of every Python file."""
        return dict(_sources(self.package))


def find(
    root: Place,
    given: str | None,
    own: Mapping[str, SourceFile],
    gitlinks: Callable[[], dict[str, str]],
) -> Dependency:
    """The torchtitan that a checkout uses which holds none, or for which one is named.

    Args:
        root: of the checkout.
        given: a path or a version that the user named, None where nothing is named.
        own: the Python files of the checkout.
        gitlinks: path of a submodule -> the commit that the checkout names.

    Raises:
        FileProblem: a file of it cannot be read.
        TitanMigrateError: there is none where one is named, or two that differ.
    """
    if given is not None:
        found = _given(root, given)
        _refuse_second(root, found, own)
        return _read(root, found, wanted(root, gitlinks), own)
    asked = wanted(root, gitlinks)
    candidates = [*_populated(root, asked), *_installed(root, asked)]
    if not candidates:
        return _absent(root, asked)
    first, *others = candidates
    for other in others:
        if other.sources != first.sources:
            raise TitanMigrateError(
                f"{first.name} ({_near(root, first.package)}) and {other.name} "
                f"({_near(root, other.package)}) are both what this checkout asks for, and "
                f"they differ. {_SAY}"
            )
    return _read(root, first, asked, own)


def refuse_absent(given: str) -> None:
    """Refuse a torchtitan that is not at hand, whichever checkout uses it.

    Args:
        given: a version or an absolute path; of another path only a checkout can tell.

    Raises:
        TitanMigrateError: there is none.
    """
    if os.path.isabs(given) or _VERSION.fullmatch(given):
        _given(Path(os.sep), given)


def _refuse_second(root: Place, named: Found, own: Iterable[str]) -> None:
    """Refuse a torchtitan beside one that the checkout holds: both cannot be what it uses."""
    for path in own:
        package, _, rest = path.rpartition(f"{PACKAGE}/")
        held = root / package / PACKAGE
        known = rest in {f"{home}/parallel_dims.py" for home in _DIMS}
        if known and held.resolve() != named.package:
            raise TitanMigrateError(
                f"This checkout holds a torchtitan ({package}{PACKAGE}/), and --torchtitan names "
                f"another, {named.name}. Leave the option out to migrate the one that is held, "
                "or name its folder to leave it as it is."
            )


def aside(root: Place, given: str | None) -> str:
    """What the paths below the root begin with that belong to a named folder; "" without.

    Of a folder that holds other packages too, as ``src``, only the package does.
    """
    top, named = root.resolve(), (root / (given or "")).resolve()
    package = _package_in(named) if given and named.is_dir() else None
    if package is None or inside(top, package) is None:
        return ""
    others = {place.parent.name for place in named.glob("*/__init__.py")}
    if named == top or others - {package.name, "tests", "scripts", "benchmarks"}:
        named = package
    return f"{inside(top, named)}/"


def _given(root: Place, given: str) -> Found:
    """The torchtitan that the user names: a folder, or a release."""
    folder = root / given
    if folder.is_file() and given.endswith(".whl"):
        held = unpacked(folder) / PACKAGE
        _, _, version = folder.name.removesuffix(".whl").partition("-")
        version = version.partition("-")[0]  # none where it was given another name
        return Found(held, f"torchtitan {version}".rstrip(), version or None)
    if not folder.is_dir():
        if _VERSION.fullmatch(given):
            return Found(fetch(given) / PACKAGE, f"torchtitan {given}", given)
        raise TitanMigrateError(
            f"--torchtitan: {given} is neither a folder nor a version of torchtitan. Name a "
            "checkout of torchtitan, a site-packages folder that has it, a wheel of it, or a "
            "release as 0.2.2."
        )
    package = _package_in(folder)
    if package is None:
        raise TitanMigrateError(
            f"--torchtitan: there is no package torchtitan in {given}"
            + (
                ", which is empty: run `git submodule update --init` first."
                if not any(folder.iterdir())
                else ". Name the folder that holds it."
            )
        )
    return _found(root, package)


def _package_in(folder: Place) -> Place | None:
    """The folder of the package, in a folder that is or holds it."""
    for place in (folder / PACKAGE, folder / "src" / PACKAGE):
        if place.is_dir() and any((place / mark).is_dir() for mark in _MARKS):
            # Its name is what it is imported by, wherever a link of that name leads.
            return place.parent.resolve() / place.name
    # Or the package itself, whatever it is called.
    if any((folder / home / "parallel_dims.py").is_file() for home in _DIMS):
        return folder.resolve()
    return None


def _found(root: Place, package: Place) -> Found:
    home = package.parent
    # A package among others says more than the folder that holds them all.
    marks = ("pyproject.toml", ".git") if home != root.resolve() else ()
    alone = any((home / mark).exists() for mark in marks)
    within = inside(root.resolve(), package) is not None
    shown = package if within and not alone else home
    revision = _commit(home) if marks else None
    return Found(package, _near(root, shown), _version_of(package), revision)


def _near(root: Place, path: Place) -> str:
    """A path as it is best said: from the root where it lies there."""
    return inside(root.resolve(), path.resolve()) or str(path)


def _version_of(package: Place) -> str | None:
    """What the package says its version is."""
    home = package.parent
    for info in sorted(home.glob(f"{package.name}-*.dist-info")):
        return info.name.removeprefix(f"{package.name}-").removesuffix(".dist-info")
    if home.parent == cached("x").parent:
        return home.name
    for place in (home / "assets" / "version.txt", home / "version.txt"):
        if place.is_file():
            return place.read_bytes().decode("utf-8", "replace").strip()[:40] or None
    return None


def _commit(folder: Place) -> str | None:
    """The commit that is checked out in a folder; read, for git would ask its configuration."""
    place = folder / ".git"
    try:
        if place.is_file():
            place = folder / _line(place).removeprefix("gitdir:").strip()
        head = _line(place / "HEAD")
        if not head.startswith("ref:"):
            return head if re.fullmatch(r"[0-9a-f]{40,64}", head) else None
        name = head.removeprefix("ref:").strip()
        if (place / name).is_file():
            return _line(place / name)
        for line in _line(place / "packed-refs").splitlines():
            if line.endswith(f" {name}"):
                return line.split()[0]
    except (OSError, UnicodeDecodeError):
        pass
    return None


def _line(place: Place) -> str:
    return place.read_bytes().decode("utf-8").strip()


def _populated(root: Place, asked: Iterable[Wanted]) -> Iterator[Found]:
    """The submodules, and the folders that a pin names, which are there."""
    seen = set()
    for one in asked:
        folder = root / one.folder
        package = _package_in(folder) if one.folder and folder.is_dir() else None
        if package is not None and package not in seen:
            seen.add(package)
            yield _found(root, package)


def _installed(root: Place, asked: list[Wanted]) -> Iterator[Found]:
    """The installed torchtitan that is what the first pin asks for: the first such one."""
    pins = [one for one in asked if not one.folder]
    for info in _distributions(root) if pins else ():
        found = _of_distribution(root, info)
        if found is not None and pins[0].allows(found.version, found.revision):
            yield found
            return


def _environment() -> list[Path]:
    """Where this environment has its packages."""
    return [Path(entry) for entry in sys.path if entry]


def installed() -> Iterator[Path]:
    """Where pip noted the torchtitan of this environment."""
    for place in _environment():
        yield from sorted(place.glob(_NOTED))


def _distributions(root: Place) -> Iterator[Place]:
    """Where pip noted torchtitan: in the checkout's own environment, then in this one."""
    for pattern in (".venv", "venv"):
        for place in sorted(root.glob(f"{pattern}/lib/python*/site-packages")):
            yield from sorted(place.glob(_NOTED))
    yield from installed()


def _of_distribution(root: Place, info: Place) -> Found | None:
    version = info.name.removeprefix("torchtitan-").removesuffix(".dist-info")
    package, revision = info.parent / PACKAGE, None
    note = info / "direct_url.json"
    if note.is_file():
        try:
            said = json.loads(note.read_bytes())
        except ValueError:
            said = {}
        revision = said.get("vcs_info", {}).get("commit_id")
        if not package.is_dir() and str(said.get("url", "")).startswith("file://"):
            package = _package_in(Path(said["url"].removeprefix("file://"))) or package
    if not package.is_dir():
        return None
    return Found(package.resolve(), _near(root, info.parent), version, revision)


def _absent(root: Place, asked: list[Wanted]) -> Dependency:
    """What is said of a torchtitan that is not at hand."""
    installed = next(
        filter(None, (_of_distribution(root, i) for i in _distributions(root))), None
    )
    if not asked:
        if installed is not None:
            return Dependency(
                advice=f"read the installed one with --torchtitan {installed.package.parent}"
            )
        return Dependency(
            advice="read it with --torchtitan PATH (a checkout, a site-packages folder) or "
            "--torchtitan VERSION"
        )
    first = asked[0]
    advice = _how_to_read(first)
    if installed is not None:
        advice += f" (the installed one, {installed.name}, is another)"
    return Dependency(pinned=first.place, advice=advice)


def _how_to_read(pin: Wanted) -> str:
    """The command that makes what a line names readable."""
    if pin.is_submodule:
        return f"`git submodule update --init {pin.path}` makes it readable"
    if pin.folder:
        return f"put it in {pin.folder}, or name another folder with --torchtitan"
    if pin.exact:
        return (
            f"`pip download --no-deps torchtitan=={pin.exact}` fetches it, and so does "
            f"`--torchtitan {pin.exact}`, which reads it too"
        )
    if pin.revision:
        return (
            f"clone torchtitan, `git checkout {pin.revision}` there, and name it with "
            "--torchtitan"
        )
    return "name a folder or a release of it with --torchtitan"


def _read(
    root: Place, found: Found, asked: list[Wanted], own: Mapping[str, SourceFile]
) -> Dependency:
    """The dependency with its files, by paths that no file of the checkout has."""
    above = _above(root, found)
    place = f"{above}{found.package.name}"
    package = _imported_as(place, own)
    home = place.removesuffix(package.replace(".", "/"))
    files = {
        path: SourceFile(path, raw, dependency=package, root=home)
        for inside, raw in found.sources.items()
        for path in [f"{place}/{inside}"]
    }
    if not files:
        raise TitanMigrateError(
            f"{found.package} holds no Python file: install it again, or name a folder that has "
            "torchtitan in it with --torchtitan."
        )
    pinned = _differs(found, asked)
    return Dependency(found.name, pinned, "", files, package)


def _imported_as(place: str, own: Mapping[str, SourceFile]) -> str:
    """What the checkout imports a package as: ``lab.titan`` where it lies in one of its own."""
    imported = [f"{name}." for name in imports_of(own)]
    parts = place.split("/")
    for start in range(len(parts) - 1):
        name = ".".join(parts[start:])
        if any(each.startswith(f"{name}.") for each in imported):
            return name
    return parts[-1]


def _above(root: Place, found: Found) -> str:
    """What paths begin with: from the root where it lies there, else what it is called."""
    top = _near(root, found.package.parent)
    if top == ".":
        return ""
    outside = Path(top).is_absolute() and found.version and not found.revision
    return f"{found.name}/" if outside else f"{top}/"


def _differs(found: Found, asked: list[Wanted]) -> str:
    """The pin that what is read is not, "" where it is what is asked for."""
    for one in asked[:1]:
        known = found.revision if one.revision else found.version
        if known is None or (one.folder and not one.revision):
            return ""
        if not one.allows(found.version, found.revision):
            return one.place
    return ""


def _sources(folder: Place, above: str = "") -> Iterator[tuple[str, bytes]]:
    try:
        listed = sorted(folder.iterdir())
    except OSError:  # a folder that may not be looked into
        return
    for place in listed:
        if not place.name.endswith(".py") or not place.is_file():
            continue
        try:
            yield f"{above}{place.name}", place.read_bytes()
        except OSError as error:
            raise FileProblem(
                f"{place} could not be read ({error.strerror}). Give yourself read "
                "permission and run again; nothing was written."
            ) from error
    for place in listed:
        if place.is_dir() and not place.is_symlink() and place.name != "__pycache__":
            yield from _sources(place, f"{above}{place.name}/")
