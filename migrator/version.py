"""Which titan-migrate this is, and beside which torch: what a report of an error needs."""

import json
import shlex
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

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


def adding(extra: str) -> str:
    """The command that adds an extra of ours, such as ``verify``, to this environment."""
    if (_TOP / "pyproject.toml").is_file():
        return f"pip install -e {shlex.quote(f'{_TOP}[{extra}]')}"
    noted = _noted()
    kind = noted.get("vcs_info", {}).get("vcs")
    url = f"{kind}+{noted['url']}" if kind else noted.get("url", "git+URL")
    return f"pip install {shlex.quote(f'titan-migrate[{extra}] @ {url}')}"


def _revision() -> str | None:
    """What this clone has checked out, or the commit that pip installed from."""
    if (_TOP / ".git").exists():
        return _described() if shutil.which("git") else None
    commit = _noted().get("vcs_info", {}).get("commit_id")
    return commit[:12] if commit else None


def _noted() -> dict[str, Any]:
    """Where pip, or uv, installed this from (PEP 610); empty where that is not known."""
    try:
        noted = metadata.distribution("titan-migrate").read_text("direct_url.json")
        found: dict[str, Any] = json.loads(noted or "{}")
    except (metadata.PackageNotFoundError, ValueError):
        return {}
    return found


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
