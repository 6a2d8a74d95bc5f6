"""TM206: a state dict that leaves for another process."""

import ast
import re
from collections.abc import Iterator

from codemods.example import Example
from codemods.findings import Finding, Severity
from codemods.nodes import children, nodes, spelled
from codemods.once import once
from codemods.parameters import mentions
from codemods.plans import Facts, standalone
from codemods.trained import Place

CODE = "TM206"
TITLE = "state dicts that now hold DTensors"
SEVERITY: Severity = "loud"
WHAT = "A trainer takes a state dict, which now holds DTensors, or loads a plain one."
WHY = """\
Under DDP state_dict() held plain tensors; under replicate it holds DTensors. Torch's
distributed checkpoint takes both. Code that hands the dict to another process, to a model
that is not wrapped, to torch.save or to a library that knows no DTensor needs full tensors
first, and load_state_dict of the wrapped model takes no plain ones: both directions raise
"mixed torch.Tensor and DTensor".
"""
UPSTREAM = """\
None. It rests on state dicts tried in torch 2.13. The RL trainer of 0.2.1 and 0.2.2 hands its state dict to another process.
"""
RISK = """\
The process that receives it, or reads the file, may have no such mesh: loading fails
there, far from the cause.
"""
PROOF = """\
It does not: only torchtitan's own trainer is run. `dp-checkpoint` and `export` (not in
--quick) show that its checkpoints are read as before. Run the receiving process.
"""
EXAMPLE = Example(
    fixture="v0_2_1",
    path="torchtitan/experiments/rl/unified/actors/trainer.py",
    before="""\
        titan_state = self.model.state_dict()
        return {name.replace("tok_", ""): w for name, w in titan_state.items()}
""",
    after="""\
# from torch.distributed.tensor import DTensor
state = {
    name: value.full_tensor() if isinstance(value, DTensor) else value
    for name, value in self.model.state_dict().items()
}
""",
)


_FULL = """\
# from torch.distributed.tensor import DTensor
state = {{
    name: value.full_tensor() if isinstance(value, DTensor) else value
    for name, value in {0}.state_dict().items()
}}"""
_LOAD = """\
# from torch.distributed.checkpoint.state_dict import set_model_state_dict, StateDictOptions
set_model_state_dict({0}, {1}, options=StateDictOptions(full_state_dict=True))"""

_PLAIN = re.compile(r"(^|\.)(load|load_file|loads|from_hf|full_state_dict)$")
_TAKES = re.compile(
    r"(^|\.)(dcp|checkpoint|DCP|dist_cp|distcp)\w*\.|(^|\.)async_save$|"
    r"(set|get)_(model_|optimizer_)?state_dict$|(^|\.)(len|keys|set|sorted|list)$"
)
"""What takes DTensors, or looks at names alone."""

_COPIES = re.compile(r"(^|\.)(deepcopy|copy|dict)$")
_DEEP = 3
"""From so many variables to the next a state dict is followed."""

_STATEFUL = re.compile(r"state_dict$")
"""A method that torch's distributed checkpoint asks for what to save."""


def find(facts: Facts) -> Iterator[Finding]:
    seen: set[tuple[str, int]] = set()
    for finding in (*_standalone(facts), *_of_trainers(facts)):
        if (finding.path, finding.line) not in seen:
            seen.add((finding.path, finding.line))
            yield finding


def _standalone(facts: Facts) -> Iterator[Finding]:
    """What a file does that wraps a model by itself."""
    for site in facts.survey.call_sites:
        if not standalone(facts, site) or not site.node.args:
            continue
        path = site.reference.path
        model = ast.unparse(site.node.args[0])
        syntax = facts.survey.files[path].syntax
        cured = _cured(syntax)
        for node in nodes(syntax):
            if id(node) not in cured and (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr == "state_dict"
                and ast.unparse(node.func.value) == model
            ):
                yield Finding(
                    path,
                    node.lineno,
                    CODE,
                    f"{model}.state_dict() holds DTensors from now on; whoever receives it "
                    "outside of this process group needs full tensors",
                    "hazard",
                    _FULL.format(model),
                )


def _of_trainers(facts: Facts) -> Iterator[Finding]:
    """What is done with the model of torchtitan's own trainer, and of those built on it."""
    for place in facts.survey.trained:
        if not place.file.mentions(b"state_dict("):
            continue
        cured = _cured(place.function)
        for node in nodes(place.function):
            if not isinstance(node, ast.Call) or id(node) in cured:
                continue
            if not isinstance(node.func, ast.Attribute):
                continue
            of, name = node.func.value, node.func.attr
            if not place.is_in_model(of):
                continue
            if name == "state_dict" and not _stays(facts.survey.trained, place, node):
                yield _leaves(place, node, spelled(of))
            elif name == "load_state_dict" and node.args:
                if _is_plain(place, node.args[0]):
                    yield _enters(place, node, spelled(of))


def _leaves(place: Place, call: ast.Call, model: str) -> Finding:
    return Finding(
        place.file.path,
        call.lineno,
        CODE,
        f"{model}.state_dict() holds DTensors from now on: a plain model cannot load it, and a "
        "file with it is of use only where there is such a mesh",
        "hazard",
        "# on all ranks: with tensor parallelism full_tensor() is a collective\n"
        + _FULL.format(model),
    )


def _enters(place: Place, call: ast.Call, model: str) -> Finding:
    return Finding(
        place.file.path,
        call.lineno,
        CODE,
        f"{spelled(call.func)} raises from now on: plain tensors cannot be copied into DTensors",
        "hazard",
        _LOAD.format(model, spelled(call.args[0])),
    )


def _stays(places: list[Place], place: Place, call: ast.Call) -> bool:
    """Whether all that a state dict is given to takes DTensors, or looks at its names alone."""
    if _STATEFUL.search(place.function.name):
        return True
    return _is_taken(places, place, call)


def _is_taken(places: list[Place], place: Place, node: ast.AST, deep: int = 0) -> bool:
    """Whether a state dict goes, from one place, where DTensors may go."""
    above = _above(place.function)
    node, parent = _carried(above, node)
    if isinstance(parent, ast.Assign) and len(parent.targets) == 1 and deep < _DEEP:
        return _are_taken(places, place, spelled(parent.targets[0]), deep + 1)
    if isinstance(parent, ast.Attribute) and parent.attr in ("keys", "__len__"):
        return True
    if isinstance(parent, ast.Attribute) and parent.attr in ("items", "values"):
        return _only_counts(above, above[id(parent)])
    if isinstance(parent, ast.comprehension | ast.For | ast.Compare):
        return True  # over its names
    if not isinstance(parent, ast.Call):
        return False
    name = spelled(parent.func)
    if isinstance(parent.func, ast.Attribute) and name.endswith(".load_state_dict"):
        return place.is_in_model(parent.func.value)
    return bool(_TAKES.search(name))


def _are_taken(places: list[Place], place: Place, name: str, deep: int) -> bool:
    """The same of every place that reads a name, in the whole class where that is on self."""
    on_self = place.owner is not None and name.startswith("self.")
    tree = place.owner if on_self and place.owner else place.function
    reads = [n for n in nodes(tree) if _reads(n, name)]
    around = [p for p in places if p.owner is place.owner] if on_self else [place]
    known = [(p, n) for p in around for n in nodes(p.function) if _reads(n, name)]
    return 0 < len(reads) == len(known) and all(
        _is_taken(places, p, read, deep) for p, read in known
    )


def _reads(node: ast.AST, name: str) -> bool:
    return (
        isinstance(node, ast.Name | ast.Attribute)
        and isinstance(node.ctx, ast.Load)
        and spelled(node) == name
    )


def _carried(above: dict[int, ast.AST], node: ast.AST) -> tuple[ast.AST, ast.AST]:
    """What a state dict is part of, or a copy of it, and what is around that."""
    while True:
        parent = above[id(node)]
        if (
            isinstance(parent, ast.Call)
            and _COPIES.search(spelled(parent.func))
            or isinstance(parent, ast.Dict | ast.keyword)
        ):
            node = parent
        elif (copied := _copied(above, parent)) is not None:
            node = copied
        else:
            return node, parent


def _copied(above: dict[int, ast.AST], parent: ast.AST) -> ast.DictComp | None:
    """``{k: v.clone() for k, v in state.items()}``, from its ``state.items``."""
    if not isinstance(parent, ast.Attribute) or parent.attr != "items":
        return None
    source = above[id(above[id(parent)])]
    made = above[id(source)] if isinstance(source, ast.comprehension) else None
    if not isinstance(made, ast.DictComp):
        return None
    value = made.value
    while isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
        if value.func.attr not in ("clone", "detach"):
            return None
        value = value.func.value
    return made if isinstance(value, ast.Name) else None


@once
def _above(tree: ast.AST) -> dict[int, ast.AST]:
    return {id(child): node for node in nodes(tree) for child in children(node)}


def _only_counts(above: dict[int, ast.AST], call: ast.AST) -> bool:
    """Whether of values that are gone through only shapes and numbers are taken."""
    source = above[id(call)]
    if isinstance(source, ast.comprehension):
        around: ast.AST = above[id(source)]
        made = [n for n in children(around) if not isinstance(n, ast.comprehension)]
    elif isinstance(source, ast.For):
        around, made = source, list(source.body)
    else:
        return False
    target = source.target
    name = target.elts[-1] if isinstance(target, ast.Tuple) else target
    return not any(mentions(part, {spelled(name)}) for part in made)


def _is_plain(place: Place, given: ast.expr) -> bool:
    """Whether a state dict is read from a file, or taken from a model that is not wrapped."""
    if isinstance(given, ast.Subscript):
        given = given.value
    if isinstance(given, ast.Name):
        values = [
            node.value
            for node in nodes(place.function)
            if isinstance(node, ast.Assign) and given.id in map(spelled, node.targets)
        ]
        return len(values) == 1 and _is_plain(place, values[0])
    if not isinstance(given, ast.Call):
        return False
    if isinstance(given.func, ast.Attribute) and given.func.attr == "state_dict":
        return not place.is_in_model(given.func.value)
    return bool(_PLAIN.search(spelled(given.func)))


def _cured(syntax: ast.AST) -> set[int]:
    """The ids of all nodes in statements that ask for full tensors themselves."""
    return {
        id(node)
        for statement in nodes(syntax)
        if isinstance(
            statement, (ast.Assign, ast.AnnAssign, ast.Return, ast.Expr, ast.For)
        )
        if "full_tensor()" in ast.unparse(statement)
        for node in nodes(statement)
    }
