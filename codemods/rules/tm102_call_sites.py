"""TM102: every import and every call of ``apply_ddp``."""

import ast
import io
import tokenize
from collections.abc import Iterator, Mapping, Sequence

import libcst as cst

from codemods import edit, layout
from codemods.beside import Said, said_beside
from codemods.example import Example
from codemods.findings import Finding, Status
from codemods.names import Definition, surely_bound
from codemods.outside import tried
from codemods.plans import (
    Facts,
    Followed,
    MeshEdit,
    NewCall,
    NewFunction,
    followed,
    is_inline,
    module_for,
    replicate_name,
)
from codemods.plans import alias as renamed
from codemods.source import SourceFile
from codemods.survey import OLD, Reference, function_of
from codemods.targets import REPLICATE_MODULE
from codemods.wording import of_replicate

CODE = "TM102"
TITLE = "calls and imports of apply_ddp"
WHAT = "Calls, imports, aliases and re-exports of apply_ddp follow, found by binding."
WHY = """\
A call passes the dp_replicate mesh, not the world mesh, and takes param_dtype and
reduce_dtype from the apply_fsdp call beside it, because replicate does mixed
precision by a policy and not by autocast. Names are resolved by binding, not by text;
other things of the same name are left alone. A call outside of the training loop (the
RL trainer) gets no dtype, so it computes in the dtype that its parameters have, as it
did under DDP, and keeps averaging. A plan is executed up to its call: where anything
else than dp_replicate leads there, or an axis of the fork's own takes part, the call is
left, and its guard with it. Where torchtitan is a dependency, its apply_ddp stays, and
the call gets a function of this checkout, or follows the name there; an import of what
that does not have is said to be broken. What is asked for by its name at run time
(getattr, import_module, a path for hydra, a package with a __getattr__), comes from one
of two packages, or stands in a registry is left: who calls it is not seen.
"""
UPSTREAM = """\
PR 2458 has these arguments. The reviewers of PR 1714 asked that every call site of
apply_ddp be changed.
"""
RISK = """\
A call that stays behind imports a name that is gone, and its model does not start. The
world mesh replicates over the ranks of tensor and pipeline parallelism too. Without
param_dtype a bf16 job trains in the dtype of its parameters.
"""
PROOF = """\
Uses are parsed, also those in models that are not trained, and the first cell fails by
one: it imports a name from a module "which no longer defines it", or passes an argument
"which it does not take any more". The world mesh shows in `dp+tp`, where a rank "failed
with" an error about meshes, and a missing dtype in `dp-bf16`: a module has another
dtype "in its mixed-precision policy under replicate". The RL trainer is not trained:
run it.
"""
EXAMPLE = Example(
    fixture="v0_2_0",
    path="torchtitan/models/deepseek_v3/infra/parallelize.py",
    before="""\
        replicas = world_mesh
        apply_ddp(
            model,
            replicas,
            enable_compiled_autograd=job_config.parallelism.enable_compiled_autograd,
            enable_compile=compiled,
        )
""",
    after="""\
        replicas = world_mesh["dp_replicate"]
        apply_replicate(
            model,
            replicas,
            param_dtype=TORCH_DTYPE_MAP[job_config.training.mixed_precision_param],
            reduce_dtype=TORCH_DTYPE_MAP[job_config.training.mixed_precision_reduce],
        )
""",
)


def find(facts: Facts) -> Iterator[Finding]:
    yield from facts.reported(CODE)
    yield from _inline(facts)
    calls = {call.site.reference: call for call in facts.calls}
    for reference in facts.survey.references:
        file = facts.survey.files[reference.path]
        if reference.definition in facts.survey.provided:
            yield from _of_dependency(facts, reference, calls)
            continue
        function = _replacement(facts, reference.definition)
        renamed = function is not None and (
            function.replaces is not None or reference.is_by_old_name
        )
        if file.opted_out(reference.line, CODE):
            message = f"this {reference.kind} of {reference.spelling} stays as it is"
            status: Status = "opted-out"
            if function is not None and function.replaces is not None:
                message += ", but the definition it needs is migrated"
                if not file.excluded:
                    message += ": opt that out too with ignore[TM101]"
                status = "left"
            yield Finding(reference.path, reference.line, CODE, message, status)
            continue
        if function is None:  # its definition stays, and so does every mention of it
            yield from _kept(facts, reference)
            continue
        if not renamed:
            if reference.kind == "call" and reference not in calls:
                message = f"{reference.spelling} already wraps with replicate"
                yield Finding(reference.path, reference.line, CODE, message, "done")
                continue
            if reference not in calls:
                continue
        if reference.kind == "call":
            call = calls.get(reference)
            if call is not None:
                yield Finding(
                    reference.path, reference.line, CODE, _message(call, facts)
                )
        elif reference.kind != "value" and _import_changes(facts, reference):
            yield Finding(
                reference.path,
                reference.line,
                CODE,
                f"{reference.kind} of {reference.definition.name}",
            )
    yield from _words(facts)


def _of_dependency(
    facts: Facts, reference: Reference, calls: Mapping[Reference, NewCall]
) -> Iterator[Finding]:
    """What becomes of one place that names an ``apply_ddp`` of the dependency."""
    file = facts.survey.files[reference.path]
    path, line, name = reference.path, reference.line, reference.spelling
    where = facts.survey.dependency.name
    if file.opted_out(line, CODE):
        message = f"this {reference.kind} of {name} of {where} stays as it is"
        yield Finding(path, line, CODE, message, "opted-out")
    elif reference in calls:
        yield Finding(path, line, CODE, _message(calls[reference], facts))
    elif reference.kind == "import":
        yield from _import_of_dependency(facts, reference)
    elif reference.kind != "call":  # a call is left where it was decided
        yield Finding(
            path,
            line,
            CODE,
            f"this {reference.kind} of {name} of {where} hands DDP's function on, and who "
            "calls it is not followed: hand on a function that wraps with replicate",
            "left",
            facts.target.function_name,
        )


def _import_of_dependency(facts: Facts, reference: Reference) -> Iterator[Finding]:
    path, line, name = reference.path, reference.line, reference.spelling
    where = facts.survey.dependency.name
    if goes(facts, reference):
        yield Finding(path, line, CODE, f"import of {name} of {where} goes")
    elif line in tried(facts.survey.files[path]):
        yield Finding(
            path,
            line,
            CODE,
            f"{name} of {where} is one of several imports that are tried: take all of them "
            "out, and import or define a function that wraps with replicate",
            "left",
            facts.target.function_name,
        )
    elif not any(True for _ in _uses(facts, reference)):
        yield Finding(
            path,
            line,
            CODE,
            f"{name} of {where} is passed on from here, and nothing in this checkout calls "
            "it: pass on a function that wraps with replicate, or none",
            "left",
            facts.target.function_name,
        )


def _uses(facts: Facts, reference: Reference) -> Iterator[Reference]:
    """The other places that name what a reference does, imports apart."""
    for other in facts.survey.references:
        if other.definition == reference.definition and other.kind != "import":
            yield other


def goes(facts: Facts, reference: Reference) -> bool:
    """Whether an import of an ``apply_ddp`` of the dependency has no use any more.

    It has where a use of it stays: one of its own file, or one of a file that may have it
    from there. What only a package passes on, and nothing here calls, stays too.
    """
    if reference.line in tried(facts.survey.files[reference.path]):
        return False
    moved = {call.site.reference for call in facts.calls}
    uses = list(_uses(facts, reference))
    if any(use not in moved for use in uses if use.path == reference.path):
        return False
    here = any(use.path == reference.path for use in uses)
    return here or (bool(uses) and all(use in moved for use in uses))


def _words(facts: Facts) -> Iterator[Finding]:
    """The strings that name what moves, and what is said beside the calls."""
    for file in facts.checkout.mentioning(OLD):
        for string in followed(facts, file):
            message = f"the string {string.value!r} names what moves, and follows"
            opted_out = file.opted_out(string.line, CODE)
            status: Status = "opted-out" if opted_out else "rewrite"
            yield Finding(file.path, string.line, CODE, message, status)
    for path in sorted({call.site.reference.path for call in facts.calls}):
        for _, said in _said(facts, path):
            if said.certain:
                what = "comment" if said.is_comment else "log line"
                message = f"the {what} beside the call says replicate for DDP"
                opted_out = facts.survey.files[path].opted_out(said.line, CODE)
                status = "opted-out" if opted_out else "rewrite"
                yield Finding(path, said.line, CODE, message, status)


def _strings(facts: Facts, file: SourceFile) -> Iterator[Followed]:
    for string in followed(facts, file):
        if not file.opted_out(string.line, CODE):
            yield string


def _said(facts: Facts, path: str) -> Iterator[tuple[NewCall, Said]]:
    """What is said beside the calls of a file that stop being DDP's."""
    if facts.target.function_name == OLD:
        return
    file = facts.survey.files[path]
    for call in facts.calls_in(path):
        for said in said_beside(file, call.site.node):
            yield call, said


def _inline(facts: Facts) -> Iterator[Finding]:
    """DDP's replicate, called in a plan."""
    for call in facts.calls:
        reference = call.site.reference
        if is_inline(facts, call):
            yield Finding(reference.path, reference.line, CODE, _message(call, facts))
    for site in facts.survey.inline:
        reference = site.reference
        if facts.survey.files[reference.path].opted_out(reference.line, CODE):
            message = f"this call of {reference.spelling} stays as it is"
            yield Finding(reference.path, reference.line, CODE, message, "opted-out")


def _message(call: NewCall, facts: Facts) -> str:
    old = call.site.reference.spelling
    fresh = [*(spelling for spelling, _ in call.before), call.spelling]
    text = f"{old} becomes {' and '.join(fresh)}"
    if old == call.spelling:
        text = f"{old} keeps its name and stands for {call.function.definition.name}"
    if call.standalone:
        text += ": no configuration in reach, so it computes in its parameters' dtype as before"
        if call.function.plan.sums_gradients:
            text += "; its loss is a local mean, so gradients stay averaged"
    elif call.site.fsdp_call is not None:
        fsdp = ast.unparse(call.site.fsdp_call.func).rpartition(".")[2]
        text += f" with the dtypes of {fsdp} on line {call.site.fsdp_call.lineno}"
    return text


def _kept(facts: Facts, reference: Reference) -> Iterator[Finding]:
    """What calls a definition that stays because it opted out, or its file is excluded."""
    definition = reference.definition
    node = function_of(facts.checkout, definition)
    home = facts.survey.files[definition.path]
    if node is None or not home.opted_out(node.lineno, "TM101"):
        return
    why = "is excluded" if home.excluded else "opted out"
    message = f"{reference.spelling} stays DDP's: its definition, {home.path}:{node.lineno}, {why}"
    yield Finding(reference.path, reference.line, CODE, message, "opted-out")


def _replacement(facts: Facts, definition: Definition) -> NewFunction | None:
    return facts.becomes(definition) or facts.functions.get(definition)


def _former_name(function: NewFunction) -> str:
    """What a function was called while it wrapped with DDP."""
    return function.replaces.name if function.replaces else "apply_ddp"


def _import_changes(facts: Facts, reference: Reference) -> bool:
    """Whether an import or export reads differently afterwards."""
    function = _replacement(facts, reference.definition)
    assert function is not None
    if function.definition.name != _former_name(function):
        return True
    return any(
        call.function.definition != function.definition
        for call in facts.calls_in(reference.path)
    )


def rewrite(tree: cst.Module, path: str, facts: Facts) -> cst.Module:
    transformer = _CallSites(tree, path, facts)
    tree = tree.visit(transformer)
    own = facts.own_packages
    for call in facts.calls_in(path):
        for function in call.also or (call.function,):
            place = function.definition
            if place.path != path and place != _kept_place(facts, call):
                module = module_for(facts, path, place.path)
                assert module is not None  # else the call is left
                tree = edit.add_import(tree, module, place.name, own=own)
        if call.also and not any(f.definition.path == path for f in facts.written()):
            called = replicate_name(facts, path)
            if any(called == name for name, _ in (*call.before, (call.spelling, ()))):
                alias = called if called != "replicate" else None
                where = (REPLICATE_MODULE, "replicate", alias)
                tree = edit.add_import(tree, *where, own)
        bound = surely_bound(facts.survey.files[path].syntax.body)
        if facts.target.keep_precision and "torch" not in bound:
            tree = edit.add_import(tree, "torch", None, own=own)
    return tree


def _kept_place(facts: Facts, call: NewCall) -> Definition | None:
    """Where the import or module path that the call already has leads afterwards."""
    function = _replacement(facts, call.site.reference.definition)
    return function.definition if function else None


def _comments_in(code: str) -> list[str]:
    lines = io.StringIO(code).readline
    tokens = tokenize.generate_tokens(lines)
    comments = [token.string for token in tokens if token.type == tokenize.COMMENT]
    return [comment for comment in comments if not comment.startswith("# pyrefly")]


class _CallSites(edit.ScopedTransformer):
    def __init__(self, tree: cst.Module, path: str, facts: Facts) -> None:
        self.file = facts.survey.files[path]
        inline = [site.reference for site in facts.survey.inline]
        every = (*facts.survey.references, *inline)
        scopes = [r.scope for r in every if r.path == path]
        self.strings = list(_strings(facts, self.file))
        if self.strings:
            scopes = list(self.file.names.scopes)
        super().__init__(tree, scopes)
        self.facts, self.path = facts, path
        self.said = {
            (call.site.reference.scope, said.text)
            for call, said in _said(facts, path)
            if said.certain and not self.file.opted_out(said.line, CODE)
        }
        self._saying = False
        self.calls = {
            (r.scope, r.spelling, r.ordinal): call
            for call in facts.calls_in(path)
            for r in [call.site.reference]
        }
        self.references = [
            r
            for r in facts.survey.references
            if r.path == path and not self.file.opted_out(r.line, CODE)
        ]
        self._seen: dict[tuple[str, str], int] = {}
        self._marked: dict[cst.Call, NewCall] = {}
        # Of each block that we are in: what its calls want set there.
        self._assignments: list[list[MeshEdit]] = []
        self._alone = True
        self._comments: list[str] = []
        self._before: list[cst.BaseStatement] = []
        self._in_all = False

    # Calls

    def visit_Call(self, node: cst.Call) -> None:
        spelling = edit.name_of(node.func)
        if spelling is None:
            return
        key = (self.scope, spelling)
        ordinal = self._seen[key] = self._seen.get(key, -1) + 1
        call = self.calls.get((*key, ordinal))
        if call is not None:
            self._marked[node] = call

    def leave_Call(
        self, original_node: cst.Call, updated_node: cst.Call
    ) -> cst.BaseExpression:
        call = self._marked.get(original_node)
        if call is None:
            return self._renamed(original_node, updated_node)
        if call.mesh.variable and call.mesh.assigned:
            self._assignments[-1].append(call.mesh)
        self._comments += [
            of_replicate(comment) if (self.scope, comment) in self.said else comment
            for comment in _comments_in(self.code(original_node))
        ]
        last = original_node.args[-1] if original_node.args else None
        exploded = last is not None and isinstance(last.comma, cst.Comma)
        self._before += [
            edit.statement(self.tree, self._written(*other, exploded))
            for other in call.before
        ]
        text = self._written(call.spelling, call.arguments, exploded)
        return edit.expression(self.tree, text)

    def _written(self, called: str, passed: Sequence[str], exploded: bool) -> str:
        return layout.bracketed(f"{called}(", passed, ")", exploded=exploded)

    def _renamed(
        self, original_node: cst.Call, updated_node: cst.Call
    ) -> cst.BaseExpression:
        """A log line that says replicate, or a call that takes the name in a string."""
        if self._saying:
            return updated_node
        takers = {string.call for string in self.strings} - {None}
        if not takers or len(updated_node.args) < 2:
            return updated_node
        code, second = layout.normal(self.code(original_node)), updated_node.args[1]
        if code not in takers or not isinstance(second.value, cst.SimpleString):
            return updated_node
        fresh = second.with_changes(value=self._followed(second.value, code))
        args = [updated_node.args[0], fresh, *updated_node.args[2:]]
        return updated_node.with_changes(args=args)

    def visit_IndentedBlock(self, node: cst.IndentedBlock) -> None:
        super().visit_IndentedBlock(node)
        self._assignments.append([])

    def leave_IndentedBlock(
        self, original_node: cst.IndentedBlock, updated_node: cst.IndentedBlock
    ) -> cst.BaseSuite:
        updated_node = edit.without_gap(original_node, updated_node)
        for mesh in self._assignments.pop():
            body = [self._reassigned(line, mesh) for line in updated_node.body]
            updated_node = updated_node.with_changes(body=body)
        return super().leave_IndentedBlock(original_node, updated_node)

    def _reassigned(self, line: cst.BaseStatement, mesh: MeshEdit) -> cst.BaseStatement:
        if isinstance(line, cst.SimpleStatementLine) and len(line.body) == 1:
            node = line.body[0]
            if isinstance(node, cst.Assign):
                target: cst.BaseExpression | None = node.targets[0].target
            elif isinstance(node, cst.AnnAssign) and node.value is not None:
                target = node.target
            else:
                return line
            assert node.value is not None and mesh.assigned is not None
            as_it_is = layout.flatten(self.code(node.value)) == mesh.instead_of
            if edit.name_of(target) == mesh.variable and as_it_is:
                fresh = edit.expression(self.tree, mesh.assigned)
                return line.with_changes(body=[node.with_changes(value=fresh)])
        return line

    # Imports and exports

    def visit_SimpleStatementSuite(self, node: cst.SimpleStatementSuite) -> None:
        self._alone = False

    def leave_ImportFrom(
        self, original_node: cst.ImportFrom, updated_node: cst.ImportFrom
    ) -> cst.BaseSmallStatement | cst.RemovalSentinel:
        """An import that shares its line with something else: only names change."""
        if self._alone or isinstance(updated_node.names, cst.ImportStar):
            return updated_node
        changed = self._changed(edit.import_names(updated_node))
        if not changed:
            return cst.RemoveFromParent()
        if len(changed) != len(updated_node.names):
            return updated_node
        aliases = [
            alias.with_changes(
                name=cst.Name(name), asname=alias.asname if kept else None
            )
            for alias, (name, kept) in zip(updated_node.names, changed)
        ]
        return updated_node.with_changes(names=aliases)

    def leave_SimpleStatementLine(
        self,
        original_node: cst.SimpleStatementLine,
        updated_node: cst.SimpleStatementLine,
    ) -> (
        cst.BaseStatement | cst.FlattenSentinel[cst.BaseStatement] | cst.RemovalSentinel
    ):
        node = updated_node.body[0]
        self._saying = False
        if self._comments:
            # What was said between the arguments goes above the call.
            kept = [cst.EmptyLine(comment=cst.Comment(text)) for text in self._comments]
            self._comments = []
            leading = [*updated_node.leading_lines, *kept]
            updated_node = updated_node.with_changes(leading_lines=leading)
        if self._before:
            # What stood above the one call stands above the first of them.
            first, *others = self._before
            self._before = []
            first = first.with_changes(leading_lines=updated_node.leading_lines)
            last = updated_node.with_changes(leading_lines=())
            return cst.FlattenSentinel([first, *others, last])
        if not isinstance(node, cst.ImportFrom) or len(updated_node.body) > 1:
            return updated_node
        names = edit.import_names(node)
        changed = self._changed(names)
        if changed == names:
            return updated_node
        if not changed:
            return cst.RemoveFromParent()
        module = edit.module_of(node)
        return edit.from_import(self.tree, updated_node, module, changed)

    def _changed(
        self, names: list[tuple[str, str | None]]
    ) -> list[tuple[str, str | None]]:
        """The (name, alias) pairs of an import as they are afterwards."""
        changed: list[tuple[str, str | None]] = []
        for name, alias in names:
            if self._goes(alias or name):
                continue
            function = self._imported(alias or name)
            if function is None:
                changed.append((name, alias))
            elif self._still_needed(alias or name, function):
                old = _former_name(function)
                fresh = function.definition.name
                if name != old:
                    fresh = renamed(self.facts, name)
                kept_alias = renamed(self.facts, alias) if alias else None
                if kept_alias in (fresh, old):
                    kept_alias = None
                changed.append((fresh, kept_alias))
        return changed

    def _imported(self, local: str) -> NewFunction | None:
        for reference in self.references:
            if (
                reference.kind == "import"
                and reference.scope == self.scope
                and reference.spelling == local
            ):
                return _replacement(self.facts, reference.definition)
        return None

    def _goes(self, local: str) -> bool:
        """Whether a name is imported from the dependency for nothing."""
        return any(
            reference.definition in self.facts.survey.provided
            and goes(self.facts, reference)
            for reference in self.references
            if (reference.kind, reference.scope, reference.spelling)
            == ("import", self.scope, local)
        )

    def _still_needed(self, local: str, function: NewFunction) -> bool:
        """Not where every call in this file goes to a function of its own instead."""
        spellings = [
            r for r in self.references if r.kind == "call" and r.spelling == local
        ]
        moved = [
            call
            for call in self.facts.calls_in(self.path)
            if call.site.reference.spelling == local
            and call.function.definition != function.definition
        ]
        return not moved or len(moved) < len(spellings)

    def visit_Assign(self, node: cst.Assign | cst.AnnAssign | cst.AugAssign) -> None:
        self._in_all = edit.is_dunder_all(node)

    visit_AnnAssign = visit_AugAssign = visit_Assign

    def leave_Assign(
        self, original_node: cst.Assign, updated_node: cst.Assign
    ) -> cst.Assign:
        self._in_all = False
        return updated_node

    def leave_AnnAssign(
        self, original_node: cst.AnnAssign, updated_node: cst.AnnAssign
    ) -> cst.AnnAssign:
        self._in_all = False
        return updated_node

    def leave_AugAssign(
        self, original_node: cst.AugAssign, updated_node: cst.AugAssign
    ) -> cst.AugAssign:
        self._in_all = False
        return updated_node

    def leave_SimpleString(
        self, original_node: cst.SimpleString, updated_node: cst.SimpleString
    ) -> cst.BaseExpression:
        if self._saying:
            return updated_node.with_changes(value=of_replicate(updated_node.value))
        if not self._in_all:
            return self._followed(updated_node, None)
        for reference in self.references:
            function = _replacement(self.facts, reference.definition)
            if reference.kind != "export" or function is None:
                continue
            fresh = function.definition.name
            if reference.spelling != _former_name(function):
                fresh = renamed(self.facts, reference.spelling)
            updated_node = edit.quoted(updated_node, reference.spelling, fresh)
        return updated_node

    def _followed(self, node: cst.SimpleString, call: str | None) -> cst.SimpleString:
        """A string that names a function that moves, alone or to the call that takes it."""
        for string in self.strings:
            if string.call == call:
                node = edit.quoted(node, string.value, string.fresh)
        return node

    # What is said beside the calls

    def visit_SimpleStatementLine(self, node: cst.SimpleStatementLine) -> None:
        self._alone = len(node.body) == 1
        if any(self.scope == scope for scope, _ in self.said):
            self._saying = (self.scope, layout.normal(self.code(node))) in self.said

    def leave_FormattedStringText(
        self,
        original_node: cst.FormattedStringText,
        updated_node: cst.FormattedStringText,
    ) -> cst.FormattedStringText:
        if not self._saying:
            return updated_node
        return updated_node.with_changes(value=of_replicate(updated_node.value))

    def leave_Comment(
        self, original_node: cst.Comment, updated_node: cst.Comment
    ) -> cst.Comment:
        if (self.scope, updated_node.value) not in self.said:
            return updated_node
        return updated_node.with_changes(value=of_replicate(updated_node.value))
