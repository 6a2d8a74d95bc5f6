"""Where the tool keeps what it may use again: below the user's cache folder. It may be deleted at any time."""

import os
import sys
from pathlib import Path


def folder() -> Path:
    """The tool's own cache folder, by the platform's custom; it need not be there."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):
        home = Path(given)
    elif sys.platform == "darwin":
        home = Path.home() / "Library" / "Caches"
    else:
        home = Path.home() / ".cache"
    return home / "titan-migrate"
