"""Which definition a name stands for, over all files of the checkout."""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property

from codemods.dependency import PACKAGE
from codemods.names import Definition, Import, ModuleNames
from codemods.once import once
from codemods.source import SourceFile

_IDENTIFIER = re.compile(rb"\w+")
_SPACED = bytes(n if re.match(rb"\w", bytes([n])) else 32 for n in range(256))
"""For ``bytes.translate``: what is part of no identifier becomes a space."""

_MANY = 40
"""Words from which on it pays to know which file has which identifiers."""

_DEFINED = re.compile(rb"def (\w+)\(")
_DIMS = re.compile(rb"^class ParallelDims\b(\((object)?\))?\s*:", re.MULTILINE)


class Checkout:
    """All Python files of a checkout, and what names in them stand for.

    Names lead into the files of a dependency too; ``mentioning`` does not look there.
    """

    def __init__(self, files: Mapping[str, SourceFile]) -> None:
        self.files = files
        self.added: frozenset[str] = frozenset()
        self._asked = 0

    @cached_property
    def _modules(self) -> dict[str, str]:
        """Every dotted name that a file can be imported by -> its path."""
        known: dict[str, str] = {}
        for path, file in sorted(self.own.items(), key=lambda own: own[0].count("/")):
            for name in self._names_of(file):
                known.setdefault(name, path)
        above = self.package.rpartition(".")[0]
        for path, file in self.dependency.items():
            known.setdefault(file.module, path)
            # What lies in another package may still call itself by its own name.
            known.setdefault(file.module.removeprefix(f"{above}."), path)
        return known

    def _names_of(self, file: SourceFile) -> Iterator[str]:
        """The dotted names of a file: from the root, and from each folder on the way.

        A part of a package that is called as the torchtitan that is used is not that.
        """
        parts = file.module.split(".")
        for start, part in enumerate(parts):
            if start and part == self.package and not self.holds_torchtitan:
                above = f"{file.root}{'/'.join(parts[:start])}/__init__.py"
                if above in self.files or parts[start:] == [part]:
                    continue
            yield ".".join(parts[start:])

    def add(self, file: SourceFile) -> None:
        """Take in a file that is not there yet."""
        self.files = {**self.files, file.path: file}
        self.added |= {file.path}
        for known in ("_modules", "own", "_defining", "_holders", "_identifiers"):
            self.__dict__.pop(known, None)

    def changed(self, files: Mapping[str, SourceFile]) -> "Checkout":
        """The same checkout with some files changed or new."""
        return type(self)({**self.files, **files})

    def differing(self, other: "Checkout") -> list[str]:
        """The paths of the files that are not the same, or not there, in another checkout."""
        return [p for p, file in self.files.items() if other.files.get(p) is not file]

    def has_path(self, pattern: str) -> bool:
        """Whether the path of a file of the checkout itself matches a regular expression."""
        return any(re.search(pattern, path) for path in self.own)

    def names(self, path: str) -> ModuleNames:
        return self.files[path].names

    def path_of(self, module: str) -> str | None:
        """The file of a dotted module, wherever under the root its package lies."""
        return self._modules.get(module)

    def own_path_of(self, module: str) -> str | None:
        """The same, None where it is a file of the dependency."""
        path = self.path_of(module)
        return None if path is None or self.files[path].dependency else path

    @cached_property
    def own(self) -> Mapping[str, SourceFile]:
        """The files of the checkout itself."""
        return {p: file for p, file in self.files.items() if not file.dependency}

    @cached_property
    def holds_torchtitan(self) -> bool:
        """Whether torchtitan itself is part of the checkout, and not only something called so."""
        inside = f"/{PACKAGE}/"
        return any(
            inside in f"/{file.path}" and _DIMS.search(file.raw)
            for file in self._with("class ParallelDims")
        )

    @cached_property
    def package(self) -> str:
        """What the torchtitan is imported as that the checkout uses and does not hold."""
        return next((f.dependency for f in self.dependency.values()), PACKAGE)

    def is_of_torchtitan(self, name: str) -> bool:
        """Whether a dotted name is that package or begins with it, and is no file's here."""
        return f"{name}.".startswith(f"{self.package}.") and (
            self.own_path_of(name) is None
        )

    @cached_property
    def dependency(self) -> Mapping[str, SourceFile]:
        """The files of the torchtitan that it uses, none where that is not at hand."""
        return {p: file for p, file in self.files.items() if file.dependency}

    def mentioning(self, *words: str) -> list[SourceFile]:
        """The files whose bytes hold one of the words; nothing is parsed for this."""
        found = {file.path for word in words for file in self._with(word)}
        return [file for file in self.own.values() if file.path in found]

    def defining(self, name: str) -> list[SourceFile]:
        """The files in which a function or method of that name is defined."""
        return self._defining.get(name, [])

    @cached_property
    def _defining(self) -> dict[str, list[SourceFile]]:
        found: dict[str, list[SourceFile]] = {}
        for file in self.own.values():
            for name in set(file.found(_DEFINED)):
                found.setdefault(name.decode(), []).append(file)
        return found

    def providing(self, *words: str) -> list[SourceFile]:
        """The same of the files of the dependency."""
        sought = [word.encode() for word in words]
        return [
            file for file in self.dependency.values() if any(map(file.mentions, sought))
        ]

    @once
    def _with(self, word: str) -> list[SourceFile]:
        sought = word.encode()
        self._asked += 1
        part = max(_IDENTIFIER.findall(sought), key=len, default=b"")
        if self._asked < _MANY or not part:
            return [file for file in self.own.values() if file.mentions(sought)]
        likely = self._naming(part)
        return [f for f in likely if part == sought or f.mentions(sought)]

    def _naming(self, part: bytes) -> list[SourceFile]:
        """The files with an identifier that some letters are part of."""
        found: set[str] = set()
        words, at = self._identifiers, 0
        while (at := words.find(part, at)) >= 0:
            start, end = words.rfind(b"\n", 0, at) + 1, words.find(b"\n", at)
            found |= self._holders[words[start:end]]
            at = end
        return [file for path, file in self.own.items() if path in found]

    @cached_property
    def _holders(self) -> dict[bytes, set[str]]:
        """Identifier -> the paths of the files that have it."""
        found: dict[bytes, set[str]] = {}
        for path, file in self.own.items():
            for word in set(file.raw.translate(_SPACED).split()):
                found.setdefault(word, set()).add(path)
        return found

    @cached_property
    def _identifiers(self) -> bytes:
        return b"".join(word + b"\n" for word in self._holders)

    def resolve(self, path: str, scope: str, spelling: str) -> Definition | None:
        """The definition that a dotted name stands for.

        Follows imports, aliases, re-exports and star imports through the files of
        the checkout. A name that a module of the checkout should have but has not
        resolves to that module all the same: see ``defines``.
        """
        found = self.files[path].lookup(spelling, scope)
        if isinstance(found, Definition):
            return found if found.name == spelling else None
        if found is None:
            return self._through_stars(path, spelling, set())
        rest = spelling[len(found.local) :].lstrip(".")
        full = ".".join(filter(None, (found.module, found.name, rest)))
        return self._absolute(full, set())

    def at(self, full: str) -> Definition | None:
        """The definition that an absolute dotted name stands for, as ``resolve`` finds it."""
        return self._absolute(full, set())

    def external(self, path: str, scope: str, spelling: str) -> str | None:
        """The dotted name of an imported thing, ``torch.distributed.fsdp.fully_shard``."""
        found = self.files[path].lookup(spelling, scope)
        if not isinstance(found, Import):
            return None
        rest = spelling[len(found.local) :].lstrip(".")
        return ".".join(filter(None, (found.module, found.name, rest)))

    def defines(self, definition: Definition) -> bool:
        return self.files[definition.path].exported(definition.name).bound

    def _absolute(self, full: str, seen: set[str]) -> Definition | None:
        if full in seen:
            return None
        seen.add(full)
        module, _, name = full.rpartition(".")
        path = self.path_of(module)
        if path is None:
            # `from package import module` then `module.function`: the module may
            # itself be a name that a package re-exports.
            parent, _, last = module.rpartition(".")
            parent_path = self.path_of(parent)
            if parent_path is None:
                return None
            origin = self.files[parent_path].exported(last).origin
            if origin is None:
                return None
            onward = ".".join(filter(None, (*origin, name)))
            return self._absolute(onward, seen)
        exported = self.files[path].exported(name)
        if exported.bound:
            return Definition(path, name)
        if exported.origin is not None:
            if exported.origin[1] is None:
                return None
            return self._absolute(".".join(filter(None, exported.origin)), seen)
        return self._through_stars(path, name, seen) or Definition(path, name)

    def _through_stars(self, path: str, name: str, seen: set[str]) -> Definition | None:
        for star in self.files[path].exported(name).stars:
            found = self._absolute(f"{star}.{name}", seen)
            if found is not None and self.defines(found):
                return found
        return None
