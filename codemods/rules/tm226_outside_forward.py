"""TM226: parts of a wrapped model called past its forward."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.modules import (
    Function,
    inside_modules,
    is_block,
    is_model,
    methods,
    modules,
)
from codemods.nodes import dotted, nodes, of_kind, spelled
from codemods.plans import Facts
from codemods.source import SourceFile

CODE = "TM226"
TITLE = "calls past forward"
SEVERITY: Severity = "loud"
WHAT = (
    "A part of a wrapped block, or a method other than forward, is called from outside."
)
WHY = """\
replicate prepares the parameters of a group when the module that it wraps is called. A
linear layer inside of a block called by itself computes with DTensors and raises "got mixed
torch.Tensor and DTensor"; a method of the model that goes past forward raises "requires a
single root module" where it is the first. Under DDP both ran. register_fsdp_forward_method makes a method count as forward.
"""
UPSTREAM = """\
None. It rests on trainings of two ranks, torch 2.13.
"""
RISK = """\
It raises at the first call, except where an evaluation before has left the parameters as
plain tensors: then it is the order of calls that decides.
"""
PROOF = """\
Where torchtitan's own trainer makes the call, a rank of the migrated tree "failed with" it
in `dp`. Other trainers are not run: call it once, first.
"""
EXAMPLE = Example(
    fixture="fork_quirks",
    path="torchtitan/experiments/averaged/train_averaged.py",
    before="""\
        return self.model.embeddings(tokens).mean(dim=1)
""",
    after="""\
# from torch.distributed.fsdp import register_fsdp_forward_method; after wrapping:
register_fsdp_forward_method(self.model, 'embeddings')
""",
)

_REGISTER = "register_fsdp_forward_method"
_USUAL = {
    *("forward", "init_weights", "reset_parameters", "train", "eval", "to", "apply"),
    *("parameters", "named_parameters", "state_dict", "load_state_dict", "children"),
}


def find(facts: Facts) -> Iterator[Finding]:
    past, parts = _past_forward(facts)
    for file in facts.in_training(*(f".{name}(" for name in sorted(past | parts))):
        for node, on, name in file.all(_Calls(frozenset(past | parts))):
            if is_model(on) and name in past and not _is_foreign(facts, file, on):
                yield _method(file, node, on, name)
            elif _in_block(on) and name in parts:
                yield Finding(
                    file.path,
                    node.lineno,
                    CODE,
                    f"{spelled(node.func)} is called past the block that replicate wraps: "
                    "its parameters are DTensors then, and its input is not",
                    "hazard",
                    f"replicate({spelled(node.func)}, **replicate_config)  # a group of its "
                    "own, before the block around it",
                )


@dataclass(frozen=True)
class _Calls:
    """Finds calls of attributes of some names outside of modules: the call, on what, the name."""

    names: frozenset[str]

    def __call__(self, file: SourceFile) -> tuple[tuple[ast.Call, ast.expr, str], ...]:
        return tuple(
            (node, node.func.value, node.func.attr)
            for node in of_kind(file.syntax, ast.Call)
            if isinstance(node.func, ast.Attribute) and node.func.attr in self.names
            if id(node) not in inside_modules(file.syntax)
        )


def _is_foreign(facts: Facts, file: SourceFile, on: ast.expr) -> bool:
    """Whether something from another library is put there, such as a tokenizer's encoding."""
    for node in nodes(file.syntax):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
            if spelled(on) in map(spelled, node.targets):
                made = dotted(node.value.func) or ""
                origin = facts.checkout.external(file.path, "", made)
                top = (origin or "").split(".")[0]
                home = facts.checkout.path_of(top)
                if origin and top != "torch" and home in (None, file.path):
                    return True
    return False


def _in_block(node: ast.expr) -> bool:
    """``layer`` itself or something in it: ``layer.attention``."""
    while not is_block(node):
        if not isinstance(node, ast.Attribute):
            return False
        node = node.value
    return True


def _method(file: SourceFile, call: ast.Call, on: ast.expr, name: str) -> Finding:
    return Finding(
        file.path,
        call.lineno,
        CODE,
        f"{spelled(call.func)} computes past forward, for which replicate prepares nothing",
        "hazard",
        f"# from torch.distributed.fsdp import {_REGISTER}; after wrapping:\n"
        f"{_REGISTER}({spelled(on)}, {name!r})",
    )


def _past_forward(facts: Facts) -> tuple[set[str], set[str]]:
    """What goes past forward: methods that call submodules themselves, and submodules.

    Not the methods that are registered, and no name that is a method's as well.
    """
    past: set[str] = set()
    parts: set[str] = set()
    named: set[str] = set()
    for file in facts.in_training("def forward("):
        for submodules, own, calling in file.all(_of_modules):
            parts |= submodules
            named |= own
            past |= calling
    return past - _registered(facts), parts - named


def _of_modules(
    file: SourceFile,
) -> tuple[tuple[frozenset[str], frozenset[str], frozenset[str]], ...]:
    """Of each module: its submodules, its methods, and those of them that call submodules."""
    found = []
    for node in modules(file.syntax):
        own, submodules = methods(node), frozenset(_submodules(node))
        calling = frozenset(
            name
            for name, method in own.items()
            if name not in _USUAL and not name.startswith("__")
            if _called_on_self(method) & submodules - own.keys()
        )
        found.append((submodules, frozenset(own), calling))
    return tuple(found)


def _registered(facts: Facts) -> set[object]:
    return {
        node.args[1].value
        for file in facts.checkout.mentioning(_REGISTER)
        for node in nodes(file.syntax)
        if isinstance(node, ast.Call) and len(node.args) == 2
        if isinstance(node.args[1], ast.Constant)
    }


def _called_on_self(method: Function) -> set[str]:
    return {
        node.func.attr
        for node in nodes(method)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
        if isinstance(node.func.value, ast.Name) and node.func.value.id == "self"
    }


def _submodules(node: ast.ClassDef) -> set[str]:
    """Attributes that a module's ``__init__`` gives the result of a call."""
    made = methods(node).get("__init__")
    return {
        target.attr
        for part in (nodes(made) if made else ())
        if isinstance(part, ast.Assign) and isinstance(part.value, ast.Call)
        for target in part.targets
        if isinstance(target, ast.Attribute)
    }
