"""``patched_examples/`` holds what ``diff`` prints for every fixture today.

``PYTHONPATH=. python tests/test_patched_examples.py`` writes them anew.
"""

import shutil

import pytest

from codemods.engine import migrate
from codemods.source import SourceFile
from codemods.targets import choose_target
from migrator.apply import plan, resolve_target
from migrator.checkout import Checkout

from places import DEPENDS_ON, ONLY_1D, TOP
from releases import git

FIXTURES = sorted(path.name for path in (TOP / "fixtures").iterdir() if path.is_dir())
EXAMPLES = [
    (fixture, target)
    for fixture in FIXTURES
    for target in ("1d", "2d")
    if target == "1d" or fixture not in ONLY_1D
]


def opened(fixture: str) -> Checkout:
    place = TOP / "fixtures" / fixture
    return Checkout(place, is_git=False, torchtitan=DEPENDS_ON.get(fixture))


def patch_of(fixture: str, target: str) -> bytes:
    checkout = opened(fixture)
    changeset = plan(checkout, resolve_target(target))
    assert not changeset.outcome.problems
    return changeset.diff()


@pytest.mark.parametrize("fixture, target", EXAMPLES)
def test_example_is_what_diff_prints(fixture, target):
    stored = TOP / "patched_examples" / fixture / f"{target}.patch"
    assert stored.read_bytes() == patch_of(fixture, target), (
        "run `PYTHONPATH=. python tests/test_patched_examples.py` and look at what changed"
    )


@pytest.mark.parametrize("fixture", sorted(set(ONLY_1D) & set(FIXTURES)))
def test_the_other_target_is_refused_with_the_reason(fixture):
    checkout = opened(fixture)
    outcome = plan(checkout, resolve_target("2d")).outcome
    assert outcome.problems and not outcome.changes
    assert any("take --target 1d" in problem for problem in outcome.problems)


@pytest.mark.parametrize("fixture", FIXTURES)
def test_example_says_what_to_look_at(fixture):
    notes = (TOP / "patched_examples" / fixture / "README.md").read_text()
    assert len(notes.splitlines()) >= 3


@pytest.mark.parametrize("fixture, target", EXAMPLES)
def test_git_takes_the_example(fixture, target, tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(TOP / "fixtures" / fixture, tree)
    (tree / ".gitattributes").write_text("* -text\n")
    git(tree, "init", "-q")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "base")
    git(tree, "apply", str(TOP / "patched_examples" / fixture / f"{target}.patch"))
    assert git(tree, "status", "--porcelain")


def write_examples() -> None:
    for fixture, target in EXAMPLES:
        folder = TOP / "patched_examples" / fixture
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{target}.patch").write_bytes(patch_of(fixture, target))


@pytest.mark.parametrize("target", ["1d", "2d"])
@pytest.mark.parametrize("folder", ["v0_1", "v0_2_0", "v0_2_1", "v0_2_2", "flat"])
def test_line_ends_of_windows_are_kept_throughout(folder, target):
    """A checkout with CRLF everywhere migrates to the same, with CRLF everywhere."""

    def migrated(change) -> dict[str, bytes]:
        files = {}
        for path in (TOP / "fixtures" / folder).rglob("*.py"):
            name = path.relative_to(TOP / "fixtures" / folder).as_posix()
            files[name] = SourceFile(name, change(path.read_bytes()))
        return migrate(files, choose_target(target, None, None)).changes

    def windows(raw: bytes) -> bytes:
        return raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")

    plain = migrated(bytes)
    assert plain
    assert migrated(windows) == {name: windows(raw) for name, raw in plain.items()}


if __name__ == "__main__":
    write_examples()
