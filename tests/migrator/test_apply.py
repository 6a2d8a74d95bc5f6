"""What is refused before anything is written, and the way back."""

import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from commands import PLAN, run, snapshot
from places import FIXTURES
from releases import git


def test_apply_refuses_uncommitted_changes_and_says_how_to_go_on(fork):
    with (fork / PLAN).open("a") as file:
        file.write("# mine\n")
    before = snapshot(fork)
    result = run("apply", fork)
    assert result.exit_code == 2
    assert PLAN in result.stderr and "--allow-dirty" in result.stderr
    assert snapshot(fork) == before
    assert run("apply", fork, "--allow-dirty").exit_code == 0
    assert (fork / PLAN).read_text().endswith("# mine\n")


def test_apply_refuses_an_untracked_file_it_would_write(fork):
    copy = fork / "torchtitan/models/own/infra/parallelize.py"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((fork / PLAN).read_bytes())
    result = run("apply", fork)
    assert result.exit_code == 2
    assert "torchtitan/models/own" in result.stderr


def test_apply_lets_other_uncommitted_changes_be(fork):
    (fork / "notes.txt").write_text("mine")
    assert run("apply", fork).exit_code == 0


def test_an_unparsable_file_is_named_with_its_line(fork):
    with (fork / PLAN).open("a") as file:
        file.write("def broken(:\n")
    line = (fork / PLAN).read_text().count("\n")
    before = snapshot(fork)
    for command in ("check", "diff", "apply"):
        result = run(command, fork)
        assert result.exit_code == 3
        assert f"{PLAN}:{line}" in result.stderr
    assert snapshot(fork) == before


@pytest.mark.parametrize(
    "source",
    [
        "apply_ddp = " + "-" * 100000 + "1",
        "apply_ddp = " + "(" * 3000 + ")" * 3000,
        "apply_ddp" + ".b" * 3000,
        "apply_ddp = 1" + "+1" * 3000,
        "# coding: rot13\napply_ddp = 1",
        "# coding: undefined\napply_ddp = 1",
    ],
    ids=["minus", "brackets", "attributes", "sum", "rot13", "undefined"],
)
def test_code_that_nobody_wrote_by_hand_is_named_and_no_traceback(fork, source):
    (fork / "torchtitan/odd.py").write_text(source + "\n")
    result = run("check", fork)
    assert result.exit_code in (1, 3) and not isinstance(
        result.exception, (RecursionError, MemoryError, LookupError, UnicodeError)
    )
    if result.exit_code == 3:
        assert len(result.stderr.splitlines()) == 1


def test_a_place_left_for_a_person_writes_nothing(fork):
    extra = fork / "torchtitan/table.py"
    extra.write_text(
        "from torchtitan.models.llama3.infra.parallelize import apply_ddp\n\n"
        'WRAP = {"ddp": apply_ddp}\n'
    )
    git(fork, "add", "-A")
    git(fork, "commit", "-q", "-m", "table")
    before = snapshot(fork)
    result = run("apply", fork)
    assert result.exit_code == 1
    assert "torchtitan/table.py:3" in result.stderr
    assert snapshot(fork) == before


def test_a_folder_that_is_no_torchtitan(tmp_path):
    (tmp_path / "a.py").write_text("print(1)\n")
    result = run("check", tmp_path, "--no-git")
    assert result.exit_code == 2
    assert "does not look like a torchtitan checkout" in result.stderr


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--torch", "2.8"], "no composable replicate"),
        (["--torch", "latest"], "not a version"),
        (["--target", "2d", "--torch", "2.13"], "does not go with"),
    ],
)
def test_a_target_that_cannot_be(fork, arguments, said):
    result = run("check", fork, *arguments)
    assert result.exit_code == 2
    assert said in result.stderr


def test_a_symlink_to_a_file_with_uncommitted_changes_is_refused(fork):
    plan = fork / PLAN
    real = plan.with_name("plan.src")
    plan.rename(real)
    plan.symlink_to("plan.src")
    git(fork, "add", "-A")
    git(fork, "commit", "-q", "-m", "link")
    with real.open("a") as file:
        file.write("# mine\n")
    result = run("apply", fork)
    assert result.exit_code == 2 and "plan.src" in result.stderr


def test_a_symlink_into_git_is_refused(fork):
    plan = fork / PLAN
    inside = fork / ".git" / "plan.py"
    plan.rename(inside)
    plan.symlink_to(inside)
    git(fork, "add", "-A")
    git(fork, "commit", "-q", "-m", "link")
    before = inside.read_bytes()
    assert run("apply", fork).exit_code == 2
    assert inside.read_bytes() == before


def undone(said: str, tree: Path) -> None:
    command = said.rpartition("undo it with `")[2].partition("`")[0]
    subprocess.run(shlex.split(command), cwd=tree.parent, check=True)


def test_the_way_back_leads_back_and_keeps_what_is_yours(repo):
    mine = repo / "torchtitan/train.py"
    undone(run("apply", repo).stderr, repo)
    assert git(repo, "status", "--porcelain") == ""
    mine.write_text(mine.read_text() + "# mine\n")
    undone(run("apply", repo).stderr, repo)
    assert git(repo, "status", "--porcelain").split() == ["M", "torchtitan/train.py"]


def test_what_proves_it_is_said_as_it_is_called_from_here(repo, monkeypatch):
    assert f"`titan-migrate verify {repo}`" in run("apply", repo).stderr
    git(repo, "checkout", "-q", ".")
    monkeypatch.chdir(repo)
    assert "prove it with `titan-migrate verify`" in run("apply", ".").stderr


def test_no_way_back_is_shown_where_there_is_none(repo):
    plan = repo / "torchtitan/distributed/utils.py"
    plan.write_text("# mine\n" + plan.read_text())
    said = run("apply", "--allow-dirty", repo).stderr
    assert "git cannot undo it in torchtitan/distributed/utils.py" in said
    shutil.rmtree(repo / ".git")
    plan.write_text(plan.read_text().replace("dp_replicate_enabled", "fsdp_enabled"))
    said = run("apply", "--no-git", repo).stderr
    assert "Rewritten: 1 place" in said and "undo it with `" not in said


def test_a_file_is_written_as_it_is_by_its_own_name(tmp_path):
    """And not as a link of another name would have it, which nobody calls."""
    for name in ("plain", "linked"):
        shutil.copytree(FIXTURES / "v0_2_2", tmp_path / name)
    link = tmp_path / "linked" / "torchtitan" / "models" / "zz.py"
    link.symlink_to("llama3/infra/parallelize.py")
    for name in ("plain", "linked"):
        assert run("apply", "--no-git", tmp_path / name).exit_code == 0
    link.unlink()
    assert snapshot(tmp_path / "linked") == snapshot(tmp_path / "plain")


def test_a_link_by_whose_name_it_is_called_otherwise_is_refused(tmp_path):
    tree = tmp_path / "tree"
    shutil.copytree(FIXTURES / "v0_2_2", tree)
    link = tree / "torchtitan" / "models" / "zz.py"
    link.symlink_to("llama3/infra/parallelize.py")
    actor = tree / "torchtitan/experiments/rl/unified/actors/trainer.py"
    text = actor.read_text()
    assert "torchtitan.models.llama3.infra.parallelize import apply_ddp" in text
    actor.write_text(text.replace("models.llama3.infra.parallelize", "models.zz"))
    before = snapshot(tree)
    done = run("apply", "--no-git", tree)
    assert done.exit_code == 1 and snapshot(tree) == before
    said = " ".join(done.stderr.split())
    assert "it is called by the names torchtitan/models/llama3/infra" in said
    assert "torchtitan/models/zz.py, and would be written otherwise" in said
