"""How this checkout names the mesh that replicate takes."""

import ast
from dataclasses import dataclass

from codemods import meshes
from codemods.interpret import CannotFollow
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
            "it cannot be seen what ParallelDims calls the dimension of pure data "
            "parallelism: it depends on the other degrees"
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
    """Where ParallelDims is out of reach: by the names that this checkout uses."""
    files = [facts.survey.files[path]]
    files += [file for file, _ in parallel_dims_files(facts.checkout)]
    seen = {
        node.value
        for file in files
        for node in ast.walk(file.syntax)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    return "dp" if "dp" in seen and not seen & _LATER else "dp_replicate"


def _quoted(name: str) -> str:
    return f'"{name}"'
