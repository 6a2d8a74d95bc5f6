"""Decide what every definition and every call site of ``apply_ddp`` becomes.

The survey says what is there; this says what to write: one function for each wrap
plan of the checkout, and for each call the function, the mesh and the arguments.
"""

from codemods.plans.arguments import call_problem
from codemods.plans.decide import decide
from codemods.plans.dimension import Spelling
from codemods.plans.dimension import spelling as mesh_spelling
from codemods.plans.fits import needs, untold
from codemods.plans.homes import module_for
from codemods.plans.naming import replicate_name
from codemods.plans.records import Facts, MeshEdit, NewCall, NewFunction
from codemods.plans.sites import is_inline, standalone
from codemods.plans.strings import Followed, alias, followed
from codemods.plans.ties import before_wrapping
from codemods.plans.values import wrapped_by

__all__ = [
    "Facts",
    "Followed",
    "MeshEdit",
    "NewCall",
    "NewFunction",
    "Spelling",
    "alias",
    "before_wrapping",
    "call_problem",
    "decide",
    "followed",
    "is_inline",
    "mesh_spelling",
    "module_for",
    "needs",
    "replicate_name",
    "standalone",
    "untold",
    "wrapped_by",
]
