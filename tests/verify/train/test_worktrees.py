"""Finding the base revision, and the trees that are trained."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from migrator.errors import TitanMigrateError
from migrator.verify import VerifyError, run_verify
from migrator.verify.train import worktrees

from places import TOP
from verifiable import NEW, OLD, write

PLAN = "torchtitan/plan.py"


def git(tree: Path, *arguments: str) -> str:
    command = [
        "git",
        "-C",
        str(tree),
        "-c",
        "user.name=t",
        "-c",
        "user.email=t@example.invalid",
        *arguments,
    ]
    return subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(tree: Path, message: str) -> str:
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message", message)
    return git(tree, "rev-parse", "HEAD")


@pytest.fixture
def fork(tmp_path):
    tree = tmp_path / "a fork"
    write(tree, train="", plan=OLD, gone="")
    (tree / ".gitignore").write_text("*.log\n")
    git(tree, "init", "--quiet")
    commit(tree, "base")
    return tree


def base_of(tree: Path, base: str | None = None, rev: str | None = None) -> str:
    return worktrees.find_base(worktrees.open_checkout(tree), base, rev)


def migrate(tree: Path, trailer: str = "") -> str:
    """Commits the migration among other commits; returns the revision before it."""
    (tree / "notes.txt").write_text("not Python\n")
    before = commit(tree, "notes")
    write(tree, plan=NEW)
    commit(tree, f"migrate\n\nWhy.\n\n{trailer}")
    write(tree, train="# later\n")
    commit(tree, "later")
    return before


def test_base_is_head_while_the_migration_is_not_committed(fork):
    write(fork, plan=NEW)
    assert base_of(fork) == git(fork, "rev-parse", "HEAD")


def test_base_is_the_parent_of_the_commit_that_brought_replicate(fork):
    before = migrate(fork)
    assert base_of(fork) == before
    assert base_of(fork, "HEAD~1") != before


def test_base_has_to_be_named_where_nothing_shows_it(fork):
    with pytest.raises(VerifyError, match="--base"):
        base_of(fork)
    with pytest.raises(VerifyError, match="no revision"):
        base_of(fork, "--output=x")


def test_base_of_a_revision_is_looked_for_below_it(fork):
    before = migrate(fork)
    git(fork, "tag", "migrated")
    write(fork, plan=OLD)
    commit(fork, "back again")
    write(fork, plan="changed, and not committed")
    assert base_of(fork, rev="migrated") == before
    assert base_of(fork, "HEAD", rev="migrated") == git(fork, "rev-parse", "HEAD")
    with pytest.raises(VerifyError, match="--rev .* no commit in its history"):
        base_of(fork, rev=before)


@pytest.mark.parametrize("base", [None, "HEAD"])
@pytest.mark.parametrize("rev", ["gone", "--output=x", "HEAD:torchtitan", ""])
def test_a_wrong_revision_is_said(fork, rev, base):
    with pytest.raises(VerifyError, match=f"^--rev {rev} is no revision"):
        base_of(fork, base, rev)


def test_base_that_a_commit_names_wins_over_the_search(fork):
    named = git(fork, "rev-parse", "HEAD")
    assert migrate(fork, f"Titan-Migrate-Base: {named}\nSigned-off-by: t") != named
    assert base_of(fork) == base_of(fork, rev="HEAD") == named
    write(fork, train="# changed\n")
    assert base_of(fork) == named


def test_base_while_the_tree_is_edited_is_head_only_before_the_migration(fork):
    write(fork, train="# edited\n")
    assert base_of(fork) == git(fork, "rev-parse", "HEAD")
    before = migrate(fork)
    write(fork, train="# edited\n")
    assert base_of(fork) == before
    # An import that moves brings nothing in.
    write(fork, plan=f"# edited\n{NEW}", train="")
    assert base_of(fork) == before
    # Migrated, taken back, and migrated once more.
    write(fork, plan=OLD)
    back = commit(fork, "back again")
    write(fork, plan=NEW)
    assert base_of(fork) == back


def test_newest_commit_that_names_a_base_wins(fork):
    migrate(fork, f"Titan-Migrate-Base: {git(fork, 'rev-parse', 'HEAD')}")
    named = git(fork, "rev-parse", "HEAD")
    write(fork, fresh="")
    commit(fork, f"again\n\nTitan-Migrate-Base: {named}")
    # Neither is a trailer with a full hash.
    write(fork, fresh="x = 1\n")
    commit(fork, f"talk\n\nTitan-Migrate-Base: {'0' * 40} stands\namid text.")
    assert base_of(fork) == named


def test_named_base_that_is_not_here_is_said(fork):
    migrate(fork, f"Titan-Migrate-Base: {'1' * 40}")
    with pytest.raises(VerifyError, match="names 1{12} as its base.*--base"):
        base_of(fork)
    assert base_of(fork, "HEAD~1") == git(fork, "rev-parse", "HEAD~1")


def test_trees_are_base_and_working_tree_and_go_away(fork, tmp_path):
    write(fork, plan=NEW, fresh="x = 1\n")
    (fork / "torchtitan" / "gone.py").unlink()
    (fork / "noise.log").write_text("ignored")
    repo = worktrees.open_checkout(fork)
    listed = git(fork, "worktree", "list")
    with worktrees.trees(repo, fork, base_of(fork), tmp_path / "scratch") as trees:
        assert (trees.base / PLAN).read_text() == OLD
        assert (trees.migrated / PLAN).read_text() == NEW
        assert (trees.migrated / "torchtitan" / "fresh.py").exists()
        assert not (trees.migrated / "torchtitan" / "gone.py").exists()
        assert not (trees.migrated / "noise.log").exists()
        assert trees.changed == (
            "torchtitan/fresh.py",
            "torchtitan/gone.py",
            "torchtitan/plan.py",
        )
    assert git(fork, "worktree", "list") == listed
    assert not (tmp_path / "scratch" / "base").exists()


def test_untracked_files_are_taken_from_the_package_alone(fork, tmp_path):
    write(fork, plan=NEW, fresh="")
    for name in ("outputs/step-10/weights.distcp", "notes.py", "torchtitan/new.json"):
        (fork / name).parent.mkdir(parents=True, exist_ok=True)
        (fork / name).write_text("")
    (fork / "added.py").write_text("")
    git(fork, "add", "added.py")
    repo = worktrees.open_checkout(fork)
    with worktrees.trees(repo, fork, base_of(fork), tmp_path / "scratch") as trees:
        for name in ("torchtitan/fresh.py", "torchtitan/new.json", "added.py"):
            assert (trees.migrated / name).exists()
        for name in ("outputs", "notes.py"):
            assert not (trees.migrated / name).exists()
        assert trees.changed == ("added.py", "torchtitan/fresh.py", PLAN)


@pytest.mark.parametrize("staged", [False, True])
def test_folder_that_became_a_link_is_one_in_the_tree(fork, tmp_path, staged):
    write(fork, **{"pk/part": "tracked = 1\n"})
    commit(fork, "a folder")
    elsewhere = tmp_path / "elsewhere"
    (fork / "torchtitan" / "pk").rename(elsewhere)
    (fork / "torchtitan" / "pk").symlink_to(elsewhere)
    write(fork, plan=NEW)
    if staged:
        git(fork, "add", "--all")
    repo = worktrees.open_checkout(fork)
    with worktrees.trees(repo, fork, base_of(fork), tmp_path / "scratch") as trees:
        link = trees.migrated / "torchtitan" / "pk"
        assert link.is_symlink() and link.resolve() == elsewhere.resolve()
        assert [path.name for path in link.iterdir()] == ["part.py"]
    # It leads to the user's file, which stays as it was.
    assert (elsewhere / "part.py").read_text() == "tracked = 1\n"


def test_link_that_became_a_folder_is_one_in_the_tree(fork, tmp_path):
    link = fork / "torchtitan" / "pk"
    link.symlink_to(tmp_path)
    commit(fork, "a link")
    link.unlink()
    write(fork, plan=NEW, **{"pk/part": ""})
    repo = worktrees.open_checkout(fork)
    with worktrees.trees(repo, fork, base_of(fork), tmp_path / "scratch") as trees:
        assert (trees.migrated / "torchtitan/pk/part.py").is_file()
        assert not (trees.migrated / "torchtitan/pk").is_symlink()


@pytest.mark.parametrize("name", ["fresh", "generated"])
def test_file_that_may_not_be_read_is_named(fork, tmp_path, monkeypatch, name):
    copy = shutil.copy2

    # As for a user whom a file's mode stops, which it does not stop the superuser.
    def denied(source, target, **how):
        if Path(source) == fork.resolve() / f"torchtitan/{name}.py":
            raise PermissionError(errno.EACCES, "Permission denied", str(source))
        return copy(source, target, **how)

    monkeypatch.setattr(shutil, "copy2", denied)
    (fork / ".gitignore").write_text("generated.py\nlink.py\n")
    write(fork, plan=NEW, fresh="", generated="")
    (fork / "torchtitan" / "link.py").symlink_to("nowhere")
    repo = worktrees.open_checkout(fork)
    with pytest.raises(VerifyError, match=f"^torchtitan/{name}.py could not be read"):
        with worktrees.trees(repo, fork, base_of(fork), tmp_path / "scratch"):
            pass
    assert not (tmp_path / "scratch").exists()


def test_trees_of_a_revision_take_nothing_from_the_working_tree(fork, tmp_path):
    before = migrate(fork)
    tip = git(fork, "rev-parse", "HEAD")
    (fork / ".gitignore").write_text("*.log\ngenerated.py\n")
    write(fork, plan="changed\n", fresh="", generated="")
    repo = worktrees.open_checkout(fork)
    with worktrees.trees(repo, fork, before, tmp_path / "scratch", "HEAD") as trees:
        assert (trees.base_revision, trees.migrated_revision) == (before, tip)
        assert (trees.migrated / PLAN).read_text() == NEW
        assert git(trees.migrated, "status", "--porcelain", "--ignored") == ""
        assert git(trees.base, "status", "--porcelain", "--ignored") == ""
        assert trees.changed == (PLAN, "torchtitan/train.py")
    with pytest.raises(VerifyError, match="--rev gone"):
        with worktrees.trees(repo, fork, before, tmp_path / "scratch", "gone"):
            pass


def test_revision_without_a_package_is_said(fork, tmp_path):
    git(fork, "mv", "torchtitan", "elsewhere")
    without = commit(fork, "move away")
    git(fork, "mv", "elsewhere", "torchtitan")
    commit(fork, "move back")
    repo = worktrees.open_checkout(fork)
    for base, rev, option in ((without, None, "--base"), ("HEAD", without, "--rev")):
        with pytest.raises(VerifyError, match=f"has no torchtitan/.* with {option}"):
            with worktrees.trees(repo, fork, base, tmp_path / "scratch", rev):
                pass
    assert not (tmp_path / "scratch").exists()


def test_trees_of_a_linked_worktree_and_of_a_submodule(fork, tmp_path):
    linked, outer = tmp_path / "linked", tmp_path / "outer"
    git(fork, "worktree", "add", "--quiet", "--detach", str(linked))
    outer.mkdir()
    git(outer, "init", "--quiet")
    allowed = ("-c", "protocol.file.allow=always")
    git(outer, *allowed, "submodule", "--quiet", "add", str(fork), "inner")
    for tree in (linked, outer / "inner"):
        write(tree, plan=NEW)
        before = git(tree, "status", "--porcelain"), git(tree, "worktree", "list")
        repo = worktrees.open_checkout(tree)
        with worktrees.trees(repo, tree, base_of(tree), tmp_path / "scratch") as trees:
            assert (trees.base / PLAN).read_text() == OLD
            assert (trees.migrated / PLAN).read_text() == NEW
            assert trees.changed == (PLAN,)
        assert before == (
            git(tree, "status", "--porcelain"),
            git(tree, "worktree", "list"),
        )


def test_trees_go_away_on_ctrl_c(fork, tmp_path):
    listed = git(fork, "worktree", "list")
    repo = worktrees.open_checkout(fork)
    with pytest.raises(KeyboardInterrupt):
        with worktrees.trees(repo, fork, "HEAD", tmp_path / "scratch"):
            raise KeyboardInterrupt
    assert git(fork, "worktree", "list") == listed
    assert not (tmp_path / "scratch").exists()


SIGNATURE = """\
cat > /dev/null
echo '[GNUPG:] SIG_CREATED ' >&2
echo '-----BEGIN PGP SIGNATURE-----'
echo '-----END PGP SIGNATURE-----'
"""


def test_an_interrupted_git_leaves_no_empty_list_of_worktrees(fork, tmp_path):
    (tmp_path / "scratch").mkdir()
    listed = fork / ".git" / "worktrees"
    listed.mkdir()
    checkout = worktrees.open_checkout(fork)
    worktrees._take_down(checkout, tmp_path / "scratch")
    assert not listed.exists()


def test_nothing_that_the_checkout_configures_runs(fork, tmp_path):
    trap = f"touch '{tmp_path}/ran'"
    hook, signer = fork / ".git/hooks/post-checkout", tmp_path / "signer"
    for script, text in ((hook, ""), (signer, SIGNATURE)):
        script.parent.mkdir(exist_ok=True)
        script.write_text(f"#!/bin/sh\n{text}{trap}\n")
        script.chmod(0o755)
    git(fork, "config", "gpg.program", str(signer))
    git(fork, "config", "commit.gpgSign", "true")
    migrate(fork)
    (tmp_path / "ran").unlink()
    git(fork, "config", "log.showSignature", "true")
    for name in ("filter.trap.smudge", "filter.trap.clean", "diff.trap.textconv"):
        git(fork, "config", name, f"{trap}; cat")
    (fork / ".git/info").mkdir(exist_ok=True)
    (fork / ".git/info/attributes").write_text("*.py filter=trap diff=trap\n")
    write(fork, plan=NEW + "\n")
    repo = worktrees.open_checkout(fork)
    base_of(fork, rev="HEAD")
    with worktrees.trees(repo, fork, base_of(fork), tmp_path / "scratch"):
        pass
    assert not (tmp_path / "ran").exists()


def test_index_of_the_checkout_stays_in_a_hook_too(fork, tmp_path, monkeypatch):
    """git sets these for the hooks and aliases that it runs."""
    write(fork, plan=NEW)
    git(fork, "add", "--all")
    # `git status` would write down that this is the same file still.
    os.utime(fork / "torchtitan/train.py", (1, 1))
    index = fork / ".git" / "index"
    before = index.read_bytes()
    monkeypatch.setenv("GIT_INDEX_FILE", str(index))
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other.git"))
    repo = worktrees.open_checkout(fork)
    with worktrees.trees(repo, fork, base_of(fork), tmp_path / "scratch") as trees:
        assert (trees.migrated / PLAN).read_text() == NEW
    assert index.read_bytes() == before


# Takes trees as often as it is told, in folders of its own, and ends as it is told.
HOLDER = """
import os, signal, sys
from pathlib import Path
from migrator.verify.train import (worktrees)
fork, scratch, times, end = sys.argv[1:]
for number in range(int(times)):
    repo = worktrees.open_checkout(Path(fork))
    base = worktrees.find_base(repo, "HEAD")
    folder = Path(scratch + str(number))
    with worktrees.trees(repo, Path(fork), base, folder):
        if end == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if end == "waits":
            print("there", flush=True)
            sys.stdin.read()
"""


def hold(fork: Path, scratch: Path, times: int, end: str) -> subprocess.Popen:
    command = [sys.executable, "-c", HOLDER, str(fork), str(scratch), str(times), end]
    return subprocess.Popen(
        command,
        cwd=TOP,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_what_a_killed_verify_left_goes_away_and_nothing_else(fork, tmp_path):
    git(fork, "worktree", "add", "--quiet", "--detach", str(tmp_path / "mine"))
    # As ours are called, and on a disk that is not there.
    alike = tmp_path / "titan-migrate-notes" / "base"
    absent = tmp_path / "titan-migrate-disk" / "migrated"
    for tree in (alike, absent):
        git(fork, "worktree", "add", "--quiet", "--detach", str(tree))
    absent.parent.rename(tmp_path / "unmounted")
    listed = git(fork, "worktree", "list", "--porcelain")

    left = tmp_path / "titan-migrate-left"
    hold(fork, left, 1, "killed").communicate()
    waiting = hold(fork, tmp_path / "titan-migrate-alive", 1, "waits")
    assert waiting.stdout.readline() == "there\n"
    # The living one has removed what the killed one left.
    assert not (tmp_path / "titan-migrate-left0").exists()
    hold(fork, left, 1, "killed").communicate()
    assert git(fork, "worktree", "list").count("titan-migrate-left0") == 2

    repo = worktrees.open_checkout(fork)
    with worktrees.trees(repo, fork, "HEAD", tmp_path / "titan-migrate-next"):
        assert not (tmp_path / "titan-migrate-left0").exists()
        assert (tmp_path / "titan-migrate-alive0" / "base" / PLAN).exists()
        now = git(fork, "worktree", "list")
        assert now.count("titan-migrate-alive0") == now.count("titan-migrate-next") == 2
    waiting.communicate("")
    assert waiting.returncode == 0
    assert git(fork, "worktree", "list", "--porcelain") == listed
    assert alike.exists() and not (tmp_path / "titan-migrate-alive0").exists()


STRUCK = """
import sys
from pathlib import Path
from migrator.verify.train import (worktrees)

def struck():
    worktrees.signals_held = held
    raise SystemExit(143)

held, worktrees.signals_held = worktrees.signals_held, struck
repo = worktrees.open_checkout(Path(sys.argv[1]))
base = worktrees.find_base(repo, "HEAD")
with worktrees.trees(repo, Path(sys.argv[1]), base, Path(sys.argv[2])):
    pass
"""


def test_signal_just_before_the_clean_up_does_not_prevent_it(fork, tmp_path):
    listed = git(fork, "worktree", "list", "--porcelain")
    command = [sys.executable, "-c", STRUCK, str(fork), str(tmp_path / "scratch")]
    done = subprocess.run(command, cwd=TOP)
    assert done.returncode == 143
    assert git(fork, "worktree", "list", "--porcelain") == listed
    assert not (tmp_path / "scratch").exists()


def test_several_verifies_of_a_checkout_at_once(fork, tmp_path):
    listed = git(fork, "worktree", "list", "--porcelain")
    holders = [hold(fork, tmp_path / f"titan-migrate-{n}-", 4, "") for n in range(4)]
    printed = [holder.communicate()[1] for holder in holders]
    assert [holder.returncode for holder in holders] == [0] * 4, printed
    assert git(fork, "worktree", "list", "--porcelain") == listed
    assert not list(tmp_path.glob("titan-migrate-*"))


def test_package_in_a_subfolder_is_found(tmp_path):
    write(tmp_path / "vendor" / "titan", train="")
    root = tmp_path.resolve()
    assert worktrees.package_parent(root, tmp_path) == Path("vendor/titan")
    assert worktrees.package_parent(
        root, tmp_path / "vendor" / "titan" / "torchtitan"
    ) == Path("vendor/titan")


def test_what_is_no_checkout_is_said(tmp_path):
    with pytest.raises(TitanMigrateError, match="is empty. Name the checkout"):
        run_verify(tmp_path)
    (tmp_path / "README.md").touch()
    with pytest.raises(VerifyError, match="not in a git checkout"):
        run_verify(tmp_path)
    git(tmp_path, "init", "--quiet")
    with pytest.raises(VerifyError, match="no commit"):
        run_verify(tmp_path)


def test_tree_that_is_its_own_base_is_no_question(fork, tmp_path):
    pytest.importorskip("torchdata")
    with pytest.raises(VerifyError, match="does not differ"):
        run_verify(fork, base="HEAD", report_dir=tmp_path / "report")


@pytest.mark.parametrize("committed", [False, True])
def test_messages_name_files_where_the_user_has_them(fork, tmp_path, committed):
    base = git(fork, "rev-parse", "HEAD")
    write(fork, plan=NEW)
    rev = commit(fork, "migrated") if committed else None
    checkout = worktrees.open_checkout(fork)
    mine = f"{rev[:12]}:" if rev else f"{fork}/"
    with pytest.raises(VerifyError) as said:
        with worktrees.trees(checkout, fork, base, tmp_path / "s", rev) as trees:
            before = f'File "{trees.base / PLAN}", not {trees.migrated / PLAN}:3'
            after = f'File "{base[:12]}:{PLAN}", not {mine}{PLAN}:3'
            assert trees.named(before) == after
            assert trees.named(f"in {trees.base}.") == f"in {base[:12]}."
            assert trees.named("nothing of it") == "nothing of it"
            raise VerifyError(f"{trees.migrated / PLAN} does not parse")
    assert str(said.value) == f"{mine}{PLAN} does not parse"
