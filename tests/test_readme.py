"""Every command that README shows is one that the tool takes, and does what it is shown for."""

import re
import shlex

import click
import pytest
from click.testing import CliRunner

from migrator.cli import main

from places import TOP
from releases import git
from reviewed import fork

PAGES = ("README.md", "migrator/README.md", "migrator/verify/README.md")

LONG = ("verify", "rehearse", "demo")
"""Commands that train, or wrap every model: their words are parsed here, and run elsewhere."""

ELSEWHERE = ("--torchtitan",)
"""What a dependent would have: parsed likewise."""


def shown() -> list[str]:
    """The commands in the code blocks of the pages, a line each, without comments."""
    found = []
    for page in PAGES:
        text = (TOP / page).read_text().replace("\\\n", " ")
        for line in re.findall(r"(?m)^    (titan-migrate .*)$", text):
            found.append(re.split(r"\s+# | \||&&", line)[0].strip())
    return list(dict.fromkeys(found))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a fork in `torchtitan/`, on which the commands stand."""
    tree = fork(tmp_path)
    tree.rename(tmp_path / "torchtitan")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "torchtitan"


def test_there_are_such_commands():
    assert len(shown()) > 15
    assert {line.split()[1] for line in shown()} >= {
        "check",
        "apply",
        "verify",
        "report",
    }


@pytest.mark.parametrize("line", shown())
def test_a_command_of_the_readme(line, here, monkeypatch):
    line, _, file = line.partition(" > ")
    _, name, *words = shlex.split(line)
    if name in LONG or any(word in words for word in ELSEWHERE):
        command = main.get_command(click.Context(main), name)
        command.make_context(name, words)  # raises where an option is not there
        return
    if "./torchtitan" not in words:
        monkeypatch.chdir(here)
    if "../patches" in words:
        words[words.index("../patches")] = str(here.parent / "mail")
    before = git(here, "rev-parse", "HEAD")
    result = CliRunner().invoke(main, [name, *words])
    finds = words == ["./torchtitan"] and name in ("check", "sweep")
    # A part of the refs may have none in it, and a whole has the fork's branch.
    expected = {1} if finds else {0, 1} if name == "sweep" else {0}
    assert result.exit_code in expected, result.output
    if name == "apply" and "--patches" not in words:
        after = git(here, "rev-parse", "HEAD")
        assert after != before or git(here, "status", "--porcelain")
    elif name != "apply":
        assert git(here, "status", "--porcelain") == ""
        assert result.output
