"""What was found, for people and for programs: one file per format."""

from migrator.render.statistics import statistics
from migrator.render.text import (
    hazards,
    inert,
    precision,
    rewritten,
    selection_line,
    sentence,
    target_line,
    text,
)
from migrator.render.ways import ways

__all__ = [
    "hazards",
    "inert",
    "precision",
    "rewritten",
    "selection_line",
    "sentence",
    "statistics",
    "target_line",
    "text",
    "ways",
]
