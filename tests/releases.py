"""Real torchtitan releases, downloaded from PyPI once and cached."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from functools import cache
from pathlib import Path

import pytest

VERSIONS = ("0.1.0", "0.2.0", "0.2.1", "0.2.2")
"""The releases that carry ``apply_ddp``."""


@cache
def release(version: str) -> Path:
    """A folder that holds the ``torchtitan`` package of a release; do not write to it.

    Where nothing can be downloaded the test is skipped, or fails under ``CI=true``.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = home / "titan-migrate" / "releases" / version
    if not (place / "torchtitan").is_dir():
        _download(version, place)
    return place


def _download(version: str, place: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--dest", scratch, f"torchtitan=={version}"]
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = list(Path(scratch).glob("torchtitan-*.whl"))
        if done.returncode or not wheels:
            message = (
                f"torchtitan {version} could not be downloaded: {done.stderr[-500:]}"
            )
            if os.environ.get("CI") == "true":
                pytest.fail(message)
            pytest.skip(message)
        unpacked = Path(scratch) / "unpacked"
        zipfile.ZipFile(wheels[0]).extractall(unpacked)
        place.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(dir=place.parent))
        shutil.move(unpacked / "torchtitan", staged / "torchtitan")
        if place.exists():
            shutil.rmtree(staged)
        else:
            os.replace(staged, place)


def as_checkout(source: Path, place: Path) -> Path:
    """A git checkout with one commit of a folder's content.

    Args:
        source: what to copy.
        place: where the checkout is made; must not exist.
    """
    shutil.copytree(source, place)
    git(place, "init", "-q", "-b", "main")
    git(place, "add", "-A")
    git(place, "commit", "-q", "-m", "base")
    return place


def git(place: Path, *arguments: str) -> str:
    """The output of a git command, with an identity of its own."""
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    command = ["git", *identity, "-c", "core.autocrlf=false", *arguments]
    done = subprocess.run(
        command, cwd=place, capture_output=True, text=True, check=True
    )
    return done.stdout
