"""Which titan-migrate this is, and beside which torch: what a report of an error needs."""

import json
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

VERSION = "0.1.0"
"""The one place that says it; pyproject.toml reads it here."""

_TOP = Path(__file__).resolve().parents[1]


def line() -> str:
    """Version, revision and torch, in one line."""
    torch = installed_torch()
    return ", ".join(
        (
            f"titan-migrate {VERSION}",
            f"revision {_revision() or 'unknown'}",
            f"torch {torch}" if torch else "no torch in this environment",
        )
    )


def installed_torch() -> str | None:
    """The version of the torch in this environment, without importing it."""
    try:
        return metadata.version("torch")
    except metadata.PackageNotFoundError:
        return None


def _revision() -> str | None:
    """What this clone has checked out, or the commit that pip installed from."""
    if (_TOP / ".git").exists():
        return _described() if shutil.which("git") else None
    try:
        # PEP 610; pip and uv write it for what they install from a repository.
        noted = metadata.distribution("titan-migrate").read_text("direct_url.json")
        commit: str = json.loads(noted or "{}")["vcs_info"]["commit_id"]
    except (metadata.PackageNotFoundError, ValueError, KeyError):
        return None
    return commit[:12]


def _described() -> str | None:
    # Told where it is, for a hook of another repository names that one.
    place = (f"--git-dir={_TOP / '.git'}", f"--work-tree={_TOP}")
    done = subprocess.run(
        ["git", *place, "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=_TOP,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip() or None
