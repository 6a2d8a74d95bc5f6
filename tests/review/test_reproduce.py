"""The commands that show each claim again."""

from pathlib import Path

from click.testing import CliRunner

from migrator import review
from migrator.cli import main
from migrator.review.page import as_html

from releases import git
from reviewed import PLAN, edit, fork, head, migrated, reviewed, run, verify_report


def test_the_command_of_another_trees_verdict_is_not_repeated(tmp_path):
    tree = migrated(fork(tmp_path))
    folder = verify_report(tmp_path / "r", tree)

    def commands():
        claims = reviewed(tree, verify_report=folder).claims
        return "\n".join(command for claim in claims for command in claim.commands)

    assert "--cells dp" in commands()
    edit(tree, PLAN, "def apply_replicate(", "def apply_replicate(  # since")
    assert "--cells dp" not in commands()
    assert "titan-migrate verify CHECKOUT --base" in commands()


def test_commands_have_placeholders_and_no_paths(tmp_path):
    tree = migrated(fork(tmp_path))
    found = reviewed(tree, verify_report=verify_report(tmp_path / "r", tree))
    commands = [command for claim in found.claims for command in claim.commands]
    base = head(tree)
    assert commands == [
        f"git -C CHECKOUT worktree add --detach BEFORE {base}",
        "titan-migrate diff BEFORE --target 1d --function-name apply_replicate --stat",
        "titan-migrate check CHECKOUT --target 1d --function-name apply_replicate",
        f"titan-migrate verify CHECKOUT --base {base} --cells dp",
        f"titan-migrate report CHECKOUT --base {base} --target 1d --function-name apply_replicate --html FILE",
    ]
    for shown in (review.as_markdown(found), as_html(found)):
        assert str(tmp_path) not in shown and str(Path.home()) not in shown


def test_what_a_command_shows_is_what_it_shows(tmp_path):
    tree = migrated(fork(tmp_path))
    found = reviewed(tree)
    add, stat = found.claims[0].commands
    git(
        tree,
        *add.replace("CHECKOUT", ".")
        .replace("BEFORE", str(tmp_path / "before"))
        .split()[3:],
    )
    words = stat.replace("BEFORE", str(tmp_path / "before")).split()[1:]
    shown = CliRunner().invoke(main, words).stdout.splitlines()[-1]
    assert shown.strip() == found.claims[0].expect
    words = found.claims[1].commands[0].replace("CHECKOUT", str(tree)).split()[1:]
    assert CliRunner().invoke(main, words).exit_code == 0


def test_what_is_selected_is_shown_and_said(tmp_path):
    tree = fork(tmp_path)
    options = [
        "--target",
        "1d",
        "--ignore",
        "TM106",
        "--exclude",
        "torchtitan/models/qwen3 x/",
        "--exclude",
        "*/none.py",
    ]
    result = run(tree, *options)
    assert result.exit_code == 0 and "TM106" not in result.stdout.replace(
        "--ignore TM106", ""
    )
    wanted = (
        "--ignore TM106 --exclude 'torchtitan/models/qwen3 x/' --exclude '*/none.py'"
    )
    assert f"apply_replicate {wanted} --stat" in result.stdout
    whole = run(tree, "--target", "1d").stdout
    assert "TM106" in whole and "--exclude" not in whole
