"""What is read from a report of ``verify``, whose tree it is about, and reports that are none."""

import json
import os
from pathlib import Path

import pytest

from migrator import review
from migrator.errors import TitanMigrateError
from migrator.review.page import as_html

from releases import git
from reviewed import (
    BASE,
    NOT_RUN,
    PASSED,
    PLAN,
    REFUSED,
    UTILS,
    alone,
    edit,
    fork,
    head,
    migrated,
    reviewed,
    run,
    verify_report,
)


def test_a_verdict_of_this_tree(tmp_path):
    tree = fork(tmp_path)
    base = head(tree)
    verify_report(
        tmp_path / "titan-migrate-report",
        migrated(tree),
        dp=PASSED,
        **{"dp+tp": REFUSED, "fsdp": NOT_RUN},
    )
    found = reviewed(tree).verified
    assert found.ours is True and found.word == "passed" and len(found.cells) == 3
    assert [cell.word for cell in found.cells] == ["passed", "passed", "not run"]
    assert (
        found.cells[0].figures["loss"] == "bitwise"
        and found.cells[1].as_ddp == "DDP fails"
    )
    assert set(found.plots) == {cell.plot for cell in found.cells if cell.plot}
    assert all(name.endswith(".svg") for name in found.plots) and len(found.plots) == 2
    git(tree, "commit", "-qam", "Migrate")
    assert reviewed(tree).verified.ours is True
    git(tree, "checkout", "-q", base)
    assert reviewed(tree).verified.ours is True, "the tree that the plan makes"
    assert "that this migration makes" in reviewed(tree).verified.sentence


def test_a_verdict_against_a_commit_in_between_is_of_this_tree(tmp_path):
    """As where code for a hazard was committed before the migration, and the report shows both."""
    tree = fork(tmp_path)
    first = head(tree)
    edit(tree, "torchtitan/train.py", "import", "import sys  # mended\nimport")
    git(tree, "commit", "-qam", "Mend a hazard")
    between = head(tree)
    verify_report(tmp_path / "titan-migrate-report", migrated(tree), base=between)
    git(tree, "commit", "-qam", "Migrate")
    found = reviewed(tree, base=first).verified
    assert found.ours is True and f"{between[:12]}, lies between" in found.sentence
    git(tree, "checkout", "-q", "--orphan", "elsewhere")
    git(tree, "commit", "-qm", "Another history")
    assert reviewed(tree, base="HEAD").verified.ours is not True


def test_a_verdict_of_another_tree_is_said_to_be(tmp_path):
    tree = migrated(fork(tmp_path))
    folder = verify_report(tmp_path / "r", tree)
    edit(tree, PLAN, "def apply_replicate(", "def apply_replicate(  # since")
    found = reviewed(tree, verify_report=folder)
    assert (
        found.verified.ours is False and "about another tree" in found.verified.sentence
    )
    text = review.as_markdown(found)
    assert (
        "### Verdicts: of another tree\n\n⚠️ This report is about another tree" in text
    )
    assert ">outdated<" in as_html(
        found
    ) and 'class="word passed">passed</b><span>verdict' not in as_html(found)


def test_a_verdict_against_another_base_is_said_to_be(tmp_path):
    tree = migrated(fork(tmp_path))
    found = reviewed(tree, verify_report=verify_report(tmp_path / "r", tree, base=BASE))
    assert (
        found.verified.ours is False
        and "against another base, aaaaaaaaaaaa" in found.verified.sentence
    )


def test_a_verdict_of_a_plan_has_the_base_that_is_planned_from(tmp_path):
    tree = migrated(fork(tmp_path))
    folder = verify_report(tmp_path / "r", tree, base=BASE)
    git(tree, "checkout", "-q", ".")
    found = reviewed(tree, verify_report=folder).verified
    assert found.ours is False and "another base, aaaaaaaaaaaa" in found.sentence


def test_a_verdict_of_a_plan_without_git_cannot_be_told(tmp_path):
    tree = migrated(fork(tmp_path))
    folder = verify_report(tmp_path / "r", tree)
    git(tree, "checkout", "-q", ".")
    (tree / ".git").rename(tmp_path / "away")
    found = reviewed(tree, verify_report=folder, require_git=False).verified
    assert found.ours is None and "cannot be told" in found.sentence


def test_a_verdict_speaks_of_the_package_alone(tmp_path):
    tree = migrated(fork(tmp_path))
    folder = verify_report(tmp_path / "r", tree)
    (tree / "tools.py").write_text("x = 1\n")
    found = reviewed(tree, verify_report=folder).verified
    assert found.ours is True
    assert (
        found.sentence
        == "Trained was the very torchtitan package shown here: its Python files have the digest that the report records."
    )


def test_a_verdict_without_a_digest_cannot_be_told(tmp_path):
    tree = migrated(fork(tmp_path))
    path = verify_report(tmp_path / "r", tree) / "report.json"
    data = json.loads(path.read_text())
    del data["environment"]["migrated_digest"]
    path.write_text(json.dumps(data))
    found = reviewed(tree, verify_report=tmp_path / "r")
    assert found.verified.ours is None and "cannot be told" in found.verified.sentence
    assert "### Verdicts: passed, unsure\n" in review.as_markdown(found)


def test_a_verdict_of_a_commit_does_not_know_what_git_ignores(tmp_path):
    tree = migrated(fork(tmp_path))
    (tree / ".gitignore").write_text("_version.py\n")
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", "Migrate")
    path = (
        verify_report(
            tmp_path / "r", tree, base=git(tree, "rev-parse", "HEAD~").strip()
        )
        / "report.json"
    )
    (tree / "torchtitan/_version.py").write_text("v = 1\n")
    assert reviewed(tree, verify_report=tmp_path / "r").verified.ours is False
    data = json.loads(path.read_text())
    data["environment"]["command"] += ["--rev", "HEAD"]
    path.write_text(json.dumps(data))
    assert reviewed(tree, verify_report=tmp_path / "r").verified.ours is True
    for foreign in ("0" * 40, f"--output={tmp_path / 'written'}"):
        data["environment"] |= {"migrated_revision": foreign, "migrated_digest": "d"}
        path.write_text(json.dumps(data))
        assert reviewed(tree, verify_report=tmp_path / "r").verified.ours is False
    assert not (tmp_path / "written").exists()
    edit(tree, UTILS, "import", "import sys\nimport")
    assert reviewed(tree, verify_report=tmp_path / "r").verified.ours is False


def test_a_report_cannot_have_its_reader_type_something_else(tmp_path):
    tree = migrated(fork(tmp_path))
    path = verify_report(tmp_path / "r", tree) / "report.json"
    data = json.loads(path.read_text())
    data["environment"]["command"] = ["rm", "-rf", "~"]
    path.write_text(json.dumps(data))
    result = run(tree, "--verify-report", tmp_path / "r")
    assert result.exit_code == 2 and "is no report of verify" in result.stderr


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b'{"models": {}}', b"\xff", b"[" * 100000]
    + [
        b'{"environment": {}, "models": {"m": {"dp": {}}}}',
        b'{"environment": 3, "models": []}',
    ],
)
def test_what_is_no_report_is_a_sentence(tmp_path, content):
    tree = migrated(fork(tmp_path))
    folder = tmp_path / "titan-migrate-report"
    folder.mkdir()
    (folder / "report.json").write_bytes(content)
    result = run(tree)
    assert result.exit_code == 0 and "cannot be read" in result.stdout
    result = run(tree, "--verify-report", folder)
    assert result.exit_code == 2 and "is no report of verify" in result.stderr


@pytest.mark.parametrize("odd", ["fifo", "folder", "large"])
def test_a_report_that_is_no_file_or_too_large_is_a_sentence(tmp_path, odd):
    tree = migrated(fork(tmp_path))
    folder = tmp_path / "titan-migrate-report"
    folder.mkdir()
    file = folder / "report.json"
    if odd == "fifo":
        os.mkfifo(file)
    elif odd == "folder":
        file.mkdir()
    else:
        file.touch()
        os.truncate(file, 200_000_001)  # without a byte of it on disk
    result = alone(tree)
    assert result.returncode == 0 and "cannot be read" in result.stdout
    result = alone(tree, "--verify-report", folder)
    assert result.returncode == 2 and "is no file, or larger than" in result.stderr


def test_a_report_with_numbers_beyond_all_floats_is_a_sentence(tmp_path):
    tree = migrated(fork(tmp_path))
    path = verify_report(tmp_path / "r", tree) / "report.json"
    data = json.loads(path.read_text())
    data["environment"]["seconds"] = {"a": 10**400}
    path.write_text(json.dumps(data))
    with pytest.raises(TitanMigrateError, match="is no report of verify"):
        reviewed_verdicts(tree, path.parent)


def test_parts_of_a_report_that_are_wrong_are_a_sentence(tmp_path):
    tree = migrated(fork(tmp_path))
    folder = verify_report(tmp_path / "r", tree)
    whole = json.loads((folder / "report.json").read_text())

    def places(value, so_far=()):
        items = value.items() if isinstance(value, dict) else enumerate(value[:1])
        for key, inner in items:
            yield (*so_far, key)
            if isinstance(inner, (dict, list)) and len(so_far) < 6:
                yield from places(inner, (*so_far, key))

    for place in list(places(whole)):
        for instead in (None, 7, "x", [], {}, [7]):
            data = json.loads(json.dumps(whole))
            at = data
            for key in place[:-1]:
                at = at[key]
            at[place[-1]] = instead
            (folder / "report.json").write_text(json.dumps(data))
            try:
                found = reviewed_verdicts(tree, folder)
            except TitanMigrateError:
                continue
            assert found.cells or instead in ([], {})


def reviewed_verdicts(tree: Path, folder: Path, known={}):  # noqa: B006 - kept between calls
    """The verdicts alone, which is what changes from one report to the next."""
    from migrator.review import compare, verdicts

    if tree not in known:
        known[tree] = compare.compare(tree, target="1d")
    return verdicts.read(tree, known[tree], folder)


def test_no_report_is_a_sentence_and_a_named_one_has_to_be_there(tmp_path):
    tree = migrated(fork(tmp_path))
    assert "This was not verified" in run(tree).stdout
    result = run(tree, "--verify-report", tmp_path / "none")
    assert result.exit_code == 2 and "could not be read" in result.stderr


@pytest.mark.parametrize(
    "content", [b"<html>", b"", b"\x89PNG", b"<?xml" + b"x" * 4_000_000]
)
def test_what_is_no_image_is_left_out(tmp_path, content):
    tree = migrated(fork(tmp_path))
    folder = verify_report(tmp_path / "r", tree)
    for path in (folder / "plots").iterdir():
        path.write_bytes(content)
    assert not reviewed(tree, verify_report=folder).verified.plots
