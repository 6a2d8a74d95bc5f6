"""TM103: the guard against more than one dimension goes."""

import ast
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace

import libcst as cst

from codemods import edit, layout
from codemods.example import Example
from codemods.findings import Finding, Severity, Status
from codemods.guards import (
    Guard,
    asked_by,
    asks_for_others,
    commented_guards,
    for_hsdp_alone,
    guards,
    is_check,
    is_mixed,
    only_says_ddp,
    other_than_mesh,
    refuses,
    says_ddp,
    spots,
    statements,
    values_around,
    wants_one,
)
from codemods.meshes import refusals
from codemods.nodes import nodes
from codemods.plans import Facts
from codemods.plans.guarded import Guarded, Guards, Helper
from codemods.source import SourceFile
from codemods.targets import REPLICATE_MODULE
from codemods.unguard import Spot, Unguard
from codemods.wording import of_replicate

CODE = "TM103"
TITLE = "the guard against more than one dimension"
SEVERITY: Severity = "loud"
WHAT = "The guard against more than one dimension goes, however it is spelled."
WHY = """\
DDP could not be combined with tensor or pipeline parallelism, and three spellings of
a guard said so: world_mesh.ndim > 1, dp_mesh.ndim > 1 and world_size != mesh.size().
replicate composes, so the guard goes, with the variables that only it needed, but only
where the call behind it is replicate's: where DDP stays, its guard stays. A function
that does nothing but refuse goes with its last call. The dp_mesh.ndim spelling never
fires on a one-dimensional mesh: there DDP with tensor parallelism has silently trained
wrongly. A guard that refuses context or expert parallelism too is left, with that part of
it to write; a refusal of something else that stays in replicate's branch is named.
"""
UPSTREAM = """\
The reviewers of PR 1714 asked for it.
"""
RISK = """\
A guard that stays refuses what the migration is for. One that goes where DDP stays
lets DDP train beside tensor parallelism, wrongly and without a word.
"""
PROOF = """\
In `dp+tp` and `dp+pp`. Where the guard stays and fires, a rank of the migrated tree
"failed with" its RuntimeError; the base revision's is shown as "DDP refuses:" and fails
nothing. Where DDP stays, the migrated tree "still trains under DDP".
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/models/heron/infra/parallelize.py",
    before="""\
        dp_mesh = parallel_dims.get_mesh("dp_replicate")
        is_1d = dp_mesh.ndim == 1
        if not is_1d:
            raise RuntimeError("DDP has not supported > 1D parallelism")
        # nothing to shard: whole replicas
""",
    after="""\
        dp_mesh = parallel_dims.get_mesh("dp_replicate")
        # nothing to shard: whole replicas
""",
)


def find(facts: Facts) -> Iterator[Finding]:
    known = Guards(facts)
    if not known.any_followed:
        return
    yield from _of_dims(facts, known)
    for helper in known.helpers.values():
        yield from _of_helper(facts, known, helper)
    for file in known.files():
        seen: set[int] = set()
        for guarded in known.of(file):
            yield from _of_guard(facts, file, guarded)
            if guarded.fate != "none":
                seen |= _parts(guarded.guard)
        for helper in known.helpers.values():
            if helper.definition.path == file.path:
                seen |= {id(inner) for inner in nodes(helper.node)}
        yield from _mixed(known, file, seen)
        if facts.moves:
            yield from _staying(known, file, seen)
        for line, _ in _commented(known, file):
            yield Finding(
                file.path, line, CODE, "a guard that is commented out goes too"
            )
        for node in nodes(file.syntax):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                seen.add(id(node.value))  # a docstring refuses nothing
        raises = file.mentions(b"raise") or file.mentions(b"assert")
        if not raises and not any(facts.calls_in(file.path)):
            continue
        for node in nodes(file.syntax):
            if id(node) not in seen and refuses(node):
                yield _left(
                    file,
                    node.lineno,
                    "this refuses more than one dimension in a shape that is not followed; "
                    "replicate composes, so take it out",
                    _instead(facts, file, node),
                )


def _of_dims(facts: Facts, known: Guards) -> Iterator[Finding]:
    """What a ParallelDims refuses by itself, in words that say nothing of DDP."""
    paths = {call.site.reference.path for call in facts.calls}
    found = {r for path in paths for r in refusals(facts.checkout, path)}
    for refusal in found:
        file = facts.survey.files[refusal.path]
        if any(
            guarded.fate != "none"
            and guarded.guard.node.lineno
            <= refusal.line
            <= (guarded.guard.node.end_lineno or 0)
            for guarded in known.of(file)
        ):
            continue
        behind = next(
            (
                block[0]
                for node, place in statements(file.syntax)
                if node.lineno == refusal.line
                for block in place.following
                if block
            ),
            ast.Return(),
        )
        yield _left(
            file,
            refusal.line,
            f"ParallelDims refuses {refusal.beside} beside dp_replicate here; replicate "
            "composes with it, so refuse only what else there is to refuse",
            ast.unparse(behind),
        )


def _mixed(known: Guards, file: SourceFile, seen: set[int]) -> Iterator[Finding]:
    """Refusals of which a part is true of replicate too."""
    for node, place in statements(file.syntax):
        asked = None if id(node) in seen else asked_by(node)
        if asked is None:
            continue
        values = values_around(file.syntax, place.function)
        rest = other_than_mesh(asked[0], values, asked[1])
        if not is_mixed(node, values) or rest is None:
            continue
        if known.fate_at(file, node, place) != "goes":
            continue
        for inner in nodes(node):
            seen.add(id(inner))
        refused = ast.unparse(rest)
        said = ast.Constant(f"not supported: {refused}")
        raised = node.body[-1] if isinstance(node, ast.If) else None
        what = raised.exc if isinstance(raised, ast.Raise) else None
        kind = what.func if isinstance(what, ast.Call) else ast.Name("RuntimeError")
        fresh = ast.If(rest, [ast.Raise(ast.Call(kind, [said], []))], [])
        yield _left(
            file,
            node.lineno,
            f"`{_text(file, asked[0])}` is {'refused' if asked[1] else 'asked for'} here for DDP; "
            f"replicate composes with tensor and pipeline parallelism, and `{refused}` is "
            "another matter: refuse that alone",
            ast.unparse(ast.fix_missing_locations(fresh)),
        )


def _text(file: SourceFile, test: ast.expr) -> str:
    """A condition as it is written, on one line."""
    return " ".join(file.segment(test).split())


def _staying(known: Guards, file: SourceFile, seen: set[int]) -> Iterator[Finding]:
    """Refusals of something else that stay in a branch which is replicate's now."""
    for node, place in statements(file.syntax):
        if id(node) in seen:
            continue
        asked = asked_by(node)
        refuses_it = asked and (
            says_ddp(node) or asks_for_others(asked[0]) or wants_one(*asked)
        )
        if not (refuses_it or only_says_ddp(node)):
            continue
        if not known.in_the_branch(file, node, place):
            continue
        seen |= {id(inner) for inner in _own(node)}
        words = "\n".join(map(ast.unparse, _own(node)))
        what = f"`{_text(file, asked[0])}`" if asked else "this"
        yield Finding(
            file.path,
            node.lineno,
            CODE,
            f"{what} is {'asked for' if asked and not asked[1] else 'refused'} here still, "
            "where replicate is applied now: see whether that is true of replicate, which "
            "composes with tensor and pipeline parallelism",
            "opted-out" if file.opted_out(node.lineno, CODE) else "hazard",
            of_replicate(words),
        )


def _own(node: ast.stmt) -> Sequence[ast.stmt]:
    """The statements that refuse, without what is done instead."""
    return node.body if isinstance(node, ast.If) else [node]


def _parts(guard: Guard) -> set[int]:
    """The nodes that are a guard's, without what it guards."""
    whole = [guard.node] if guard.shape == "statement" else [guard.test]
    found = {id(n) for part in (*whole, *guard.refusal) for n in nodes(part)}
    found.add(id(guard.node))
    return found | {id(node) for node in guard.strings}


def _of_guard(facts: Facts, file: SourceFile, guarded: Guarded) -> Iterator[Finding]:
    guard = guarded.guard
    test, line = ast.unparse(guard.test), guard.node.lineno
    if guarded.fate in ("goes", "opted-out"):
        status: Status = "rewrite" if guarded.fate == "goes" else "opted-out"
        message = (
            f"replicate composes with other dimensions, so `{test}` need not be refused"
        )
        yield Finding(file.path, line, CODE, message, status)
        alone = for_hsdp_alone(guard) if status == "rewrite" else None
        if alone is not None:
            message = (
                "this refused it beside HSDP too, which FSDP does and which does not change: go on "
                "refusing that alone, if it is not to be"
            )
            code = ast.unparse(ast.fix_missing_locations(alone))
            yield Finding(file.path, line, CODE, message, "hazard", code, "note")
    elif guarded.fate == "alone":
        yield _left(
            file,
            line,
            f"`{test}` is refused here for DDP, before no call that is followed; replicate "
            "composes, so take it out if what it guards is replicate's now",
            _behind(guard),
        )
    elif guarded.fate == "stays":
        yield from _stays(facts, file, guarded)


def _stays(facts: Facts, file: SourceFile, guarded: Guarded) -> Iterator[Finding]:
    """A guard whose call stays DDP's; not a word where the call is left for a person."""
    if guarded.unknown or any(
        f.path == file.path and f.line == guarded.line and f.status == "left"
        for f in facts.findings
    ):
        return
    message = "this guard stays: "
    if not guarded.call:
        message += "apply_ddp around it does"
        yield Finding(file.path, guarded.guard.node.lineno, CODE, message, "opted-out")
        return
    if guarded.elsewhere:
        yield _left(
            file,
            guarded.guard.node.lineno,
            f"{message}it guards {guarded.call} on line {guarded.line}, which is "
            f"{guarded.elsewhere}, and this checkout does not hold that",
            f"from {REPLICATE_MODULE} import replicate\n\n"
            f"replicate(model, {facts.target.mesh_keyword}=dp_mesh)",
        )
        return
    message += f"it guards {guarded.call} on line {guarded.line}, which stays DDP's"
    status: Status = "opted-out" if file.opted_out(guarded.line, "TM102") else "hazard"
    yield Finding(file.path, guarded.guard.node.lineno, CODE, message, status)


def _of_helper(facts: Facts, known: Guards, helper: Helper) -> Iterator[Finding]:
    file, name = facts.survey.files[helper.definition.path], helper.definition.name
    line = helper.node.lineno
    fate = known.helper_fate(helper)
    if file.opted_out(line, CODE):
        yield Finding(file.path, line, CODE, f"{name} stays as it is", "opted-out")
    elif fate == "goes":
        message = (
            f"{name} only refuses what replicate can do, and nothing else needs it"
        )
        yield Finding(file.path, line, CODE, message)
    elif fate in ("left over", "unused"):
        yield Finding(
            file.path,
            line,
            CODE,
            f"{name} refuses what replicate can do, and nothing here needs it: take it out "
            "unless code elsewhere calls it",
            "hazard",
        )
    elif fate == "unknown":
        yield _left(
            file,
            line,
            f"{name} refuses more than one dimension for DDP, and not every call of it is "
            "followed; replicate composes, so take it out with its calls",
            f"def {helper.node.name}({ast.unparse(helper.node.args)}):\n"
            "    return  # replicate composes with other dimensions",
        )


def _behind(guard: Guard) -> str:
    """What is there without a guard: what it keeps, or the statement behind it."""
    nodes = [*guard.kept, *(block[0] for block in guard.place.following if block)]
    return ast.unparse(nodes[0] if nodes else ast.Return())


def _instead(facts: Facts, file: SourceFile, string: ast.Constant) -> str:
    """What to write for a refusal in a shape that is not followed.

    The condition as far as it refuses anything else, or the call behind it, or what
    comes next.
    """
    around = [
        (node, place)
        for node, place in statements(file.syntax)
        if node.lineno <= string.lineno <= (node.end_lineno or 0)
    ]
    for node, _ in reversed(around):
        rest = other_than_mesh(node.test) if isinstance(node, ast.If) else None
        if isinstance(node, ast.If) and rest is not None:
            return ast.unparse(ast.If(rest, node.body, node.orelse))
    if not around:
        return "return"
    function = around[-1][1].function
    for call in facts.calls_in(file.path):
        if call.site.function is function:
            text = layout.bracketed(f"{call.spelling}(", call.arguments, ")")
            mesh = call.mesh
            return (
                f"{mesh.variable} = {mesh.assigned}\n{text}" if mesh.variable else text
            )
    following = (block[0] for block in around[-1][1].following if block)
    return ast.unparse(next(following, ast.Return()))


def _left(file: SourceFile, line: int, message: str, code: str) -> Finding:
    return Finding(
        file.path,
        line,
        CODE,
        message,
        "opted-out" if file.opted_out(line, CODE) else "left",
        code,
    )


_COMMENTED = re.compile(rb"#\s*(?:el)?if |#\s*assert ")


def _commented(
    known: Guards, file: SourceFile
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Guards that are commented out, before or behind a call that is replicate's now."""
    if not file.found(_COMMENTED):
        return
    for line, comments in commented_guards(file.lines):
        if known.beside_followed(file, line + len(comments)):
            yield line, comments


def rewrite(tree: cst.Module, path: str, facts: Facts) -> cst.Module:
    known = Guards(facts)
    file = facts.survey.files[path]
    fates: dict[tuple[str, ...], list[bool]] = {}
    for guarded in known.of(file):
        gone = fates.setdefault(_signature(guarded.guard), [])
        gone.append(guarded.fate == "goes")
    syntax = edit.syntax_of(tree)
    calls = {signature for signature in fates if signature[1] == "call"}
    going: dict[Spot, Guard] = {}
    where = spots(syntax)
    for guard in [*guards(syntax), *_calls(syntax, calls)]:
        rest = fates.get(_signature(guard))
        if rest and rest.pop(0):
            going[where[id(guard.node)]] = guard

    def taken(name: str) -> bool:
        return any(other.path != path for other in facts.checkout.mentioning(name))

    messages = _messages(list(going.values()), syntax, taken)
    going.update({where[id(guard.node)]: guard for guard in messages})
    helpers = {
        helper.definition.name
        for helper in known.helpers.values()
        if helper.definition.path == path and known.helper_fate(helper) == "goes"
    }
    comments = {texts for _, texts in _commented(known, file)}
    return tree.visit(Unguard(syntax, going, helpers, comments))


def _signature(guard: Guard) -> tuple[str, ...]:
    """What a guard is known by while the code around it is rewritten."""
    if isinstance(guard.node, ast.Expr):
        kind = "check" if is_check(guard.node) else "call"
        return guard.place.scope, kind, ast.dump(guard.node)
    refusal = "" if isinstance(guard.node, ast.Assert) else _dump(guard.refusal)
    return guard.place.scope, guard.shape, ast.dump(guard.test), refusal


def _dump(nodes: Sequence[ast.stmt]) -> str:
    return " ".join(map(ast.dump, nodes))


def _calls(syntax: ast.Module, wanted: Collection[tuple[str, ...]]) -> Iterator[Guard]:
    for node, place in statements(syntax):
        if isinstance(node, ast.Expr):
            guard = Guard(node, place, "statement", node.value, (node,))
            if _signature(guard) in wanted:
                yield guard


def _messages(
    going: Sequence[Guard], syntax: ast.Module, taken: Callable[[str], bool]
) -> Iterator[Guard]:
    """What sets a message that only guards that go have read.

    ``taken``: whether another file may read a name of this module.
    """
    refusing = {id(n) for g in going for part in g.refusal for n in nodes(part)}
    for guard in going:
        for name in guard.prepared:
            inside: Sequence[ast.AST] = list(nodes(guard.place.function or syntax))
            if name not in {_set_by(node) for node in inside}:
                inside = list(nodes(syntax))
                if taken(name):
                    continue
            reads = [
                n
                for n in inside
                if isinstance(n, ast.Name)
                and n.id == name
                and isinstance(n.ctx, ast.Load)
            ]
            if not all(id(read) in refusing for read in reads):
                continue
            for node in inside:
                if id(node) not in refusing and _set_by(node) == name:
                    assert isinstance(node, ast.Assign)
                    yield replace(guard, node=node)


def _set_by(node: ast.AST) -> str | None:
    """The name that a plain assignment sets."""
    target = node.targets[0] if isinstance(node, ast.Assign) else None
    return target.id if isinstance(target, ast.Name) else None
