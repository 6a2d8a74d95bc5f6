"""Where the folders of this project are."""

from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
FIXTURES = TOP / "fixtures"

ONLY_1D = ("legacy_dp", "legacy_mid")
"""Fixtures with one data-parallel dimension: there is none to keep at degree 1."""
