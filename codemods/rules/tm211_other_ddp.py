"""TM211: DDP in other places, not touched."""

import ast
import re
from collections.abc import Iterator

from codemods import layout
from codemods.example import Example
from codemods.findings import Finding, Severity, Status, hazard_of_lines
from codemods.names import Definition, Use
from codemods.nodes import nodes, spelled
from codemods.plans import Facts, followed, put_together
from codemods.plans.guarded import Guarded, Guards
from codemods.plans.mesh import suggested_mesh
from codemods.plans.methods import methods, named, to_write
from codemods.plans.strings import in_strings
from codemods.source import SourceFile
from codemods.survey import OLD, CallSite, enclosing_line, exported, function_of
from codemods.targets import REPLICATE_MODULE

CODE = "TM211"
TITLE = "DDP in other places"
SEVERITY: Severity = "loud"
WHAT = "DDP's replicate or the name apply_ddp is used in a way that is not followed."
WHY = """\
A function called apply_ddp that does not call DDP's replicate, a direct call of DDP's
replicate in other code, and the name apply_ddp inside a string, a template, a stub or
another file of tools are not rewritten: what they mean cannot be told from their name.
A test that expects of a mock the arguments of DDP's function is named, too.
DistributedDataParallel in a plan is left for a person: its result is not the model.
"""
UPSTREAM = """\
None. `from torch.distributed._composable import replicate` is still DDP's in every
version of PyTorch.
"""
RISK = """\
Code that calls DDP's replicate goes on training under DDP, with no word of it. A name
in a string is looked up at run time and is not found, or a test patches nothing.
"""
PROOF = """\
Where the model that is trained passes through it, `dp` fails: the migrated tree "still
trains under DDP", or a rank "failed with" an AttributeError. Strings are not parsed,
and tests not run: run yours.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/tools/wrapping.py",
    before="""\
DESCRIPTIONS = {
    "apply_ddp": "replicate the whole model with apply_ddp(model, mesh)",
""",
    after="""\
'apply_replicate'
""",
)


def find(facts: Facts) -> Iterator[Finding]:
    yield from _classes(facts)
    told = {
        Definition(site.reference.path, site.function.name)
        for site in facts.survey.class_uses
        if site.function is not None
    }
    for definition in facts.survey.other_definitions:
        if definition in told:
            continue
        node = function_of(facts.checkout, definition)
        assert node is not None
        yield Finding(
            definition.path,
            node.lineno,
            CODE,
            "a function called apply_ddp that does not call DDP's replicate: not touched",
            "hazard",
            _wrap(facts),
            "note",
        )
    survey = facts.survey
    followed_here = survey.definitions or survey.migrated or survey.inline
    status: Status = "hazard" if followed_here or facts.calls else "left"
    of_methods: set[tuple[str, int]] = set()
    for method in methods(facts):
        of_methods.add((method.path, method.line))
        yield Finding(
            method.path,
            method.line,
            CODE,
            f"{method.name} is a method: it wraps with {method.what}, and what it is called "
            "on cannot be followed",
            status,
            to_write(facts, method),
        )
    for path, line in survey.direct_uses:
        if (path, line) not in of_methods:
            yield Finding(
                path,
                line,
                CODE,
                f"DDP's replicate is called here, {_where(facts, path, line)}: not touched",
                status,
                _wrap(facts),
                "note" if status == "hazard" else None,
            )
    if facts.target.function_name != OLD:
        yield from _strings(facts)
        yield from _programs(facts)
        yield from _patches(facts)
        yield from _multiple(facts)
    yield from _expected(facts)
    yield from _unknown_modules(facts)
    yield from _unknown_names(facts)
    yield from _not_python(facts)


_NAMED_ELSEWHERE = re.compile(
    rf"[\w.]+[.:]{OLD}\b|\bimport\b[^#]*\b{OLD}\b|\bdef {OLD}\b|(?<![\w./-]){OLD}\("
)
_DIRECTIVE = re.compile(rf"\bauto\w+(?:::|\}})\s*[\w.]*\b{OLD}\b")
"""What Sphinx imports a function by, in reStructuredText or in Markdown."""

_WRITTEN = re.compile(rf"^.*\bimport\b[^#\n]*\b{OLD}\b.*$", re.MULTILINE)
"""A line of a program, in a string that one is written from."""


def _not_python(facts: Facts) -> Iterator[Finding]:
    """Notebooks, jobs, configurations and templates that name apply_ddp of a module."""
    if not (facts.moves or facts.survey.kind == "dependent"):
        return
    for file in facts.texts.values():
        found = {
            line: facts.target.function_name
            for line, text in enumerate(file.lines, 1)
            if (
                _NAMED_ELSEWHERE if file.is_config or file.is_script else _DIRECTIVE
            ).search(text)
        }
        if found and facts.target.function_name != OLD:
            message = "this names apply_ddp, which is followed in Python files alone"
            yield hazard_of_lines(file, CODE, message, found)


def _where(facts: Facts, path: str, line: int) -> str:
    """Where a call stands, as seen from the functions that are followed."""
    syntax = facts.survey.files[path].syntax
    around = enclosing_line(syntax, line)
    if around is not None and around.name == OLD and around not in syntax.body:
        return f"in an {OLD} that is not at the top of its module"
    return f"outside of any {OLD}"


def _wrap(facts: Facts) -> str:
    """A call that wraps with replicate: of a function here that does, or of itself."""
    for function in facts.functions.values():
        required = [f"{p.name}=..." for p in function.plan.others if p.required]
        return f"{function.plan.name}({', '.join(['model', 'dp_mesh', *required])})"
    return (
        f"from {REPLICATE_MODULE} import replicate\n\n"
        f"replicate(model, {facts.target.mesh_keyword}=dp_mesh)"
    )


def _classes(facts: Facts) -> Iterator[Finding]:
    """DistributedDataParallel in a plan, whose result is not the model itself."""
    for site in facts.survey.class_uses:
        path, line = site.reference.path, site.reference.line
        file = facts.survey.files[path]
        step = site.sibling.steps[0].call
        message = (
            "DistributedDataParallel wraps here what the plan shards with "
            f"{ast.unparse(step.func)}; it holds the model as .module and replicate does "
            "not, so what uses it has to be looked at"
        )
        code = _as_beside(facts, site)
        status: Status = "opted-out" if file.opted_out(line, CODE) else "left"
        yield Finding(path, line, CODE, message, status, code)


def _as_beside(facts: Facts, site: CallSite) -> str:
    """The call of what shards beside DDP's class, as one of the new function."""
    path, step = site.reference.path, site.sibling.steps[0].call
    file = facts.survey.files[path]
    mesh = suggested_mesh(facts, path)
    passed = [file.segment(site.node.args[0]) if site.node.args else "model", mesh]
    passed += [
        f"{given.arg}={layout.flatten(file.segment(given.value))}"
        for given in step.keywords
        if given.arg and "dtype" in given.arg
    ]
    name = facts.target.function_name
    return layout.bracketed(f"{name}(", passed, ")")


def _unknown_modules(facts: Facts) -> Iterator[Finding]:
    """``module.apply_ddp(...)`` on a module that cannot be told from the text."""
    known = Guards(facts)
    outside = _told(facts)
    for file in facts.checkout.mentioning(f".{OLD}("):
        guarded = {g.line: g for g in known.of(file) if g.unknown}
        methods = {
            node.name
            for outer in nodes(file.syntax)
            if isinstance(outer, ast.ClassDef)
            for node in outer.body
            if isinstance(node, ast.FunctionDef)
        }
        for use in file.names.uses:
            line = use.node.lineno
            if (
                not use.spelling.endswith(f".{OLD}")
                or use.call is None
                or (file.path, line) in outside
                or facts.checkout.resolve(file.path, use.scope, use.spelling)
            ):
                continue
            if line in guarded:
                yield _of_unknown(facts, file, use, guarded[line])
            elif OLD not in methods and facts.target.function_name != OLD:
                yield _of_unknown(facts, file, use, None)


def _unknown_names(facts: Facts) -> Iterator[Finding]:
    """``getattr(plan, f"apply_{kind}")``, of what cannot be told from the text."""
    told = _told(facts)
    for file in put_together.files(facts):
        for call, name in put_together.of_unknown(facts, file):
            if (file.path, call.lineno) not in told:
                fresh = name.replace(OLD, facts.target.function_name)
                message = (
                    f"{ast.unparse(call)} may ask for {name}, which is gone where it is "
                    "rewritten, and takes other arguments: not touched"
                )
                code = f"{ast.unparse(call.args[0])}.{fresh}"
                yield Finding(file.path, call.lineno, CODE, message, "hazard", code)


def _of_unknown(
    facts: Facts, file: SourceFile, use: Use, guarded: Guarded | None
) -> Finding:
    """A call on who knows what; left for a person where a guard stands before it."""
    line, method = use.node.lineno, named(facts, OLD)
    message = f"it cannot be told what {use.spelling} is: not touched"
    code = f"{use.spelling.replace(OLD, facts.target.function_name)}(...)"
    if method is not None:
        message = message.replace(" is:", f" is, perhaps {method}:")
        code = code.replace("(...)", _arguments(facts, file, use))
    if guarded is None:
        return Finding(file.path, line, CODE, message, "hazard", code)
    message += (
        ", nor is the guard against more than one dimension on line "
        f"{guarded.guard.node.lineno}, which would refuse what replicate can do"
    )
    status: Status = "opted-out" if file.opted_out(line, CODE) else "left"
    return Finding(file.path, line, CODE, message, status, code)


def _arguments(facts: Facts, file: SourceFile, use: Use) -> str:
    """What a call passes, with the mesh of replicate for that of all ranks."""
    mesh = suggested_mesh(facts, file.path)
    given = [ast.unparse(value) for value in (use.call.args if use.call else ())]
    given = [mesh if re.search(r"world_mesh$", text) else text for text in given]
    keywords = use.call.keywords if use.call else []
    return f"({', '.join([*given, *map(ast.unparse, keywords)])})"


def _patches(facts: Facts) -> Iterator[Finding]:
    """``module.apply_ddp = ...``: it would set a name that nobody reads any more."""
    outside = {(use.path, use.line) for use in facts.survey.outside}
    for file in facts.checkout.mentioning(f".{OLD}"):
        for node in nodes(file.syntax):
            if (
                isinstance(node, ast.Attribute)
                and node.attr == OLD
                and not isinstance(node.ctx, ast.Load)
                and (file.path, node.lineno) not in outside
            ):
                fresh = f"{ast.unparse(node.value)}.{facts.target.function_name} = ..."
                message = f"{ast.unparse(node)} is set here: nobody reads it any more"
                yield Finding(file.path, node.lineno, CODE, message, "hazard", fresh)


def _told(facts: Facts) -> set[tuple[str, int]]:
    """The places that are left, or of a name that no file here defines."""
    told = {(f.path, f.line) for f in facts.findings if f.status == "left"}
    return told | {(use.path, use.line) for use in facts.survey.outside}


def _multiple(facts: Facts) -> Iterator[Finding]:
    """``patch.multiple(module, apply_ddp=...)``, which names it by a keyword."""
    for file in facts.checkout.mentioning("multiple("):
        for node in nodes(file.syntax):
            if isinstance(node, ast.Call) and spelled(node.func).endswith("multiple"):
                if any(keyword.arg == OLD for keyword in node.keywords):
                    message = f"a keyword names {OLD} for a patch: not touched"
                    code = f"{facts.target.function_name}=..."
                    yield Finding(file.path, node.lineno, CODE, message, "hazard", code)


def _strings(facts: Facts) -> Iterator[Finding]:
    outside = _told(facts)
    for file in facts.checkout.mentioning(OLD):
        in_all = {line for line, name in exported(file) if name == OLD}
        moving = {(s.line, s.value) for s in followed(facts, file)}
        documentation = {
            id(node.value)
            for node in nodes(file.syntax)
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        }
        for node in nodes(file.syntax):
            if (
                isinstance(node, ast.Constant)
                and isinstance(node.value, str)
                and id(node) not in documentation
                and node.lineno not in in_all
                and (node.lineno, node.value) not in moving
                and (file.path, node.lineno) not in outside
                and (node.value == OLD or node.value.endswith(f".{OLD}"))
            ):
                yield Finding(
                    file.path,
                    node.lineno,
                    CODE,
                    f"the string {node.value!r} names apply_ddp: not touched",
                    "hazard",
                    repr(_as_it_is_then(facts, node.value)),
                )


def _programs(facts: Facts) -> Iterator[Finding]:
    """Strings that are written out, or run, as Python that imports apply_ddp."""
    for file in facts.checkout.mentioning(OLD):
        said = {id(n.value) for n in nodes(file.syntax) if isinstance(n, ast.Expr)}
        for node in nodes(file.syntax):
            if not isinstance(node, ast.Constant) or id(node) in said:
                continue
            found = _WRITTEN.search(node.value) if isinstance(node.value, str) else None
            if found is not None:
                message = (
                    "a program in this string imports apply_ddp, and what it calls it with "
                    "is not followed"
                )
                code = found[0].replace(OLD, facts.target.function_name)
                yield Finding(file.path, node.lineno, CODE, message, "hazard", code)


_EXPECTS = re.compile(r"(^|\.)(assert_\w*(with|call)|call)$")
"""What tests say with that a mock is called: ``assert_called_once_with``, ``mock.call``."""


def _expected(facts: Facts) -> Iterator[Finding]:
    """Tests that put a mock in the place of apply_ddp and ask for arguments that go."""
    gone = _parameters_gone(facts)
    for file in facts.checkout.mentioning(*gone) if gone else ():
        if not any(True for _ in in_strings(facts, file)):
            continue
        for node in nodes(file.syntax):
            if isinstance(node, ast.Call) and _EXPECTS.search(spelled(node.func)):
                named = {k.arg for k in node.keywords if k.arg} & gone
            elif isinstance(node, ast.Subscript) and "kwargs" in spelled(node.value):
                named = {str(getattr(node.slice, "value", ""))} & gone
            else:
                continue
            if named:
                message = (
                    f"a mock stands here for {OLD}, and is asked for {', '.join(sorted(named))}, "
                    "which the new function does not take"
                )
                code = f"# it takes ({', '.join(_taken(facts))})"
                yield Finding(
                    file.path, node.lineno, CODE, message, "hazard", code, "loud"
                )


def _taken(facts: Facts) -> list[str]:
    return next(([p.name for p in f.plan.parameters] for f in facts.written()), [])


def _parameters_gone(facts: Facts) -> set[str]:
    """The parameters of the functions that move that none of the new ones takes."""
    gone, kept = set[str](), set[str]()
    for function in facts.written():
        old = function.replaces and function_of(facts.checkout, function.replaces)
        if old:
            gone |= {a.arg for a in (*old.args.args, *old.args.kwonlyargs)}
            kept |= {parameter.name for parameter in function.plan.parameters}
    return gone - kept


def _as_it_is_then(facts: Facts, value: str) -> str:
    """A dotted name with the new function's; what the dependency defines moves here."""
    module = value.rpartition(".")[0]
    moved = facts.checkout.at(value) in facts.survey.provided
    if moved and facts.checkout.own_path_of(module) is None:
        for function in facts.written():
            home = facts.survey.files[function.definition.path]
            return f"{home.module}.{function.definition.name}"
    return value.replace(OLD, facts.target.function_name)
