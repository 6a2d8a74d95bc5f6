"""Where the folders of this project are."""

from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
FIXTURES = TOP / "fixtures"
