"""What was found, for people and for programs: one file per format."""

from migrator.render.github import as_github
from migrator.render.json import as_json
from migrator.render.sarif import as_sarif
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
    "as_github",
    "as_json",
    "as_sarif",
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
