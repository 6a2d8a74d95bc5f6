"""The package ``titan_migrate``, the only name that an installation gives to import.

`migrator` and `codemods` are names that a fork or its environment may have already. So the
wheel keeps ours in a folder of this package that is on nobody's path, and the command puts
it on its own. What trains or rehearses a fork is started by file, and never sees it.
"""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent


def main() -> None:
    """Be the command ``titan-migrate``, from an installation or, installed with ``-e``, a clone."""
    kept = _HERE / "_lib"
    ours = str(kept if kept.is_dir() else _HERE.parents[1])
    if getattr(sys.flags, "safe_path", False):
        sys.path.insert(0, ours)
    else:
        # The folder of the script, or the one that `python -m` is called in: the fork's.
        sys.path[0] = ours
    from migrator.cli import main as command

    command(prog_name="titan-migrate")
