"""One rehearsal from beginning to end: trees, layouts, scenes. Nothing trains."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console

from migrator.signals import terminable
from migrator.verify.errors import VerifyError
from migrator.verify.rehearse import layouts, wanted
from migrator.verify.rehearse.launch import Theatre
from migrator.verify.rehearse.run import Asked, rehearse
from migrator.verify.rehearse.verdict import Rehearsal
from migrator.verify.show.rehearsal import Scenes, show_end
from migrator.verify.train import worktrees
from migrator.verify.train.graft import autocast
from migrator.version import adding


def run_rehearse(
    path: Path,
    *,
    base: str | None = None,
    rev: str | None = None,
    titles: Sequence[str] = (),
    worlds: Sequence[str] = (),
    world_size: int | None = None,
    config: str | None = None,
    arguments: Sequence[str] = (),
    step: bool | None = None,
    torchtitan: str | None = None,
    console: Console | None = None,
) -> Rehearsal:
    """Rehearses the models of the checkout at `path` and judges the plans of its migrated tree.

    base, rev: as of `run_verify`. titles: of models, as `wanted.wanted` has
    them; the one of the configuration or else all where none is given. worlds:
    layouts, as "dp_replicate=128,tp=8"; the default table where there is
    neither of these nor a world_size, which is laid out as the configuration's
    degrees say. config: a TOML file of the fork's or the name of one.
    arguments: of torchtitan's own command line. step: whether a fake step is
    counted; where a model is named if None. torchtitan: the one that the checkout uses
    and does not hold, a folder or a version. console: where scenes are printed, one after the other.

    Nothing is written in the checkout, and no process and no worktree is left.
    Raises VerifyError where the environment or the arguments are amiss.
    """
    check_torch()
    console = console or Console(quiet=True)
    repo = worktrees.open_checkout(path, torchtitan)
    worktrees.parent_of(repo, path)
    revision = worktrees.find_base(repo, base, rev)
    asked_for = layouts.parse(worlds)
    with (
        terminable(),
        tempfile.TemporaryDirectory(
            prefix=worktrees.PREFIX, ignore_cleanup_errors=True
        ) as made,
    ):
        scratch = Path(made).resolve()
        with worktrees.trees(repo, path, revision, scratch, rev) as trees:
            file = wanted.configuration(config, trees.migrated) if config else None
            settings = wanted.read(file) if file else {}
            if world_size is not None:
                degrees = wanted.degrees_of(settings)
                asked_for += (layouts.of_size(degrees, world_size),)
            named = wanted.title_of(settings)
            chosen = wanted.wanted(trees.base, titles or [named or "all"])
            with Theatre(scratch) as theatre:
                found = rehearse(
                    trees,
                    [(model, asked_for or layouts.DEFAULT) for model in chosen],
                    theatre,
                    Asked(
                        tuple(arguments),
                        file,
                        step=bool(titles or named) if step is None else step,
                    ),
                    Scenes(console).show,
                )
    show_end(found, console)
    if repo.dependency.files:
        console.print(
            f"The checkout's own plans, with {repo.dependency.name}. {autocast(repo)}",
            highlight=False,
            soft_wrap=True,
            markup=False,
        )
    return found


def check_torch() -> None:
    """Raises VerifyError where there is no torch with a fake process group and a composable replicate; torch is not imported for it."""
    if find_spec("torch") is None:
        raise VerifyError(
            "There is no torch here to rehearse with: run in the environment in which the fork trains,"
            f" or add what that needs with `{adding('verify')}`."
        )
    version = metadata.version("torch")
    release = tuple(int(part) for part in version.split("+")[0].split(".")[:2])
    if release < (2, 9):
        raise VerifyError(
            f"torch {version} is too old for a rehearsal, which needs its composable replicate and fake process group: 2.9 or later."
        )
