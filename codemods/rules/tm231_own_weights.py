"""TM231: a script whose ranks would begin with weights of their own."""

import ast
import re
from collections.abc import Iterator
from re import Pattern

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.names import Definition
from codemods.nodes import nodes, spelled
from codemods.plans import Facts, standalone
from codemods.plans.sites import parameters
from codemods.seeding import LOADS, SEEDS, SENDS, is_of_a_rank, targets_of, unlike
from codemods.source import SourceFile
from codemods.survey import CallSite, function_of

CODE = "TM231"
TITLE = "ranks that begin with weights of their own"
SEVERITY: Severity = "silent"
WHAT = (
    "A model is made without a seed or weights that all replicas share, and replicated."
)
WHY = """\
DDP sends rank 0's parameters and buffers to all ranks when it wraps a model. replicate sends
nothing: each rank goes on with what it has. torchtitan's trainer seeds all replicas alike. A
script that makes its model by itself, without a seed or with one of each rank, has replicas
that differ from the first step on, and their gradients are averaged all the same. So has a
trainer with dp_replicate among its distinct_seed_mesh_dims, or a rank in its seed.
"""
UPSTREAM = """\
None. It rests on trainings of two ranks, torch 2.13: losses of DDP and of the cure are the
same, and those without it are not (tests/hazards).
"""
RISK = """\
Every replica trains another model. The loss of one rank looks as always; what is saved is
rank 0's. Nothing raises.
"""
PROOF = """\
In torchtitan's own trainer `dp-unseeded` shows where ranks "differ". Scripts are not run:
print the norm of a weight on each rank after wrapping.
"""
_CURE = """\
# before it is wrapped: rank 0's weights for all ranks, as DDP sent them
for tensor in (*{0}.parameters(), *{0}.buffers()):
    torch.distributed.broadcast(tensor.detach(), src=0)"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/experiments/probe/train_probe.py",
    before="""\
    apply_ddp(model, parallel_dims.get_mesh("dp_replicate"), enable_compile=False)
""",
    after=f"{_CURE.format('model')}\n",
)

_CHECKPOINT = re.compile(r"ckpt|checkpoint|dcp|manager", re.IGNORECASE)
_COPIES = ("copy", "deepcopy")


def find(facts: Facts) -> Iterator[Finding]:
    scripts = list(_scripts(facts))
    yield from scripts
    told = {finding.path for finding in scripts}
    for seed in unlike(facts.in_training("seed")):
        if seed.path not in told:
            yield Finding(
                seed.path,
                seed.line,
                CODE,
                f"{seed.code} is another seed on each replica, and line {seed.made} makes weights "
                "with it, or wraps what it made: DDP sent rank 0's weights, replicate leaves "
                "each replica its own",
                "hazard",
                "# seed replicas alike before weights are made, and so only after line "
                f"{seed.made}:\n{seed.statement}",
            )


def _scripts(facts: Facts) -> Iterator[Finding]:
    for site in (*facts.survey.call_sites, *facts.survey.inline):
        path = site.reference.path
        wrapped = _wrapped(site)
        if not standalone(facts, site) or wrapped is None:
            continue
        file = facts.survey.files[path]
        model = spelled(wrapped)
        if _is_made(file, site, model) and not _are_alike(facts, file, site, model):
            yield Finding(
                path,
                site.node.lineno,
                CODE,
                f"nothing here gives all ranks the same weights of {model}: DDP sent rank 0's "
                "when it wrapped, replicate leaves each rank its own",
                "hazard",
                _CURE.format(model),
            )


def _wrapped(site: CallSite) -> ast.expr | None:
    """The model that a call wraps."""
    named = {word.arg: word.value for word in site.node.keywords}
    return site.node.args[0] if site.node.args else named.get("model")


def _is_made(file: SourceFile, site: CallSite, name: str) -> bool:
    """Whether a model is made in sight of a call, by something that does not load it."""
    around: ast.AST = site.function or file.syntax
    if name.startswith("self."):
        classes = [
            node for node in nodes(file.syntax) if isinstance(node, ast.ClassDef)
        ]
        around = next((c for c in classes if around in c.body), file.syntax)
    given = parameters(site) - {"self"}
    return any(
        isinstance(origin, ast.Call)
        and spelled(origin.func).partition(".")[0] not in given
        and not LOADS.search(spelled(origin.func))
        for node in nodes(around)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
        if name in targets_of(node)
        for origin in _origins(node.value)
    )


def _origins(value: ast.expr) -> Iterator[ast.expr]:
    """What a value begins with: ``Model(args)`` of ``Model(args).to(device).train()``."""
    if isinstance(value, ast.IfExp):
        yield from _origins(value.body)
        yield from _origins(value.orelse)
        return
    while isinstance(value, ast.Call):
        if value.args and spelled(value.func).rpartition(".")[2] in _COPIES:
            value = value.args[0]
        elif isinstance(value.func, ast.Attribute) and isinstance(
            value.func.value, ast.Call
        ):
            value = value.func.value
        else:
            break
    yield value


def _are_alike(facts: Facts, file: SourceFile, site: CallSite, name: str) -> bool:
    """Whether all ranks seed alike, or the model's weights are loaded or sent, here or in what is called."""
    word = re.compile(rf"(?<![\w.]){re.escape(name)}\b")
    for use in file.names.uses:
        if use.call is None:
            continue
        full = facts.checkout.external(file.path, use.scope, use.spelling)
        if _does(file.syntax, full or use.spelling, use.call, word):
            return True
        found = facts.checkout.resolve(file.path, use.scope, use.spelling)
        called = function_of(facts.checkout, found) if found is not None else None
        if called is not None and _helps(called, bool(word.search(spelled(use.call)))):
            return True
    loops = (node for node in nodes(file.syntax) if isinstance(node, ast.For))
    return any(
        word.search(spelled(loop.iter)) and SENDS.search(spelled(loop))
        for loop in loops
    ) or _is_seeded_by_a_caller(facts, file, site)


def _does(syntax: ast.Module, called: str, call: ast.Call, model: Pattern[str]) -> bool:
    """Whether a call seeds all ranks alike, or gives the model weights."""
    if SEEDS.search(called):
        return not is_of_a_rank(syntax, call)
    base, _, last = called.rpartition(".")
    if last == "load" and _CHECKPOINT.search(base):
        return True
    gives = LOADS.search(called) or SENDS.search(called)
    return bool(gives and model.search(spelled(call)))


def _helps(called: ast.FunctionDef, with_model: bool) -> bool:
    """Whether a function of the checkout seeds; or loads or sends, where it is given the model."""
    for node in nodes(called):
        if isinstance(node, ast.Call):
            name = spelled(node.func)
            if SEEDS.search(name) and not is_of_a_rank(called, node):
                return True
            if with_model and (LOADS.search(name) or SENDS.search(name)):
                return True
    return False


def _is_seeded_by_a_caller(facts: Facts, file: SourceFile, site: CallSite) -> bool:
    """Whether a file that calls the function around a call seeds all ranks alike."""
    if site.function is None:
        return False
    around = Definition(file.path, site.reference.scope)
    for other in facts.checkout.mentioning(f"{site.function.name}("):
        calls = [use for use in other.names.uses if use.call is not None]
        if other.path != file.path and any(
            facts.checkout.resolve(other.path, use.scope, use.spelling) == around
            for use in calls
            if use.spelling.rpartition(".")[2] == site.function.name
        ):
            return any(
                SEEDS.search(use.spelling) and not is_of_a_rank(other.syntax, use.call)
                for use in calls
                if use.call is not None
            )
    return False
