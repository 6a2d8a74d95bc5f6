"""What a review says, for the Markdown and the page alike. Texts of the checkout are visible and otherwise as they are: nothing is escaped yet."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Literal

from codemods.attribution import Touch
from codemods.findings import Severity, kind_of
from migrator.verify.rehearse.picture import Plan

Part = tuple[str, bool]
"""Some text of a line, and whether it is what changed in it."""

Kind = Literal["", "keyword", "string", "comment", "number", "name"]
"""What a piece of a line is to Python, as far as it has a colour; a name is one that is defined."""

Kinds = tuple[tuple[int, Kind], ...]
"""Of a line, how many characters are of which kind, in order."""


@dataclass(frozen=True)
class Line:
    """One line of a file.

    Args:
        number: from 1.
        parts: its text.
        by_hand: whether a person wrote it after the tool, or took it out.
        ended: whether a line end follows; the last one of a file may have none.
        kinds: tells how many characters are of a kind, in order; none where that is not
            known. Only the page asks.
    """

    number: int
    parts: tuple[Part, ...]
    by_hand: bool = False
    ended: bool = True
    kinds: Callable[[], Kinds] = field(default=tuple, compare=False, repr=False)

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.parts)

    @property
    def pieces(self) -> list[tuple[str, bool, Kind]]:
        """Its text in pieces, each of one kind and changed or not; what is blank goes with what follows it."""
        kinds = [kind for length, kind in self.kinds() for _ in range(length)]
        kinds += [""] * (len(self.text) - len(kinds))
        changed = [mark for text, mark in self.parts for _ in text]
        for n in reversed(range(len(kinds) - 1)):
            if self.text[n].isspace() and changed[n] == changed[n + 1]:
                kinds[n] = kinds[n + 1]
        found: list[tuple[str, bool, Kind]] = []
        for (mark, kind), letters in groupby(
            zip(self.text, changed, kinds), key=lambda letter: letter[1:]
        ):
            found.append(("".join(letter for letter, _, _ in letters), mark, kind))
        return found


@dataclass(frozen=True)
class Row:
    """What stands side by side: a line before and a line after; both are one where nothing changed."""

    old: Line | None
    new: Line | None
    changed: bool

    @property
    def line(self) -> Line:
        """The one after, or the one before where that is gone."""
        line = self.new or self.old
        assert line is not None
        return line


@dataclass(frozen=True)
class Reason:
    """Why a rule changed a place: the line before, from 1, the rule, and its sentence."""

    line: int
    code: str
    message: str


@dataclass(frozen=True)
class Hunk:
    """Changes close to each other, with some lines around.

    Args:
        rows: in order.
        touch: who made them.
        reasons: of the rules, by line.
        within: the function or class around its first change, as ``Trainer.step``.
    """

    rows: tuple[Row, ...]
    touch: Touch
    reasons: tuple[Reason, ...] = ()
    within: str = ""

    @property
    def codes(self) -> tuple[str, ...]:
        """The rules it belongs to."""
        return tuple(sorted(self.touch.codes | self.touch.cleans_up))

    @property
    def head(self) -> str:
        """The line that a patch begins a hunk with."""
        old = [row.old.number for row in self.rows if row.old]
        new = [row.new.number for row in self.rows if row.new]
        return f"@@ -{_extent(old)} +{_extent(new)} @@ {self.within}".rstrip()

    def distance(self, line: int, before: bool) -> int:
        """How many lines lie between it and a line of the tree after, or of the one before."""
        sides = ((row.old if before else row.new) for row in self.rows)
        numbers = [side.number for side in sides if side] or [line]
        return max(numbers[0] - line, line - numbers[-1], 0)

    def unified(self) -> Iterator[tuple[Literal[" ", "-", "+"], Row]]:
        """Its lines as a patch has them: what goes before what comes, each in a row of its own."""
        come: list[Line] = []
        for row in self.rows:
            if not row.changed:
                yield from (("+", Row(None, line, True)) for line in come)
                come = []
                yield " ", row
                continue
            if row.old:
                yield "-", Row(row.old, None, True)
            if row.new:
                come.append(row.new)
        yield from (("+", Row(None, line, True)) for line in come)


def _extent(numbers: list[int]) -> str:
    # A patch names the line before, where a side has none; here only new and removed files do.
    return f"{numbers[0]},{len(numbers)}" if numbers else "0,0"


@dataclass(frozen=True)
class File:
    """One file that differs.

    Args:
        path: from the root of the checkout.
        hunks: in order.
        added: lines.
        removed: lines.
        notes: sentences about the whole of it.
    """

    path: str
    hunks: tuple[Hunk, ...]
    added: int
    removed: int
    notes: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]

    @property
    def codes(self) -> tuple[str, ...]:
        return tuple(sorted({code for hunk in self.hunks for code in hunk.codes}))

    @property
    def by_hand(self) -> bool:
        return any(hunk.touch.by_hand for hunk in self.hunks)


@dataclass(frozen=True)
class Rule:
    """A rule as ``explain`` has it."""

    code: str
    title: str
    why: str


@dataclass(frozen=True)
class Hazard:
    """A place that a person has to look at.

    Args:
        path, line, code, message, suggestion: as in a finding.
        must: whether it has to change, and keeps the tool from writing anything.
        before: whether the line is one of the tree before, and was changed since.
        severity: how bad it is; None where it must.
    """

    path: str
    line: int
    code: str
    message: str
    suggestion: str | None = None
    must: bool = False
    before: bool = False
    severity: Severity | None = None

    @property
    def kind(self) -> str:
        """What it is called."""
        return "has to change first" if self.must else kind_of(self.severity)

    @property
    def folder(self) -> str:
        return self.path.rpartition("/")[0]


@dataclass(frozen=True)
class Cell:
    """What ``verify`` found of one model in one cell.

    Args:
        model, cell: their names.
        what: the cell in a few words.
        word: ``passed``, ``failed`` or ``not run``.
        sentence: what that says.
        figures: quantity -> how the migrated tree agrees with the reference.
        as_ddp: how it agrees with DDP.
        computed_in: the dtype, empty where that is not known.
        failures, notes: one sentence each.
        details: of a failing rank.
        plot: the curves as a file name in the report's folder.
    """

    model: str
    cell: str
    what: str
    word: str
    sentence: str
    figures: Mapping[str, str]
    as_ddp: str
    computed_in: str = ""
    failures: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    details: str = ""
    plot: str | None = None


@dataclass(frozen=True)
class Scene:
    """What a rehearsal found of one model on ranks in one layout.

    Args:
        model, layout: their names.
        word: ``passed``, ``failed``, ``broken`` or ``not run``.
        said: one sentence each.
        plans: whose -> how the model is wrapped there, to be drawn.
    """

    model: str
    layout: str
    word: str
    said: tuple[str, ...]
    plans: Mapping[str, Plan] = field(default_factory=dict)


@dataclass(frozen=True)
class Rehearsed:
    """What ``verify`` found before it trained.

    Args:
        scenes: in order.
        problem: why there are none, or no more of them; empty where it went to its end.
        limits: what it does not show.
    """

    scenes: tuple[Scene, ...]
    problem: str
    limits: str

    @property
    def counted(self) -> str:
        """How many scenes there are of each word."""
        words = [scene.word for scene in self.scenes]
        counts = [f"{words.count(word)} {word}" for word in dict.fromkeys(words)]
        return ", ".join(counts) or "nothing"


@dataclass(frozen=True)
class Verified:
    """A report of ``verify``.

    Args:
        word: ``passed``, ``failed`` or ``no verdict``.
        ours: whether it is about this very tree; None where that cannot be told.
        sentence: how the two belong together.
        cells: in order.
        took: a sentence.
        versions: what it ran with.
        command: what to type for the same once more.
        plots: file name -> image, PNG or SVG.
        rehearsed: what came before the training, None where nothing did.
        untrained: what nobody has seen train, in sentences.
        models_left: models that the migration changes and that were not trained.
    """

    word: str
    ours: bool | None
    sentence: str
    cells: tuple[Cell, ...]
    took: str = ""
    versions: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    plots: Mapping[str, bytes] = field(default_factory=dict)
    rehearsed: Rehearsed | None = None
    untrained: str = ""
    models_left: tuple[str, ...] = ()


@dataclass(frozen=True)
class Claim:
    """Something this says, and how to see it again.

    Args:
        says: one sentence.
        commands: to type; capitals stand for what is the reader's.
        expect: what they show.
    """

    says: str
    commands: tuple[str, ...]
    expect: str


@dataclass(frozen=True)
class Review:
    """All of it.

    Args:
        name: of the checkout.
        about: what this is, in a few sentences.
        facts: name -> value, of the checkout and the migration.
        files: by path.
        rules: those of the hunks and hazards, by code.
        hazards: what must change, then the worst, and then by path and line.
        problems: why the tool writes nothing, where that is so.
        verified: the verdicts; a sentence where there are none.
        claims: how to reproduce it.
    """

    name: str
    about: tuple[str, ...]
    facts: Mapping[str, str]
    files: tuple[File, ...]
    rules: Mapping[str, Rule]
    hazards: tuple[Hazard, ...]
    problems: tuple[str, ...]
    verified: Verified | str
    claims: tuple[Claim, ...]

    @property
    def hunks(self) -> list[Hunk]:
        return [hunk for file in self.files for hunk in file.hunks]

    @property
    def added(self) -> int:
        return sum(file.added for file in self.files)

    @property
    def removed(self) -> int:
        return sum(file.removed for file in self.files)

    @property
    def by_hand(self) -> bool:
        return any(file.by_hand or file.notes for file in self.files)

    @property
    def blocked(self) -> bool:
        """Whether a person has to see to something before the tool writes anything."""
        return any(hazard.must for hazard in self.hazards)

    def rewriting(self) -> list[Rule]:
        """The rules that changed something."""
        used = {code for file in self.files for code in file.codes}
        return [rule for code, rule in self.rules.items() if code in used]


def visible(text: str, keep: str = "\t") -> str:
    """A text without characters that cannot be seen, or that turn what stands around them.

    Args:
        text: out of the checkout.
        keep: characters to leave as they are.
    """
    return "".join(
        character
        if character.isprintable() or character in keep
        else character.encode("unicode_escape", "backslashreplace").decode("ascii")
        for character in text
    )


def plural(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def listed(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last
