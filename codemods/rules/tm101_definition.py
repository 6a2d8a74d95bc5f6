"""TM101: the definition of ``apply_ddp`` becomes ``apply_replicate``."""

import ast
import builtins
from collections.abc import Collection, Iterator
from typing import cast

import libcst as cst

from codemods import edit
from codemods.example import Example
from codemods.findings import Finding
from codemods.modules import Defining
from codemods.names import Definition, surely_bound
from codemods.nodes import nodes
from codemods.other_target import for_other_target, is_for_other_target
from codemods.plans import Facts, NewFunction, is_inline, replicate_name
from codemods.survey import function_of
from codemods.targets import REPLICATE_MODULE

CODE = "TM101"
TITLE = "apply_ddp becomes apply_replicate"
WHAT = "The definition of apply_ddp becomes apply_replicate, mirrored from apply_fsdp."
WHY = """\
apply_ddp wraps the whole model in DDP's replicate, which composes neither with
tensor nor with pipeline parallelism. The composable replicate on FSDP2 does. The new
function is derived from the checkout's own apply_fsdp: the same groups, the same
mixed-precision policy, gradients divided as there; nothing to reshard, offload or
prefetch. Overlap of communication with the backward pass comes from wrapping per
group, so wrapping the root alone is not enough. A folder whose own apply_fsdp wraps in
other groups gets an apply_replicate of its own.
"""
UPSTREAM = """\
PR 2458 (March 2026): apply_replicate(model, mesh, param_dtype, reduce_dtype), wrapped
per layer on a one-dimensional mesh, gradient division off. PR 1714 (September 2025)
did it under the old name on a two-dimensional mesh. PR 2900 (April 2026) replaced both
by fully_shard; no release has apply_replicate.
"""
RISK = """\
A module that apply_fsdp wraps and the new function does not has to wait for the root:
its all-reduce overlaps with nothing. Another policy computes or reduces in another
dtype. Averaged gradients are too small by the data-parallel degree where the loss is
divided by the tokens of all ranks, summed ones too large where it is a local mean.
Tied weights in two groups raise from torch 2.12 on and come untied before.
"""
PROOF = """\
`dp` fails and names it: replicate "has no group of its own for" a module; a module has
another dtype "in its mixed-precision policy under replicate"; gradients are "divided by
the data-parallel degree twice", or "summed over the data-parallel ranks where they have
to be averaged". With tied weights in two groups a rank "failed with" torch's error
(--model qwen3:tied).
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/models/heron/infra/parallelize.py",
    before='''\
def apply_ddp(
    model: nn.Module,
    dp_mesh: DeviceMesh,
    enable_compile: bool,
):
    """Copied from the Llama plan; bigger buckets suit our network."""
    if enable_compile:
        torch._dynamo.config.optimize_ddp = "ddp_optimizer"

    replicate(model, device_mesh=dp_mesh, bucket_cap_mb=250)
''',
    after="""\
    mp_policy = MixedPrecisionPolicy(
        param_dtype=param_dtype,
        reduce_dtype=reduce_dtype,
        cast_forward_inputs=False,  # the rotation cache stays fp32
    )
    replicate_config = {"mesh": dp_mesh, "mp_policy": mp_policy}

    replicate(model.embed, **replicate_config)
    for index, block in enumerate(model.blocks):
        replicate(block, **replicate_config)
    replicate([model.final_norm, model.head], **replicate_config)
    replicate(model, **replicate_config)
""",
)

_DDP_MODULE = "torch.distributed._composable.replicate"
_WELL_KNOWN: dict[str, tuple[str, str | None, str | None]] = {
    "replicate": (REPLICATE_MODULE, "replicate", None),
    "MixedPrecisionPolicy": ("torch.distributed.fsdp", "MixedPrecisionPolicy", None),
    "FSDPModule": ("torch.distributed.fsdp", "FSDPModule", None),
    "DeviceMesh": ("torch.distributed.device_mesh", "DeviceMesh", None),
    "torch": ("torch", None, None),
    "nn": ("torch.nn", None, "nn"),
}


def find(facts: Facts) -> Iterator[Finding]:
    yield from facts.reported(CODE)
    for definition in facts.survey.definitions:
        node = function_of(facts.checkout, definition)
        assert node is not None
        file = facts.survey.files[definition.path]
        function = facts.becomes(definition)
        if function is None:
            if file.opted_out(node.lineno, CODE):
                message = "this apply_ddp stays as it is"
                yield Finding(definition.path, node.lineno, CODE, message, "opted-out")
            continue
        like = (
            f"{function.mirrors.name} of {function.mirrors.path}"
            if function.mirrors
            else f"the branch that shards on line {function.branch}"
            if function.branch
            else "a template"
        )
        yield Finding(
            definition.path,
            node.lineno,
            CODE,
            f"{definition.name} wraps the whole model in DDP; {function.plan.name} mirrors "
            f"{like}, and DDP's buckets and compiler switches go",
        )
    for definition in facts.survey.migrated:
        node = function_of(facts.checkout, definition)
        assert node is not None
        if is_for_other_target(facts.survey, facts.target, definition):
            yield for_other_target(facts.survey, facts.target, definition)
            continue
        message = f"{definition.name} already wraps with replicate"
        yield Finding(definition.path, node.lineno, CODE, message, "done")
    inline = {
        call.function.definition for call in facts.calls if is_inline(facts, call)
    }
    for function in _added(facts):
        path = function.definition.path
        if function.mirrors and function.mirrors.path in facts.checkout.dependency:
            message = (
                f"{function.plan.name} mirrors {function.mirrors.name} of "
                f"{facts.survey.files[function.mirrors.path].module}, which this checkout uses"
            )
        elif function.mirrors is None:
            message = (
                f"{function.plan.name} mirrors the branch that shards on line "
                f"{function.branch}"
            )
        elif function.definition in inline:
            message = (
                "DDP's replicate is called in a plan; it becomes a call of "
                f"{function.plan.name}, which mirrors {function.mirrors.name}"
            )
        elif _serves_provided(facts, function):
            message = (
                f"apply_ddp of {facts.survey.dependency.name} stays as it is; "
                f"{function.plan.name} mirrors {function.mirrors.name} beside it"
            )
        else:
            message = (
                "this folder wraps in groups of its own, so it gets its own "
                f"{function.plan.name} beside {function.mirrors.name}"
            )
        yield Finding(path, _line_of(facts, function), CODE, message)


def _serves_provided(facts: Facts, function: NewFunction) -> bool:
    """Whether a function is for calls of the dependency's ``apply_ddp``."""
    provided = facts.survey.provided
    return any(
        call.site.reference.definition in provided
        for call in facts.calls
        if function in (call.function, *call.also)
    )


def _line_of(facts: Facts, function: NewFunction) -> int:
    """Where the function starts that a new one is put behind."""
    file = facts.survey.files[function.definition.path]
    found = file.all(Defining(function.after))
    return 1 if found is None else found.lineno


def rewrite(tree: cst.Module, path: str, facts: Facts) -> cst.Module:
    functions = [
        f
        for f in facts.functions.values()
        if f.definition.path == path and (f.replaces or f in list(_added(facts)))
    ]
    if not functions:
        return tree
    tree = tree.with_changes(body=_with_functions(tree, functions))
    called = replicate_name(facts, path)
    if called == "replicate":
        tree = _new_replicate_import(tree, facts.own_packages)
    else:
        where = (REPLICATE_MODULE, "replicate", called)
        tree = edit.add_import(tree, *where, facts.own_packages)
    for function in functions:
        tree = _import_what_it_needs(tree, function, facts)
    return tree


def _with_functions(
    tree: cst.Module, functions: list[NewFunction]
) -> list[cst.BaseStatement]:
    """The statements of a module with each function where it belongs."""
    body: list[cst.BaseStatement] = []
    for node in tree.body:
        named = isinstance(node, (cst.FunctionDef, cst.ClassDef))
        name = cast(cst.FunctionDef, node).name.value if named else None
        replacing = next(
            (f for f in functions if f.replaces and f.replaces.name == name), None
        )
        if replacing is not None:
            body.append(_replaced(tree, cast(cst.FunctionDef, node), replacing))
            continue
        body.append(cast(cst.BaseStatement, node))
        body += [
            _fresh(tree, f)
            for f in functions
            if f.replaces is None and f.after == name and named
        ]
    return body + [_fresh(tree, f) for f in functions if not (f.replaces or f.after)]


def _added(facts: Facts) -> Iterator[NewFunction]:
    for function in facts.functions.values():
        if (
            function.replaces is None
            and function.definition not in facts.survey.replicates
        ):
            yield function


def _replaced(
    tree: cst.Module, old: cst.FunctionDef, function: NewFunction
) -> cst.FunctionDef:
    fresh = cast(cst.FunctionDef, edit.statement(tree, function.plan.text))
    return fresh.with_changes(
        leading_lines=old.leading_lines,
        decorators=old.decorators,
        lines_after_decorators=old.lines_after_decorators,
    )


def _fresh(tree: cst.Module, function: NewFunction) -> cst.FunctionDef:
    fresh = cast(cst.FunctionDef, edit.statement(tree, function.plan.text))
    blank = cst.EmptyLine(indent=False)
    return fresh.with_changes(leading_lines=[blank, blank])


def _new_replicate_import(tree: cst.Module, own: Collection[str]) -> cst.Module:
    """Point the import of DDP's replicate to the composable one, on its own line."""
    move = _MoveImport(tree)
    tree = tree.visit(move)
    if move.moved and "replicate" in _module_level_names(tree, running=True):
        return tree
    return edit.add_import(tree, REPLICATE_MODULE, "replicate", own=own)


class _MoveImport(edit.ScopedTransformer):
    """At the top of a file, also where an import is tried."""

    def __init__(self, tree: cst.Module) -> None:
        super().__init__(tree, [""])
        self.moved = False

    def leave_SimpleStatementLine(
        self,
        original_node: cst.SimpleStatementLine,
        updated_node: cst.SimpleStatementLine,
    ) -> cst.BaseStatement:
        line, node = updated_node, updated_node.body[0]
        if self.scope or not isinstance(node, cst.ImportFrom):
            return line
        module, names = edit.module_of(node), edit.import_names(node)
        of_ddp = module in (_DDP_MODULE, _DDP_MODULE.rpartition(".")[0])
        if not of_ddp or ("replicate", None) not in names:
            return line
        others = [name for name in names if name != ("replicate", None)]
        if others:
            return edit.from_import(self.tree, line, module, others)
        self.moved = True
        return edit.from_import(self.tree, line, REPLICATE_MODULE, names)


def _import_what_it_needs(
    tree: cst.Module, function: NewFunction, facts: Facts
) -> cst.Module:
    source = function.mirrors or function.replaces
    # A text that comes from another file asks for more of its imports when it runs.
    comes = source is not None and source.path != function.definition.path
    bound = _module_level_names(tree, running=comes)
    others = [*facts.survey.definitions[:1], *facts.survey.provided[:1]]
    for name in sorted(free_names(function.plan.text) - bound - set(dir(builtins))):
        where = _origin(facts, source, name) or _WELL_KNOWN.get(name)
        for other in others:
            where = where or _origin(facts, other, name)
        if where is not None:
            tree = edit.add_import(tree, *where, facts.own_packages)
    return tree


def _origin(
    facts: Facts, source: Definition | None, name: str
) -> tuple[str, str | None, str | None] | None:
    """How the module that the plan comes from has this name."""
    if name == "replicate" or source is None:
        return None
    top = facts.checkout.names(source.path).top
    if name in top.imports:
        found = top.imports[name]
        if found.name is None:
            return found.module, None, name if name != found.module else None
        home = facts.checkout.path_of(found.module)
        known = facts.checkout.dependency.get(home or "")
        module = known.module if known else found.module
        return module, found.name, name if name != found.name else None
    if name in top.bound:
        return facts.survey.files[source.path].module, name, None
    word = f"def {name}("
    for file in (*facts.checkout.mentioning(word), *facts.checkout.providing(word)):
        if name in facts.checkout.names(file.path).top.bound:
            return file.module, name, None
    return None


def free_names(text: str) -> set[str]:
    """The names that a function reads and does not bind itself."""
    tree = ast.parse(text)
    loaded: set[str] = set()
    bound: set[str] = set()
    for node in nodes(tree):
        if isinstance(node, ast.Name):
            (loaded if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            bound.add(node.name)
    return loaded - bound


def _module_level_names(tree: cst.Module, running: bool = False) -> set[str]:
    """The names at the top; ``running``: only those that are bound whenever it runs."""
    bound: set[str] = set()
    body = edit.syntax_of(tree).body
    if running:
        return surely_bound(body)
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            bound.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            bound |= {(a.asname or a.name).split(".")[0] for a in node.names}
        else:
            for inner in nodes(node):
                if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
                    bound.add(inner.id)
                elif isinstance(inner, (ast.Import, ast.ImportFrom)):
                    bound |= {(a.asname or a.name).split(".")[0] for a in inner.names}
    return bound
