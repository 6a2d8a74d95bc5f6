"""A state-dict adapter, executed with placements that replicate and without."""

import ast
from collections.abc import Iterator

from codemods.bindings import Checkout
from codemods.execute.records import Record
from codemods.execute.run import Run
from codemods.interpret.values import Frame, Function, Instance, Mesh
from codemods.nodes import spelled

_DIM, _DIM_SIZE = 0, 24
_DEGREES = {"dp_replicate": 3, "fsdp": 2, "tp": 4}

_LAYOUTS: tuple[tuple[tuple[str, str, int], ...], ...] = (
    (("dp_replicate", "Replicate", 0),),
    (("fsdp", "Shard", 0),),
    (("fsdp", "Shard", 1),),
    (("dp_replicate", "Replicate", 0), ("fsdp", "Shard", 0)),
    (("dp_replicate", "Replicate", 0), ("fsdp", "Shard", 1)),
    (("dp_replicate", "Replicate", 0), ("fsdp", "_StridedShard", 0), ("tp", "Shard", 0)),
    (("fsdp", "_StridedShard", 0), ("tp", "Shard", 0)),
)  # fmt: skip
"""(dimension of the mesh, placement on it, dim of the tensor), as parameters have them."""


def takes_placements(node: ast.FunctionDef) -> bool:
    """Whether a function is about the placements of a parameter on a mesh."""
    return "placement.dim" in spelled(node)


def judged(
    before: Checkout,
    after: Checkout,
    path: str,
    old: tuple[ast.FunctionDef, str],
    new: tuple[ast.FunctionDef, str],
) -> Iterator[tuple[str, str]]:
    """(placements, what differs): a placement that replicates must change nothing.

    Args:
        before: the checkout as it is.
        after: as it would be.
        path: the file of the function.
        old: the function and its scope, before.
        new: after.
    """
    for layout in _LAYOUTS:
        shards = [part for part in layout if part[1] != "Replicate"]
        reference = _run(before, path, old, shards)
        got = _run(after, path, new, list(layout))
        for record in (reference, got):
            if record.unclear:
                yield "", f"unclear: {record.unclear}"
                return
        where = ", ".join(f"{kind}({dim}) on {name}" for name, kind, dim in layout)
        everything = f"(0, {_DIM_SIZE})"
        here = any(dim == _DIM for _, _, dim in shards)
        raised = reference.raised if shards else None
        if got.raised and not (raised and raised[0] == got.raised[0]):
            yield where, f"it would raise {': '.join(got.raised)}"
        elif not _gives_indices(new[0]):
            continue
        elif not here and got.returned != everything:
            yield where, f"it would return {got.returned}, where every expert is local"
        elif here and reference.returned not in (got.returned, "(None, None)"):
            yield where, f"it would return {got.returned}, and not {reference.returned}"


def _gives_indices(node: ast.FunctionDef) -> bool:
    """Whether a function returns the first and last expert of a rank."""
    return any(
        arg.arg == "dim_size" for arg in (*node.args.args, *node.args.kwonlyargs)
    )


def _run(
    checkout: Checkout,
    path: str,
    function: tuple[ast.FunctionDef, str],
    layout: list[tuple[str, str, int]],
) -> Record:
    node, scope = function
    names = tuple(name for name, _, _ in layout)
    mesh = Mesh(names, tuple(_DEGREES[name] for name in names))
    placements = tuple(_placement(kind, dim) for _, kind, dim in layout)
    stand_ins: dict[str, object] = {
        "dtensor_placements": placements,
        "placements": placements,
        "device_mesh": mesh,
        "mesh": mesh,
        "dim": _DIM,
        "dim_size": _DIM_SIZE,
        "shape": (_DIM_SIZE, 4, 4),
    }
    run = Run(checkout, {}, None, stand_ins=stand_ins)
    return run.start(Function(node, Frame(path, scope)))


def _placement(kind: str, dim: int) -> Instance:
    """A stand-in; a placement that replicates has no ``dim``."""
    replicates = kind == "Replicate"
    attributes: dict[str, object] = {
        "kind": kind,
        "is_replicate": lambda: replicates,
        "is_partial": lambda *_: False,
        "is_shard": lambda of=None: not replicates and of in (None, dim),
    }
    if not replicates:
        attributes["dim"] = dim
    return Instance(attributes)
