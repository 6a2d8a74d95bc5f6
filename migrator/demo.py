"""The whole story on real input: a torchtitan release from PyPI, migrated and verified."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import git
from rich.console import Console
from rich.text import Text

from codemods.findings import kind_of, worst_first
from migrator import apply, checkout, render, review
from migrator.changeset import Changeset
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
    """The small tree of our own that stands in for torchtitan 0.2.1 where no registry answers."""
    return Path(__file__).resolve().parents[1] / "fixtures" / "v0_2_1"


def run_demo(
    version: str = "0.2.1",
    *,
    console: Console,
    verify: bool = True,
    workdir: Path | None = None,
) -> bool:
    """Tells the story of a migration on a torchtitan release, step by step.

    version: the release. verify: whether to train (a minute or two).
    workdir: where `torchtitan/` (the migrated checkout), `migration.patch` and
    `review.html` are left; a new temporary folder where None. Nothing of them is left
    where the demo breaks off. Returns whether the verdict is good, True where none was asked for.
    Raises FileExistsError where `workdir` holds a torchtitan already,
    FileNotFoundError where neither registry nor fixture has a tree, and what
    `apply_checkout` and `run_verify` raise.
    """
    told = _Story(console, steps=5 if verify else 3)
    with _folder(workdir) as place:
        tree = place / "torchtitan"
        told.step("Download", "A release, put under git in a folder of its own.")
        told.say(_fetched(version, tree))
        repo = put_under_git(tree, "before the migration")
        told.step("What is there", "`titan-migrate check` reads, and runs nothing.")
        changeset = _planned(tree)
        told.say(render.sentence(changeset))
        told.step(
            "What changes",
            "`titan-migrate apply` writes all of it or nothing; git can undo it.",
        )
        changeset.write()
        patch = place / "migration.patch"
        patch.write_bytes(changeset.diff())
        told.say(repo.git.diff("--stat", "--no-color"))
        told.say(f"The whole change:\n  {patch}")
        told.hazards(changeset)
        verdict = "Nothing was trained, so nothing is proved yet."
        passed = True
        if verify:
            told.step(
                "Train both trees",
                "DDP as it was, replicate, and FSDP as the reference: one seed checkpoint, "
                "the same data, 2 ranks.",
            )
            passed, verdict = _verified(tree, told)
        page = place / "review.html"
        page.write_text(review.as_html(review.review(tree)), encoding="utf-8")
    told.end(verdict, page)
    return passed


class _Story:
    """Numbered steps on a console, each with its reason."""

    def __init__(self, console: Console, steps: int) -> None:
        self.console, self.steps, self.at = console, steps, 0

    def step(self, what: str, why: str) -> None:
        self.at += 1
        self.console.print()
        self.say(f"{self.at} of {self.steps}  {what}", "bold")
        self.say(why, "dim")

    def say(self, text: str, style: str = "") -> None:
        for line in text.split("\n"):
            # A path is copied from its own line, and a table keeps its columns.
            whole = line.startswith(" ") or not self.console.is_terminal
            self.console.print(Text(line, style=style), soft_wrap=whole)

    def hazards(self, changeset: Changeset) -> None:
        """What apply left for a person, a line each; of what breaks nothing, how much."""
        found = [f for f in changeset.findings if f.status == "hazard"]
        worse = [f for f in worst_first(found) if f.severity != "note"]
        if found:
            self.say("Not changed, and for a person to look at:")
        for finding in worse:
            self.say(
                render.inert(
                    f"- {kind_of(finding.severity)}, {finding.path}:{finding.line}: {finding.message}"
                )
            )
        if notes := len(found) - len(worse):
            self.say(f"- {notes} note{'s' * (notes > 1)}, on the page for reviewers")

    def end(self, verdict: str, page: Path) -> None:
        self.console.print()
        self.say(verdict, "bold")
        self.say(f"The page for reviewers:\n  {page}")
        self.say(
            "On your own fork: `titan-migrate check PATH`, then `titan-migrate apply PATH`."
        )


@contextlib.contextmanager
def _folder(workdir: Path | None) -> Iterator[Path]:
    """Where the demo works; what it made there goes again where it breaks off."""
    place = Path(workdir or tempfile.mkdtemp(prefix="titan-migrate-demo-"))
    if (place / "torchtitan").exists():
        raise FileExistsError(
            f"{place / 'torchtitan'} exists already: give the demo an empty folder"
        )
    there = set(place.iterdir()) if place.is_dir() else None
    place.mkdir(parents=True, exist_ok=True)
    try:
        yield place
    except BaseException:
        if workdir is None or there is None:
            shutil.rmtree(place, ignore_errors=True)
        for made in set(place.iterdir()) - (there or set()) if place.is_dir() else ():
            shutil.rmtree(made) if made.is_dir() else made.unlink()
        raise


def _fetched(version: str, tree: Path) -> str:
    """Puts the release into `tree`, or the fixture where no registry answers; says which."""
    tree.mkdir(parents=True)
    problem = download(version, tree)
    if problem is None:
        return f"torchtitan {version} from PyPI, unpacked in\n  {tree}"
    fixture = bundled_fixture()
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(fixture, tree, dirs_exist_ok=True, ignore=ignored)
    return (
        f"No registry gave torchtitan {version} ({problem}).\nInstead: the bundled fixture "
        f"{fixture.name}, a small tree of our own in the shape of torchtitan 0.2.1, in\n  {tree}"
    )


def _planned(tree: Path) -> Changeset:
    changeset = apply.plan(checkout.open_checkout(tree), apply.resolve_target("1d"))
    apply.refuse_incomplete(changeset)
    return changeset


def _verified(tree: Path, told: _Story) -> tuple[bool, str]:
    """Trains and judges; whether it is good, and that in words."""
    from migrator.verify import run_verify
    from migrator.verify.choose.scenarios import CELLS
    from migrator.verify.show.wording import conclusion

    found = run_verify(tree, console=told.console, cells=("dp",))
    told.step(
        "What it means",
        "`titan-migrate verify` trains more: tensor and pipeline parallelism, bf16, accumulation.",
    )
    (verdict,) = (one for cells in found.models.values() for one in cells.values())
    for note in verdict.notes:
        told.say(f"- {note}")
    return found.passed, ": ".join(conclusion(CELLS["dp"], verdict))


def put_under_git(tree: Path, message: str) -> git.Repo:
    """Makes `tree` a git repository with one commit of everything in it."""
    repo = git.Repo.init(tree)
    (tree / ".gitignore").write_text("__pycache__/\n", encoding="utf-8")
    repo.git.execute(["git", "add", "--all"])
    repo.git.execute(
        ["git", *_IDENTITY, "commit", "--quiet", "--no-verify", "--message", message]
    )
    return repo
