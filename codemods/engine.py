"""Run the rules over a checkout and check what comes out, before anything is written."""

import ast
import builtins
import contextlib
import gc
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from types import ModuleType
from typing import TYPE_CHECKING

from codemods import layout
from codemods.about import About
from codemods.attribution import CLEANUP, LAYOUT, Stage
from codemods.bindings import Checkout
from codemods.dependency import UNKNOWN, Dependency
from codemods.execute.records import Verdict
from codemods.findings import Finding
from codemods.meshes import keeps_fsdp_dimension
from codemods.names import Scope, Use
from codemods.once import once
from codemods.other_target import for_other_target
from codemods.outcome import Outcome
from codemods.outside import uses_torchtitan
from codemods.phases import phase
from codemods.roots import rooted
from codemods.rules import all_rules
from codemods.selection import MAY_BE_ALONE, Selection
from codemods.source import SourceFile, UnreadableSource
from codemods.steps import SHARED
from codemods.survey import Survey, function_of, survey
from codemods.targets import Target
from codemods.texts import TextFile, Texts, none
from codemods.withheld import Wrong, of_mismatch, withheld

if TYPE_CHECKING:
    from codemods.plans import Facts, Spelling

_OF_CALLS = frozenset({"TM102", "TM103", "TM211", "TM213"})
"""What can be said of a tree that has no plan of its own to migrate."""

_APART = (
    frozenset({"TM103"}),
    frozenset({"TM105"}),
    frozenset({"TM215"}),
    frozenset({"TM220", "TM221"}),
    frozenset({"TM226"}),
    frozenset({"TM205"}),
    frozenset({"TM206", "TM223", "TM232"}),
    frozenset({"TM209"}),
    frozenset({"TM231"}),
    frozenset({"TM211", "TM217", "TM218"}),
)
"""Rules that read much of a checkout, or its texts, and so have to look anew where others need not."""


@dataclass(frozen=True)
class WorkedOut(Outcome):
    """An outcome with what it was worked out of.

    Args:
        survey: what was found in the checkout.
        stages: path of a change -> its text after each rule, for ``attribution``.
    """

    survey: Survey = field(kw_only=True)
    stages: Mapping[str, tuple[Stage, ...]] = field(default_factory=dict)


@contextlib.contextmanager
def _uncollected() -> Iterator[None]:
    """Without the garbage collector, which goes through ever more syntax trees and finds none."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@_uncollected()
def migrate(
    files: Mapping[str, SourceFile],
    target: Target,
    selection: Selection = Selection(),
    texts: Texts = none,
    *,
    dependency: Dependency = UNKNOWN,
    write: bool = True,
) -> WorkedOut:
    """All changes that move a checkout to ``target``.

    Args:
        files: path -> file, for every Python file of the checkout.
        target: the API to write for.
        selection: which rules, and which files.
        texts: reads the files that are not Python's, which are asked for where something
            moves.
        dependency: the torchtitan that the checkout uses and does not hold.
        write: work the changes out too, and check them; without, only what is found, in
            a third of the time.

    Raises:
        SelectionError: the selection names what there is not, or splits what belongs together.
        UnreadableSource: a file that matters cannot be decoded or parsed.
    """
    if selection != Selection():
        uses = uses_torchtitan(Checkout({**files, **dependency.files}))
        selection.check(target, MAY_BE_ALONE if uses else ())
    excluded = selection.excluded(files)
    files = dict(_marked(files, excluded))
    if dependency is not UNKNOWN:
        files = rooted(files)
    found = survey(files, target.function_name, dependency)
    outcome = WorkedOut(
        _about(found), target, selection=selection, excluded=excluded, survey=found
    )
    if found.kind == "foreign" or (found.kind == "past" and not found.unresolved):
        return outcome
    if outcome.for_other_target:
        findings = tuple(_written_for_other(outcome))
        return replace(outcome, findings=findings, problems=_problems(findings))
    from codemods.plans import decide  # needs libcst, whose import takes a while

    codes = frozenset(r.CODE for r in all_rules() if selection.takes(r.CODE))
    if found.kind in ("past", "dependent"):
        codes &= _OF_CALLS
    # By the reason for a target nothing is decided, and a sweep compares what is.
    facts = decide(found, replace(target, reason=""))
    facts.read_texts = cache(partial(_marked_texts, texts, selection))
    findings = _find(facts, codes)
    if any((f.code, f.status) == ("TM104", "left") for f in findings):
        from codemods.rules.tm104_parallel_dims import refuses

        if refuses(facts):
            findings = tuple(f for f in findings if f.status == "left")
    outcome = replace(outcome, findings=findings, problems=_problems(findings))
    return outcome if outcome.problems or not write else _written(outcome, facts, codes)


def _about(found: Survey) -> About:
    """What of a survey is told."""
    return About(
        found.kind,
        found.generation,
        found.mesh_api,
        found.migrated_to,
        replace(found.dependency, files={}),
        has_ddp=bool(found.definitions),
        has_replicate=bool(found.migrated),
        uses=bool(found.outside or found.references),
        is_out_of_date=bool(found.out_of_date),
        is_unresolved=bool(found.unresolved),
        is_provided=bool(found.provided),
        is_past=found.is_past,
        keeps_fsdp_dimension=(found.kind == "past" or found.is_past)
        and keeps_fsdp_dimension(found.checkout),
        called=frozenset(
            reference.definition.path
            for reference in (site.reference for site in found.call_sites)
            if reference.path != reference.definition.path
        ),
    )


def _written(outcome: WorkedOut, facts: "Facts", codes: frozenset[str]) -> WorkedOut:
    """The outcome with its changes, or with what is wrong with them."""
    files, stages = _rewritten(facts, outcome.findings)
    changes = {path: file.raw for path, file in files.items()}
    if not changes:
        return outcome
    shown = Verdict()
    wrong = tuple(_check(facts, files, codes))
    if not any(one.own for one in wrong):
        shown = _executed(outcome, facts, files, codes)
        known = {one.path for one in wrong}
        found = [m for m in shown.mismatches if m.path not in known]
        wrong += tuple(map(of_mismatch, found))
    if wrong:
        width = facts.target.width
        left = withheld(facts, outcome.findings, wrong)
        findings = tuple(_in_lines(f, width) if f.status == "left" else f for f in left)
        return replace(outcome, findings=findings, problems=_problems(findings))
    return replace(outcome, changes=changes, stages=stages, unconfirmed=shown.unclear)


def _executed(
    outcome: Outcome,
    facts: "Facts",
    changes: Mapping[str, SourceFile],
    codes: frozenset[str],
) -> Verdict:
    """What executing the changed functions shows; nothing where a part is left out."""
    whole = all(rule.CODE in codes for rule in all_rules() if hasattr(rule, "rewrite"))
    if not whole or any(f.status == "opted-out" for f in outcome.findings):
        return Verdict()
    from codemods.execute.migration import GOING

    going = tuple(f for f in outcome.findings if f.code in GOING)
    return _confirmed(facts, going, changes)


@phase
def _confirmed(
    facts: "Facts", findings: tuple[Finding, ...], changes: Mapping[str, SourceFile]
) -> Verdict:
    from codemods.execute.migration import executed

    return executed(facts, facts.checkout.changed(changes), findings)


def _problems(findings: Iterable[Finding]) -> tuple[str, ...]:
    return tuple(
        f"{f.path}:{f.line}: {f.message}" for f in findings if f.status == "left"
    )


def _written_for_other(outcome: WorkedOut) -> Iterator[Finding]:
    """Every function that is replicate's already, on a mesh that the target does not take."""
    for definition in outcome.survey.migrated:
        yield for_other_target(outcome.survey, outcome.target, definition)


def _marked(
    files: Mapping[str, SourceFile], excluded: frozenset[str]
) -> Iterator[tuple[str, SourceFile]]:
    """The files, those excluded marked as such, or left out where they do not parse."""
    for path, file in files.items():
        if path not in excluded:
            yield path, file
            continue
        marked = _as_excluded(file)
        with contextlib.suppress(UnreadableSource):
            _ = marked.syntax  # raises
            yield path, marked


@once
def _as_excluded(file: SourceFile) -> SourceFile:
    return replace(file, excluded=True)


def _marked_texts(texts: Texts, selection: Selection) -> Mapping[str, TextFile]:
    """The same of the files that are not Python's."""
    files = texts()
    excluded = selection.excluded(files)
    return {
        p: replace(f, excluded=True) if p in excluded else f for p, f in files.items()
    }


def _find(facts: "Facts", codes: Collection[str]) -> tuple[Finding, ...]:
    wanted = frozenset(codes)
    parts = [*(part & wanted for part in _APART), wanted.difference(*_APART)]
    found = {finding for part in parts if part for finding in _found(facts, part)}
    return tuple(sorted(found, key=lambda f: (f.path, f.line, f.code, f.message)))


@phase
def _found(facts: "Facts", codes: frozenset[str]) -> frozenset[Finding]:
    """What some of the rules find, each finding in its place and as it is shown."""
    found = {
        kept
        for rule in all_rules()
        if rule.CODE in codes
        for finding in rule.find(facts)
        for rated in [_rated(finding, rule)]
        for kept in [_kept(rated, facts.file(finding.path))]
        if kept is not None and not _is_dependencys(facts, kept)
    }
    return frozenset(_in_lines(finding, facts.target.width) for finding in found)


def _is_dependencys(facts: "Facts", finding: Finding) -> bool:
    """Whether a finding is of a file that is not the checkout's to change."""
    return finding.path in facts.checkout.dependency


def _rated(finding: Finding, rule: ModuleType) -> Finding:
    """The finding with the severity of its rule, where it is a hazard and has none."""
    if finding.status != "hazard" or finding.severity:
        return finding
    return replace(finding, severity=rule.SEVERITY)


def _in_lines(finding: Finding, width: int) -> Finding:
    """A finding whose code to write fits the lines of the checkout, where it is code."""
    code = finding.suggestion or ""
    if not finding.path.endswith(".py") or max(map(len, code.split("\n"))) <= width:
        return finding
    return replace(finding, suggestion=layout.as_black(code, width) or code)


def _kept(finding: Finding, file: SourceFile | TextFile) -> Finding | None:
    """What is left of a finding after opt-outs and exclusion."""
    if file.excluded:
        return _of_excluded(finding)
    if finding.status == "hazard" and file.opted_out(finding.line, finding.code):
        return replace(finding, status="opted-out", suggestion=None, severity=None)
    return finding


def _of_excluded(finding: Finding) -> Finding | None:
    """Nothing, unless the files that are migrated would not go with this one."""
    shared = finding.code in SHARED and finding.status == "opted-out"
    if not shared and finding.status not in ("rewrite", "left"):
        return None
    if finding.code in ("TM103", "TM106", "TM107") or finding.code.startswith("TM2"):
        return None
    return replace(
        finding,
        status="left",
        message=f"{finding.message}; the file is excluded: take it in, or exclude what "
        "goes with it as well",
    )


def _rewritten(
    facts: "Facts", findings: tuple[Finding, ...]
) -> tuple[dict[str, SourceFile], dict[str, tuple[Stage, ...]]]:
    """Path -> new file, and how each came about."""
    to_do: dict[str, set[str]] = {}
    for finding in findings:
        if finding.status == "rewrite":
            to_do.setdefault(finding.path, set()).add(finding.code)
    changes: dict[str, SourceFile] = {}
    stages: dict[str, tuple[Stage, ...]] = {}
    for path, codes in sorted(to_do.items()):
        after, made = _rewritten_file(facts, path, frozenset(codes))
        if after is not None:
            changes[path], stages[path] = after, made
    return changes, stages


@phase
def _rewritten_file(
    facts: "Facts", path: str, codes: frozenset[str]
) -> tuple[SourceFile | None, tuple[Stage, ...]]:
    """The new file, None where it comes out as it was, and how it came about."""
    from codemods import edit
    from codemods.prune import prune

    file = facts.survey.files[path]
    tree, made = file.tree, []
    # Call sites before definitions: what a call needs is counted in the order
    # of the file as the survey saw it.
    for rule in sorted(all_rules(), key=lambda r: (r.CODE != "TM102", r.CODE)):
        if rule.CODE in codes:
            tree = rule.rewrite(tree, path, facts)
            made.append(Stage(rule.CODE, tree))
    tree = prune(tree, file, partial(_taken, facts.checkout, path))
    if path in facts.checkout.added:
        text = _whole(edit.code_of(tree), facts.target.width)
    else:
        text = layout.laid_out(
            file.text, edit.code_of(tree), facts.target.width, tree.default_indent
        )
    try:
        raw = file.encode(text)
    except UnicodeEncodeError as error:
        raise UnreadableSource(path, None, f"cannot be written: {error}") from error
    after = None if raw == file.raw else replace(file, raw=raw)
    return after, (*made, Stage(CLEANUP, tree), Stage(LAYOUT, text))


def _whole(code: str, width: int) -> str:
    """A new file, all of which is laid out."""
    text = layout.as_black(code, width) or code.rstrip()
    return re.sub(r'(?<="""\n)\n+', "\n", text, count=1) + "\n"


def _taken(checkout: Checkout, path: str, name: str) -> bool:
    """Whether another file imports a name from a module, or reads it through it."""
    parts = checkout.files[path].module.split(".")
    stem = parts[-1].encode()
    for file in checkout.mentioning(name):
        if file.path == path or not file.mentions(stem):
            continue
        if not any(_leads_to(imported, parts) for imported in file.imports):
            continue
        for scope in file.names.scopes.values():
            for imported in scope.imports.values():
                if imported.name == name and checkout.path_of(imported.module) == path:
                    return True
        by_star = any(checkout.path_of(s.module) == path for s in file.names.top.stars)
        for use in file.names.uses:
            first = use.spelling.split(".")[0]
            if by_star and first == name and not file.names.lookup(first, use.scope):
                return True
            full = checkout.external(file.path, use.scope, use.spelling) or ""
            if f".{name}" in full:
                module = full[: full.index(f".{name}")]
                if checkout.path_of(module) == path:
                    return True
    return False


def _leads_to(imported: tuple[str, str | None], module: Sequence[str]) -> bool:
    """Whether an import may be of a module, of what is in it, or of a package that it is in."""
    names = ".".join(filter(None, imported)).split(".")
    return module[-1] in names or names[-1] in module


def _check(
    facts: "Facts", changes: Mapping[str, SourceFile], codes: frozenset[str]
) -> Iterator[Wrong]:
    """Everything that must hold of the new texts, each failure with file and line."""
    from codemods.plans import decide

    files = {**facts.survey.files, **changes}
    for file in changes.values():
        try:
            _ = file.syntax  # raises
        except UnreadableSource as error:
            what = f"the rewritten {error}"
            yield Wrong(error.path, what, error.line or 0, own=True)
            return
    yield from _bound_otherwise(facts, Checkout(files))
    for path in changes:
        yield from _unbound(facts.survey.files[path], files[path])
        yield from _hidden(facts.survey.files[path], files[path])
    yield from _broken_imports(facts.survey.checkout, Checkout(files), changes)
    yield from _other_meanings(facts.survey.checkout, Checkout(files), changes)
    fresh = survey(files, facts.target.function_name, facts.survey.dependency)
    again = decide(fresh, facts.target)
    if "TM101" in codes:
        yield from _calls_that_miss(facts, again)
        yield from _sharding_within(again)
        yield from _old_bindings(again)
        yield from _calls_that_do_not_fit(again)
        yield from _meshes_that_are_not_built(facts, again)
    rewriting = {rule.CODE for rule in all_rules() if hasattr(rule, "rewrite")}
    for finding in _find(again, rewriting & codes):
        if finding.status in ("rewrite", "left"):
            what = f"after the rewrite {finding.code} would still find something to do: {finding.message}"
            yield Wrong(finding.path, what, finding.line, own=True)


def _calls_that_do_not_fit(again: "Facts") -> Iterator[Wrong]:
    from codemods.plans import call_problem

    for site in again.survey.call_sites:
        node = function_of(again.checkout, site.reference.definition)
        function = again.functions.get(site.reference.definition)
        if node is not None and function is not None:
            problem = call_problem(site.node, function.plan.parameters)
            if problem:
                what = f"the rewritten call does not fit: {problem}"
                at = site.reference
                yield Wrong(at.path, what, at.line, at.scope, own=True)


def _meshes_that_are_not_built(facts: "Facts", again: "Facts") -> Iterator[Wrong]:
    """Files whose calls pass a mesh that the new ParallelDims does not build.

    Said only of one that can be evaluated, and not where it opts out of TM104.
    """
    for path, what in _not_built(again, _meshes_wanted(facts)):
        yield Wrong(path, what)


@phase
def _meshes_wanted(facts: "Facts") -> "tuple[tuple[str, Spelling], ...]":
    """Path -> the mesh that its calls pass, of those of which that is known."""
    from codemods.plans import Spelling, mesh_spelling

    paths = sorted({call.site.reference.path for call in facts.calls})
    wanted = [(path, mesh_spelling(facts, path)) for path in paths]
    return tuple((path, one) for path, one in wanted if isinstance(one, Spelling))


@phase
def _not_built(
    again: "Facts", wanted: "tuple[tuple[str, Spelling], ...]"
) -> tuple[tuple[str, str], ...]:
    """Path -> what is wrong, of those that are not built."""
    from codemods import meshes

    sizes = (3,) if again.target.mesh == "1d" else (3, 1)
    found = []
    for path, one in wanted:
        home = meshes.parallel_dims_of(again.checkout, path)
        if home is None or again.survey.files[home].mentions(b"ignore["):
            continue
        named = (one.names, one.after_get_mesh)
        if meshes.followed(again.checkout, home) and not any(
            meshes.gives(again.checkout, path, n, sizes) for n in named
        ):
            mesh = ", ".join(one.names)
            what = f"{home} would not build the mesh ({mesh}) that replicate takes here"
            found.append((path, what))
    return tuple(found)


def _sharding_within(again: "Facts") -> Iterator[Wrong]:
    """New functions that call something of the checkout which shards."""
    for definition in again.survey.migrated:
        node = function_of(again.checkout, definition)
        assert node is not None
        file = again.survey.files[definition.path]
        for use in file.names.uses:
            if not node.lineno <= use.node.lineno <= (node.end_lineno or 0):
                continue
            found = again.checkout.resolve(file.path, use.scope, use.spelling)
            called = found and function_of(again.checkout, found)
            if found and called and "fully_shard(" in ast.unparse(called):
                what = (
                    f"{definition.name} would call {use.spelling}, which shards: apply_fsdp "
                    "wraps in a way that is not followed"
                )
                line = use.node.lineno
                yield Wrong(definition.path, what, line, definition.name)


def _calls_that_miss(facts: "Facts", again: "Facts") -> Iterator[Wrong]:
    """Rewritten calls that do not reach the function they were written for."""
    reached = Counter(
        (site.reference.path, site.reference.scope, site.reference.definition)
        for site in again.survey.call_sites
    )
    wanted = Counter(
        (call.site.reference.path, call.site.reference.scope, call.function.definition)
        for call in facts.calls
    )
    for path, scope, definition in wanted - reached:
        where = f" in {scope}" if scope else ""
        what = (
            f"a rewritten call{where} would not reach {definition.name} of "
            f"{definition.path}; something else has that name there"
        )
        yield Wrong(path, what, function=scope)


def _old_bindings(again: "Facts") -> Iterator[Wrong]:
    """Places still bound to DDP's function, unless the whole of it was opted out."""
    files = again.survey.files
    for definition in again.survey.definitions:
        node = function_of(again.checkout, definition)
        assert node is not None
        if not files[definition.path].opted_out(node.lineno, "TM101"):
            what = f"{definition.name} is still defined"
            yield Wrong(definition.path, what, node.lineno, definition.name)
    for reference in again.survey.references:
        old = reference.spelling.rpartition(".")[2] == "apply_ddp"
        moved = reference.definition in again.survey.migrated
        if old and moved and reference.definition.name != "apply_ddp":
            reason = (
                "it is opted out with ignore[TM102], but the definition it needs is "
                "migrated: opt that out too with ignore[TM101]"
                if files[reference.path].opted_out(reference.line, "TM102")
                else "apply_ddp is still bound here"
            )
            yield Wrong(reference.path, reason, reference.line, reference.scope)


def _unbound(before: SourceFile, after: SourceFile) -> Iterator[Wrong]:
    known = _unknown_names(before)
    for name, line in _unknown_names(after).items():
        if name not in known:
            what = f"the rewritten code uses {name}, which is not bound"
            yield Wrong(after.path, what, line, own=True)


def _bound_otherwise(facts: "Facts", after: Checkout) -> Iterator[Wrong]:
    """Names in the text of a new function that stand for something else where it is put."""
    from codemods.rules.tm101_definition import free_names

    for function in facts.written():
        path, source = function.definition.path, function.mirrors
        if source is None or source.path == path or path not in after.files:
            continue
        for name in sorted(free_names(function.plan.text)):
            meant = after.external(source.path, "", name)
            if meant and name != "replicate" and _is_another(after, path, name, meant):
                what = (
                    f"{function.plan.name} needs {name} of {meant}, and this file calls "
                    "something else so: give that another name first"
                )
                yield Wrong(path, what, function=function.plan.name)


def _is_another(checkout: Checkout, path: str, name: str, meant: str) -> bool:
    """Whether a file calls something else so; a variable, as a logger, does as well."""
    found = checkout.at(meant)
    if found is not None and found.path == path:
        return False
    for node in checkout.files[path].syntax.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
            return True
    told = checkout.external(path, "", name) or meant
    ends = [(full.split(".")[0], full.rpartition(".")[2]) for full in (told, meant)]
    return all(one != other for one, other in zip(*ends))


def _hidden(before: SourceFile, after: SourceFile) -> Iterator[Wrong]:
    """New imports of a name that the file gives to something of its own."""
    fresh = {*after.names.top.imports} - {*before.names.top.imports}
    for name in sorted(fresh & {*after.names.top.bound}):
        what = (
            f"the rewritten code imports {name}, and this file calls something of its own "
            "so: give that another name first"
        )
        yield Wrong(after.path, what)


@once
def _unknown_names(file: SourceFile) -> dict[str, int]:
    names = file.names
    unknown: dict[str, int] = {}
    for use in names.uses:
        first = use.spelling.split(".")[0]
        if hasattr(builtins, first) or names.top.stars or use.shadowed:
            continue
        here: Scope | None = names.scopes[use.scope]
        while here is not None:
            imported = {local.split(".")[0] for local in here.imports}
            if first in here.bound or first in imported:
                break
            here = here.parent
        else:
            unknown.setdefault(first, use.node.lineno)
    return unknown


def _other_meanings(
    before: Checkout, after: Checkout, changes: Collection[str]
) -> Iterator[Wrong]:
    """Uses, in files that stay, of a name that a changed module imports from elsewhere now."""
    for path in changes:
        old, new = before.names(path).top.imports, after.names(path).top.imports
        for name in old.keys() & new.keys():
            was = old[name].module, old[name].name
            if was == (new[name].module, new[name].name):
                continue
            for file in after.mentioning(name):
                for use in () if file.path in changes else file.names.uses:
                    if _has_it_from(after, file, use, path, name):
                        what = (
                            f"it has {use.spelling} from {path}, where that is another one from "
                            f"now on: import it from {was[0]} here"
                        )
                        yield Wrong(file.path, what, use.node.lineno, use.scope)


def _has_it_from(
    checkout: Checkout, file: SourceFile, use: Use, path: str, name: str
) -> bool:
    """Whether what is used is what a module has under a name: imported, or by a star."""
    full = checkout.external(file.path, use.scope, use.spelling)
    if full is not None:
        module, _, last = full.rpartition(".")
        return last == name and checkout.path_of(module) == path
    if use.spelling.split(".")[0] != name or use.shadowed:
        return False
    scope: Scope | None = file.names.scopes[use.scope]
    while scope is not None:
        if name in scope.bound:
            return False
        scope = scope.parent
    return any(checkout.path_of(star.module) == path for star in file.names.top.stars)


def _broken_imports(
    before: Checkout, after: Checkout, changes: Iterable[str]
) -> Iterator[Wrong]:
    """Imports of a name that a changed module no longer has."""
    for path in changes:
        old, new = before.names(path).top, after.names(path).top
        gone = ({*old.bound, *old.imports} - {*new.bound, *new.imports}) - {"apply_ddp"}
        for name in gone:
            for file in after.mentioning(name):
                for scope in after.names(file.path).scopes.values():
                    for imported in scope.imports.values():
                        if (
                            imported.name == name
                            and after.path_of(imported.module) == path
                        ):
                            what = f"it imports {name} from {path}, which would no longer have it"
                            yield Wrong(file.path, what, imported.line)
