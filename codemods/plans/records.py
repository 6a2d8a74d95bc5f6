"""What is decided: the functions to write, the calls to rewrite, and all facts."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from codemods.bindings import Checkout
from codemods.dependency import PACKAGE
from codemods.execute.tree import Tree
from codemods.findings import Finding
from codemods.mirror import Plan
from codemods.names import Definition
from codemods.outside import uses_torchtitan
from codemods.source import SourceFile
from codemods.survey import CallSite, Survey
from codemods.targets import Target
from codemods.texts import TextFile, Texts, none


@dataclass(frozen=True)
class NewFunction:
    """A function that wraps with the composable replicate.

    Args:
        definition: where it will be, under which name.
        plan: its text and signature.
        mirrors: the ``apply_fsdp`` it was derived from, None for the fixed template.
        replaces: the ``apply_ddp`` it takes the place of, None where it is new.
        after: what it is put behind, where it is new.
        branch: the line of the branch of a plan that it was derived from, or None.
    """

    definition: Definition
    plan: Plan
    mirrors: Definition | None
    replaces: Definition | None
    after: str = ""
    branch: int | None = None


@dataclass(frozen=True)
class MeshEdit:
    """How the mesh that a call passes has to change.

    Args:
        argument: the new text of the argument.
        variable: the local variable whose assignment changes instead, or None.
        assigned: the new right-hand side of that assignment.
        instead_of: the right-hand side as it is.
    """

    argument: str
    variable: str | None = None
    assigned: str | None = None
    instead_of: str | None = None


@dataclass(frozen=True)
class NewCall:
    """What a call site becomes.

    Args:
        site: the call as it is.
        function: what it calls afterwards.
        spelling: how it calls it.
        arguments: in order, as written.
        mesh: the change to the mesh.
        standalone: it is outside of torchtitan's training loop.
        before: the calls to put before it, each with its arguments.
        also: what these call.
    """

    site: CallSite
    function: NewFunction
    spelling: str
    arguments: tuple[str, ...]
    mesh: MeshEdit
    standalone: bool
    before: tuple[tuple[str, tuple[str, ...]], ...] = ()
    also: tuple[NewFunction, ...] = ()


@dataclass
class Facts:
    """All that a rule may ask about the checkout.

    Args:
        survey: what is there.
        target: the API to write for.
        functions: every function to write, by its future place.
        calls: every call to rewrite.
        findings: what the decisions have to report (hazards, places left).
        derived: the plans derived so far; some are asked for at every call.
        summing: the functions to write whose training loops want gradients summed,
            whatever ``apply_fsdp`` does.
        read_texts: reads the files that are not Python's.
    """

    survey: Survey
    target: Target
    functions: dict[Definition, NewFunction] = field(default_factory=dict)
    calls: list[NewCall] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    derived: dict[object, Plan] = field(default_factory=dict)
    summing: frozenset[Definition] = frozenset()
    read_texts: Texts = none

    @cached_property
    def own_packages(self) -> frozenset[str]:
        """The packages whose imports stand apart from those of others."""
        if not uses_torchtitan(self.checkout):
            return frozenset({PACKAGE})
        own = self.checkout.own.values()
        return frozenset(file.module.split(".")[0] for file in own)

    @cached_property
    def tree(self) -> Tree:
        """The checkout, to be executed."""
        return Tree(self.checkout)

    def reported(self, code: str) -> Iterator[Finding]:
        """What the decisions have to say under one rule."""
        return (finding for finding in self.findings if finding.code == code)

    @property
    def checkout(self) -> Checkout:
        return self.survey.checkout

    def in_training(self, *words: str) -> Iterator[SourceFile]:
        """The files that mention one of the words and have to do with the trained model."""
        for file in self.checkout.mentioning(*words):
            if file.path in self.survey.trained_in:
                yield file

    @cached_property
    def texts(self) -> Mapping[str, TextFile]:
        """Path -> file, of those that are not Python's; reads them all, once."""
        return self.read_texts()

    def file(self, path: str) -> SourceFile | TextFile:
        """A file of the checkout, Python's or not."""
        return self.survey.files.get(path) or self.texts[path]

    def becomes(self, definition: Definition) -> NewFunction | None:
        """What takes the place of a definition of ``apply_ddp``."""
        for function in self.functions.values():
            if function.replaces == definition:
                return function
        return None

    def written(self) -> Iterator[NewFunction]:
        """The functions that are not there already."""
        kept = self.survey.replicates
        return (f for f in self.functions.values() if f.definition not in kept)

    @property
    def moves(self) -> bool:
        """Whether anything is rewritten from DDP to replicate."""
        return bool(self.calls) or any(True for _ in self.written())

    def calls_in(self, path: str) -> Iterator[NewCall]:
        return (call for call in self.calls if call.site.reference.path == path)
