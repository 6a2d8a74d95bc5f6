"""Releases of torchtitan, fetched from the package registry when somebody asks for one."""

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

from migrator import caches
from migrator.errors import TitanMigrateError
from migrator.place import Place


def cached(version: str) -> Path:
    """Where a release that was fetched is kept; the package is ``torchtitan`` in there."""
    return caches.folder() / "releases" / version


def fetch(version: str) -> Path:
    """The folder of a release, downloaded where it is not kept yet.

    Raises:
        TitanMigrateError: it could not be had.
    """
    place = cached(version)
    if (place / "torchtitan").is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{version}-"))
    try:
        try:
            problem = download(version, staged)
        except FileNotFoundError as error:
            raise TitanMigrateError(f"--torchtitan {version}: {error}") from error
        if problem is not None:
            raise TitanMigrateError(
                f"torchtitan {version} could not be downloaded ({problem}). Name a folder "
                "that holds one with --torchtitan PATH, or try again with a network."
            )
        if not place.exists():
            os.replace(staged, place)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return place


def unpacked(wheel: Place) -> Path:
    """The folder with the package of a wheel of torchtitan, kept for the next time.

    Raises:
        TitanMigrateError: it is no wheel, or holds none.
    """
    content = wheel.read_bytes()
    place = caches.folder() / "wheels" / hashlib.sha256(content).hexdigest()
    if (place / "torchtitan").is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    staged = Path(tempfile.mkdtemp(dir=place.parent, prefix=".staged-"))
    try:
        _unpack(io.BytesIO(content), staged)
        if not (staged / "torchtitan").is_dir():
            raise TitanMigrateError(
                f"--torchtitan: there is no torchtitan in {wheel}. Name a wheel of torchtitan."
            )
        if not place.exists():
            os.replace(staged, place)
    except zipfile.BadZipFile as error:
        raise TitanMigrateError(
            f"--torchtitan: {wheel} is no wheel, or not whole. Name a wheel of torchtitan."
        ) from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return place


def _unpack(wheel: Path | io.BytesIO, tree: Path) -> None:
    with zipfile.ZipFile(wheel) as opened:
        names = [name for name in opened.namelist() if name.startswith("torchtitan/")]
        opened.extractall(tree, names)


def download(version: str, tree: Path) -> str | None:
    """Unpacks the release's wheel into `tree`; returns None, or why it could not be had."""
    if find_spec("pip") is None:
        return "this environment has no pip: `python -m ensurepip`, or `uvx --with pip`, adds it"
    with tempfile.TemporaryDirectory(prefix="titan-migrate-wheel-") as folder:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-input",
        ]
        command += [
            "--retries",
            "1",
            "--timeout",
            "20",
            "--no-deps",
            "--only-binary",
            ":all:",
            "--dest",
            folder,
        ]
        command.append(f"torchtitan=={version}")
        try:
            # Not here: a checkout may hold something that is called pip.
            done = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, timeout=180
            )
        except subprocess.TimeoutExpired:
            return "pip download was not over after 180 seconds"
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            known = re.search(r"from versions: ([^)]*)", done.stderr)
            if known and known[1] not in ("", "none"):
                # The registry answered, so nothing can stand in for what was asked for.
                raise FileNotFoundError(
                    f"there is no torchtitan {version} on PyPI; there are {known[1]}."
                )
            errors = [
                line for line in done.stderr.splitlines() if line.startswith("ERROR")
            ]
            return (
                errors[-1].removeprefix("ERROR:").strip()
                if errors
                else "pip download failed"
            )
        _unpack(wheels[0], tree)
    return None
