"""TM203: arguments of DDP that replicate does not take."""

import ast
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.guards import values_around
from codemods.names import Use
from codemods.nodes import nodes, of_kind, spelled
from codemods.plans import Facts
from codemods.shapes import DDP_REPLICATE
from codemods.survey import enclosing, function_of

CODE = "TM203"
TITLE = "arguments of DDP that replicate does not take"
SEVERITY: Severity = "loud"
WHAT = "An argument is passed that DDP takes and replicate does not."
WHY = """\
replicate raises TypeError on bucket_cap_mb, find_unused_parameters, static_graph,
gradient_as_bucket_view and ignored_modules. Buckets are the groups that are wrapped, and a
module is left out by ignored_params. Where a rank leaves out a parameter that another one
uses, the ranks reduce different tensors: set_reduce_scatter_unused_params(True), in torch
2.13, reduces zeros there, as find_unused_parameters did. A block that is a group has to be
called on every rank all the same.
"""
UPSTREAM = """\
None. It rests on PyTorch's replicate: torch 2.9 and 2.13 raise on arguments that they
do not know.
"""
RISK = """\
In a call of replicate the argument raises. In an apply_ddp that becomes apply_replicate
it is dropped: what ignored_modules kept out of the reduction is reduced from then on, and a
parameter that is unused on one rank aborts the run, or hangs it on NCCL.
"""
PROOF = """\
A call that raises shows in `dp`: a rank of the migrated tree "failed with" a TypeError.
A dropped argument is not looked for. Where it made DDP train otherwise, `dp` passes
with a note: "The baseline departs from FSDP of its own revision", or DDP's parameters
are "not the same on ranks".
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/models/robin/infra/parallelize.py",
    before="""\
    replicate(
        model,
        device_mesh=dp_mesh,
        bucket_cap_mb=100,
        find_unused_parameters=True,
    )
""",
    after="""\
model.set_reduce_scatter_unused_params(True)  # torch 2.13, after wrapping
# earlier: call what holds such parameters on every rank, with its result times 0
""",
)

_ARGUMENTS = {
    "find_unused_parameters",
    "static_graph",
    "gradient_as_bucket_view",
    "ignored_modules",
    "bucket_cap_mb",
}
_EVERYDAY = "bucket_cap_mb"
_USUAL = ("100",)
_BUCKETS = ": it reduces group by group; `titan-migrate rehearse --model` says how many bytes that is"
_UNUSED = "find_unused_parameters"

_INSTEAD = {
    "ignored_modules": "ignored_params=set(module.parameters())",
    _UNUSED: "model.set_reduce_scatter_unused_params(True)  # torch 2.13, after wrapping\n"
    "# earlier: call what holds such parameters on every rank, with its result times 0",
}


def find(facts: Facts) -> Iterator[Finding]:
    """Uses that carry a meaning; the ``bucket_cap_mb=100`` of torchtitan does not."""
    rewritten = [
        (d.path, node.lineno, node.end_lineno or 0)
        for d in facts.survey.definitions
        for node in [function_of(facts.checkout, d)]
        if node is not None
    ]
    rewritten += [
        (call.site.reference.path, node.lineno, node.end_lineno or 0)
        for call in facts.calls
        for node in [call.site.node]
    ]
    for file in facts.checkout.mentioning(*_ARGUMENTS):
        for node in nodes(file.syntax):
            if not isinstance(node, ast.Call):
                continue
            inside = any(
                path == file.path and first <= node.lineno <= last
                for path, first, last in rewritten
            )
            for keyword in node.keywords:
                if _says_something(keyword, inside):
                    yield _finding(file.path, keyword, inside)
    for path, first, last in rewritten:
        for use in facts.checkout.names(path).uses:
            if use.call is not None and first <= use.node.lineno <= last:
                yield from _spread(facts, path, use, use.call)


def _spread(facts: Facts, path: str, use: Use, call: ast.Call) -> Iterator[Finding]:
    """What a call that is rewritten takes from mappings: all that is DDP's, or that it cannot be told."""
    is_ddp = facts.checkout.external(path, use.scope, use.spelling) in DDP_REPLICATE
    for keyword in call.keywords:
        if keyword.arg is not None:
            continue
        held = _held(facts.checkout.files[path].syntax, call, keyword.value)
        for given in held or ():
            if _says_something(given, True):
                yield _finding(path, given, True)
        if held is None and is_ddp:
            yield Finding(
                path,
                keyword.value.lineno,
                CODE,
                f"**{spelled(keyword.value)} hands DDP what cannot be told here; replicate takes "
                "none of DDP's arguments, and the new function drops it",
                "hazard",
                f"# what it holds of {_UNUSED} and ignored_modules is lost: `titan-migrate "
                f"explain {CODE}`",
                "silent",
            )


def _held(
    tree: ast.Module, call: ast.Call, value: ast.expr
) -> list[ast.keyword] | None:
    """What a mapping holds, as if it were written out; None where it cannot be told."""
    around = enclosing(tree, call)
    if isinstance(value, ast.Name) and not _changes(tree, value.id):
        given_by_caller = around and {a.arg for a in of_kind(around.args, ast.arg)}
        if value.id not in (given_by_caller or ()):
            value = values_around(tree, around).get(value.id, value)
    pairs: list[tuple[ast.expr | None, ast.expr]]
    if isinstance(value, ast.Dict):
        pairs = [*zip(value.keys, value.values)]
    elif isinstance(value, ast.Call) and spelled(value.func) == "dict":
        # Of one without a name it cannot be told.
        pairs = [(None, given) for given in value.args]
        pairs += [(ast.Constant(k.arg), k.value) for k in value.keywords]
    else:
        return None
    found = []
    for key, given in pairs:
        if not isinstance(key, ast.Constant) or not isinstance(key.value, str):
            return None
        found.append(ast.keyword(key.value, given))
    return found


def _changes(tree: ast.Module, name: str) -> bool:
    """Whether a mapping is given more after it was made."""
    for node in nodes(tree):
        changed: ast.expr | None = None
        if isinstance(node, ast.AugAssign):
            changed = node.target
        elif isinstance(node, ast.Subscript | ast.Attribute):
            read = isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load)
            named = getattr(node, "attr", "update") in ("update", "setdefault")
            changed = node.value if named and not read else None
        if changed is not None and spelled(changed) == name:
            return True
    return False


def _says_something(given: ast.keyword, inside: bool) -> bool:
    """Whether an argument is DDP's alone, and neither a default nor the buckets of torchtitan."""
    value = spelled(given.value)
    if given.arg not in _ARGUMENTS or value in ("False", "None"):
        return False
    return not (inside and given.arg == _EVERYDAY and value in _USUAL)


def _finding(path: str, keyword: ast.keyword, inside: bool) -> Finding:
    """Of an argument, ``inside`` what is rewritten or elsewhere."""
    name = str(keyword.arg)
    message = f"{name}={spelled(keyword.value)} is an argument of DDP; replicate does not take it"
    if inside:
        message += " and the new function drops it"
        message += _BUCKETS if name == _EVERYDAY else ""
    return Finding(
        path,
        keyword.value.lineno,
        CODE,
        message,
        "hazard",
        _INSTEAD.get(name, None if inside else f"# leave out {name}"),
        _dropped(name) if inside else None,
    )


def _dropped(argument: str) -> Severity | None:
    """How bad it is that the new function leaves an argument out; None: as it raises."""
    if argument == "ignored_modules":
        return "silent"
    return None if argument == _UNUSED else "note"
