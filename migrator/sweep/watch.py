"""What a phase of a migration reads of a checkout, noted while it does.

A phase whose answers would all be the same in another checkout gives the same result
there. The answers: whole files, words and patterns in files, which file a module is,
which paths there are, which files have to do with training, and the texts.
"""

import ast
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from re import Pattern
from typing import Any, TypeVar

from codemods.bindings import Checkout
from codemods.names import Definition, Import
from codemods.plans import Facts
from codemods.source import Exported, SourceFile, UnreadableSource
from codemods.survey import Survey
from codemods.texts import TextFile

_Found = TypeVar("_Found")

FAR = 48
"""Trees that differ in more files are of other releases, and what is said of one is not of the other."""

Files = Mapping[str, SourceFile]
Look = tuple[str, Any]
"""What was looked for in a file: ``word``, ``pattern``, ``name``, ``lookup``, ``opted out`` or ``all``, and which; ``imports``."""


@dataclass
class Trace:
    """What a phase has read.

    Args:
        whole: paths of files whose content it has worked with.
        looks: path -> what it has looked for there.
        words: what it has looked for in the bytes of all.
        modules: dotted name -> the path that it has been told.
        there: path -> whether a file has that.
        listed: whether it has gone through all paths.
        patterns: pattern -> whether a path matches it.
        torchtitan: whether that is part of the checkout, where it has asked.
        told: the fields of the survey and of the facts that it has asked for.
        trained: the files that have to do with training, where it has asked.
        texts: the files that are not Python's, where it has asked.
    """

    whole: set[str] = field(default_factory=set)
    looks: dict[str, set[Look]] = field(default_factory=dict)
    words: set[str] = field(default_factory=set)
    modules: dict[str, str | None] = field(default_factory=dict)
    there: dict[str, bool] = field(default_factory=dict)
    listed: bool = False
    patterns: dict[str, bool] = field(default_factory=dict)
    torchtitan: bool | None = None
    told: set[str] = field(default_factory=set)
    trained: frozenset[str] | None = None
    texts: Mapping[str, TextFile] | None = None

    def look(self, path: str, kind: str, what: Any) -> None:
        """Note what is looked for in a file."""
        self.looks.setdefault(path, set()).add((kind, what))

    def count_whole(self, files: Files) -> None:
        """Count the files of which syntax trees were looked for as read whole.

        For a result that holds such trees: they are found again by what they are, and
        so must be those of the other checkout.
        """
        self.whole |= {
            path
            for path, looks in self.looks.items()
            for kind, what in looks
            if kind == "all" and _holds_trees(_looked(files.get(path), kind, what))
        }

    def holds(
        self,
        between: "Difference",
        checkout: Checkout,
        survey: Survey | None,
        facts: Facts | None,
    ) -> bool:
        """Whether all of it is the same in another checkout.

        Args:
            between: the files that it was read of, and those of the other.
            checkout: the other, and its survey and facts, where there are any.
        """
        return (
            self.whole.isdisjoint(between.paths)
            and len(between.paths) <= FAR
            and self._lists_the_same(between.moved)
            and between.alike
            and self._finds_the_same(between)
            and self.torchtitan in (None, checkout.holds_torchtitan)
            and (not between.moved or self._is_told_the_same(checkout))
            and (self.trained is None or _trained_in(survey) == self.trained)
            and (self.texts is None or _texts(facts) == self.texts)
        )

    def _lists_the_same(self, moved: Collection[str]) -> bool:
        """Whether nobody has asked for a path that is in one of the two alone."""
        return not moved or not (
            self.listed or any(path in self.there for path in moved)
        )

    def _is_told_the_same(self, checkout: Checkout) -> bool:
        """Whether paths that were asked for are, of files that come or go."""
        return all(
            checkout.path_of(name) == path for name, path in self.modules.items()
        ) and all(checkout.has_path(p) == told for p, told in self.patterns.items())

    def _finds_the_same(self, between: "Difference") -> bool:
        before, after = between.before, between.after
        words = [word.encode() for word in self.words]
        for path in between.paths:
            one, other = before.get(path), after.get(path)
            for word in words:
                if (one is not None and one.mentions(word)) != (
                    other is not None and other.mentions(word)
                ):
                    return False
        return all(
            between.finds_the_same(path, look)
            for path in between.paths
            for look in self.looks.get(path, ())
        )


class Difference:
    """What differs between the files of two checkouts.

    Args:
        before, after: path -> file.

    Attributes:
        paths: those of which the file is another one, or in one of the two alone.
        moved: the latter.
        alike: whether each file that is in both counts as the same kind of file.
    """

    def __init__(self, before: Files, after: Files) -> None:
        self.before, self.after = before, after
        changed = {p for p, file in after.items() if before.get(p) is not file}
        gone = before.keys() - after.keys()
        self.paths = changed | gone
        self.moved = gone | (changed - before.keys())
        self.alike = all(_alike(before.get(p), after.get(p)) for p in self.paths)
        self._found: dict[tuple[str, Look], bool] = {}

    def finds_the_same(self, path: str, look: Look) -> bool:
        """Whether something that was looked for in a file is the same in both."""
        asked = path, look
        if asked not in self._found:
            files = self.before.get(path), self.after.get(path)
            # What cannot be read, or nests too deeply, is for the phase to say where it matters.
            try:
                one, other = (_looked(file, *look) for file in files)
                self._found[asked] = same(one, other)
            except (UnreadableSource, RecursionError):
                self._found[asked] = False
        return self._found[asked]


def same(one: Any, other: Any, by_place: bool = True) -> bool:
    """Whether two values say the same.

    Args:
        one, other: plain values, and collections of them and of syntax trees.
        by_place: whether syntax trees are the same where they have the same code at the
            same place; else where they are the same ones.
    """
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, ast.AST):
        try:
            return (
                by_place
                and _place(one) == _place(other)
                and _dumped(one) == _dumped(other)
            )
        except RecursionError:  # it nests too deeply to be written out
            return False
    if is_dataclass(one):
        names = [known.name for known in fields(one)]
        return all(same(getattr(one, n), getattr(other, n), by_place) for n in names)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(
            same(a, b, by_place) for a, b in zip(one, other)
        )
    if isinstance(one, dict):
        return list(one) == list(other) and all(
            same(value, other[key], by_place) for key, value in one.items()
        )
    return bool(one == other)


def _holds_trees(value: Any) -> bool:
    if isinstance(value, tuple | list | dict):
        inner = [*value.values()] if isinstance(value, dict) else value
        return any(map(_holds_trees, inner))
    if is_dataclass(value):
        return any(_holds_trees(getattr(value, known.name)) for known in fields(value))
    return isinstance(value, ast.AST)


def _place(node: ast.AST) -> tuple[object, ...]:
    return tuple(getattr(node, name, None) for name in node._attributes)


def _dumped(node: ast.AST) -> str:
    """A syntax tree with its places, as text that is made once."""
    known: str | None = node.__dict__.get("_dumped")
    if known is None:
        known = node.__dict__["_dumped"] = ast.dump(node, include_attributes=True)
    return known


def _alike(one: SourceFile | None, other: SourceFile | None) -> bool:
    """Whether a file counts as the same kind of file, whatever is in it."""
    return (
        one is None
        or other is None
        or (one.excluded, one.root, one.dependency)
        == (other.excluded, other.root, other.dependency)
    )


def _looked(file: SourceFile | None, kind: str, what: Any) -> object:
    if file is None:
        return None
    if kind == "name":
        return file.exported(what)
    if kind == "imports":
        return file.imports
    if kind == "all":
        return file.all(what)
    if kind == "lookup":  # of another file that scope need not be there
        spelling, scope = what
        if scope not in file.names.scopes:
            return file
        found = file.lookup(spelling, scope)
        return replace(found, line=0) if isinstance(found, Import) else found
    if kind == "opted out":
        return file.opted_out(*what)
    return file.mentions(what) if kind == "word" else file.found(what)


def _trained_in(survey: Survey | None) -> frozenset[str] | None:
    return None if survey is None else survey.trained_in


def _texts(facts: Facts | None) -> Mapping[str, TextFile] | None:
    return None if facts is None else facts.read_texts()


_TRACES: list[Trace | None] = [None]
"""The last: where what is read now is noted; None while nothing is, or it is known to be noted already."""


@contextmanager
def noting(trace: Trace | None) -> Iterator[None]:
    """Have what is read noted for a while; None for not."""
    _TRACES.append(trace)
    try:
        yield
    finally:
        _TRACES.pop()


def _unnoted(function: Callable[..., _Found], *given: Any) -> _Found:
    """What a function gives, which reads what is noted otherwise; as ``noting(None)``, for what is called often."""
    _TRACES.append(None)
    try:
        return function(*given)
    finally:
        _TRACES.pop()


class _Content:
    """An attribute of a file that is made of its bytes; whoever asks for it is noted."""

    def __init__(self, name: str, compute: Callable[[SourceFile], Any] | None) -> None:
        self._name, self._compute = name, compute

    def __get__(self, file: "WatchedSource", owner: type) -> Any:
        known = file.__dict__
        # As ``seen`` does it; nothing is asked more often.
        trace = _TRACES[-1]
        if trace is not None:
            trace.whole.add(known["path"])
        if self._name not in known and self._compute is not None:
            known[self._name] = self._compute(file)
        return known[self._name]

    def __set__(self, file: "WatchedSource", value: Any) -> None:
        file.__dict__[self._name] = value


class WatchedSource(SourceFile):
    """A file of which what is read is noted."""

    def _all(self) -> tuple[object, ...]:
        own = self.__dict__
        return (self.path, own["raw"], self.excluded, self.dependency, self.root)

    # What is looked up by a file has not read it.
    def __hash__(self) -> int:
        return hash(self._all())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WatchedSource) and self._all() == other._all()

    def seen(self) -> None:
        """Its content is worked with."""
        trace = _TRACES[-1]
        if trace is not None:
            trace.whole.add(self.path)

    def mentions(self, word: bytes) -> bool:
        trace = _TRACES[-1]
        if trace is not None:
            trace.look(self.path, "word", word)
        return self.has(word)

    def all(self, of: Callable[[SourceFile], _Found]) -> _Found:
        trace = _TRACES[-1]
        if trace is not None:
            trace.look(self.path, "all", of)
        known: dict[Any, _Found] = self.__dict__.setdefault("_alls", {})
        if of not in known:
            known[of] = _unnoted(of, self)
        return known[of]

    def exported(self, name: str) -> Exported:
        trace = _TRACES[-1]
        if trace is not None:
            trace.look(self.path, "name", name)
        known: dict[str, Exported] = self.__dict__.setdefault("_exported", {})
        if name not in known:
            known[name] = _unnoted(super().exported, name)
        return known[name]

    def lookup(self, spelling: str, scope: str = "") -> Import | Definition | None:
        trace = _TRACES[-1]
        if trace is not None:
            trace.look(self.path, "lookup", (spelling, scope))
        known: dict[tuple[str, str], Import | Definition | None]
        known = self.__dict__.setdefault("_lookups", {})
        asked = spelling, scope
        if asked not in known:
            known[asked] = _unnoted(super().lookup, spelling, scope)
        return known[asked]

    def opted_out(self, line: int, code: str) -> bool:
        trace = _TRACES[-1]
        if trace is not None:
            trace.look(self.path, "opted out", (line, code))
        return _unnoted(super().opted_out, line, code)

    @property
    def imports(self) -> tuple[tuple[str, str | None], ...]:
        trace = _TRACES[-1]
        if trace is not None:
            trace.look(self.path, "imports", None)
        own = self.__dict__
        if "_imports" not in own:
            with noting(None):
                own["_imports"] = super().imports
        known: tuple[tuple[str, str | None], ...] = own["_imports"]
        return known

    def has(self, word: bytes) -> bool:
        """The same, for who notes it at another place."""
        known: dict[bytes, bool] = self.__dict__.setdefault("_words", {})
        if word not in known:
            known[word] = word in self.__dict__["raw"]
        return known[word]

    def found(self, pattern: Pattern[bytes]) -> list[Any]:
        trace = _TRACES[-1]
        if trace is not None:
            trace.look(self.path, "pattern", pattern)
        known: dict[Pattern[bytes], list[Any]] = self.__dict__.setdefault(
            "_patterns", {}
        )
        if pattern not in known:
            known[pattern] = pattern.findall(self.__dict__["raw"])
        return known[pattern]


_CONTENT = ("encoding", "text", "syntax", "names", "lines", "_encoded_lines")

for _name in ("raw", *_CONTENT):
    _made = SourceFile.__dict__.get(_name)
    setattr(WatchedSource, _name, _Content(_name, getattr(_made, "func", None)))


class _WatchedFiles(Mapping[str, SourceFile]):
    """Files of which whoever asks for a path, or goes through them, is noted."""

    def __init__(self, files: Files) -> None:
        self.plain = files

    def __getitem__(self, path: str) -> SourceFile:
        trace = _TRACES[-1]
        if trace is not None:
            trace.there[path] = path in self.plain
        return self.plain[path]

    def __iter__(self) -> Iterator[str]:
        trace = _TRACES[-1]
        if trace is not None:
            trace.listed = True
        return iter(self.plain)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class WatchedCheckout(Checkout):
    """A checkout of which what is read is noted.

    Args:
        files: path -> file.
        added: the paths of those that the plan adds.
        known: what was found in these files before; what is found goes there too.
    """

    def __init__(
        self,
        files: Files,
        added: frozenset[str] = frozenset(),
        known: dict[str, Any] | None = None,
    ) -> None:
        plain = files.plain if isinstance(files, _WatchedFiles) else files
        super().__init__(_WatchedFiles(plain))
        self._found = {} if known is None else known
        self._plain, self.added = plain, added
        # Who wrote for these has listed nothing by that.
        own = {path: file for path, file in plain.items() if not file.dependency}
        self.__dict__["own"] = _WatchedFiles(own)
        self.__dict__["dependency"] = {
            path: file for path, file in plain.items() if file.dependency
        }

    def add(self, file: SourceFile) -> None:
        WatchedCheckout.__init__(
            self, {**self._plain, file.path: file}, self.added | {file.path}
        )
        for known in ("_modules", "_holds"):
            self.__dict__.pop(known, None)

    def forget(self) -> None:
        """Let go of what was worked out of it, which leads back to it: else only the garbage collector frees it."""
        for name in [name for name in self.__dict__ if name.startswith("_once_")]:
            del self.__dict__[name]

    def changed(self, files: Files) -> "WatchedCheckout":
        return WatchedCheckout({**self._plain, **files})

    def differing(self, other: Checkout) -> list[str]:
        assert isinstance(other, WatchedCheckout)
        theirs = other._plain
        return [p for p, file in self._plain.items() if theirs.get(p) is not file]

    @property
    def holds_torchtitan(self) -> bool:
        if "_holds" not in self.__dict__:
            with noting(None):
                base = Checkout.__dict__["holds_torchtitan"].func
                self.__dict__["_holds"] = base(self)
        trace = _TRACES[-1]
        found: bool = self.__dict__["_holds"]
        if trace is not None:
            trace.torchtitan = found
        return found

    def has_path(self, pattern: str) -> bool:
        found = any(re.search(pattern, path) for path, _ in self._own_files())
        trace = _TRACES[-1]
        if trace is not None:
            trace.patterns[pattern] = found
        return found

    def path_of(self, module: str) -> str | None:
        if "_modules" not in self.__dict__:
            if "_modules" not in self._found:
                with noting(None):
                    self._found["_modules"] = Checkout.__dict__["_modules"].func(self)
            self.__dict__["_modules"] = self._found["_modules"]
        path = self._modules.get(module)
        trace = _TRACES[-1]
        if trace is not None:
            trace.modules[module] = path
            if trace.torchtitan is None:  # by which modules are called
                trace.torchtitan = self.holds_torchtitan
        return path

    def mentioning(self, *words: str) -> list[SourceFile]:
        if len(words) == 1:
            return [*self._with(words[0])]
        found = {file.path for word in words for file in self._with(word)}
        return [file for path, file in self._own_files() if path in found]

    def defining(self, name: str) -> list[SourceFile]:
        trace = _TRACES[-1]
        if trace is not None:
            trace.words.add(f"def {name}(")
        if "_defining" not in self._found:
            with noting(None):
                base = Checkout.__dict__["_defining"].func
                self._found["_defining"] = base(self)
        found: list[SourceFile] = self._found["_defining"].get(name, [])
        return found

    def _with(self, word: str) -> list[SourceFile]:
        trace = _TRACES[-1]
        if trace is not None:
            trace.words.add(word)
        known: dict[str, list[SourceFile]] = self._found.setdefault("_mentioning", {})
        if word not in known:
            held = self._found.get("words")
            own = (file for _, file in self._own_files())
            known[word] = held(word) if held else _holding(own, word.encode())
        return known[word]

    def _own_files(self) -> Iterator[tuple[str, SourceFile]]:
        own = self.__dict__["own"]
        return iter(own.plain.items())


class Words:
    """Which files hold a word, of checkouts that are much like one: few files are looked into.

    Args:
        files: of that one.
    """

    def __init__(self, files: Files) -> None:
        self.files = files
        self._known: dict[str, list[SourceFile]] = {}

    def held(self, between: "Difference", word: str) -> list[SourceFile]:
        """The files of the checkout itself that hold a word, in the order of all.

        Args:
            between: those files, and the ones that are asked about.
        """
        sought = word.encode()
        if word not in self._known:
            self._known[word] = _holding(self.files.values(), sought)
        gone = [self.files[path] for path in between.paths & self.files.keys()]
        come = [between.after[path] for path in between.paths & between.after.keys()]
        more = _holding(come, sought)
        if not more and not any(_has(file, sought) for file in gone):
            return self._known[word]
        held = {file.path for file in (*self._known[word], *more)}
        kept = held.difference(between.paths).union(file.path for file in more)
        return [file for path, file in between.after.items() if path in kept]


def _holding(files: Iterable[SourceFile], word: bytes) -> list[SourceFile]:
    return [file for file in files if not file.dependency and _has(file, word)]


def _has(file: SourceFile, word: bytes) -> bool:
    return file.has(word) if isinstance(file, WatchedSource) else file.mentions(word)


class _Told:
    """A field of a survey or of facts; whoever asks for it is noted."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, told: object, owner: type) -> Any:
        trace = _TRACES[-1]
        if trace is not None:
            trace.told.add(self._name)
        return told.__dict__[self._name]

    def __set__(self, told: object, value: Any) -> None:
        told.__dict__[self._name] = value


class WatchedSurvey(Survey):
    """A survey of which it is noted what somebody asks it, and where which files train."""

    real: Survey

    @property
    def trained_in(self) -> frozenset[str]:
        known = self.real.__dict__.get("trained_in")
        if known is None:
            with noting(None):
                known = self.real.trained_in
        trace = _TRACES[-1]
        if trace is not None:
            trace.trained = known
        found: frozenset[str] = known
        return found


class WatchedFacts(Facts):
    """Facts of which it is noted what somebody asks them."""


_MADE_OF_FILES = ("survey", "derived", "read_texts")
"""What facts have besides: the survey has told, what is derived is derived anew, and texts are noted."""

TOLD = {
    Survey: tuple(f.name for f in fields(Survey) if f.name != "checkout"),
    Facts: tuple(f.name for f in fields(Facts) if f.name not in _MADE_OF_FILES),
}
"""The fields that say something of themselves: the others are made of files."""

for _watched, _of in ((WatchedSurvey, Survey), (WatchedFacts, Facts)):
    for _name in TOLD[_of]:
        setattr(_watched, _name, _Told(_name))


def watched_survey(survey: Survey, checkout: WatchedCheckout) -> WatchedSurvey:
    """The same survey, of a checkout that is watched."""
    with noting(None):
        known = {one.name: getattr(survey, one.name) for one in fields(Survey)}
        made = WatchedSurvey(**{**known, "checkout": checkout})
    made.real = survey
    return made


def watched_facts(facts: Facts, checkout: WatchedCheckout) -> WatchedFacts:
    """The same facts, of a checkout that is watched."""

    def read_texts() -> Mapping[str, TextFile]:
        found = facts.read_texts()
        trace = _TRACES[-1]
        if trace is not None:
            trace.texts = found
        return found

    with noting(None):
        known = {one.name: getattr(facts, one.name) for one in fields(Facts)}
        known["survey"] = watched_survey(facts.survey, checkout)
    known["derived"] = {}  # derived anew, for what that reads to be noted
    known["read_texts"] = read_texts
    return WatchedFacts(**known)
