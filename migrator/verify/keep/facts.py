"""What the result of a run depends on beside what the run is told: files, packages, machine, environment.

A kept run stands in for a new one only where all of it is the same.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from migrator.verify.train import corpus
from migrator.verify.train.assets_build import ASSETS

_OURS = Path(__file__).parents[1]
# Of libraries that read them by themselves. HF_: what `datasets` reads.
_READ = tuple(
    """
    ATEN CUBLAS CUDA CUDNN DNNL GLOO GOMP HF_ KMP LD_ MKL NCCL
    NVIDIA OMP ONEDNN OPENBLAS PYTHON PYTORCH TORCH TRITON
    """.split()
)
_NAME = re.compile(rb"[A-Za-z][A-Za-z0-9_]+")


@dataclass(frozen=True)
class Tree:
    """A worktree's content. digest: of every file. names: what in its Python files may name an environment variable."""

    digest: str
    names: frozenset[str]


def tree(root: Path) -> Tree:
    """Reads every file of a worktree, but what is git's; a link counts by where it leads, and what is there."""
    found = hashlib.sha256()
    names: set[bytes] = set()
    for path in sorted(_files(root)):
        link = os.readlink(path) if path.is_symlink() else ""
        content = path.read_bytes() if path.is_file() else b""
        name = path.relative_to(root).as_posix()
        found.update(os.fsencode(f"{name}\0{link}\0{len(content)}\0") + content)
        if path.suffix == ".py":
            names.update(_NAME.findall(content))
    return Tree(found.hexdigest(), frozenset(name.decode() for name in names))


def _files(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if name not in (".git", "__pycache__")]
        links = [name for name in folders if Path(folder, name).is_symlink()]
        yield from (Path(folder, name) for name in (*files, *links) if name != ".git")


def facts(
    base: Tree, gpus: Sequence[str], packages: Mapping[str, str]
) -> dict[str, str]:
    """What has to be the same for a run of the base revision to come out the same, by its name in a sentence.

    Args:
        base: the base revision's worktree.
        gpus: names of the GPUs in use.
        packages: name -> version of what training imports.
    """
    return {
        "the digest of the base revision's files": base.digest[:16],
        "the machine": machine(gpus),
        "Python": platform.python_version(),
        **packages,
        "the digest of titan-migrate's own files for training": digest(_OURS / "train"),
        "the digest of the training data": _data(),
    }


def machine(gpus: Sequence[str]) -> str:
    """The processor, by what decides how it rounds, and the GPUs."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        text = ""
    said: dict[str, str] = {}
    for line in text.splitlines():
        key, _, value = line.partition(":")
        said.setdefault(key.strip(), value.strip())
    name = said.get("model name") or platform.processor() or "unknown processor"
    flags = said.get("flags") or said.get("Features") or ""
    features = hashlib.sha256(flags.encode()).hexdigest()[:8]
    cards = [f"{count} x {gpu}" for gpu, count in sorted(Counter(gpus).items())]
    return ", ".join([f"{name} ({platform.machine()}, features {features})", *cards])


def _data() -> str:
    found = hashlib.sha256("\0".join(corpus.documents()).encode())
    found.update(digest(ASSETS).encode())
    return found.hexdigest()[:16]


def digest(folder: Path) -> str:
    """The digest of every file below a folder."""
    return tree(folder).digest[:16]


def surroundings(base: Tree) -> dict[str, str]:
    """What more may matter, though nobody would think of it: every package, and environment variables.

    Of the variables those that libraries read, and those that the base revision
    names somewhere.
    """
    packages = {
        f"package {found.metadata['Name']}": found.version
        for found in metadata.distributions()
    }
    variables = {
        f"${name}": value
        for name, value in os.environ.items()
        if name.startswith(_READ) or name in base.names
    }
    # What reads a run again is as much a part of it.
    return {**packages, **variables, "titan-migrate": digest(_OURS)}
