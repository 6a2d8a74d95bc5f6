"""TM231: a script whose ranks would begin with weights of their own."""

import ast
import re
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.nodes import nodes, spelled
from codemods.plans import Facts, standalone
from codemods.source import SourceFile
from codemods.survey import CallSite, function_of

CODE = "TM231"
TITLE = "ranks that begin with weights of their own"
SEVERITY: Severity = "silent"
WHAT = "A script makes a model, neither seeds nor loads it, and has it replicated."
WHY = """\
DDP sends rank 0's parameters and buffers to all ranks when it wraps a model. replicate sends
nothing: each rank goes on with what it has. torchtitan's trainer seeds all replicas alike. A
script that makes its model by itself, without a seed or with one of each rank, has replicas
that differ from the first step on, and their gradients are averaged all the same.
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

_SEEDS = re.compile(r"seed|determinism", re.IGNORECASE)
_LOADS = re.compile(
    r"load_(state_dict|model|checkpoint|weights|pretrained)|from_pretrained|restore"
    r"|(^|\.)(dcp|dist_cp|torch|checkpoint\w*)\.load$"
)
_SENDS = re.compile(r"broadcast|sync_module_states|sync_params", re.IGNORECASE)


def find(facts: Facts) -> Iterator[Finding]:
    for site in (*facts.survey.call_sites, *facts.survey.inline):
        path = site.reference.path
        if not standalone(site) or not site.node.args:
            continue
        file = facts.survey.files[path]
        model = spelled(site.node.args[0])
        if _is_made(file, site, model) and not _are_alike(facts, file):
            yield Finding(
                path,
                site.node.lineno,
                CODE,
                f"nothing here gives all ranks the same weights of {model}: DDP sent rank 0's "
                "when it wrapped, replicate leaves each rank its own",
                "hazard",
                _CURE.format(model),
            )


def _is_made(file: SourceFile, site: CallSite, name: str) -> bool:
    """Whether a model is made in sight of a call, by something that does not load it."""
    around = file.syntax if name.startswith("self.") else site.function or file.syntax
    made = [
        _origin(node.value)
        for node in nodes(around)
        if isinstance(node, ast.Assign) and name in map(spelled, node.targets)
    ]
    given = _parameters(site) - {"self"}
    return any(
        isinstance(origin, ast.Call)
        and spelled(origin.func).partition(".")[0] not in given
        and not _LOADS.search(spelled(origin.func))
        for origin in made
    )


def _origin(value: ast.expr) -> ast.expr:
    """What a value begins with: ``Model(args)`` of ``Model(args).to(device).train()``."""
    while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        if not isinstance(value.func.value, ast.Call):
            break
        value = value.func.value
    return value


def _parameters(site: CallSite) -> set[str]:
    if site.function is None:
        return set()
    arguments = site.function.args
    return {arg.arg for arg in (*arguments.args, *arguments.kwonlyargs)}


def _are_alike(facts: Facts, file: SourceFile) -> bool:
    """Whether a file seeds all ranks alike, loads weights or sends them, itself or in what it calls."""
    for use in file.names.uses:
        if use.call is None:
            continue
        if _does(use.spelling, use.call):
            return True
        found = facts.checkout.resolve(file.path, use.scope, use.spelling)
        called = function_of(facts.checkout, found) if found is not None else None
        for node in nodes(called) if called is not None else ():
            if isinstance(node, ast.Call) and _does(spelled(node.func), node):
                return True
    return False


def _does(called: str, call: ast.Call) -> bool:
    if _SEEDS.search(called.rpartition(".")[2]):
        return "rank" not in ast.unparse(call)
    return bool(_LOADS.search(called) or _SENDS.search(called))
