"""Commits as the user's own git makes them: with hooks and signing."""

from pathlib import Path

import pytest

from branched import PLAN, commit, state, tree_of
from releases import git


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
