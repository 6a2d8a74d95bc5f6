"""Which call a guard guards, and so whether it goes with it."""

import ast
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from codemods.guards import (
    Guard,
    Place,
    asked_by,
    asks_for_replication,
    guards,
    says_ddp,
    statements,
)
from codemods.names import Definition, Use
from codemods.nodes import nodes, spelled
from codemods.once import once
from codemods.plans.records import Facts
from codemods.source import SourceFile
from codemods.survey import OLD, function_of, parallel_dims_files

Fate = Literal["goes", "opted-out", "stays", "alone", "none"]
"""``goes`` with the DDP that it guards; ``opted-out``: it says so itself; ``stays``:
the call behind it stays DDP's; ``alone``: no call behind it is known; ``none``: without
words, in a place that makes it no guard of DDP's."""

HelperFate = Literal["goes", "left over", "unused", "needed", "unknown"]
"""``goes`` with its last call; ``left over``: nobody here calls it any more, but others
may; ``unused``: nobody here ever did; ``needed`` where a guard stays; ``unknown``: a use
of it is not followed."""

_SHARDS = re.compile(r"\b(fully_shard|\w*apply_fsdp)\(")

_DEPTH = 3
"""Through how many functions of the checkout a call is followed."""


@dataclass(frozen=True)
class Guarded:
    """A guard and what becomes of it.

    Args:
        guard: what refuses.
        fate: what becomes of it.
        call: what it guards, as written, where that decided.
        line: of that call.
        helper: the function that is all guard, where the guard is a call of it.
        unknown: it cannot be told what that call is.
        elsewhere: the dotted name of an apply_ddp of another package, "" where it is none.
    """

    guard: Guard
    fate: Fate
    call: str = ""
    line: int = 0
    helper: Definition | None = None
    unknown: bool = False
    elsewhere: str = ""


@dataclass(frozen=True)
class Helper:
    """A function that does nothing but refuse.

    Args:
        definition: where it is; its name is qualified by its class, if it has one.
        node: the function.
        guards: what it consists of.
    """

    definition: Definition
    node: ast.FunctionDef
    guards: tuple[Guard, ...]


class Guards:
    """The guards of a checkout, and what becomes of each, for one set of decisions."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self._rewritten = {id(call.site.node): call for call in facts.calls}
        self._done = {
            id(site.node)
            for site in facts.survey.call_sites
            if site.reference.definition in facts.survey.replicates
        }
        self._done |= {
            id(use.node)
            for use in facts.survey.outside
            if use.kind == "call" and use.name != OLD
        }
        self.helpers = {h.definition: h for h in self._find_helpers()}
        self._of: dict[str, list[Guarded]] = {}
        self._values = {
            (r.path, r.line, r.spelling)
            for r in facts.survey.references
            if r.kind == "value"
        }
        self._dims = {file.path for file, _ in parallel_dims_files(facts.checkout)}

    @property
    def any_followed(self) -> bool:
        """Whether anything here wraps with replicate, or will."""
        return bool(self._rewritten or self._done or self.facts.functions)

    def files(self) -> Iterator[SourceFile]:
        """The files in which a guard can be."""
        calling = {call.site.reference.path for call in self.facts.calls}
        names = [d.name.rpartition(".")[2] for d in self.helpers]
        known = ("DDP", "apply_", "ParallelDims", *names)
        for file in self.facts.checkout.mentioning(*known):
            if (
                file.mentions(b"DDP")
                or file.path in calling
                or file.path in self._dims
                or any(file.mentions(name.encode()) for name in names)
            ):
                yield file

    def of(self, file: SourceFile) -> list[Guarded]:
        """The guards of a file, in its order."""
        if file.path not in self._of:
            self._of[file.path] = list(self._decide(file))
        return self._of[file.path]

    def helper_fate(self, helper: Helper) -> HelperFate:
        """What becomes of a function that does nothing but refuse."""
        uses = set(self._uses_of(helper))
        if not uses:
            return "unused"
        fates = {
            (file.path, guarded.guard.node.lineno): guarded.fate
            for file in self.files()
            for guarded in self.of(file)
            if guarded.helper == helper.definition
        }
        if any(use not in fates or fates[use] == "alone" for use in uses):
            return "unknown"
        if any(fates[use] != "goes" for use in uses):
            return "needed"
        private = helper.node.name.startswith("_")
        home = helper.definition.path
        if private or all(path == home for path, _ in uses):
            return "goes"
        return "left over"

    # What is guarded

    def _decide(self, file: SourceFile) -> Iterator[Guarded]:
        if not self.helpers and not file.all(_has_guards):
            return
        found = [(guard, None) for guard in guards(file.syntax)]
        everything = [*found, *self._helper_calls(file)]
        unnamed = _unnamed(self.facts, file)
        for guard, helper in sorted(everything, key=lambda g: g[0].node.lineno):
            inside = self._helper_around(file, guard)
            if inside is not None:
                continue  # it is as good as the calls of the helper
            fate, call, line = self._fate(file, guard)
            if not guard.words and not self._said_by_its_place(guard, fate, line):
                fate = "none"
            elif file.opted_out(guard.node.lineno, "TM103"):
                fate = "opted-out"
            origin = unnamed.get(line) if fate == "stays" else None
            yield Guarded(guard, fate, call, line, helper, origin == "", origin or "")

    def _fate(self, file: SourceFile, guard: Guard) -> tuple[Fate, str, int]:
        around = self._definition_around(file, guard.place)
        if around is not None:
            return around, "", 0
        in_dims = guard.place.scope.partition(".")[0] == "ParallelDims"
        if in_dims and file.path in self._dims and self._all_followed:
            return "goes", "", 0  # it stands before every plan
        function = guard.place.function
        whole = function.body if function else file.syntax.body
        # The nearest calls decide: behind it in its own block, then further out.
        for block in (guard.kept, *guard.place.following, whole):
            calls = list(self._calls(file, block, _DEPTH))
            for wanted in ("stays", "goes"):
                for fate, text, line in calls:
                    if fate == wanted:
                        return fate, text, line
        return "alone", "", 0

    @property
    def _all_followed(self) -> bool:
        """Whether nothing of the checkout wraps with DDP afterwards."""
        survey = self.facts.survey
        sites = (*survey.call_sites, *survey.inline)
        others = (*survey.direct_uses, *survey.class_uses, *survey.unresolved)
        values = any(r.kind == "value" for r in survey.references)
        known = self._rewritten.keys() | self._done
        return not others and not values and all(id(s.node) in known for s in sites)

    def fate_at(self, file: SourceFile, node: ast.stmt, place: Place) -> Fate:
        """What would become of a statement as a guard, going by what is behind it."""
        guard = Guard(node, place, "statement", ast.Constant(True), (node,))
        return self._fate(file, guard)[0]

    def in_the_branch(self, file: SourceFile, node: ast.stmt, place: Place) -> bool:
        """Whether what comes next is replicate's now, in a branch in which nothing shards.

        Or by a condition that asks for replication itself, in words of DDP.
        """
        asked = asked_by(node)
        of_ddp = asked is not None and asks_for_replication(asked[0]) and says_ddp(node)
        own = (node.body, node.orelse) if isinstance(node, ast.If) else ()
        blocks = [(block, block) for block in (*own, *place.instead)]
        blocks += [(b, b[index + 1 :]) for b, index in reversed(place.chain)]
        for whole, following in blocks:
            fates = {fate for fate, _, _ in self._calls(file, following, _DEPTH)}
            if fates:
                shards = any(_SHARDS.search(spelled(part)) for part in whole)
                return fates == {"goes"} and (of_ddp or not shards)
        return False

    def _definition_around(self, file: SourceFile, place: Place) -> Fate | None:
        """Where a guard stands in apply_ddp itself, what becomes of that."""
        outer = place.scope.split(".")[0]
        definition = Definition(file.path, outer)
        if self.facts.becomes(definition) is not None:
            return "goes"
        if definition in self.facts.survey.definitions:
            return "stays"
        return None

    def _said_by_its_place(self, guard: Guard, fate: Fate, line: int) -> bool:
        """Whether a wordless guard stands directly before a call that is rewritten.

        One that asks for the very mesh that replicate takes is true, and stays.
        """
        if fate != "goes" or not line:
            return False
        block, index = guard.place.chain[-1]
        for node in (*guard.kept, *block[index + 1 :]):
            value = node.value if isinstance(node, (ast.Expr, ast.Assign)) else None
            call = self._rewritten.get(id(value))
            if call is not None:
                asked = ast.unparse(guard.test).partition(".ndim")[0]
                one_dimension = self.facts.target.mesh == "1d"
                return not (one_dimension and asked in call.arguments)
        return False

    def _calls(
        self, file: SourceFile, block: Iterable[ast.stmt], depth: int
    ) -> Iterator[tuple[Fate, str, int]]:
        """Calls of DDP or replicate in some statements, and in what these call."""
        uses = {id(use.call or use.node): use for use in file.names.uses}
        for statement in block:
            for node in nodes(statement):
                use = uses.get(id(node))
                if use is None:
                    continue
                if use.call is None:
                    line = use.node.lineno
                    if (file.path, line, use.spelling) in self._values:
                        yield "stays", use.spelling, line
                    continue
                fate = self._direct(file, use) or self._through(file, use, depth)
                if fate is not None:
                    yield fate, use.spelling, use.call.lineno

    def _direct(self, file: SourceFile, use: Use) -> Fate | None:
        if id(use.call) in self._rewritten or id(use.call) in self._done:
            return "goes"
        if use.spelling.startswith("self.") and self._method(file, use):
            return None
        if use.spelling.rpartition(".")[2] == OLD:
            return "stays"
        origin = self.facts.checkout.external(file.path, use.scope, use.spelling) or ""
        if origin.endswith(".DistributedDataParallel"):
            return "stays"
        ddp = (file.path, use.node.lineno) in self.facts.survey.direct_uses
        return "stays" if ddp else None

    def _through(self, file: SourceFile, use: Use, depth: int) -> Fate | None:
        """What a function of the checkout calls in the end."""
        if not depth:
            return None
        found = self.facts.checkout.resolve(file.path, use.scope, use.spelling)
        node = function_of(self.facts.checkout, found) if found else None
        home = self.facts.survey.files[found.path] if found else file
        node = node or self._method(file, use)
        if node is None or found in self.helpers:
            return None
        fates = {fate for fate, _, _ in self._calls(home, node.body, depth - 1)}
        return "stays" if "stays" in fates else "goes" if "goes" in fates else None

    def beside_followed(self, file: SourceFile, line: int) -> bool:
        """Whether the statement on a line, or one behind it, is replicate's now."""
        best: Place | None = None
        for node, place in statements(file.syntax):
            if node.lineno <= line <= (node.end_lineno or 0) or node.lineno >= line:
                if best is None or node.lineno <= line:
                    best = place
                if node.lineno >= line:
                    break
        if best is None:
            return False
        block, index = best.chain[-1]
        for statements_ in (block[index:], block):
            calls = list(self._calls(file, statements_, 1))
            if calls:
                return all(fate == "goes" for fate, _, _ in calls)
        return False

    def _method(self, file: SourceFile, use: Use) -> ast.FunctionDef | None:
        """The method of the class around a call ``self.method(...)``."""
        first, _, name = use.spelling.partition(".")
        cls = use.scope.rpartition(".")[0]
        if first != "self" or not cls:
            return None
        return dict(_functions(file.syntax)).get(f"{cls}.{name}")

    # Helpers

    def _find_helpers(self) -> Iterator[Helper]:
        for file in self.facts.checkout.mentioning("DDP"):
            yield from file.all(_helpers_in)

    def _helper_around(self, file: SourceFile, guard: Guard) -> Helper | None:
        return self.helpers.get(Definition(file.path, guard.place.scope))

    def _helper_calls(self, file: SourceFile) -> Iterator[tuple[Guard, Definition]]:
        if not self.helpers:
            return
        uses = {id(use.call): use for use in file.names.uses if use.call is not None}
        for node, place in statements(file.syntax):
            if not isinstance(node, ast.Expr):
                continue
            use = uses.get(id(node.value))
            helper = use and self._helper(file, use.scope, use.spelling)
            if helper:
                test = helper.guards[0].test
                yield (
                    Guard(node, place, "statement", test, (node,)),
                    helper.definition,
                )

    def _helper(self, file: SourceFile, scope: str, spelling: str) -> Helper | None:
        first, _, rest = spelling.partition(".")
        cls = scope.rpartition(".")[0]
        if first in ("self", "cls") and rest and cls:
            return self.helpers.get(Definition(file.path, f"{cls}.{rest}"))
        found = self.facts.checkout.resolve(file.path, scope, spelling)
        return self.helpers.get(found) if found else None

    def _uses_of(self, helper: Helper) -> Iterator[tuple[str, int]]:
        """(path, line) of every use but imports, and of what may be one."""
        for file in self.facts.checkout.mentioning(helper.node.name):
            for use in file.names.uses:
                if use.spelling.rpartition(".")[2] == helper.node.name:
                    yield file.path, use.node.lineno


def _has_guards(file: SourceFile) -> bool:
    return bool(guards(file.syntax))


@once
def _helpers_in(file: SourceFile) -> tuple[Helper, ...]:
    """The helpers that a file has."""
    helpers: list[Helper] = []
    found = guards(file.syntax)
    for name, node in _functions(file.syntax):
        own = tuple(g for g in found if g.place.function is node)
        kept = any(file.opted_out(g.node.lineno, "TM103") for g in own)
        if node.name == OLD or node.name.startswith("__"):
            continue  # the latter is called without being named
        if own and not kept and _all_guard(node.body, own):
            helpers.append(Helper(Definition(file.path, name), node, own))
    return tuple(helpers)


def _unnamed(facts: Facts, file: SourceFile) -> dict[int, str]:
    """Line -> what is imported there as apply_ddp and called, where that is nothing known here.

    ``""`` for an attribute of something that is not imported.
    """
    survey = facts.survey
    named = {r.line for r in survey.references if r.path == file.path}
    named |= {use.line for use in survey.outside if use.path == file.path}
    found: dict[int, str] = {}
    for use in file.names.uses:
        line = use.node.lineno
        if use.call is None or use.spelling.rpartition(".")[2] != OLD or line in named:
            continue
        place = file.path, use.scope, use.spelling
        if facts.checkout.resolve(*place):
            continue
        origin = facts.checkout.external(*place)
        if origin is not None or "." in use.spelling:
            found[line] = origin or ""
    return found


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """The functions of a module and the methods of its classes, with qualified names."""
    for outer in tree.body:
        if isinstance(outer, ast.FunctionDef):
            yield outer.name, outer
        elif isinstance(outer, ast.ClassDef):
            for node in outer.body:
                if isinstance(node, ast.FunctionDef):
                    yield f"{outer.name}.{node.name}", node


def _all_guard(body: Sequence[ast.stmt], own: Sequence[Guard]) -> bool:
    """Whether a body consists of guards, and of what says or prepares them."""
    refusing = {id(part) for g in own for part in (g.node, *g.refusal)}
    for node in body:
        if id(node) in refusing:
            continue
        if isinstance(node, ast.Return):
            if node.value is None or isinstance(node.value, ast.Constant):
                continue
            return False
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            continue
        if isinstance(node, ast.Assign) and not any(
            isinstance(inner, (ast.Call, ast.Await)) for inner in nodes(node.value)
        ):
            continue
        return False
    return all(
        g.shape == "statement"
        or (g.shape == "return" and all(isinstance(k, ast.Return) for k in g.kept))
        for g in own
    )
