"""A repository with many branches, made of a few trees and of edits as people make them."""

import random
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path

from releases import git

Files = Mapping[str, bytes]


def files_of(folder: Path) -> dict[str, bytes]:
    """Path -> content, of a folder without git."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not {".git", "__pycache__"} & set(path.parts)
    }


def edited(files: Files, chance: random.Random, concerned: float) -> dict[str, bytes]:
    """What a branch makes of a tree: one to three edits; only the files that they change.

    Args:
        files: the tree.
        chance: what is made up.
        concerned: how often, from 0 to 1, one of the edits is about what a migration is about.
    """
    changed: dict[str, bytes] = {}
    kinds = [chance.choice(EVERYDAY) for _ in range(chance.randint(1, 3))]
    if chance.random() < concerned:
        kinds[0] = chance.choice(CONCERNED)
    for edit in kinds:
        changed |= edit({**files, **changed}, chance)
    return changed


def _some(files: Files, chance: random.Random, *words: bytes) -> str:
    """A Python file that holds one of the words."""
    fitting = [
        path
        for path, raw in files.items()
        if path.endswith(".py") and (not words or any(word in raw for word in words))
    ]
    return chance.choice(fitting)


def _a_comment(files: Files, chance: random.Random) -> dict[str, bytes]:
    path = _some(files, chance)
    return {path: b"# Looked at on day %d.\n" % chance.randint(1, 999) + files[path]}


def _a_helper(files: Files, chance: random.Random) -> dict[str, bytes]:
    path, n = _some(files, chance), chance.randint(1, 999)
    return {path: files[path] + b"\n\ndef helper_%d(x):\n    return x * %d\n" % (n, n)}


def _a_note(files: Files, chance: random.Random) -> dict[str, bytes]:
    note = b"Run %d diverged.\n" % chance.randint(1, 999)
    return {"notes/runs.md": files.get("notes/runs.md", b"") + note}


def _a_job(files: Files, chance: random.Random) -> dict[str, bytes]:
    n = chance.randint(1, 999)
    text = (
        b"[training]\nsteps = %d\n[parallelism]\ndata_parallel_replicate_degree = 2\n"
    )
    return {f"jobs/job_{n}.toml": text % n}


def _an_experiment(files: Files, chance: random.Random) -> dict[str, bytes]:
    n = chance.randint(1, 999)
    text = b"import torch\n\n\ndef loss_%d(pred, labels):\n    return torch.nn.functional.mse_loss(pred, labels) * %d\n"
    return {f"torchtitan/experiments/try_{n}/loss.py": text % (n, n)}


def _a_hazard(files: Files, chance: random.Random) -> dict[str, bytes]:
    path = _some(files, chance, b"apply_ddp")
    text = b"\n\ndef accumulate_%d(model, batch):\n    with model.no_sync():\n        model(batch).backward()\n"
    return {path: files[path] + text % chance.randint(1, 999)}


def _an_opt_out(files: Files, chance: random.Random) -> dict[str, bytes]:
    path = _some(files, chance, b"apply_ddp(")
    mark = b"apply_ddp(  # titan-migrate: ignore[TM102]\n"
    return {path: files[path].replace(b"apply_ddp(\n", mark, 1)}


def _a_pin(files: Files, chance: random.Random) -> dict[str, bytes]:
    return {"requirements.txt": b"torch==2.%d.0\n" % chance.choice((7, 9, 10))}


def _an_exclusion(files: Files, chance: random.Random) -> dict[str, bytes]:
    text = b'[tool.titan-migrate]\nexclude = ["torchtitan/experiments"]\n'
    return {"pyproject.toml": text}


def _a_mistake(files: Files, chance: random.Random) -> dict[str, bytes]:
    path = _some(files, chance)
    return {path: files[path] + b"\ndef half(\n"}


EVERYDAY = (_a_comment, _a_helper, _a_note, _a_job, _an_experiment)
CONCERNED = (_a_hazard, _an_opt_out, _a_pin, _an_exclusion, _a_mistake)


def organisation(
    place: Path,
    trees: Mapping[str, Files],
    branches: int,
    concerned: float = 0.5,
    bases: int | None = None,
) -> Path:
    """A bare repository.

    Args:
        place: where it is made.
        trees: name of a base branch -> its files.
        branches: how many branches there are besides, each with edits of one of these.
        concerned: how often these are about what a migration is about.
        bases: how many of the first trees have branches, all where it is None.
    """
    chance = random.Random(0)
    refs: dict[str, tuple[str | None, Files]] = {
        f"refs/heads/{name}": (None, files) for name, files in trees.items()
    }
    names = list(trees)[:bases]
    for number in range(branches):
        base = names[number % len(names)]
        refs[f"refs/heads/people/{number:03d}-{base}"] = (
            f"refs/heads/{base}",
            edited(trees[base], chance, concerned),
        )
    git_import(place, refs)
    return place


def git_import(place: Path, refs: Mapping[str, tuple[str | None, Files]]) -> None:
    """Makes a bare repository with refs: name -> (the ref that it begins at, files that change)."""
    place.mkdir(parents=True)
    git(place, "init", "-q", "--bare", "-b", "main")
    stream = b"".join(_commits(refs))
    subprocess.run(
        ["git", "fast-import", "--quiet"], cwd=place, input=stream, check=True
    )


def _commits(refs: Mapping[str, tuple[str | None, Files]]) -> Iterable[bytes]:
    for day, (name, (base, files)) in enumerate(refs.items()):
        yield b"commit %s\n" % name.encode()
        when = 1_780_000_000 + day * 3600
        yield b"committer t <t@example.org> %d +0000\ndata 4\nmade\n" % when
        if base is not None:
            yield b"from %s\n" % base.encode()
        for path, raw in files.items():
            yield b"M 100644 inline %s\ndata %d\n" % (path.encode(), len(raw))
            yield raw + b"\n"
