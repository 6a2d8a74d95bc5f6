"""The whole story on real input: a torchtitan release from PyPI, migrated and verified."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import git
from rich.console import Console

from migrator.releases import download

# Whoever runs the demo need not have told git their name.
_IDENTITY = (
    "-c",
    "user.name=titan-migrate demo",
    "-c",
    "user.email=demo@example.invalid",
    "-c",
    "commit.gpgsign=false",
)


def bundled_fixture() -> Path:
    """The small tree of our own that stands in for torchtitan 0.2.1 where no registry answers.

    In a checkout of this project it is `fixtures/v0_2_1`; an installation brings it along.
    """
    here = Path(__file__).resolve().parent
    places = (here.parent / "fixtures" / "v0_2_1", here / "fixture")
    for folder in places:
        if (folder / "torchtitan").is_dir():
            return folder
    raise FileNotFoundError(f"no bundled fixture at {' or '.join(map(str, places))}")


def run_demo(
    version: str = "0.2.1",
    *,
    console: Console,
    verify: bool = True,
    workdir: Path | None = None,
) -> bool:
    """Downloads a torchtitan release, puts it under git, migrates and verifies it.

    version: the release. verify: whether to train (about a minute).
    workdir: where `torchtitan/` (the migrated checkout) and `migration.patch`
    are left; a new temporary folder where None. Returns whether all went well.
    Raises FileExistsError where `workdir` holds a torchtitan already,
    FileNotFoundError where neither registry nor fixture has a tree, and what
    `apply_checkout` and `run_verify` raise.
    """
    from migrator.apply import apply_checkout

    workdir = (
        Path(tempfile.mkdtemp(prefix="titan-migrate-demo-"))
        if workdir is None
        else Path(workdir)
    )
    tree = workdir / "torchtitan"
    if tree.exists():
        raise FileExistsError(f"{tree} exists already: give the demo an empty folder")
    tree.mkdir(parents=True)

    problem = download(version, tree)
    if problem is None:
        console.print(
            f"torchtitan {version} from PyPI, unpacked in {tree}",
            highlight=False,
            soft_wrap=True,
        )
    else:
        fixture = bundled_fixture()
        console.print(
            f"No registry gave torchtitan {version} ({problem}).",
            highlight=False,
            soft_wrap=True,
        )
        console.print(
            f"Instead: the bundled fixture {fixture.name}, a small tree of our own in the shape of torchtitan 0.2.1.",
            highlight=False,
            soft_wrap=True,
        )
        shutil.copytree(
            fixture,
            tree,
            dirs_exist_ok=True,
            ignore=shutil.ignore_patterns("__pycache__"),
        )
    repo = put_under_git(tree, "before the migration")

    apply_checkout(tree, target="1d")
    patch = workdir / "migration.patch"
    # Bytes, not text: a file of the tree may be in any encoding.
    difference = repo.git.execute(
        ["git", "diff", "--no-ext-diff", "--no-color", "--binary"],
        stdout_as_string=False,
        strip_newline_in_stdout=False,
    )
    patch.write_bytes(difference)
    console.print(repo.git.diff("--stat", "--no-color"), highlight=False, markup=False)

    passed = True
    if verify:
        from migrator.verify import run_verify

        passed = run_verify(tree, console=console, cells=("dp",)).passed
    console.print(f"Migrated tree: {tree}", highlight=False, soft_wrap=True)
    console.print(f"The change:    {patch}", highlight=False, soft_wrap=True)
    return passed


def put_under_git(tree: Path, message: str) -> git.Repo:
    """Makes `tree` a git repository with one commit of everything in it."""
    repo = git.Repo.init(tree)
    (tree / ".gitignore").write_text("__pycache__/\n", encoding="utf-8")
    repo.git.execute(["git", "add", "--all"])
    repo.git.execute(
        ["git", *_IDENTITY, "commit", "--quiet", "--no-verify", "--message", message]
    )
    return repo
