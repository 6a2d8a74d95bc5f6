"""A torchtitan that a checkout uses and does not hold, in the trees that are run."""

import shutil
from pathlib import Path

import pytest

from migrator.verify.choose.models import models_of
from migrator.verify.errors import VerifyError
from migrator.verify.rehearsal import run_rehearse
from migrator.verify.train import graft, nodes, worktrees

from commands import run, snapshot
from places import FIXTURES, TOP
from releases import git, release

TITAN = FIXTURES / "v0_2_2"
SPECS = TOP / "tests" / "verify" / "lab_specs.py"


@pytest.fixture
def dependent(tmp_path, monkeypatch) -> Path:
    """The fixture as a checkout, which registers its models with torchtitan's trainer too."""
    monkeypatch.setattr("migrator.dependency._environment", list)
    tree = tmp_path / "dependent"
    shutil.copytree(FIXTURES / "dependent", tree)
    shutil.copy(SPECS, tree / "lab" / "specs.py")
    git(tree, "init", "-q", "-b", "main")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "base")
    return tree


def test_both_trees_get_it_and_the_checkout_does_not(dependent, tmp_path):
    shutil.copytree(dependent / "lab/models/tower", dependent / "lab/models/spire")
    git(dependent, "add", "-A")
    git(dependent, "commit", "-q", "-m", "spire")
    assert run("apply", dependent, "--torchtitan", TITAN).exit_code == 0
    before = snapshot(dependent)
    repo = worktrees.open_checkout(dependent, str(TITAN))
    base = worktrees.find_base(repo, None)
    with worktrees.trees(repo, dependent, base, tmp_path / "made") as trees:
        for tree in (trees.base, trees.migrated):
            assert (tree / "torchtitan" / "train.py").is_file()
            found = models_of(tree)
            assert list(found) == ["tower", "fan"]
            asked = found["fan"].settings["experimental"]
            assert asked == {"custom_import": "lab.specs"}
        new = "lab/models/replicate.py"
        assert (trees.migrated / new).is_file() and new in trees.changed
        assert not any("torchtitan/" in name for name in trees.changed)
        # What is compared between nodes is the checkout's own.
        digest = nodes.digest(trees.migrated)
        (trees.migrated / "torchtitan" / "train.py").write_text("")
        assert nodes.digest(trees.migrated) == digest != nodes.digest(trees.base)
    assert snapshot(dependent) == before and not (tmp_path / "made").exists()


def test_what_registers_nothing_is_told_so(dependent, tmp_path):
    (dependent / "lab" / "specs.py").unlink()
    shutil.copytree(TITAN / "torchtitan", tmp_path / "torchtitan")
    (tmp_path / graft.GRAFTED).write_text("")
    with pytest.raises(
        VerifyError, match="registers no train spec.*its own trainer only"
    ):
        models_of(tmp_path)


def test_what_is_not_at_hand_is_asked_for(dependent):
    for command in ("rehearse", "verify"):
        result = run(command, dependent)
        assert result.exit_code == 2
        assert "pip download --no-deps torchtitan==0.2.2" in result.stderr


def test_one_of_another_name_is_not_run_and_that_is_said(dependent):
    shutil.copytree(TITAN / "torchtitan", dependent / "titan")
    for path in (dependent / "lab").rglob("*.py"):
        path.write_text(path.read_text().replace("torchtitan", "titan"))
    for command in ("rehearse", "verify"):
        result = run(command, dependent, "--torchtitan", dependent / "titan")
        assert result.exit_code == 2
        assert "titan is imported as titan here." in result.stderr


def test_what_opens_autocast_is_said(dependent, tmp_path):
    def said(titan: Path) -> str:
        return graft.autocast(worktrees.open_checkout(dependent, str(titan)))

    assert "which lab/specs.py:54 brings in, opens autocast" in said(TITAN)
    (dependent / "lab" / "specs.py").unlink()
    assert "for TM105 to say" in said(TITAN)
    (dependent / "run.sh").write_text("torchrun -m torchtitan.train\n")
    assert "which run.sh:1 brings in" in said(TITAN)
    other = tmp_path / "other"
    shutil.copytree(TITAN, other)
    assert run("apply", "--no-git", other).exit_code == 0
    assert said(other) == f"{other} opens no autocast under replicate."


def test_one_that_is_vendored_beside_them_is_there_already(dependent, tmp_path):
    shutil.copytree(TITAN / "torchtitan", dependent / "torchtitan")
    git(dependent, "add", "-A")
    git(dependent, "commit", "-q", "-m", "vendored")
    named = str(dependent / "torchtitan")
    assert run("apply", dependent, "--torchtitan", named).exit_code == 0
    repo = worktrees.open_checkout(dependent, named)
    base = worktrees.find_base(repo, None)
    with worktrees.trees(repo, dependent, base, tmp_path / "made") as trees:
        assert list(models_of(trees.migrated)) == ["tower", "fan"]


def test_packages_below_src_are_where_it_is_laid(dependent):
    (dependent / "src").mkdir()
    (dependent / "lab").rename(dependent / "src" / "lab")
    checkout = worktrees.open_checkout(dependent, str(TITAN))
    git(dependent, "add", "-A")
    assert graft.parent(checkout) == Path("src")
    place = dependent / "out"
    place.mkdir()
    graft.graft(checkout, place)
    assert (place / "torchtitan" / "train.py").is_file()
    with pytest.raises(VerifyError, match="already"):
        graft.graft(checkout, place)


@pytest.mark.release
@pytest.mark.parametrize("spoilt", [False, True])
def test_its_own_plans_are_rehearsed(dependent, spoilt):
    """With 0.2.2 from PyPI; what wraps otherwise than FSDP fails."""
    titan = str(release("0.2.2"))
    assert run("apply", dependent, "--torchtitan", titan).exit_code == 0
    if spoilt:
        plan = dependent / "lab/models/fan/parallelize.py"
        text = plan.read_text()
        assert text.count("        replicate(blade, ") == 1
        plan.write_text(text.replace("        replicate(blade, ", "        dict("))
    found = run_rehearse(
        dependent,
        titles=["fan"],
        worlds=["dp_replicate=2"],
        step=False,
        torchtitan=titan,
    )
    words = [scene.word for scene in found.scenes]
    assert words == (["failed"] if spoilt else ["passed"])


@pytest.mark.release
def test_with_a_torchtitan_that_replicates_they_are_held_against_fsdp(
    dependent, tmp_path
):
    """The base revision, which asks for apply_ddp, does not import with it, and that is said."""
    titan = tmp_path / "titan"
    shutil.copytree(release("0.2.2"), titan)
    assert run("apply", "--no-git", titan).exit_code == 0
    assert run("apply", dependent, "--torchtitan", titan).exit_code == 0
    git(dependent, "commit", "-q", "-a", "-m", "migrated")
    asked = {"worlds": ["dp_replicate=2"], "step": False, "torchtitan": str(titan)}
    (scene,) = run_rehearse(dependent, titles=["fan"], **asked, base="HEAD~1").scenes
    assert scene.word == "not run" and "cannot import name 'apply_ddp'" in scene.not_run
    found = run_rehearse(
        dependent, titles=["fan", "tower"], **asked, base="HEAD"
    ).scenes
    assert [scene.word for scene in found] == ["passed", "passed"]
