"""Which meshes a checkout's ParallelDims builds, for any degrees of parallelism.

Nothing of it is executed: its code is evaluated by ``codemods.interpret``, with
``init_device_mesh`` standing for a record of names and sizes.
"""

import ast
import math
import os.path
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from codemods.bindings import Checkout
from codemods.interpret import (
    UNKNOWN,
    CannotFollow,
    Instance,
    Interpreter,
    Mesh,
    Raised,
)
from codemods.interpret.values import Class, Function
from codemods.names import Definition
from codemods.nodes import spelled
from codemods.once import once
from codemods.survey import parallel_dims_files

_HERE = ast.Pass()

_LAYOUTS: tuple[Mapping[str, int], ...] = (
    {"dp_replicate": 3},
    {"dp_replicate": 3, "tp": 2},
    {"dp_replicate": 3, "pp": 2},
    {"dp_replicate": 3, "tp": 2, "pp": 5},
)
"""Pure replication, alone and with what it is to be combined with; each size once."""


@dataclass(frozen=True)
class Meshes:
    """What one ParallelDims builds for some degrees.

    Args:
        parallel_dims: the object, after ``build_mesh``.
        world: the mesh that ``build_mesh`` returns.
        interpreter: what evaluates its methods.
    """

    parallel_dims: Instance
    world: Mesh
    interpreter: Interpreter

    def got(self, *names: str) -> Mesh | None:
        """The mesh that ``get_mesh`` gives for these names, None where there is none."""
        asked: object = names[0] if len(names) == 1 else list(names)
        try:
            method = self.interpreter.attribute(self.parallel_dims, "get_mesh", _HERE)
            found = self.interpreter.apply(method, [asked], {})
        except (CannotFollow, Raised):
            return None
        return found if isinstance(found, Mesh) else None

    def sliced(self, *names: str) -> Mesh | None:
        """The slice of the world mesh by these names, None where there is none."""
        try:
            return self.world.sliced(names)
        except Raised:
            return None

    def find(self, *names: str) -> Mesh | None:
        """The mesh of these names, however this ParallelDims gives it out."""
        return self.got(*names) or self.sliced(*names)


def build(checkout: Checkout, path: str, degrees: Mapping[str, int]) -> Meshes:
    """The meshes of the ParallelDims that a file defines.

    Args:
        checkout: the files.
        path: the file that defines the class.
        degrees: of each dimension; what is left out is 1. Where there is only one
            data-parallel dimension, as in mid 2024, it has their product.

    Raises:
        CannotFollow: its code goes beyond what is evaluated.
        Raised: it refuses these degrees.
    """
    own = own_degrees(checkout, path)
    given = {**{name: 1 for name, needed in own.items() if needed}, **degrees}
    ranks = math.prod(given[name] for name in own if name in given)
    if ranks > 1:
        try:
            return _build(checkout, path, given, ranks)
        except Raised:
            pass  # they may be no ranks of their own
    return _build(checkout, path, given, 1)


def _build(
    checkout: Checkout, path: str, degrees: Mapping[str, int], times: int
) -> Meshes:
    """The same with so many times the ranks that torchtitan's own degrees make."""
    interpreter = Interpreter(checkout, init_device_mesh)
    cls = interpreter.named(Definition(path, "ParallelDims"))
    if not isinstance(cls, Class):
        raise CannotFollow(f"there is no class ParallelDims in {path}")
    fields = _fields(degrees)
    fields["world_size"] = math.prod(degrees.get(n, 1) for n in _RANKS) * times
    made = interpreter.make(cls, fields)
    builds = interpreter.attribute(made, "build_mesh", _HERE)
    if not isinstance(builds, Function):
        raise CannotFollow(f"ParallelDims of {path} has no build_mesh")
    takes_device = len(builds.node.args.args) > 1
    world = interpreter.apply(builds, ["cpu"] if takes_device else [], {})
    if not isinstance(world, Mesh):
        raise CannotFollow(f"build_mesh of {path} returns no mesh that is known")
    return Meshes(made, world, interpreter)


@once
def own_degrees(checkout: Checkout, home: str) -> Mapping[str, bool]:
    """The whole numbers that a ParallelDims has beside torchtitan's, and if it needs them.

    They are what a fork has added: the degree of an axis of its own, most of all.

    Args:
        checkout: the files.
        home: the file that defines it.
    """
    interpreter = Interpreter(checkout, init_device_mesh)
    cls = interpreter.named(Definition(home, "ParallelDims"))
    if not isinstance(cls, Class):
        return {}
    known = _fields({}).keys()
    return {
        name: needed
        for name, kind, needed in _declared(interpreter.class_body(cls))
        if re.search(r"\bint\b", kind)
        if name not in known and not name.startswith("_")
    }


def _declared(body: Sequence[ast.stmt]) -> Iterator[tuple[str, str, bool]]:
    """Name, kind and if it has no default, of what a dataclass or ``__init__`` takes."""
    for node in body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, spelled(node.annotation), node.value is None
        elif isinstance(node, ast.FunctionDef) and node.name == "__init__":
            given = node.args
            without = len(given.args) - len(given.defaults)
            optional = given.args[without:]
            optional += [a for a, d in zip(given.kwonlyargs, given.kw_defaults) if d]
            for arg in (*given.args, *given.kwonlyargs):
                if arg.annotation is not None:
                    yield arg.arg, spelled(arg.annotation), arg not in optional


_DEGREES = ("dp_replicate", "dp_shard", "cp", "tp", "pp", "ep", "etp")
_RANKS = _DEGREES[:5]
"""The degrees whose product is the number of ranks."""


def _fields(degrees: Mapping[str, int]) -> dict[str, object]:
    """Values for all that a ParallelDims is made of, in every generation."""
    full = {**dict.fromkeys(_DEGREES, 1), **degrees}
    ranks = math.prod(full[name] for name in _RANKS)
    replicates = full["dp_replicate"] > 1
    return {
        **full,
        "dp": full["dp_replicate"] * full["dp_shard"],
        "dp_type": "ddp" if replicates else "fsdp",
        "world_size": ranks,
        "enable_loss_parallel": False,
    }


def init_device_mesh(
    called: str, args: list[object], keywords: Mapping[str, object]
) -> object:
    if called.rpartition(".")[2] != "init_device_mesh":
        return UNKNOWN
    given = dict(zip(("device_type", "mesh_shape"), args), **keywords)
    sizes, names = given.get("mesh_shape"), given.get("mesh_dim_names")
    if (
        isinstance(sizes, (list, tuple))
        and isinstance(names, (list, tuple))
        and all(isinstance(size, int) for size in sizes)
    ):
        return Mesh(tuple(names), tuple(sizes))
    return UNKNOWN


def replicate_dimension(checkout: Checkout, path: str) -> str | None:
    """The name of the mesh dimension over which pure replication goes, in one file.

    It is the dimension that has dp_replicate's degree in each layout that replicate
    makes possible: alone, with tensor, with pipeline parallelism.

    Args:
        checkout: the files.
        path: the plan that asks: it decides which ParallelDims counts.

    Returns:
        ``"dp_replicate"`` from December 2024 on, ``"dp"`` in the trees before; None
        where two layouts differ.

    Raises:
        CannotFollow: there is no ParallelDims, or its code is not evaluated.
    """
    home = parallel_dims_of(checkout, path)
    if home is None:
        raise CannotFollow("there is no ParallelDims in this checkout")
    found = set(_dimensions(checkout, home))
    if not found:
        raise CannotFollow(f"ParallelDims of {home} refuses every layout")
    return found.pop() if len(found) == 1 else None


def followed(checkout: Checkout, home: str) -> bool:
    """Whether the ParallelDims of a file can be evaluated, and takes some layout."""
    try:
        return bool(list(_dimensions(checkout, home)))
    except CannotFollow:
        return False


@once
def parallel_dims_of(checkout: Checkout, path: str) -> str | None:
    """The file of the ParallelDims that a file uses: imported there, else the nearest."""
    homes = [file.path for file, _ in parallel_dims_files(checkout)]
    imported = checkout.resolve(path, "", "ParallelDims")
    if imported is not None and imported.path in homes:
        return imported.path

    def in_common(home: str) -> int:
        return len(os.path.commonprefix([home.split("/"), path.split("/")]))

    return max(homes, key=in_common, default=None)


@once
def _built(checkout: Checkout, home: str) -> tuple[Meshes | Raised, ...]:
    """What each of the layouts gives, or how it is refused before any plan is reached."""
    found: list[Meshes | Raised] = []
    for degrees in _LAYOUTS:
        try:
            found.append(build(checkout, home, degrees))
        except Raised as error:
            found.append(error)
    return tuple(found)


def _dimensions(checkout: Checkout, home: str) -> Iterator[str | None]:
    for meshes in _built(checkout, home):
        if isinstance(meshes, Raised):
            continue
        if (found := meshes.got("dp_replicate")) and found.sizes == (3,):
            yield "dp_replicate"
            continue
        sizes = dict(zip(meshes.world.names, meshes.world.sizes))
        named = [name for name, size in sizes.items() if size == 3]
        known = len(named) == 1 and isinstance(named[0], str)
        yield named[0] if known else None


def gives(
    checkout: Checkout, path: str, names: Sequence[str], sizes: Sequence[int]
) -> bool:
    """Whether these names are a mesh of these sizes wherever 3 ranks replicate.

    Args:
        checkout: the files.
        path: the plan that asks.
        names: as they are given to ``get_mesh``, or in brackets to the world mesh.
        sizes: in ranks; 3 is that of dp_replicate.
    """
    home = parallel_dims_of(checkout, path)
    if home is None:
        return False
    try:
        layouts = _built(checkout, home)
    except CannotFollow:
        return False
    found = [
        layout.find(*names) if isinstance(layout, Meshes) else None
        for layout in layouts
    ]
    return all(mesh is not None and mesh.sizes == tuple(sizes) for mesh in found)


def of_world(checkout: Checkout, path: str, name: str) -> bool:
    """Whether the mesh of all ranks has a dimension of a name wherever ranks replicate.

    Where ``get_mesh`` came, that mesh became flat, and has none to take by name.

    Args:
        checkout: the files.
        path: the plan that asks.
        name: of the dimension.

    Returns:
        True too where no ParallelDims is followed.
    """
    home = parallel_dims_of(checkout, path)
    try:
        layouts = _built(checkout, home) if home else ()
    except CannotFollow:
        return True
    built = [layout for layout in layouts if isinstance(layout, Meshes)]
    return all(layout.sliced(name) for layout in built)


@dataclass(frozen=True)
class Refusal:
    """A statement by which a ParallelDims refuses what replicate makes possible.

    Args:
        path: of its file.
        line: from 1.
        beside: the dimension that it refuses beside dp_replicate, "tp" or "pp".
    """

    path: str
    line: int
    beside: str


def refusals(checkout: Checkout, path: str) -> list[Refusal]:
    """Where the ParallelDims that a plan uses refuses tensor or pipeline parallelism.

    Nothing where it is not followed, or refuses replication itself.
    """
    home = parallel_dims_of(checkout, path)
    if home is None:
        return []
    try:
        alone, *others = _built(checkout, home)
    except CannotFollow:
        return []
    if isinstance(alone, Raised):
        return []
    found: dict[tuple[str, int], Refusal] = {}
    for degrees, error in zip(_LAYOUTS[1:], others):
        if isinstance(error, Raised):
            beside = [name for name in degrees if name != "dp_replicate"][0]
            if error.path:
                refusal = Refusal(error.path, error.line, beside)
                found.setdefault((error.path, error.line), refusal)
    return list(found.values())


def keeps_fsdp_dimension(checkout: Checkout) -> bool:
    """Whether ParallelDims has an fsdp dimension also at degree 1, as after PR 2900.

    There pure replication is fully_shard over (dp_replicate, fsdp). False where no
    ParallelDims can be followed.
    """
    return any(
        _keeps_fsdp(checkout, file.path) for file, _ in parallel_dims_files(checkout)
    )


def _keeps_fsdp(checkout: Checkout, home: str) -> bool:
    try:
        if build(checkout, home, {"dp_replicate": 3}).find("dp_replicate", "fsdp"):
            return True
    except (CannotFollow, Raised):
        pass  # it may still say so where it asks which meshes exist
    interpreter = Interpreter(checkout, init_device_mesh)
    cls = interpreter.named(Definition(home, "ParallelDims"))
    try:
        if not isinstance(cls, Class):
            return False
        made = interpreter.make(cls, _fields({"dp_replicate": 3}))
        exists = interpreter.attribute(made, "_mesh_exist", _HERE)
        return interpreter.apply(exists, ["fsdp", 1], {}) is True
    except (CannotFollow, Raised):
        return False
