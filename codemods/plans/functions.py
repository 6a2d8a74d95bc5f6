"""What each definition of ``apply_ddp`` becomes."""

import ast
from collections.abc import Iterator, Sequence
from dataclasses import replace

import libcst as cst

from codemods import mirror
from codemods.findings import Finding
from codemods.mirror import CannotMirror, Parameter, Plan
from codemods.names import Definition
from codemods.nodes import nodes, taken
from codemods.plans.branch import branch_function
from codemods.plans.homes import home_of, module_for, sharing_with
from codemods.plans.naming import name_beside, new_name
from codemods.plans.records import Facts, NewFunction
from codemods.plans.template import not_in_template, template, wraps_layers
from codemods.plans.wishes import wishes_for
from codemods.shapes import sharding_in, shards
from codemods.survey import CallSite, function_of


def function_for(facts: Facts, definition: Definition) -> NewFunction | None:
    """What a definition of ``apply_ddp`` becomes: the mirror of its ``apply_fsdp``.

    None where neither a mirror nor the template can be shown to be right: reported.
    """
    sites = [
        site
        for site in facts.survey.call_sites
        if site.reference.definition == definition
    ]
    name = new_name(facts, definition)
    if name is None:
        _leave_name(facts, definition)
        return None
    place = Definition(definition.path, name)
    reason = "this checkout has no apply_fsdp to derive it from"
    lost: dict[str, None] = {}
    for source in _sources(facts, definition, sites):
        shared = source if isinstance(source, Definition) else None
        try:
            if isinstance(source, Definition):
                own = [s for s in sites if not _has_its_own(facts, s, source)]
                plan = _derive(facts, source, definition, own, name)
            else:
                plan = _derive_branch(facts, source, definition, sites, name)
        except CannotMirror as error:
            reason = _not_followed(source, error)
            lost |= dict.fromkeys(not_in_template(_wrapping(facts, source)))
        else:
            line = None if shared else _line(source)
            return NewFunction(place, plan, shared, definition, branch=line)
    node = function_of(facts.checkout, definition)
    assert node is not None
    plan = template(facts, definition, name, sites)
    if not wraps_layers(facts, definition, sites):
        facts.findings.append(
            Finding(
                definition.path,
                node.lineno,
                "TM101",
                f"{definition.name} is left for a person, because {reason}, and no model "
                "is seen to have the `layers` that a template would wrap: write the "
                "function with the modules of this model",
                "left",
                plan.text,
            )
        )
        return None
    facts.findings.append(
        Finding(
            definition.path,
            node.lineno,
            "TM210",
            f"{name} is written from a fixed template (blocks, then the root), because "
            f"{reason}. Compare its groups with how your model is built."
            + (f" It has nothing of: {', '.join(lost)}." if lost else ""),
            "hazard",
            severity="silent" if lost else None,
        )
    )
    return NewFunction(place, plan, None, definition)


def _sources(
    facts: Facts, definition: Definition, sites: Sequence[CallSite]
) -> Iterator[Definition | CallSite]:
    """What an ``apply_ddp`` may mirror: what its callers shard with, best first."""
    here = [s for s in sites if s.reference.path == definition.path]
    local = Definition(definition.path, "apply_fsdp")
    found: list[Definition | CallSite | None] = [
        *(s.fsdp_definition for s in here),
        local if function_of(facts.checkout, local) else None,
        *_branches(here),
        *(s.fsdp_definition for s in sites),
        *(step.plan for s in here if s.sibling.several for step in s.sibling.steps),
        *_branches(sites),
    ]
    if not any(found):
        found = [sharding_in(facts.checkout, definition.path)]
    for source in dict.fromkeys(found):
        if source is not None and _is_plan(facts, source):
            yield source


def _wrapping(facts: Facts, source: Definition | CallSite) -> list[ast.stmt]:
    """The statements that shard."""
    if isinstance(source, CallSite):
        return list(source.sibling.branch)
    node = function_of(facts.checkout, source)
    return node.body if node is not None else []


def _branches(sites: Sequence[CallSite]) -> list[CallSite]:
    """The calls beside a branch that shards in place."""
    return [s for s in sites if s.fsdp_call is None and s.sibling.in_place]


def _is_plan(facts: Facts, source: Definition | CallSite) -> bool:
    """Whether it is a branch, or a function by that name or with that effect."""
    if isinstance(source, CallSite) or source.name == "apply_fsdp":
        return True
    return shards(facts.checkout, source)


def _line(source: Definition | CallSite) -> int | None:
    return source.sibling.steps[0].call.lineno if isinstance(source, CallSite) else None


def _not_followed(source: Definition | CallSite, error: CannotMirror) -> str:
    if isinstance(source, CallSite):
        return (
            f"line {_line(source)} of {source.reference.path} shards in a way that is not "
            f"followed: {error}"
        )
    article = "an" if source.name[0] in "aeiou" else "a"
    return (
        f"{source.path} defines {article} {source.name} that is not followed: {error}"
    )


def _leave_name(facts: Facts, definition: Definition) -> None:
    """Report that the module has something else of the new name."""
    node = function_of(facts.checkout, definition)
    assert node is not None
    name = facts.target.function_name
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


def _derive(
    facts: Facts,
    apply_fsdp: Definition,
    apply_ddp: Definition | None = None,
    sites: Sequence[CallSite] = (),
    name: str = "",
    place: Definition | None = None,
) -> Plan:
    """The mirror of one ``apply_fsdp``, for the call sites that will use it."""
    key = (apply_fsdp, apply_ddp, tuple(site.reference for site in sites), name, place)
    if key in facts.derived:
        return facts.derived[key]
    tree = facts.survey.files[apply_fsdp.path].tree
    node = next(
        (
            n
            for n in tree.body
            if isinstance(n, cst.FunctionDef) and n.name.value == apply_fsdp.name
        ),
        None,
    )
    if node is None:
        raise CannotMirror("it is no function at the top of its module")
    home = place or apply_ddp or apply_fsdp
    wishes = wishes_for(facts, apply_fsdp.path, home, apply_ddp, sites, name)
    if name and apply_ddp is None and not sites:
        wishes = replace(wishes, log=None)  # of a part, it would speak of the model
    plan = facts.derived[key] = mirror.derive(tree, node, wishes)
    return plan


def _has_its_own(facts: Facts, site: CallSite, usual: Definition) -> bool:
    """Whether the apply_fsdp beside a call wraps in other groups, so that it gets its own."""
    own = site.fsdp_definition
    if own is None or own == usual:
        return False
    try:
        return not _derive(facts, own).same_wrapping(_derive(facts, usual))
    except CannotMirror:
        return False


def _derive_branch(
    facts: Facts,
    site: CallSite,
    apply_ddp: Definition | None,
    sites: Sequence[CallSite],
    name: str,
) -> Plan:
    """The mirror of the branch beside a call, which shards with no ``apply_fsdp``."""
    file = facts.survey.files[site.reference.path]
    node = branch_function(file, site)
    replaced = apply_ddp not in facts.survey.provided
    home = apply_ddp if apply_ddp and replaced else Definition(file.path, name)
    wishes = wishes_for(facts, file.path, home, apply_ddp, sites, name)
    return mirror.derive(file.tree, node, replace(wishes, only_wraps=True))


def own_plan(facts: Facts, site: CallSite, function: NewFunction) -> NewFunction | str:
    """The function that wraps as the ``apply_fsdp`` beside this call does.

    A folder with an ``apply_fsdp`` of its own, whose groups differ, gets an
    ``apply_replicate`` of its own beside it.

    Returns:
        It, or a sentence where there is none.
    """
    own = site.fsdp_definition
    if function.replaces is None:
        return function
    if own is None and site.fsdp_call is None and site.sibling.in_place:
        return _own_branch(facts, site, function)
    if own is None or own == function.mirrors:
        return function
    for known in facts.functions.values():
        if known.mirrors == own:
            return known
    try:
        fresh = _derive(facts, own)
        if function.mirrors is not None and fresh.same_wrapping(
            _derive(facts, function.mirrors)
        ):
            return function
    except CannotMirror as error:
        if function.mirrors is None:
            return function  # the template, shown to fit and reported
        return _not_followed(own, error)
    return mirror_of(facts, own, site)


def wraps_otherwise(facts: Facts, site: CallSite, function: NewFunction) -> bool:
    """Whether a call by the old name reaches a function of the dependency with other groups.

    DDP's function wrapped any model as a whole; what took its place there wraps the
    modules of that model.
    """
    own, spelled = site.fsdp_definition, site.reference.spelling.rpartition(".")[2]
    if function.definition not in facts.survey.replicating or own is None:
        return False
    if spelled == function.definition.name or function.mirrors in (None, own):
        return False
    assert function.mirrors is not None
    try:
        return not _derive(facts, own).same_wrapping(_derive(facts, function.mirrors))
    except CannotMirror:
        return True


def beside(facts: Facts, site: CallSite) -> NewFunction | str:
    """A new function beside what shards next to a call, or why there is none."""
    if site.fsdp_definition is not None:
        return mirror_of(facts, site.fsdp_definition, site)
    if site.sibling.in_place:
        return _own_branch(facts, site, None)
    called = site.reference.definition
    if called in facts.survey.provided and not site.sibling.steps:
        own = Definition(called.path, "apply_fsdp")
        if function_of(facts.checkout, own) is not None:
            return mirror_of(facts, own, site)
    return "it cannot be told what the function beside it that shards does"


def mirror_of(facts: Facts, own: Definition, site: CallSite) -> NewFunction | str:
    """The new function that mirrors one that shards, for a call, or why there is none."""
    path, outside = site.reference.path, own.path in facts.checkout.dependency
    for known in facts.functions.values():
        if known.mirrors == own and _reaches(facts, path, known):
            return known
    sharing = [
        s
        for s in (*facts.survey.call_sites, *facts.survey.inline)
        if s.fsdp_definition == own or _falls_back_on(s, own)
    ]
    # What the dependency defines is mirrored where it is used.
    home, after = own.path, own.name
    if outside:
        sharing = sharing_with(facts, site, sharing)
        home, after = home_of(facts, sharing)
    elif path != home and module_for(facts, path, home) is None:
        return f"it cannot be told how {path} would import from {home}"
    name = name_beside(facts, Definition(home, own.name))
    if name is None:
        return f"{home} has something else called {facts.target.function_name}"
    called = {s.reference.definition for s in sharing} & {*facts.survey.provided}
    model = min(called, key=lambda d: d.path, default=None)
    place = Definition(home, name)
    try:
        plan = _derive(facts, own, model, sharing, name, place)
    except CannotMirror as error:
        return _not_followed(own, error)
    added = facts.functions[place] = NewFunction(place, plan, own, None, after)
    return added


def _reaches(facts: Facts, path: str, known: NewFunction) -> bool:
    """Whether a file defines or can import a function; what is new, within its packages."""
    home, files = known.definition.path, facts.survey.files
    mirrored = known.mirrors and known.mirrors.path
    if mirrored in facts.checkout.dependency and home not in facts.checkout.dependency:
        if files[path].root != files[home].root:
            return False
    return path == home or module_for(facts, path, home) is not None


def _falls_back_on(site: CallSite, own: Definition) -> bool:
    """Whether nothing shards beside a call, so that it is the apply_fsdp of its apply_ddp."""
    called = site.reference.definition
    return not site.sibling.steps and own == Definition(called.path, "apply_fsdp")


def _own_branch(
    facts: Facts, site: CallSite, function: NewFunction | None
) -> NewFunction | str:
    """The mirror of the branch beside a call, shared where it wraps alike."""
    called = site.reference.definition
    model = called if called in facts.survey.provided else None
    try:
        fresh = _derive_branch(facts, site, model, [site], facts.target.function_name)
        for known in filter(None, (function, *facts.functions.values())):
            reached = _reaches(facts, site.reference.path, known)
            if reached and known.plan.mirrored_alike(fresh):
                return known
    except CannotMirror as error:
        return _not_followed(site, error)
    path = site.reference.path
    name = name_beside(facts, Definition(path, "apply_fsdp"))
    if name is None:
        return f"{path} has something else called {facts.target.function_name}"
    place = Definition(path, name)
    around = site.reference.scope.partition(".")[0]
    plan = _derive_branch(facts, site, model, [site], name)
    added = facts.functions[place] = NewFunction(
        place, plan, None, None, around, _line(site)
    )
    return added


def _mesh_of(node: ast.FunctionDef) -> str | None:
    """The parameter that a migrated function passes as mesh; None for one of its own."""
    every = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
    named = [a.arg for a in (*node.args.args[1:], *node.args.kwonlyargs)]
    stored = {
        n.id
        for n in nodes(node)
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    passed = [
        value.id
        for inner in nodes(node)
        for value in _passed_as_mesh(inner)
        if isinstance(value, ast.Name)
    ]
    if passed and not set(passed) & set(named) and set(passed) <= stored:
        return None
    return next((name for name in passed if name in named), [*every, None, None][1])


def _passed_as_mesh(node: ast.AST) -> Iterator[ast.expr]:
    keywords = ("mesh", "device_mesh")
    if isinstance(node, ast.keyword) and node.arg in keywords:
        yield node.value
    if isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values):
            if isinstance(key, ast.Constant) and key.value in keywords:
                yield value


def existing(facts: Facts, definition: Definition) -> NewFunction:
    """A function that is already migrated, with the signature it has."""
    node = function_of(facts.checkout, definition)
    assert node is not None
    file = facts.survey.files[definition.path]
    arguments = taken(node.args)
    without = len(node.args.posonlyargs + node.args.args) - len(node.args.defaults)
    parameters = tuple(
        Parameter(
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
        mesh=_mesh_of(node),
    )
    local = Definition(definition.path, "apply_fsdp")
    mirrors = local if function_of(facts.checkout, local) else None
    return NewFunction(definition, plan, mirrors, None)
