"""How this checkout names the mesh that replicate takes."""

import ast
from dataclasses import dataclass

from codemods import meshes
from codemods.autocast import of_a_test
from codemods.interpret import CannotFollow
from codemods.nodes import nodes
from codemods.plans.records import Facts
from codemods.survey import parallel_dims_files

_LATER = {"dp_replicate", "dp_shard", "dp_shard_cp", "dp_cp", "fsdp"}
"""Names that only trees have whose pure dimension is ``dp_replicate``."""


@dataclass(frozen=True)
class Spelling:
    """How a plan writes the mesh that replicate takes.

    Args:
        names: of the mesh's dimensions; the first is the one of replication.
        after_get_mesh: the same where ``get_mesh`` is asked, which calls shards ``fsdp``.
    """

    names: tuple[str, ...]
    after_get_mesh: tuple[str, ...]

    @property
    def alone(self) -> "Spelling":
        """The dimension of replication without the one of degree 1 beside it."""
        return Spelling(self.names[:1], self.after_get_mesh[:1])

    def sliced(self, world: str) -> str:
        """The slice of a world mesh."""
        return f"{world}[{', '.join(map(_quoted, self.names))}]"

    def got(self, get_mesh: str) -> str:
        """What ``get_mesh``, spelled so, is asked for."""
        names = ", ".join(map(_quoted, self.after_get_mesh))
        return (
            f"{get_mesh}({names})" if len(self.names) == 1 else f"{get_mesh}([{names}])"
        )


def spelling(facts: Facts, path: str) -> Spelling | str:
    """The mesh for calls in one file, or a sentence where it is not known."""
    name = _dimension(facts, path)
    if name is None:
        return (
            "it cannot be seen what this checkout calls the dimension of pure data "
            "parallelism: it depends on the other degrees, or the mesh is made in a way "
            "that is not followed"
        )
    if facts.target.mesh == "1d":
        return Spelling((name,), (name,))
    if name != "dp_replicate":
        return (
            f"the 2-D target needs a dimension dp_replicate beside dp_shard, and "
            f"ParallelDims has only one for data parallelism, `{name}`: take --target 1d"
        )
    return Spelling((name, "dp_shard"), (name, "fsdp"))


def _dimension(facts: Facts, path: str) -> str | None:
    try:
        return meshes.replicate_dimension(facts.checkout, path)
    except CannotFollow:
        return _by_names(facts, path)


def _by_names(facts: Facts, path: str) -> str | None:
    """Where no ParallelDims can be followed: by the names that this checkout uses.

    None where it makes its mesh itself and none of the names that torchtitan has had is
    seen there. Where torchtitan, outside of the checkout, makes it, the name is the
    later one.
    """
    checkout = facts.checkout
    making = [
        f for f in checkout.mentioning("init_device_mesh(") if not of_a_test(f.path)
    ]
    dims = parallel_dims_files(checkout)
    files = [facts.survey.files[path], *making, *(file for file, _ in dims)]
    seen = {
        node.value
        for file in files
        for node in nodes(file.syntax)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    if "dp" in seen and not seen & _LATER:
        return "dp"
    torchtitans = not making and all(_gives_meshes(cls) for _, cls in dims)
    return "dp_replicate" if "dp_replicate" in seen or torchtitans else None


def _gives_meshes(cls: ast.ClassDef) -> bool:
    """Whether a ParallelDims has one of the methods by which torchtitan's gives meshes."""
    names = {node.name for node in cls.body if isinstance(node, ast.FunctionDef)}
    return bool(names & {"build_mesh", "get_mesh"} or cls.bases)


def _quoted(name: str) -> str:
    return f'"{name}"'
