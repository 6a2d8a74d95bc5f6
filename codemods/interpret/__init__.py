"""Plain Python of a checkout, evaluated without running any of it.

The syntax tree is walked with values of our own: a mesh is a record of names and
sizes, what is imported from outside is opaque, and nothing is imported, opened or
executed. What goes beyond a small subset of the language is refused, never guessed.
"""

from codemods.interpret.interpreter import Interpreter
from codemods.interpret.values import UNKNOWN, CannotFollow, Instance, Mesh, Raised

__all__ = ["UNKNOWN", "CannotFollow", "Instance", "Interpreter", "Mesh", "Raised"]
