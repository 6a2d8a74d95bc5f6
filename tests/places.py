"""Where the folders of this project are."""

from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
FIXTURES = TOP / "fixtures"

ONLY_1D = ("dependent", "legacy_dp", "legacy_mid")
"""Fixtures with one data-parallel dimension, or with none of their own: there is none to keep at degree 1."""

DEPENDS_ON = {"dependent": str(FIXTURES / "v0_2_2")}
"""Fixture -> the torchtitan that stands in for the release it uses and does not hold."""

FORKS = sorted(
    path.name
    for path in FIXTURES.iterdir()
    if path.is_dir() and path.name not in DEPENDS_ON
)
"""Fixtures that hold the torchtitan that they use."""
