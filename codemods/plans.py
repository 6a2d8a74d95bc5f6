"""Decide what every definition and every call site of ``apply_ddp`` becomes.

The survey says what is there; this says what to write: one function for each wrap
plan of the checkout, and for each call the function, the mesh and the arguments.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import libcst as cst

from codemods import layout, mirror
from codemods.bindings import Checkout
from codemods.findings import Finding
from codemods.guards import is_guard
from codemods.mirror import CannotMirror, Plan, Wishes
from codemods.names import Definition
from codemods.source import SourceFile
from codemods.survey import (
    CallSite,
    Survey,
    divides_by_global_tokens,
    enclosing,
    function_of,
)
from codemods.targets import Target

FULLY_SHARD = re.compile(r"^torch\.distributed\.(_composable\.)?fsdp\b.*\bfully_shard$")


@dataclass(frozen=True)
class NewFunction:
    """A function that wraps with the composable replicate.

    Args:
        definition: where it will be, under which name.
        plan: its text and signature.
        mirrors: the ``apply_fsdp`` it was derived from, None for the fixed template.
        replaces: the ``apply_ddp`` it takes the place of, None where it is new.
    """

    definition: Definition
    plan: Plan
    mirrors: Definition | None
    replaces: Definition | None


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
    """

    site: CallSite
    function: NewFunction
    spelling: str
    arguments: tuple[str, ...]
    mesh: MeshEdit
    standalone: bool


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
    """

    survey: Survey
    target: Target
    functions: dict[Definition, NewFunction] = field(default_factory=dict)
    calls: list[NewCall] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    derived: dict[object, Plan] = field(default_factory=dict)

    def reported(self, code: str) -> Iterator[Finding]:
        """What the decisions have to say under one rule."""
        return (finding for finding in self.findings if finding.code == code)

    @property
    def checkout(self) -> Checkout:
        return self.survey.checkout

    def becomes(self, definition: Definition) -> NewFunction | None:
        """What takes the place of a definition of ``apply_ddp``."""
        for function in self.functions.values():
            if function.replaces == definition:
                return function
        return None

    def calls_in(self, path: str) -> Iterator[NewCall]:
        return (call for call in self.calls if call.site.reference.path == path)


def decide(survey: Survey, target: Target) -> Facts:
    """The decisions for a checkout that still carries DDP."""
    facts = Facts(survey, target)
    opted_out = {d for d in survey.definitions if _definition_opted_out(survey, d)}
    for definition in survey.definitions:
        if definition not in opted_out and not _name_taken(facts, definition):
            function = _function_for(facts, definition)
            facts.functions[function.definition] = function
    for definition in survey.migrated:
        function = _existing(facts, definition)
        if function is not None:
            facts.functions[definition] = function
    for site in survey.call_sites:
        _decide_call(facts, site)
    return facts


def _definition_opted_out(survey: Survey, definition: Definition) -> bool:
    node = function_of(survey.checkout, definition)
    file = survey.files[definition.path]
    return node is not None and file.opted_out(node.lineno, "TM101")


def _name_taken(facts: Facts, definition: Definition) -> bool:
    """Whether the module has something else of the new name; reported if so."""
    name = facts.target.function_name
    if name == definition.name:
        return False
    top = facts.checkout.names(definition.path).top
    if name not in top.bound and name not in top.imports:
        return False
    node = function_of(facts.checkout, definition)
    assert node is not None
    facts.findings.append(
        Finding(
            definition.path,
            node.lineno,
            "TM101",
            f"there is something else called {name} in this module: rename it first, or "
            "choose another name with --function-name",
            "left",
            f"def {name}(...)",
        )
    )
    return True


# Functions


def _function_for(facts: Facts, definition: Definition) -> NewFunction:
    """What a definition of ``apply_ddp`` becomes: the mirror of its ``apply_fsdp``."""
    sites = [
        site
        for site in facts.survey.call_sites
        if site.reference.definition == definition
    ]
    local = Definition(definition.path, "apply_fsdp")
    candidates = [
        *([local] if function_of(facts.checkout, local) else []),
        *(s.fsdp_definition for s in sites if s.reference.path == definition.path),
        *(s.fsdp_definition for s in sites),
    ]
    name = facts.target.function_name
    reason = "this checkout has no apply_fsdp to derive it from"
    for candidate in filter(None, candidates):
        try:
            plan = _derive(facts, candidate, definition, sites)
        except CannotMirror as error:
            reason = (
                f"{candidate.path} defines an apply_fsdp that is not followed: {error}"
            )
        else:
            place = Definition(definition.path, name)
            return NewFunction(place, plan, candidate, definition)
    node = function_of(facts.checkout, definition)
    assert node is not None
    facts.findings.append(
        Finding(
            definition.path,
            node.lineno,
            "TM210",
            f"{name} is written from a fixed template (blocks, then the root), because "
            f"{reason}. Compare its groups with how your model is built.",
            "hazard",
        )
    )
    plan = _template(facts, definition)
    return NewFunction(Definition(definition.path, name), plan, None, definition)


def _derive(
    facts: Facts,
    apply_fsdp: Definition,
    apply_ddp: Definition | None = None,
    sites: Sequence[CallSite] = (),
) -> Plan:
    """The mirror of one ``apply_fsdp``, for the call sites that will use it."""
    key = (apply_fsdp, apply_ddp, tuple(site.reference for site in sites))
    if key in facts.derived:
        return facts.derived[key]
    tree = facts.survey.files[apply_fsdp.path].tree
    node = next(
        n
        for n in tree.body
        if isinstance(n, cst.FunctionDef) and n.name.value == apply_fsdp.name
    )
    names = facts.checkout.names(apply_fsdp.path)
    fully_shard = frozenset(
        local
        for local, imported in names.top.imports.items()
        if FULLY_SHARD.match(f"{imported.module}.{imported.name}")
    )
    helper = _division_helper(facts)
    wishes = Wishes(
        name=facts.target.function_name,
        mesh_keyword=facts.target.mesh_keyword,
        fully_shard=fully_shard,
        sum_gradients=bool(facts.survey.global_tokens),
        division_helper=helper.name if helper else None,
        averaging_option=any(_keeps_averaging(facts, site) for site in sites),
        ties=_ties(facts.survey, sites),
        log=_log_statement(facts, apply_ddp),
        returns_model=_returns_model(facts, apply_ddp),
    )
    plan = facts.derived[key] = mirror.derive(tree, node, wishes)
    return plan


def _ties(survey: Survey, sites: Sequence[CallSite]) -> tuple[tuple[str, str], ...]:
    """Which modules share their weight in the models that these calls wrap.

    A tie in the folder of a model counts for the calls in that folder, one outside
    of them all (shared model code) for every call.
    """
    here = {folder_of(site.reference.path) for site in sites}
    elsewhere = {folder_of(site.reference.path) for site in survey.call_sites} - here
    return tuple(
        sorted(
            {
                (tie.left, tie.right)
                for tie in survey.ties
                if sites and folder_of(tie.path) not in elsewhere
            }
        )
    )


def folder_of(path: str) -> str:
    """The folder of a model or an experiment, ``torchtitan/models/qwen3``."""
    found = re.match(r"(.*?\b(?:models|experiments)/[^/]+)/", path)
    return found[1] if found else path.rpartition("/")[0]


def _division_helper(facts: Facts) -> Definition | None:
    """torchtitan's own function that switches the division of gradients off."""
    for file in facts.checkout.mentioning("set_gradient_divide_factor(1"):
        for node in file.syntax.body:
            if not isinstance(node, ast.FunctionDef):
                continue
            text = ast.unparse(node)
            if "set_gradient_divide_factor(1" in text and "fully_shard" not in text:
                return Definition(file.path, node.name)
    return None


def _log_statement(facts: Facts, apply_ddp: Definition | None) -> str | None:
    """The line with which ``apply_ddp`` logs success, saying what is true now."""
    definition = apply_ddp or next(iter(facts.survey.definitions), None)
    node = definition and function_of(facts.checkout, definition)
    if not node:
        return None
    file = facts.survey.files[definition.path]
    for statement in reversed(node.body):
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
            text = file.segment(statement)
            if re.match(r"\w*log\w*\.", text):
                if facts.target.function_name == "apply_ddp":
                    return text
                return re.sub(r"\bDDP\b", "replicate", text)
    return None


def _returns_model(facts: Facts, apply_ddp: Definition | None) -> bool:
    node = apply_ddp and function_of(facts.checkout, apply_ddp)
    if not node or not node.args.args:
        return False
    return any(
        isinstance(n, ast.Return)
        and isinstance(n.value, ast.Name)
        and n.value.id == node.args.args[0].arg
        for n in ast.walk(node)
    )


_TEMPLATE_BODY = """\
    mp_policy = MixedPrecisionPolicy(param_dtype=param_dtype, reduce_dtype=reduce_dtype)
    replicate_config = {{"{mesh}": dp_mesh, "mp_policy": mp_policy}}

    for transformer_block in model.layers.children():
        replicate(transformer_block, **replicate_config)
    replicate(model, **replicate_config)"""


def _template(facts: Facts, definition: Definition) -> Plan:
    parameters = tuple(
        mirror.Parameter(name, f"{name}: {kind}", True)
        for name, kind in (
            ("model", "nn.Module"),
            ("dp_mesh", "DeviceMesh"),
            ("param_dtype", "torch.dtype"),
            ("reduce_dtype", "torch.dtype"),
        )
    )
    head = layout.bracketed(
        f"def {facts.target.function_name}(",
        [p.text for p in parameters],
        "):",
        depth=0,
        exploded=True,
    )
    text = [head, _TEMPLATE_BODY.format(mesh=facts.target.mesh_keyword)]
    sums = bool(facts.survey.global_tokens)
    if sums:
        text.append(
            "\n    # The training loop divides by the global token count\n"
            "    for module in model.modules():\n"
            "        if isinstance(module, FSDPModule):\n"
            "            module.set_gradient_divide_factor(1.0)"
        )
    log = _log_statement(facts, definition)
    if log:
        text.append(f"\n    {log}")
    if _returns_model(facts, definition):
        text.append("    return model")
    return Plan(
        facts.target.function_name,
        parameters,
        "\n".join(text),
        sums,
        ("transformer_block", "model"),
    )


def _existing(facts: Facts, definition: Definition) -> NewFunction | None:
    """A function that is already migrated, with the signature it has."""
    node = function_of(facts.checkout, definition)
    assert node is not None
    file = facts.survey.files[definition.path]
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    without = len(node.args.posonlyargs + node.args.args) - len(node.args.defaults)
    parameters = tuple(
        mirror.Parameter(
            arg.arg,
            file.segment(arg),
            index < without,
        )
        for index, arg in enumerate(arguments)
    )
    text = file.segment(node)
    plan = Plan(
        definition.name,
        parameters,
        text,
        "gradient_division" in text or "set_gradient_divide_factor" in text,
        (),
    )
    local = Definition(definition.path, "apply_fsdp")
    mirrors = local if function_of(facts.checkout, local) else None
    return NewFunction(definition, plan, mirrors, None)


# Calls


def _keeps_averaging(facts: Facts, site: CallSite) -> bool:
    """A call outside of the training loop that divides by the global token count."""
    return standalone(site) and not divides_by_global_tokens(
        facts.survey.files[site.reference.path]
    )


def standalone(site: CallSite) -> bool:
    """A call with neither an ``apply_fsdp`` beside it nor a configuration in reach."""
    if site.fsdp_call is not None:
        return False
    if site.function is None:
        return True
    names = {
        arg.arg for arg in (*site.function.args.args, *site.function.args.kwonlyargs)
    }
    return not names & {"job_config", "training", "config"}


def _decide_call(facts: Facts, site: CallSite) -> None:
    reference = site.reference
    file = facts.survey.files[reference.path]
    if file.opted_out(reference.line, "TM102"):
        return
    function = facts.becomes(reference.definition) or facts.functions.get(
        reference.definition
    )
    if function is None:
        return
    function = _own_plan(facts, site, function)
    if (
        _fits(site.node, function.plan)
        and function.replaces is None
        and _mesh_is_right(facts, site, file)
    ):
        if reference.spelling.rpartition(".")[2] != "apply_ddp":
            return
        if function.definition.name == "apply_ddp":
            return
    mesh = _mesh_edit(facts, site, file)
    if isinstance(mesh, str):
        _leave(facts, site, function, mesh)
        return
    arguments = _arguments(facts, site, function, mesh)
    if isinstance(arguments, str):
        _leave(facts, site, function, arguments)
        return
    facts.calls.append(
        NewCall(
            site,
            function,
            _spelling(site, function),
            tuple(arguments),
            mesh,
            standalone(site),
        )
    )


def _mesh_is_right(facts: Facts, site: CallSite, file: SourceFile) -> bool:
    """Whether a call that is migrated already passes a mesh that would not change."""
    mesh = _mesh_edit(facts, site, file)
    if isinstance(mesh, str):
        return True  # a mesh of the fork's own; nothing is known against it
    given = [_segment(file, node) for node in (*site.node.args, *_values(site.node))]
    return mesh.variable is None and mesh.argument in given


def _values(call: ast.Call) -> list[ast.expr]:
    return [keyword.value for keyword in call.keywords]


def _own_plan(facts: Facts, site: CallSite, function: NewFunction) -> NewFunction:
    """The function that wraps as the ``apply_fsdp`` beside this call does.

    A folder with an ``apply_fsdp`` of its own, whose groups differ, gets an
    ``apply_replicate`` of its own beside it.
    """
    own = site.fsdp_definition
    if own is None or own == function.mirrors or function.replaces is None:
        return function
    for known in facts.functions.values():
        if known.mirrors == own:
            return known
    try:
        if function.mirrors is not None:
            usual = _derive(facts, function.mirrors)
            if _derive(facts, own).same_wrapping(usual):
                return function
        sharing = [s for s in facts.survey.call_sites if s.fsdp_definition == own]
        plan = _derive(facts, own, sites=sharing)
    except CannotMirror:
        return function
    place = Definition(own.path, facts.target.function_name)
    if facts.checkout.defines(place):
        return function
    added = NewFunction(place, plan, own, None)
    facts.functions[place] = added
    return added


def _spelling(site: CallSite, function: NewFunction) -> str:
    reference = site.reference
    head, _, last = reference.spelling.rpartition(".")
    same = function.replaces == reference.definition
    if not same and function.definition != reference.definition:
        return function.definition.name
    if last in ("apply_ddp", reference.definition.name):
        return f"{head}.{function.plan.name}".lstrip(".")
    return reference.spelling


def _fits(call: ast.Call, plan: Plan) -> bool:
    return call_problem(call, plan.parameters) is None


def call_problem(
    call: ast.Call, parameters: tuple[mirror.Parameter, ...]
) -> str | None:
    """Why a call does not fit a signature, or None if it does."""
    names = [parameter.name for parameter in parameters]
    if any(isinstance(a, ast.Starred) for a in call.args) or any(
        k.arg is None for k in call.keywords
    ):
        return "it passes arguments by * or **, which cannot be followed"
    if len(call.args) > len(names):
        return (
            f"it passes {len(call.args)} positional arguments, {len(names)} are taken"
        )
    twice = set(names[: len(call.args)]) & {k.arg for k in call.keywords}
    if twice:
        return f"it passes {', '.join(sorted(twice))} twice"
    given = [*names[: len(call.args)]]
    for keyword in call.keywords:
        if keyword.arg not in names:
            return f"there is no parameter {keyword.arg}"
        given.append(keyword.arg)
    missing = [p.name for p in parameters if p.required and p.name not in given]
    if missing:
        return f"it does not pass {', '.join(missing)}"
    return None


def _leave(facts: Facts, site: CallSite, function: NewFunction, reason: str) -> None:
    dims = "parallel_dims.get_mesh" if facts.survey.mesh_api == "get_mesh" else ""
    wanted = mesh_expression(facts.target, dims, "world_mesh")
    suggestion = layout.bracketed(
        f"{function.plan.name}(",
        [
            "model",
            wanted,
            *(f"{p.name}=..." for p in function.plan.parameters[2:] if p.required),
        ],
        ")",
        depth=0,
    )
    facts.findings.append(
        Finding(
            site.reference.path,
            site.reference.line,
            "TM102",
            f"this call of {site.reference.spelling} is left for a person: {reason}",
            "left",
            suggestion,
        )
    )


def mesh_expression(target: Target, get_mesh: str, world_mesh: str) -> str:
    """The mesh that replicate takes, by ``get_mesh`` or from the world mesh."""
    if get_mesh:
        if target.mesh == "1d":
            return f'{get_mesh}("dp_replicate")'
        return f'{get_mesh}(["dp_replicate", "fsdp"])'
    if target.mesh == "1d":
        return f'{world_mesh}["dp_replicate"]'
    return f'{world_mesh}["dp_replicate", "dp_shard"]'


def _argument(call: ast.Call, position: int, keyword: str | None) -> ast.expr | None:
    for given in call.keywords:
        if given.arg == keyword:
            return given.value
    return call.args[position] if position < len(call.args) else None


def _segment(file: SourceFile, node: ast.AST) -> str:
    return layout.flatten(file.segment(node))


def _mesh_edit(facts: Facts, site: CallSite, file: SourceFile) -> MeshEdit | str:
    """The change to the mesh argument; a sentence where it cannot be followed."""
    definition = function_of(facts.checkout, site.reference.definition)
    assert definition is not None
    keyword = definition.args.args[1].arg if len(definition.args.args) > 1 else None
    node = _argument(site.node, 1, keyword)
    if node is None:
        node = next(
            (k.value for k in site.node.keywords if k.arg and "mesh" in k.arg), None
        )
    if node is None:
        return "it passes no mesh"
    text = _segment(file, node)
    changed = _replicate_mesh(facts.target, node, text)
    if changed is not None:
        return MeshEdit(changed)
    if not isinstance(node, ast.Name):
        return f"it is not clear which mesh {text} is"
    assignment = _last_assignment(site, node.id)
    if assignment is None:
        if _is_world_mesh(node.id):
            return MeshEdit(mesh_expression(facts.target, "", text))
        if site.function and node.id in {a.arg for a in site.function.args.args}:
            if facts.target.mesh == "1d" and re.search(r"replicate|ddp", node.id):
                return MeshEdit(text)
            return f"its mesh, `{text}`, comes in as a parameter, of a shape not known here"
        return f"it is not clear which mesh {text} is"
    value, in_block = assignment
    source = _segment(file, value)
    changed = _replicate_mesh(facts.target, value, source)
    if changed is None and isinstance(value, ast.Name):
        deeper = _last_assignment(site, value.id)
        if deeper is not None:
            inner = _segment(file, deeper[0])
            if _replicate_mesh(facts.target, deeper[0], inner) == inner:
                return MeshEdit(text)
            if _is_world_mesh(inner.rpartition(".")[2]):
                changed = mesh_expression(facts.target, "", source)
    if changed is None:
        return f"it is not clear which mesh {text} = {source} is"
    if changed == source:
        return MeshEdit(text)
    if (
        in_block
        and not _is_world_mesh(node.id)
        and _only_for_the_call(site, node.id, value)
    ):
        return MeshEdit(text, node.id, changed, source)
    if source.rpartition(".")[2] in ("world_mesh",):
        return MeshEdit(mesh_expression(facts.target, "", text))
    return MeshEdit(changed)


def _only_for_the_call(site: CallSite, name: str, value: ast.expr) -> bool:
    """Whether only the call, and guards, read a variable once it is set to ``value``."""
    assert site.function is not None
    first, last = site.node.lineno, site.node.end_lineno or 0
    guards = [
        (node.lineno, node.end_lineno or 0)
        for node in ast.walk(site.function)
        if isinstance(node, (ast.If, ast.Assert)) and is_guard(node)
    ]
    return all(
        any(start <= node.lineno <= end for start, end in [(first, last), *guards])
        for node in ast.walk(site.function)
        if isinstance(node, ast.Name)
        and node.id == name
        and isinstance(node.ctx, ast.Load)
        and node.lineno > value.lineno
    )


def _is_world_mesh(name: str) -> bool:
    return name in ("world_mesh", "_world_mesh")


def _replicate_mesh(target: Target, node: ast.expr, text: str) -> str | None:
    """``node`` as the mesh that replicate takes; None if it is no known mesh."""
    if isinstance(node, ast.Attribute) and _is_world_mesh(node.attr):
        return mesh_expression(target, "", text)
    if isinstance(node, ast.Name) and _is_world_mesh(node.id):
        return mesh_expression(target, "", text)
    names = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if node.func.attr in ("get_mesh", "get_optional_mesh"):
            if "dp_replicate" in names and names <= {
                "dp_replicate",
                "fsdp",
                "dp_shard",
            }:
                get_mesh = ast.unparse(node.func)
                fresh = mesh_expression(target, get_mesh, "")
                return text if _same(fresh, text) else fresh
    if isinstance(node, ast.Subscript):
        if "dp_replicate" in names and names <= {"dp_replicate", "fsdp", "dp_shard"}:
            fresh = mesh_expression(target, "", ast.unparse(node.value))
            return text if _same(fresh, text) else fresh
    return None


def _same(left: str, right: str) -> bool:
    return ast.dump(ast.parse(left)) == ast.dump(ast.parse(right))


def _last_assignment(site: CallSite, name: str) -> tuple[ast.expr, bool] | None:
    """What a local variable was last set to before the call, and if in its block."""
    if site.function is None:
        return None
    block = block_of(site.function, site.node)
    found: tuple[ast.expr, bool] | None = None
    for node in ast.walk(site.function):
        if isinstance(node, ast.Assign):
            targets, value = node.targets, node.value
        elif isinstance(node, ast.AnnAssign) and node.value is not None:
            targets, value = [node.target], node.value
        else:
            continue
        if node.lineno >= site.node.lineno:
            continue
        if not any(isinstance(t, ast.Name) and t.id == name for t in targets):
            continue
        if not _reaches(site.function, node, site.node):
            continue
        found = (value, node in block)
    return found


def _reaches(function: ast.FunctionDef, statement: ast.stmt, call: ast.Call) -> bool:
    """Whether a statement runs before the call whenever the call runs."""
    holder = block_of(function, statement)
    return any(node.lineno <= call.lineno <= (node.end_lineno or 0) for node in holder)


def block_of(function: ast.AST, inner: ast.expr | ast.stmt) -> list[ast.stmt]:
    """The innermost list of statements that holds ``inner``."""
    best: list[ast.stmt] = []
    for node in ast.walk(function):
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list) and any(
                s.lineno <= inner.lineno <= (s.end_lineno or 0) for s in block
            ):
                if not best or _span(block) < _span(best):
                    best = block
    return best


def _span(block: list[ast.stmt]) -> int:
    return (block[-1].end_lineno or 0) - block[0].lineno


def _arguments(
    facts: Facts, site: CallSite, function: NewFunction, mesh: MeshEdit
) -> list[str] | str:
    """The arguments of the new call; a sentence where one cannot be had."""
    file = facts.survey.files[site.reference.path]
    old = function_of(facts.checkout, site.reference.definition)
    assert old is not None
    model = _argument(site.node, 0, old.args.args[0].arg if old.args.args else None)
    if model is None or isinstance(model, ast.Starred):
        return "it passes no model"
    arguments = [_segment(file, model), mesh.argument]
    for parameter in function.plan.parameters[2:]:
        value = _value_for(facts, site, file, parameter)
        if value == _AMBIGUOUS:
            return f"the calls of apply_fsdp here pass different values for {parameter.name}"
        if value is None:
            if parameter.required or _hidden_value(site):
                beside = (
                    "no call of apply_fsdp beside it shows where it comes from"
                    if site.fsdp_call is None
                    else "the apply_fsdp beside it does not pass it either"
                )
                return f"there is no value in reach for {parameter.name}: {beside}"
            continue
        unbound = _unreachable(facts, site, value)
        if unbound:
            return (
                f"{parameter.name}={value} needs {unbound}, which is only set on the "
                "way to apply_fsdp"
            )
        arguments.append(f"{parameter.name}={value}")
    return arguments


_AMBIGUOUS = "<several>"


def _hidden_value(site: CallSite) -> bool:
    """Whether the apply_fsdp call passes more than can be read, by * or **."""
    call = site.fsdp_call
    return call is not None and (
        any(isinstance(a, ast.Starred) for a in call.args)
        or any(k.arg is None for k in call.keywords)
    )


def _value_for(
    facts: Facts, site: CallSite, file: SourceFile, parameter: mirror.Parameter
) -> str | None:
    if parameter.name == "average_gradients":
        return "True" if _keeps_averaging(facts, site) else None
    if _hidden_value(site):
        return None
    if site.fsdp_call is not None:
        definition = site.fsdp_definition
        node = definition and function_of(facts.checkout, definition)
        names = (
            [a.arg for a in (*node.args.posonlyargs, *node.args.args)] if node else []
        )
        position = names.index(parameter.name) if parameter.name in names else 10**6
        value = _argument(site.fsdp_call, position, parameter.name)
        if value is not None:
            text = _segment(file, value)
            for other in _other_fsdp_calls(site):
                same = _argument(other, position, parameter.name)
                if same is None or _segment(file, same) != text:
                    return _AMBIGUOUS
            return text
    given = next((k.value for k in site.node.keywords if k.arg == parameter.name), None)
    if given is not None:
        return _segment(file, given)
    if "dtype" in parameter.name and standalone(site):
        # DDP without autocast computed in the dtype that the parameters have, and so
        # does replicate without one: torchtitan's RL trainer loads its model in bf16.
        return "None"
    return None


def _other_fsdp_calls(site: CallSite) -> list[ast.Call]:
    """Further calls of the same ``apply_fsdp`` in the function of a call site."""
    assert site.fsdp_call is not None
    if site.function is None:
        return []
    spelling = ast.unparse(site.fsdp_call.func)
    return [
        node
        for node in ast.walk(site.function)
        if isinstance(node, ast.Call)
        and node is not site.fsdp_call
        and ast.unparse(node.func) == spelling
    ]


_SAME_EVERYWHERE = {
    "job_config",
    "config",
    "training",
    "parallelism",
    "parallel_dims",
    "self",
}
"""Parameters that mean the same in every function of a torchtitan."""


def _unreachable(facts: Facts, site: CallSite, text: str) -> str | None:
    """A local name in ``text`` that is not set whenever the call runs, if any."""
    if site.function is None or site.fsdp_call is None:
        return None
    names = {n.id for n in ast.walk(ast.parse(f"({text})")) if isinstance(n, ast.Name)}
    tree = facts.survey.files[site.reference.path].syntax
    other = enclosing(tree, site.fsdp_call)
    if other is not None and other is not site.function:
        # The value comes from another function: its own variables are none here.
        arguments = {arg.arg for arg in (*other.args.args, *other.args.kwonlyargs)}
        stored = {
            n.id
            for n in ast.walk(other)
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
        }
        for name in sorted(names & (arguments | stored) - _SAME_EVERYWHERE):
            return name
    for node in ast.walk(site.function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            if node.id in names and _last_assignment(site, node.id) is None:
                return node.id
        if isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
            stored = {
                n.id
                for n in ast.walk(node)
                if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
            }
            if not stored & names:
                continue
            on_the_way = _reaches(site.function, node, site.fsdp_call)
            if on_the_way and not _reaches(site.function, node, site.node):
                return sorted(stored & names)[0]
    return None
