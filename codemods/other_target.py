"""Functions that are written for the API of another torch than the target's."""

from codemods.findings import Finding
from codemods.names import Definition
from codemods.survey import Survey, function_of, mesh_of
from codemods.targets import Target

_TORCH = {"1d": "torch 2.10 and later", "2d": "torch 2.9"}


def is_for_other_target(survey: Survey, target: Target, definition: Definition) -> bool:
    """Whether a function that wraps with replicate passes the mesh of the other API."""
    return mesh_of(survey.checkout, definition) not in (None, target.mesh)


def for_other_target(survey: Survey, target: Target, definition: Definition) -> Finding:
    """What is said of such a function: left for a person, unless its line opts out."""
    node = function_of(survey.checkout, definition)
    assert node is not None
    mesh = mesh_of(survey.checkout, definition) or "1d"
    opted_out = survey.files[definition.path].opted_out(node.lineno, "TM101")
    return Finding(
        definition.path,
        node.lineno,
        "TM101",
        f"{definition.name} wraps with the replicate of {_TORCH[mesh]} on a {mesh.upper()} "
        f"mesh; that of {_TORCH[target.mesh]} takes a {target.mesh.upper()} one",
        "opted-out" if opted_out else "left",
        f"replicate(model, {target.mesh_keyword}=dp_mesh)",
    )
