"""Commits on a new branch, and patches: what is in them, what they refuse, what is left."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from migrator.cli import main
from migrator.verify.train import worktrees

import warm
from places import FIXTURES
from releases import VERSIONS, as_checkout, git, release

PLAN = "torchtitan/models/llama3/infra/parallelize.py"
SUBJECTS = [
    "Replace DDP by replicate",
    "Accept Replicate placements in the MoE state-dict adapter",
]


@pytest.fixture(autouse=True)
def identity(monkeypatch, tmp_path):
    """Nobody's own settings, and a name to commit in."""
    settings = tmp_path / "gitconfig"
    settings.write_text("[user]\n\tname = A U Thor\n\temail = author@example.org\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(settings))
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", os.devnull)
    return settings


def run(*arguments: object):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def commit(tree: Path, name: str = "m", *more: object):
    return run("apply", tree, "--branch", name, "--commit", *more)


def checkout_of(tree: Path) -> Path:
    git(tree, "init", "-q", "-b", "main")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "base")
    return tree


@pytest.fixture
def fork(tmp_path):
    """A clean git checkout."""
    return checkout_of(shutil.copytree(FIXTURES / "v0_2_1", tmp_path / "fork"))


@pytest.fixture
def odd(tmp_path):
    """A checkout with every kind of file that a mail or a commit could spoil."""
    tree = shutil.copytree(FIXTURES / "v0_2_1", tmp_path / "odd")
    plan = (tree / PLAN).read_bytes()
    spot = b"    elif parallel_dims.dp_replicate_enabled:\n"
    assert plan.count(spot) == 1
    crlf = plan.replace(b"\n", b"\r\n")
    for name, content in {
        "crlf/plan.py": crlf,
        "eol/plan.py": crlf,
        "auto/plan.py": crlf,
        "latin/plan.py": b"# -*- coding: latin-1 -*-\n"
        + plan.replace(spot, b"        # caf\xe9\n" + spot),
        "open/plan.py": plan.rstrip(b"\n"),
        "tool/plan.py": plan,
        'o d d/"pl\nan" \xe9.py': plan,
        "rules[1]/*.py": plan,
    }.items():
        place = tree / "torchtitan/models" / name
        place.parent.mkdir()
        place.write_bytes(content)
    (tree / "torchtitan/models/tool/plan.py").chmod(0o755)
    (tree / "torchtitan/models/tool/link.py").symlink_to("plan.py")
    checkout_of(tree)
    # Kept with LF from here on, while the index of auto/ keeps its CRLF.
    (tree / ".gitattributes").write_text(
        "torchtitan/models/eol/* text eol=crlf\ntorchtitan/models/auto/* text=auto\n"
    )
    git(tree, "add", "--renormalize", "torchtitan/models/eol")
    git(tree, "add", ".gitattributes")
    git(tree, "commit", "-q", "-m", "attributes")
    return tree


def content(tree: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(tree)): (path.read_bytes(), path.lstat().st_mode)
        for path in tree.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }


def state(tree: Path) -> object:
    """All of a checkout that an interrupted command could have changed."""
    return (
        content(tree),
        git(tree, "for-each-ref"),
        (tree / ".git/HEAD").read_text(),
        git(tree, "ls-files", "-s", "-z"),
        git(tree, "worktree", "list"),
        sorted(path.name for path in (tree / ".git").iterdir()),
    )


def tree_of(tree: Path, revision: str = "HEAD") -> str:
    return git(tree, "rev-parse", f"{revision}^{{tree}}").strip()


def test_one_commit_for_each_step_and_the_last_is_plain_apply(fork, tmp_path):
    plain = shutil.copytree(fork, tmp_path / "plain")
    assert run("apply", plain).exit_code == 0
    base = git(fork, "rev-parse", "HEAD").strip()
    result = commit(fork)
    assert result.exit_code == 0, result.output
    assert git(fork, "log", "--reverse", "--format=%s", "main..").splitlines() == (
        SUBJECTS
    )
    assert git(fork, "symbolic-ref", "HEAD") == "refs/heads/m\n"
    assert git(fork, "status", "--porcelain") == ""
    assert content(fork) == content(plain)
    assert git(fork, "diff", "--name-only", "HEAD~").split() == [
        "torchtitan/models/utils.py"
    ]
    for revision in ("HEAD", "HEAD~"):
        git(fork, "checkout", "-q", "--detach", revision)
        found = worktrees.find_base(worktrees.open_checkout(fork), None)
        assert found == base


def test_what_the_messages_say(fork):
    base = git(fork, "rev-parse", "HEAD").strip()
    commit(fork)
    first, last = git(fork, "log", "--reverse", "-z", "--format=%B", "main..").split(
        "\0"
    )[:2]
    for message in (first, last):
        lines = message.splitlines()
        assert len(lines[0]) <= 72 and lines[1] == ""
        assert all(len(line) <= 72 for line in lines)
        assert "https://github.com/pytorch/torchtitan/pull/2458" in message
        assert "titan-migrate verify" in message
        assert message.rstrip("\n").endswith(f"\n\nTitan-Migrate-Base: {base}")
    assert "- TM101 apply_ddp becomes apply_replicate: 3" in first
    assert "TM106" in last and "TM106" not in first and "TM101" not in last
    assert "- TM201 weights tied after wrapping:\n  torchtitan/models/qwen3" in last
    assert "TM201" not in first


def test_the_2d_target_has_parallel_dims_in_its_first_commit(fork):
    assert commit(fork, "m", "--target", "2d").exit_code == 0
    first = git(fork, "show", "--name-only", "--format=%B", "HEAD~")
    assert "TM104" in first and "pull/1714" in first
    assert "torchtitan/distributed/parallel_dims.py" in first.splitlines()


@pytest.mark.parametrize(
    "options, subjects",
    [
        (["--ignore", "TM106"], SUBJECTS[:1]),
        (["--select", "TM106"], SUBJECTS[1:]),
        (["--select", "TM1", "--exclude", "torchtitan/models/utils.py"], SUBJECTS[:1]),
    ],
)
def test_what_is_left_out_is_in_no_commit(fork, tmp_path, options, subjects):
    plain = shutil.copytree(fork, tmp_path / "plain")
    assert run("apply", plain, *options).exit_code == 0
    result = commit(fork, "m", *options)
    assert result.exit_code == 0, result.output
    told = git(fork, "log", "--reverse", "--format=%s", "main..").splitlines()
    assert told == subjects
    assert content(fork) == content(plain)


def test_in_whose_name_it_is_committed(fork, monkeypatch):
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody Else")
    commit(fork)
    names = "A U Thor <author@example.org>\nSomebody Else <author@example.org>\n"
    assert git(fork, "log", "-1", "--format=%cn <%ce>%n%an <%ae>") == names


def test_without_a_name_it_says_what_to_run(fork, identity):
    identity.write_text("")
    before = state(fork)
    for arguments in (["--branch", "m", "--commit"], ["--patches", fork.parent / "p"]):
        result = run("apply", fork, *arguments)
        assert result.exit_code == 2
        assert "git config user.name" in result.stderr
    assert state(fork) == before


def test_odd_files_are_committed_as_git_add_would(odd, tmp_path):
    plain = shutil.copytree(odd, tmp_path / "plain", symlinks=True)
    assert run("apply", plain).exit_code == 0
    git(plain, "add", "-A")
    git(plain, "commit", "-q", "-m", "all")
    result = commit(odd)
    assert result.exit_code == 0, result.output
    assert len(git(odd, "diff", "--name-only", "-z", "main").split("\0")) > 16
    assert tree_of(odd) == tree_of(plain)
    assert content(odd) == content(plain)
    assert git(odd, "status", "--porcelain") == ""


def test_line_ends_that_git_would_not_give_stay_in_the_working_tree(fork, tmp_path):
    git(fork, "config", "core.autocrlf", "true")
    plain = shutil.copytree(fork, tmp_path / "plain")
    assert run("apply", plain).exit_code == 0
    assert commit(fork).exit_code == 0
    assert content(fork) == content(plain)
    status = ["git", "status", "--porcelain"]
    assert subprocess.check_output(status, cwd=fork) == b""


@pytest.mark.parametrize("setting", ["diff.noprefix", "format.attach", "am.keepcr"])
@pytest.mark.parametrize("scope", ["--local", "--global"])
def test_patches_give_the_same_tree_as_the_branch(odd, tmp_path, setting, scope):
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", str(odd), str(clone))
    for tree in (odd, clone):
        git(tree, "config", scope, setting, "true")
    folder = tmp_path / "new folder" / "it's"
    before = state(odd), objects(odd)
    result = run("apply", odd, "--patches", folder)
    assert result.exit_code == 0, result.output
    assert (state(odd), objects(odd)) == before
    assert [path.name[:5] for path in sorted(folder.iterdir())] == ["0001-", "0002-"]
    command = next(line for line in result.stderr.splitlines() if "`git am " in line)
    subprocess.run(
        ["sh", "-c", command.split("`")[1]], cwd=clone, check=True, capture_output=True
    )
    assert commit(odd).exit_code == 0
    for revision in ("HEAD", "HEAD~"):
        assert tree_of(clone, revision) == tree_of(odd, revision)
    shown = ["log", "-2", "--format=%an%ae%B"]
    assert git(clone, *shown) == git(odd, *shown)
    assert git(clone, "status", "--porcelain") == ""


def objects(tree: Path) -> set[str]:
    return {str(path) for path in (tree / ".git").rglob("*")}


def test_patches_go_into_an_empty_folder_that_is_there(fork, tmp_path):
    folder = tmp_path / "patches"
    folder.mkdir()
    inode = folder.stat().st_ino
    assert run("apply", fork, "--patches", folder).exit_code == 0
    assert folder.stat().st_ino == inode
    assert len(list(folder.iterdir())) == 2
    result = run("apply", fork, "--patches", folder)
    assert result.exit_code == 2 and "is not empty" in result.stderr


def test_patches_are_not_written_into_the_checkout(fork):
    before = state(fork)
    for folder in (fork / "patches", fork / ".git" / "patches", fork):
        result = run("apply", fork, "--patches", folder)
        assert result.exit_code == 2 and "inside the checkout" in result.stderr
    result = run("apply", fork, "--patches", __file__)
    assert result.exit_code == 2 and "is a file" in result.stderr
    assert state(fork) == before


def test_a_patch_that_cannot_be_written_leaves_none(fork, tmp_path, monkeypatch):
    import migrator.series.mail

    folder = tmp_path / "patches"
    folder.mkdir()
    real = os.rename

    def second_fails(source, place):
        if Path(place).name.startswith("0002"):
            raise OSError(28, "No space left on device")
        real(source, place)

    monkeypatch.setattr(migrator.series.mail.os, "rename", second_fails)
    result = run("apply", fork, "--patches", folder)
    assert result.exit_code == 3 and "No space left" in result.stderr
    assert not list(folder.iterdir())


def test_as_json(fork, tmp_path):
    told = json.loads(
        run("apply", fork, "--patches", tmp_path / "p", "--format", "json").stdout
    )
    assert told["patches"] == [str(path) for path in sorted((tmp_path / "p").iterdir())]
    assert not told["written"]
    told = json.loads(commit(fork, "m", "--format", "json").stdout)
    assert told["branch"] == "m" and told["written"]
    hashes = git(fork, "rev-list", "--reverse", "main..").split()
    assert [entry["hash"] for entry in told["commits"]] == hashes
    assert [entry["subject"] for entry in told["commits"]] == SUBJECTS


def test_nothing_to_do_makes_no_branch(fork, tmp_path):
    commit(fork)
    for arguments in (["--branch", "n", "--commit"], ["--patches", tmp_path / "p"]):
        result = run("apply", fork, *arguments)
        assert result.exit_code == 0 and "Nothing to do" in result.stderr
    assert git(fork, "branch", "--list", "n") == ""
    assert not (tmp_path / "p").exists()


# uncommitted changes


def test_other_uncommitted_changes_stay_as_they_are(fork):
    for name in ("staged.txt", "debug.toml", "notes.txt", "new.py"):
        with (fork / name).open("a") as file:
            file.write("# mine\n")
    git(fork, "add", "staged.txt", "debug.toml")
    with (fork / "debug.toml").open("a") as file:
        file.write("# more\n")
    before = git(fork, "status", "--porcelain")
    assert before == "MM debug.toml\nA  staged.txt\n?? new.py\n?? notes.txt\n"
    assert commit(fork).exit_code == 0
    assert git(fork, "status", "--porcelain") == before
    assert "debug.toml" not in git(fork, "diff", "--name-only", "main", "m")


@pytest.mark.parametrize("how", ["edited", "staged", "only staged", "added", "hidden"])
def test_python_files_with_uncommitted_changes_are_refused(fork, tmp_path, how):
    train = fork / "torchtitan/train.py"
    if how == "added":
        train = fork / "torchtitan/extra.py"
    if how == "hidden":
        git(fork, "update-index", "--assume-unchanged", "torchtitan/train.py")
    before = train.read_text() if train.exists() else ""
    train.write_text(before + "# mine\n")
    if "staged" in how or how == "added":
        git(fork, "add", str(train))
    if how == "only staged":
        train.write_text(before)
    untouched = state(fork)
    for arguments in (["--branch", "m", "--commit"], ["--patches", tmp_path / "p"]):
        result = run("apply", fork, *arguments)
        assert result.exit_code == 2, result.output
        assert train.name in result.stderr and "not as in HEAD" in result.stderr
    assert state(fork) == untouched


def test_hidden_files_without_changes_are_no_hindrance(fork):
    git(fork, "update-index", "--assume-unchanged", "torchtitan/train.py")
    assert commit(fork).exit_code == 0


def test_an_untracked_plan_is_refused(fork):
    copy = fork / "torchtitan/models/own/plan.py"
    copy.parent.mkdir()
    copy.write_bytes((fork / PLAN).read_bytes())
    before = state(fork)
    result = commit(fork)
    assert result.exit_code == 2 and "torchtitan/models/own/plan.py" in result.stderr
    assert "--allow-dirty" not in result.stderr
    assert state(fork) == before


# wrong use


@pytest.mark.parametrize(
    "options, said",
    [
        (["--branch", "m"], "--branch is for commits"),
        (["--commit"], "--commit needs a new branch"),
        (["--hooks"], "--hooks is for commits"),
        (["--hooks", "--patches", "p"], "--hooks is for commits"),
        (["--branch", "m", "--commit", "--patches", "p"], "contradict each other"),
        (["--branch", "m", "--commit", "--no-git"], "--commit and --no-git"),
        (["--branch", "m", "--commit", "--allow-dirty"], "--commit and --allow-dirty"),
        (["--patches", "p", "--no-git"], "--patches and --no-git"),
        (["--branch", "main", "--commit"], "branch main already"),
        (["--branch", "a..b", "--commit"], "cannot be the name"),
        (["--branch", "-m", "--commit"], "cannot be the name"),
        (["--branch", "", "--commit"], "cannot be the name"),
        (["--branch", "@{-1}", "--commit"], "cannot be the name"),
        (["--branch", "main/m", "--commit"], "cannot make a branch main/m"),
    ],
)
def test_options_that_cannot_be(fork, options, said):
    git(fork, "checkout", "-q", "-b", "other")
    before = state(fork)
    result = run("apply", fork, *options)
    assert result.exit_code == 2 and said in result.stderr, result.output
    assert state(fork) == before


def test_without_git_there_are_no_commits(tmp_path):
    tree = shutil.copytree(FIXTURES / "v0_2_1", tmp_path / "plain")
    before = content(tree)
    result = commit(tree)
    assert result.exit_code == 2 and "git init" in result.stderr
    assert "--no-git" not in result.stderr
    git(tree, "init", "-q")
    result = commit(tree)
    assert result.exit_code == 2 and "has no commit yet" in result.stderr
    assert content(tree) == before


@pytest.mark.parametrize("command", ["merge", "rebase", "cherry-pick", "revert"])
def test_amid_a_merge_there_are_no_commits(fork, command):
    notes = fork / "notes.txt"
    for branch, text in (("a", "a\n"), ("b", "b\n"), ("b", "c\n")):
        git(fork, "checkout", "-q", "-B", branch, branch if text == "c\n" else "main")
        notes.write_text(text)
        git(fork, "add", "-A")
        git(fork, "commit", "-q", "-m", branch)
    with pytest.raises(subprocess.CalledProcessError):
        git(fork, command, "HEAD~" if command == "revert" else "a")
    before = state(fork)
    result = commit(fork)
    assert result.exit_code == 2 and f"in the middle of a {command}" in result.stderr
    assert state(fork) == before


def test_unmerged_files_are_refused(fork):
    (fork / "debug.toml").write_text("mine\n")
    git(fork, "stash")
    (fork / "debug.toml").write_text("theirs\n")
    git(fork, "commit", "-q", "-am", "theirs")
    with pytest.raises(subprocess.CalledProcessError):
        git(fork, "stash", "pop")
    result = commit(fork)
    assert result.exit_code == 2 and "has unmerged files" in result.stderr


# kinds of checkouts


def test_detached_shallow_linked_and_within_others(fork, tmp_path):
    git(fork, "checkout", "-q", "--detach")
    git(fork, "worktree", "add", "-q", str(tmp_path / "linked"), "main")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{fork}", "shallow")
    holder = tmp_path / "holder"
    holder.mkdir()
    git(holder, "init", "-q")
    allow = ["-c", "protocol.file.allow=always"]
    git(holder, *allow, "submodule", "--quiet", "add", str(fork), "sub")
    for number, place in enumerate(
        (tmp_path / "linked", tmp_path / "shallow", holder / "sub", fork)
    ):
        for more in ([], ["--hooks"]):
            name = f"m{number}{len(more)}"
            start = git(place, "rev-parse", "HEAD").strip()
            result = commit(place / "torchtitan/models", name, *more)
            assert result.exit_code == 0, result.output
            assert git(place, "symbolic-ref", "HEAD") == f"refs/heads/{name}\n"
            assert git(place, "status", "--porcelain") == ""
            assert git(place, "rev-list", "--count", f"{start}..") == "2\n"
            git(place, "checkout", "-q", "--detach", start)


def test_a_repository_of_the_longer_hashes(tmp_path):
    tree = shutil.copytree(FIXTURES / "v0_2_1", tmp_path / "fork")
    git(tree, "init", "-q", "-b", "main", "--object-format=sha256")
    checkout_of(tree)
    git(tmp_path, "clone", "-q", str(tree), "clone")
    assert run("apply", tree, "--patches", tmp_path / "p").exit_code == 0
    git(tmp_path / "clone", "am", "-q", *map(str, sorted((tmp_path / "p").iterdir())))
    for options in ([], ["--hooks"]):
        assert commit(tree, f"m{len(options)}", *options).exit_code == 0
        assert tree_of(tree) == tree_of(tmp_path / "clone")
        git(tree, "checkout", "-q", "main")


# hooks, signing, filters


def hook(tree: Path, name: str, script: str) -> None:
    place = tree / ".git/hooks" / name
    place.write_text(f"#!/bin/sh\n{script}\n")
    place.chmod(0o755)


def test_hooks_and_signing_only_with_hooks(fork, tmp_path):
    ran = tmp_path / "ran"
    for name in ("pre-commit", "commit-msg", "post-checkout", "reference-transaction"):
        hook(fork, name, f"echo {name} >> {ran}")
    signer = tmp_path / "signer"
    signer.write_text(
        f"#!/bin/sh\necho signer >> {ran}\ncat > /dev/null\n"
        "echo '[GNUPG:] SIG_CREATED ' >&2\necho '-----BEGIN PGP SIGNATURE-----'\n"
    )
    signer.chmod(0o755)
    for key, value in {"commit.gpgsign": "true", "gpg.program": str(signer)}.items():
        git(fork, "config", key, value)
    ran.write_text("")
    assert commit(fork).exit_code == 0
    assert ran.read_text() == ""
    assert "gpgsig" not in git(fork, "cat-file", "commit", "HEAD")
    git(fork, "-c", "core.hooksPath=/dev/null", "checkout", "-q", "main")
    ran.write_text("")
    result = commit(fork, "n", "--hooks")
    assert result.exit_code == 0, result.output
    names = ran.read_text().split()
    for name in ("pre-commit", "commit-msg", "signer"):
        assert names.count(name) == 2
    assert "gpgsig" in git(fork, "cat-file", "commit", "HEAD")
    assert tree_of(fork, "m") == tree_of(fork, "n")
    for revision in ("", "~"):
        shown = ["log", "-1", "--format=%B"]
        assert git(fork, *shown, f"m{revision}") == git(fork, *shown, f"n{revision}")
    assert git(fork, "status", "--porcelain") == ""


def test_hooks_in_a_folder_that_git_does_not_track_run_too(fork):
    hook(fork, "pre-commit", "echo no; exit 1")
    (fork / ".git/hooks").rename(fork / "own hooks")
    (fork / ".git/info/exclude").write_text("own hooks\n")
    git(fork, "config", "core.hooksPath", "own hooks")
    result = commit(fork, "m", "--hooks")
    assert result.exit_code == 1 and "  | no\n" in result.stderr


@pytest.mark.parametrize("what", ["pre-commit", "signing", "second commit"])
def test_what_a_hook_refuses_leaves_nothing(fork, tmp_path, what):
    if what == "signing":
        git(fork, "config", "commit.gpgsign", "true")
        git(fork, "config", "gpg.program", str(tmp_path / "missing"))
    elif what == "pre-commit":
        hook(fork, "pre-commit", "printf 'not like \\033[31mthis\\n'; exit 1")
    else:
        hook(fork, "commit-msg", 'if grep -q TM106 "$1"; then exit 1; fi')
    before = state(fork)
    result = commit(fork, "m", "--hooks")
    assert result.exit_code == 1
    assert "`git commit` was refused" in result.stderr
    if what == "pre-commit":
        assert "  | not like \\x1b[31mthis" in result.stderr
    assert state(fork) == before


@pytest.mark.parametrize(
    "path, times", [(PLAN, 1), ("debug.toml", 2)], ids=["of the commit", "another"]
)
def test_what_a_hook_changes_is_committed_and_said(fork, path, times):
    staged = f"git diff --cached --quiet -- {PLAN} || "
    change = f"{{ echo '# formatted' >> {path}; git add {path}; }}"
    hook(fork, "pre-commit", change if times == 2 else staged + change)
    result = commit(fork, "m", "--hooks")
    assert result.exit_code == 0, result.output
    said = "A hook changed these files, and they are committed as it left them: "
    assert f"{said}{path}\n" in result.stderr
    assert (fork / path).read_text().endswith(times * "# formatted\n")
    assert (fork / path).read_text().count("# formatted\n") == times
    assert git(fork, "status", "--porcelain") == ""


def test_our_own_hook_of_pre_commit_does_not_refuse_what_is_not_the_last(
    fork, monkeypatch
):
    monkeypatch.setenv("SKIP", "mypy")
    hook(fork, "pre-commit", 'test "$SKIP" = mypy,titan-migrate')
    result = commit(fork, "m", "--hooks")
    assert result.exit_code == 0, result.output


def test_a_hook_that_fails_after_the_switch_takes_nothing_back(fork):
    hook(fork, "post-checkout", "exit 1")
    assert commit(fork, "m", "--hooks").exit_code == 0
    assert git(fork, "symbolic-ref", "HEAD") == "refs/heads/m\n"


def test_filtered_files_need_hooks(fork, tmp_path):
    git(fork, "config", "filter.rot.clean", "sed s/grouped/GROUPED/g")
    git(fork, "config", "filter.rot.smudge", "sed s/GROUPED/grouped/g")
    (fork / ".gitattributes").write_text("torchtitan/models/utils.py filter=rot\n")
    # So old that git trusts its index.
    os.utime(fork / "torchtitan/models/utils.py", (1, 1))
    git(fork, "add", "-A")
    git(fork, "commit", "-q", "-m", "filter")
    before = state(fork)
    for arguments in (["--branch", "m", "--commit"], ["--patches", tmp_path / "p"]):
        result = run("apply", fork, *arguments)
        assert result.exit_code == 2
        assert "torchtitan/models/utils.py as the filter rot" in result.stderr
    assert state(fork) == before
    assert commit(fork, "m", "--hooks").exit_code == 0
    assert "GROUPED" in git(fork, "show", "HEAD:torchtitan/models/utils.py")
    assert "GROUPED" not in (fork / "torchtitan/models/utils.py").read_text()
    assert git(fork, "status", "--porcelain") == ""


@pytest.mark.parametrize("output", ["text", "json"])
def test_a_branch_whose_name_is_no_utf_8(fork, output):
    done = subprocess.run(
        [sys.executable, "-m", "migrator.cli", "apply", str(fork), "--commit"]
        + ["--format", output, "--branch", os.fsdecode(b"a\xff")],
        cwd=FIXTURES.parent,
        capture_output=True,
    )
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    assert (fork / ".git/HEAD").read_bytes() == b"ref: refs/heads/a\xff\n"


def test_no_filter_of_the_new_branch_runs(fork, tmp_path):
    trap = tmp_path / "ran"
    (fork / ".git/evil.cfg").write_text(
        f'[filter "evil"]\n\tclean = "touch {trap}; cat"\n\tsmudge = "touch {trap}; cat"\n'
    )
    git(fork, "config", "includeIf.onbranch:m.path", "evil.cfg")
    (fork / ".git/info/attributes").write_text("*.py filter=evil\n")
    # So that files are written again after the switch.
    git(fork, "config", "core.autocrlf", "true")
    assert commit(fork).exit_code == 0
    assert git(fork, "rev-parse", "--abbrev-ref", "HEAD") == "m\n"
    assert not trap.exists()


# interruption


INTERRUPTED = """
import os, signal, sys
import git
signal.signal(signal.SIGINT, signal.default_int_handler)
word, when, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
real = git.Git.execute
def execute(self, command, **rest):
    here = word in command
    if here and when == "before": os.kill(os.getpid(), number)
    try:
        return real(self, command, **rest)
    finally:
        if here and when == "after": os.kill(os.getpid(), number)
git.Git.execute = execute
from migrator.cli import main
main(sys.argv[4:])
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGKILL"])
@pytest.mark.parametrize(
    "word, when",
    [
        ("read-tree", "after"),
        ("commit-tree", "before"),
        ("commit-tree", "after"),
        ("switch", "before"),
        ("switch", "after"),
    ],
)
def test_interrupted_it_is_as_before_or_complete(fork, tmp_path, name, word, when):
    before = state(fork)
    done = subprocess.run(
        [
            *[sys.executable, "-c", INTERRUPTED, word, when],
            str(int(getattr(signal, name))),
            *["apply", str(fork), "--branch", "m", "--commit"],
        ],
        capture_output=True,
        cwd=FIXTURES.parent,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    held = word == "switch" and name != "SIGKILL"
    assert (done.returncode == 0) == held, done.stderr
    wait_for_git(fork)
    assert_before_or_complete(fork, before)
    complete = word == "switch" and (when == "after" or held)
    assert (git(fork, "rev-parse", "--abbrev-ref", "HEAD") == "m\n") == complete
    if name != "SIGKILL":
        assert not list(tmp_path.glob("titan-migrate-*"))


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("word", ["init", "commit-tree", "format-patch"])
def test_interrupted_there_are_no_patches(fork, tmp_path, name, word):
    before = state(fork), objects(fork)
    done = subprocess.run(
        [
            *[sys.executable, "-c", INTERRUPTED, word, "after"],
            str(int(getattr(signal, name))),
            *["apply", str(fork), "--patches", str(tmp_path / "patches")],
        ],
        capture_output=True,
        cwd=FIXTURES.parent,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode == {"SIGTERM": 143, "SIGINT": 130}[name], done.stderr
    assert (state(fork), objects(fork)) == before
    assert not list(tmp_path.glob("*titan-migrate-*"))
    assert not (tmp_path / "patches").exists()


@pytest.mark.parametrize("options", [[], ["--hooks"]])
def test_killed_at_any_moment_it_is_as_before_or_complete(fork, tmp_path, options):
    before = state(fork)
    command = [sys.executable, "-m", "migrator.cli", "apply", str(fork), *options]
    for number in range(8):
        running = subprocess.Popen(
            [*command, "--branch", "m", "--commit"],
            cwd=FIXTURES.parent,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        time.sleep(0.35 + number * 0.05)
        # With all that it started, as a batch system would.
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        wait_for_git(fork)
        assert_before_or_complete(fork, before)
        if git(fork, "branch", "--list", "m"):
            git(fork, "checkout", "-q", "main")
            git(fork, "branch", "-q", "-D", "m")
            before = state(fork)


@pytest.mark.parametrize("options", [[], ["--hooks"]])
def test_a_switch_goes_on_when_all_else_is_killed(fork, tmp_path, options):
    wrapper = wrap_git(tmp_path, 'kill -s KILL -- "-$PPID"; sleep 0.2')
    running = subprocess.Popen(
        [sys.executable, "-m", "migrator.cli", "apply", str(fork), *options]
        + ["--branch", "m", "--commit"],
        cwd=FIXTURES.parent,
        env={**os.environ, "PATH": f"{wrapper.parent}:{os.environ['PATH']}"},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert running.wait() == -signal.SIGKILL
    wait_for_git(fork)
    assert git(fork, "branch", "--list", "m")
    assert_before_or_complete(fork, None)


def wrap_git(folder: Path, script: str) -> Path:
    """A git for PATH that does something else before it switches."""
    wrapper = folder / "bin" / "git"
    wrapper.parent.mkdir()
    wrapper.write_text(
        f'#!/bin/sh\ncase "$*" in *"switch "*)\n{script}\nesac\n'
        f'exec {shutil.which("git")} "$@"\n'
    )
    wrapper.chmod(0o755)
    return wrapper


def wait_for_git(fork: Path) -> None:
    """Until no git is at work in a checkout."""
    time.sleep(0.05)
    while any(works_in(process, fork) for process in Path("/proc").glob("[0-9]*")):
        time.sleep(0.01)


def works_in(process: Path, fork: Path) -> bool:
    try:
        return Path(os.readlink(process / "cwd")) == fork
    except OSError:
        return False


def assert_before_or_complete(fork: Path, before: object) -> None:
    assert not list((fork / ".git").rglob("*.lock"))
    assert git(fork, "worktree", "list").count("\n") == 1
    git(fork, "fsck", "--strict")
    assert git(fork, "status", "--porcelain") == ""
    if git(fork, "branch", "--list", "m"):
        assert git(fork, "symbolic-ref", "HEAD") == "refs/heads/m\n"
        assert git(fork, "log", "--reverse", "--format=%s", "main..").splitlines() == (
            SUBJECTS
        )
    else:
        assert state(fork) == before


def test_a_switch_that_breaks_off_is_taken_back(fork, tmp_path, monkeypatch):
    """As on a full disk: a file is half written, one is gone, the index is written."""
    utils = "torchtitan/models/utils.py"
    wrapper = wrap_git(
        tmp_path,
        f"""for tip; do true; done
        git=/{shutil.which("git")}
        $git -C {fork} restore --source=$tip --staged --worktree .
        head -c 100 {fork}/{PLAN} > {tmp_path}/half && cp {tmp_path}/half {fork}/{PLAN}
        rm {fork}/{utils}
        echo 'No space left on device' >&2
        exit 1""",
    )
    before = state(fork)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    result = commit(fork)
    monkeypatch.undo()
    assert result.exit_code == 2 and "No space left" in result.stderr
    assert state(fork) == before


# real releases


@pytest.fixture(scope="module", params=[(v, t) for v in VERSIONS for t in ("1d", "2d")])
def released(request, tmp_path_factory):
    """(target, checkout with the series on branch m, the same with plain apply)."""
    version, target = request.param
    folder = tmp_path_factory.mktemp(f"{version}-{target}")
    tree = as_checkout(release(version), folder / "tree")
    plain = as_checkout(release(version), folder / "plain")
    for place, more in ((plain, ()), (tree, ("--branch", "m", "--commit"))):
        git(place, "config", "user.name", "t")
        git(place, "config", "user.email", "t@example.org")
        result = run("apply", place, "--target", target, *more)
        assert result.exit_code == 0, result.output
    return target, tree, plain


@pytest.mark.release
def test_every_commit_of_a_release_imports(released, tmp_path):
    _, tree, _ = released
    commits = git(tree, "rev-list", "main..m").split()
    assert 1 <= len(commits) <= 2
    for commit in commits:
        place = tmp_path / commit
        place.mkdir()
        archive = tmp_path / f"{commit}.tar"
        git(tree, "archive", "-o", str(archive), commit)
        shutil.unpack_archive(archive, place)
        script = place / "script.py"
        script.write_text(
            "import torchtitan.models.llama3 as m; "
            f"assert m.__file__.startswith({str(place)!r}), m.__file__"
        )
        log = tmp_path / f"{commit}.log"
        status = warm.server().run(
            [str(script)], cwd=place, log=log, environments=[dict(os.environ)]
        )
        assert status == 0, log.read_text()


@pytest.mark.release
def test_the_last_commit_of_a_release_is_plain_apply(released):
    _, tree, plain = released
    assert git(tree, "status", "--porcelain") == ""
    assert content(tree) == content(plain)
    git(plain, "add", "-A")
    assert git(plain, "write-tree").strip() == tree_of(tree)


@pytest.mark.release
def test_the_patches_of_a_release_give_the_same_tree(released, tmp_path):
    target, tree, _ = released
    clone, folder = tmp_path / "clone", tmp_path / "patches"
    git(tmp_path, "clone", "-q", "-b", "main", str(tree), str(clone))
    for key in ("name", "email"):
        git(clone, "config", f"user.{key}", "t")
    result = run("apply", clone, "--target", target, "--patches", folder)
    assert result.exit_code == 0, result.output
    git(clone, "am", "-q", *map(str, sorted(folder.iterdir())))
    assert tree_of(clone) == tree_of(tree, "m")
    assert git(clone, "rev-list", "--count", "main@{upstream}..") == git(
        tree, "rev-list", "--count", "main..m"
    )
