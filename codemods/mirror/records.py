"""What a derivation is asked for, and what comes out of it."""

import ast
from dataclasses import dataclass

from codemods.mirror.alike import bare


class CannotMirror(Exception):
    """This ``apply_fsdp`` has a shape that the derivation does not follow."""


@dataclass(frozen=True)
class Parameter:
    """A parameter of the derived function, as it is written."""

    name: str
    text: str
    required: bool


@dataclass(frozen=True)
class Plan:
    """A derived function.

    Args:
        name: of the function.
        parameters: in order; the first is the model.
        text: the whole function, at module level, without a final newline.
        sums_gradients: it switches off replicate's division of gradients.
        as_apply_fsdp: the ``apply_fsdp`` it mirrors does the same.
        mesh: the parameter that is its mesh, None where it looks its mesh up itself.
        wraps: the module expressions it wraps, in order.
    """

    name: str
    parameters: tuple[Parameter, ...]
    text: str
    sums_gradients: bool
    wraps: tuple[str, ...]
    as_apply_fsdp: bool = True
    mesh: str | None = None

    @property
    def others(self) -> tuple[Parameter, ...]:
        """The parameters besides the model and the mesh."""
        return tuple(p for p in self.parameters[1:] if p.name != self.mesh)

    def mirrored_alike(self, other: "Plan") -> bool:
        """Whether both take and do the same, whatever they are called."""
        names = [parameter.name for parameter in self.parameters]
        same_names = names == [parameter.name for parameter in other.parameters]
        return (
            bool(self.wraps)
            and same_names
            and bare(self.text)
            == bare(other.text.replace(f"def {other.name}(", f"def {self.name}(", 1))
        )

    def same_wrapping(self, other: "Plan") -> bool:
        """Whether both do the same, whatever their comments and annotations say."""
        names = [parameter.name for parameter in self.parameters]
        same_names = names == [parameter.name for parameter in other.parameters]
        return same_names and bare(self.text) == bare(other.text)


@dataclass(frozen=True)
class Wishes:
    """What the derived function must do beyond mirroring.

    Args:
        name: of the derived function.
        mesh_keyword: ``mesh`` or ``device_mesh``, as replicate calls it.
        fully_shard: how ``fully_shard`` is spelled where ``apply_fsdp`` is defined.
        sum_gradients: the training loop has divided by the global token count.
        division_helper: a function of the checkout that switches division off, to
            be called where ``apply_fsdp`` itself does not.
        division_helpers: every function of the checkout that does so.
        averaging_option: one call site is outside that loop and must keep averaging.
        ties: pairs of module attributes that share their weight in some model.
        stand_ins: a module that a stage of a pipeline lacks may be an Identity there.
        log: the statement that logs success, or None.
        said: what ``apply_ddp`` logs besides, as ``layout.normal`` gives it.
        without_dtypes: one call site passes None for the dtypes.
        returns_model: ``apply_ddp`` returned its model, so callers may rely on it.
        dimension: the mesh dimension of pure replication, where a mesh by this name is
            the one to replicate over as ``apply_fsdp`` looks it up.
        replicate: what the composable replicate is called in the module.
        only_wraps: refuse whatever has an effect besides wrapping.
    """

    name: str
    mesh_keyword: str
    fully_shard: frozenset[str]
    sum_gradients: bool
    division_helper: str | None = None
    division_helpers: frozenset[str] = frozenset()
    averaging_option: bool = False
    without_dtypes: bool = False
    ties: tuple[tuple[str, str], ...] = ()
    stand_ins: bool = False
    log: str | None = None
    said: frozenset[str] = frozenset()
    returns_model: bool = False
    dimension: str | None = None
    replicate: str = "replicate"
    only_wraps: bool = False

    def is_replicate_mesh(self, expression: str) -> bool:
        """Whether an expression that looks a mesh up gives the one to replicate over."""
        names = {
            node.value
            for node in ast.walk(ast.parse(f"({expression})"))
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        return self.dimension is not None and names == {self.dimension}
