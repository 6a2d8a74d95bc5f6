"""A name that stands for ``apply_ddp`` or for something else, whichever statement runs."""

from collections.abc import Iterator

from codemods.findings import Finding, Status
from codemods.names import Definition, Import, Scope
from codemods.outside import is_held
from codemods.plans.records import Facts, NewFunction
from codemods.source import SourceFile
from codemods.survey import OLD


def report(facts: Facts) -> None:
    """Add a finding for every such name to ``facts``, left for a person."""
    moving = {f.replaces.name for f in facts.functions.values() if f.replaces}
    for file in facts.checkout.mentioning(*moving) if moving else ():
        for scope in file.names.scopes.values():
            for rival, message, code in (
                *_of_imports(facts, file, scope, moving),
                *_of_others(facts, file, scope),
            ):
                status: Status = "left"
                if file.opted_out(rival.line, "TM102"):
                    code = ""
                    if facts.target.function_name == OLD:
                        status = "opted-out"
                place = (file.path, rival.line)
                found = Finding(*place, "TM102", message, status, code or None)
                facts.findings.append(found)


def _of_imports(
    facts: Facts, file: SourceFile, scope: Scope, moving: set[str]
) -> Iterator[tuple[Import, str, str]]:
    """Imports of the same name from elsewhere, as by ``try`` or ``if``."""
    for local in {replaced.local for replaced in scope.replaced}:
        several = [r for r in scope.replaced if r.local == local]
        several.append(scope.imports[local])
        for name in [None, *sorted(moving)]:
            found = [(one, _meant(facts, one, name)) for one in several]
            ours = [(one, meant) for one, meant in found if meant is not None]
            if not ours or (name and f"{local}.{name}" not in _spelled(file)):
                continue
            first, function = ours[0]
            for one, meant in found:
                if _is_alike(function, meant) or not _may_be_had(facts, one, name):
                    continue
                full = ".".join(filter(None, (one.module, one.name, name)))
                called = f"{local}.{name}" if name else local
                message = (
                    f"{called} is {full} here, or the one of {first.module}, whichever "
                    "import runs, and a call cannot fit both: import them by names of "
                    "their own, and call each with its own arguments"
                )
                yield one, message, _by_another_name(one)
                break


def _spelled(file: SourceFile) -> set[str]:
    return {use.spelling for use in file.names.uses}


def _by_another_name(one: Import) -> str:
    top = one.module.split(".")[0]
    if one.name is None:
        return f"import {one.module} as {one.local}_of_{top}"
    return f"from {one.module} import {one.name} as {one.local}_of_{top}"


def _meant(facts: Facts, one: Import, name: str | None) -> NewFunction | None:
    """What an import, or a name of the module that it imports, becomes."""
    full = ".".join(filter(None, (one.module, one.name, name)))
    definition = facts.checkout.at(full)
    return facts.becomes(definition) if definition is not None else None


def _is_alike(function: NewFunction, other: NewFunction | None) -> bool:
    """Whether a call that fits one fits the other too, by the same name."""
    if other is None:
        return False
    names = [[p.name for p in f.plan.parameters] for f in (function, other)]
    return names[0] == names[1] and function.plan.name == other.plan.name


def _may_be_had(facts: Facts, one: Import, name: str | None) -> bool:
    """Whether an import finds anything: one of a module that is gone never did."""
    if not is_held(facts.checkout, one.module):
        return True
    full = ".".join(filter(None, (one.module, one.name, name)))
    definition = facts.checkout.at(full)
    return definition is not None and facts.checkout.defines(definition)


def _of_others(
    facts: Facts, file: SourceFile, scope: Scope
) -> Iterator[tuple[Import, str, str]]:
    """A name that is imported, and set or defined besides: ``apply_ddp = None``."""
    for local in scope.bound & scope.imports.keys():
        one = scope.imports[local]
        here = None if scope.qualname else Definition(file.path, local)
        function = _meant(facts, one, None) or (facts.becomes(here) if here else None)
        if function is not None:
            message = (
                f"{local} is imported here, and set besides: which of the two a call "
                "reaches cannot be told, so import and call it by its own name"
            )
            code = f"from {one.module} import {function.definition.name}"
            if _meant(facts, one, None) is None:
                code = _by_another_name(one)
            yield one, message, code
