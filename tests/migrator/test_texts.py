"""What is not Python is read where something moves, named, and never written."""

import json
import re

import pytest

from codemods import engine
from codemods.engine import migrate
from migrator.apply import plan, resolve_target
from migrator.checkout import Checkout

from branched import commit
from commands import run, snapshot
from places import FIXTURES
from releases import as_checkout, git

OPTION = "--parallelism.data_parallel_replicate_degree 2"
SAID = {
    "README.md": "# Mine\n\n7. DDP and HSDP\n\nFSDP is held against DDP to see that it is right.\n",
    "docs/parallelism.md": "# Replicas\n\n`dp_replicate` is DDP.\n",
    "docs/plans.rst": "Plans end with ``apply_ddp``.\n",
    "docs/notes.txt": "FSDP, TP and DDP.\n",
    "CLAUDE.md": "Call `apply_ddp` last, behind its guard.\n",
    ".cursorrules": "Plans: apply_fsdp, else DDP.\n",
    ".github/copilot-instructions.md": "Plans: apply_fsdp, else DDP.\n",
    ".claude/skills/plans/SKILL.md": "Plans: apply_fsdp, else DDP.\n",
    "train_configs/ddp.toml": "[parallelism]\ndata_parallel_replicate_degree = 8  # DDP\n",
    "tests/integration_tests/features.py": f'TESTS = [Case(["{OPTION}"], "DDP", "ddp")]\n',
}
SILENT = {
    "CHANGELOG.md": "Added DDP and HSDP.\n",
    "benchmarks/a100.md": "DDP and HSDP, 8 ranks.\n",
    "third_party/other/README.md": "DDP and HSDP.\n",
    "notes.txt": "DDP and HSDP.\n",
    "ignored/README.md": "DDP and HSDP.\n",
    "docs/large.md": "DDP and HSDP.\n" * 100_000,
    "docs/binary.md": "DDP and HSDP.\n\0",
}


@pytest.fixture
def documented(fork):
    for path, text in {**SAID, **SILENT}.items():
        (fork / path).parent.mkdir(parents=True, exist_ok=True)
        (fork / path).write_text(text)
    (fork / "AGENTS.md").symlink_to("CLAUDE.md")
    (fork / ".gitignore").write_text("ignored/\n")
    git(fork, "add", "-A")
    git(fork, "commit", "-qm", "documents")
    return fork


def said(tree, *options):
    """(path, line, code) of what is said of documents, configurations and tests."""
    found = json.loads(run("check", tree, "--format", "json", *options).stdout)
    return {
        (finding["path"], finding["line"], finding["code"])
        for finding in found["findings"]
        if finding["path"] in SAID.keys() | SILENT.keys()
    }


def expected(*left_out):
    codes = {".toml": "TM218", ".py": "TM216"}
    lines = {"README.md": 3, "docs/parallelism.md": 3, "train_configs/ddp.toml": 2}
    return {
        (
            path,
            lines.get(path, 1),
            next((c for s, c in codes.items() if path.endswith(s)), "TM217"),
        )
        for path in SAID
        if path not in left_out
    }


def test_every_kind_is_named_once_and_nothing_else(documented):
    assert said(documented) == expected()


def test_without_git_it_is_the_same(documented):
    for path in ("ignored/README.md", ".gitignore"):
        (documented / path).unlink()
    (documented / ".git").rename(documented.parent / "git")
    assert said(documented, "--no-git") == expected()


def test_what_is_left_out(documented):
    assert said(documented, "--exclude", "docs") == expected(
        "docs/parallelism.md", "docs/plans.rst", "docs/notes.txt"
    )
    assert said(documented, "--ignore", "TM21") == set()
    with (documented / "pyproject.toml").open("a") as file:
        file.write('[tool.titan-migrate]\nexclude = ["*.md", ".*", "docs"]\n')
    assert {path for path, _, _ in said(documented)} == {
        "train_configs/ddp.toml",
        "tests/integration_tests/features.py",
    }


def test_nothing_of_it_is_written_and_then_nothing_is_said(documented, monkeypatch):
    before = snapshot(documented)
    told = run("apply", documented)
    assert told.exit_code == 0 and "README.md:3: TM217" in told.stderr
    after = snapshot(documented)
    assert after != before
    assert {
        p for p in before if before[p] != after[p] and not p.endswith(".py")
    } == set()
    assert all(before[path] == after[path] for path in SAID)

    def unread(*_):
        raise AssertionError("nobody has to read them")

    monkeypatch.setattr(engine, "migrate", migrate)  # which the tests remember
    monkeypatch.setattr(Checkout, "texts", property(unread))
    assert said(documented) == set()
    told = run("check", documented)
    assert told.exit_code == 0 and "Nothing to rewrite, and 2 hazards" in told.stderr


def test_reports_tell_the_same(documented):
    sarif = json.loads(run("check", documented, "--format", "sarif").stdout)
    places = {
        (
            result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"],
            result["locations"][0]["physicalLocation"]["region"]["startLine"],
            result["ruleId"],
        )
        for result in sarif["runs"][0]["results"]
        if result["level"] in ("warning", "note")
    }
    assert expected() <= places
    github = run("check", documented, "--format", "github").stdout
    assert "::notice file=docs/plans.rst,line=1,title=TM217::" in github
    assert "TM217" in run("diff", documented, "-v").stderr
    assert "docs/plans.rst:1" in run("report", documented).stdout
    assert commit(documented).exit_code == 0
    message = git(documented, "log", "main..", "--format=%B")
    assert re.search(
        r"^- TM217 .*documentation that speaks of DDP.*:\n  \.claude/skills",
        message,
        re.M,
    ), message
    report = run("report", documented).stdout
    assert "docs/plans.rst:1" in report
    told = [line for line in report.splitlines() if "TM217" in line]
    assert told and not any("changed since" in line for line in told)


def test_the_help_is_a_commit_of_its_own_after_what_it_tells_of(tmp_path):
    tree = as_checkout(FIXTURES / "v0_1", tmp_path / "tree")
    assert commit(tree).exit_code == 0
    assert git(tree, "log", "--format=%s", "main..").splitlines() == [
        "Update the help texts for replicate",
        "Replace DDP by replicate",
    ]
    assert git(tree, "show", "--format=", "--name-only", "HEAD").split() == [
        "torchtitan/config_manager.py"
    ]
    assert "TM107" in run("report", tree).stdout


def test_without_the_migration_the_help_stays(tmp_path):
    tree = as_checkout(FIXTURES / "v0_1", tmp_path / "tree")
    found = plan(Checkout(tree, is_git=True), resolve_target("1d"))
    assert "torchtitan/config_manager.py" in found.changes
    told = run("diff", tree, "--ignore", "TM107")
    assert "config_manager.py" not in told.stdout and told.stdout
    told = run("diff", tree, "--ignore", "TM101,TM102,TM103,TM105")
    assert told.stdout == ""
