"""What ``report`` says of a checkout: the model, the Markdown, the page, and where it is written."""

import base64
import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import html5lib
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from codemods.attribution import BY_HAND, Stage, Touch, attribute, lines
from migrator import review
from migrator.apply import plan, resolve_target
from migrator.checkout import Checkout
from migrator.cli import main
from migrator.errors import TitanMigrateError
from migrator.patch import count as counts_of
from migrator.review import compare as comparison
from migrator.review import gather, markdown, model
from migrator.review.hunks import hunks_of, undone
from migrator.review.page import as_html

from hostile import HOSTILE, committed, escapes_nothing, hostile_checkout
from releases import git
from reviewed import (
    BASE,
    EVIL,
    FAILED,
    FIXTURES,
    NOT_RUN,
    PASSED,
    PLAN,
    REFUSED,
    edit,
    evil,
    fork,
    head,
    migrated,
    verify_report,
)

NAMES = sorted(path.name for path in FIXTURES.iterdir() if path.is_dir())
UTILS = "torchtitan/distributed/utils.py"


def run(*arguments: object):
    return CliRunner().invoke(main, ["report", *map(str, arguments)])


def reviewed(tree: Path, **options):
    return review.review(tree, **{"target": "1d", **options})


def file_of(found, path: str):
    (file,) = (file for file in found.files if file.path == path)
    return file


def test_the_words_of_the_model_are_where_they_can_be_seen():
    assert model.visible("a\tb\x1b\u202e\n") == "a\tb\\x1b\\u202e\\n"
    assert model.visible("\udcff") == "\\udcff"


# A checkout that is not migrated yet


@pytest.mark.parametrize("name", NAMES)
def test_the_plan_of_every_fixture(tmp_path, name):
    tree = fork(tmp_path, name)
    found = reviewed(tree)
    made = plan(Checkout(tree, True), resolve_target("1d"))
    stats = {path: counts_of(path, patch) for path, patch in made.patches()}
    assert {f.path: (f.added, f.removed) for f in found.files} == {
        path: (stat.added, stat.removed) for path, stat in stats.items()
    }
    reasons = [
        (f.path, r.line, r.code)
        for f in found.files
        for h in f.hunks
        for r in h.reasons
    ]
    rewritten = [f for f in made.findings if f.status == "rewrite" and f.path in stats]
    assert sorted(reasons) == sorted((f.path, f.line, f.code) for f in rewritten)
    for file in found.files:
        for hunk in file.hunks:
            numbers = {row.old.number for row in hunk.rows if row.old}
            for reason in (r for h in file.hunks if h is not hunk for r in h.reasons):
                assert reason.line not in numbers or reason.code not in hunk.codes
    assert all(hunk.codes and not hunk.touch.by_hand for hunk in found.hunks)
    assert not found.by_hand and "not migrated yet" in found.about[0]
    hazards = [f for f in made.findings if f.status == "hazard"]
    assert [(h.path, h.line, h.suggestion) for h in found.hazards] == [
        (f.path, f.line, f.suggestion) for f in hazards
    ]


def test_a_place_for_a_person_is_shown_and_ends_with_1(tmp_path):
    tree = fork(tmp_path)
    guard = next(
        p for p in tree.rglob("parallelize.py") if "DDP has not" in p.read_text()
    )
    text = guard.read_text().replace("raise RuntimeError(", "print(end=", 1)
    guard.write_text(text.replace("not supported > 1D", "not supported > 1D"))
    result = run(tree, "--target", "1d")
    assert result.exit_code == 1, result.stdout
    assert "Before the tool writes anything" in result.stdout
    assert "has to change first" in result.stdout
    assert "What changed" not in result.stdout
    page = as_html(reviewed(tree))
    assert "Has to change first." in page and "No Python file changes." in page


# A checkout that is migrated


def same_as_planned(found, planned):
    assert [f.path for f in found.files] == [f.path for f in planned.files]
    assert [(h.rows, h.codes) for h in found.hunks] == [
        (h.rows, h.codes) for h in planned.hunks
    ]
    assert not found.by_hand
    assert "exactly what the tool writes" in " ".join(found.about)


def test_a_migration_that_is_not_committed_is_held_against_head(tmp_path):
    tree = fork(tmp_path)
    planned, base = reviewed(tree), head(tree)
    same_as_planned(found := reviewed(migrated(tree)), planned)
    assert found.facts["Base"] == base[:12]
    assert found.facts["Revision"] == f"{base[:12]} and uncommitted changes"


@pytest.mark.parametrize("trailer", [True, False])
def test_a_migration_that_is_committed_is_held_against_its_base(tmp_path, trailer):
    tree = fork(tmp_path)
    planned, base = reviewed(tree), head(tree)
    migrated(tree)
    end = f"\n\nTitan-Migrate-Base: {base}" if trailer else ""
    git(tree, "commit", "-qam", f"Migrate{end}")
    same_as_planned(found := reviewed(tree), planned)
    assert found.facts["Base"] == base[:12]
    assert found.facts["Revision"] == head(tree)[:12]


def test_a_base_can_be_named(tmp_path):
    tree = fork(tmp_path)
    planned, base = reviewed(tree), head(tree)
    git(tree, "commit", "-qam", "Migrate", "--allow-empty")
    migrated(tree)
    git(tree, "commit", "-qam", "Half")
    edit(tree, "torchtitan/train.py", "import", "import sys\nimport")
    assert reviewed(tree, base=base).facts["Base"] == base[:12]
    assert len(reviewed(tree, base="HEAD").files) == 1
    git(tree, "checkout", "-q", ".")
    same_as_planned(reviewed(tree, base=base), planned)
    result = run(tree, "--base", "nonsense")
    assert result.exit_code == 2 and "--base nonsense is no revision" in result.stderr


@pytest.mark.parametrize("target", ["1d", "2d"])
def test_the_target_is_the_one_that_the_tree_was_written_for(tmp_path, target):
    tree = migrated(fork(tmp_path, "v0_2_0"), target)
    for installed in ("2.9.1", "2.13.0"):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(
                "migrator.apply.installed_torch", lambda version=installed: version
            )
            found = review.review(tree)
        assert not found.by_hand and found.facts["Target"].startswith(target)


def test_what_a_person_changed_is_not_the_tools(tmp_path):
    tree = migrated(fork(tmp_path))
    tool = {file.path: file for file in reviewed(tree).files}
    edit(tree, PLAN, "def apply_replicate(", "def apply_replicate(  # seen")
    edit(tree, "torchtitan/train.py", "import", "import sys\nimport")
    (tree / "torchtitan/fresh.py").write_text("x = 1")
    gone = next(
        p for p in tree.rglob("__init__.py") if not p.read_text().strip() or True
    )
    gone_name = gone.relative_to(tree).as_posix()
    gone.write_text("y = 2\n")
    git(tree, "add", gone_name)
    git(tree, "stash", "-q")
    git(tree, "stash", "apply", "-q")
    found = reviewed(tree)
    seen = file_of(found, PLAN)
    found_by_hand = [r.line for h in seen.hunks for r in h.rows if r.line.by_hand]
    assert [line.text for line in found_by_hand] == ["def apply_replicate(  # seen"]
    assert [h.touch.by_hand for h in seen.hunks].count(True) == 1
    for path in ("torchtitan/train.py", "torchtitan/fresh.py", gone_name):
        (hunk,) = file_of(found, path).hunks
        assert hunk.touch.by_hand and not hunk.codes
    assert file_of(found, "torchtitan/fresh.py").notes == (
        "Changed by hand: this file is new.",
    )
    assert not file_of(found, "torchtitan/fresh.py").hunks[0].rows[-1].line.ended
    for path in tool.keys() - {PLAN}:
        assert file_of(found, path) == tool[path]
    assert "marked as changed by hand" in " ".join(found.about)


def test_a_file_that_is_gone_and_changes_that_were_undone_are_said(tmp_path):
    tree = migrated(fork(tmp_path))
    before = git(tree, "show", f"HEAD:{PLAN}")
    line = before.split("\n").index(
        next(x for x in before.split("\n") if "import replicate" in x)
    )
    edit(
        tree,
        PLAN,
        "_composable.replicate_with_fsdp import",
        "_composable.replicate import",
    )
    git(tree, "checkout", "-q", "HEAD", "--", UTILS)
    (tree / "torchtitan/train.py").unlink()
    found = reviewed(tree)
    assert file_of(found, "torchtitan/train.py").notes == (
        "Changed by hand: this file is gone.",
    )
    assert file_of(found, UTILS).notes == (
        "Changed by hand: the tool would change this file, and it is as it was.",
    )
    (note,) = file_of(found, PLAN).notes
    assert (
        note
        == f"Changed by hand: what the tool would change at line {line + 1} of the base is as it was."
    )
    assert not any(
        "import replicate" in row.line.text
        for h in file_of(found, PLAN).hunks
        for row in h.rows
        if row.changed
    )


def test_a_change_that_was_only_undone_is_not_the_tools_tree(tmp_path):
    tree = migrated(fork(tmp_path))
    git(tree, "checkout", "-q", "HEAD", "--", UTILS)
    found = reviewed(tree)
    assert found.by_hand and "exactly what the tool writes" not in " ".join(found.about)


def test_a_line_of_the_tool_that_a_person_took_out_is_said(tmp_path):
    tree = migrated(fork(tmp_path))
    tool = reviewed(tree)
    edit(tree, PLAN, "    replicate(model, **replicate_config)\n", "")
    found = reviewed(tree)
    assert found.by_hand and "exactly what" not in " ".join(found.about)
    (note,) = file_of(found, PLAN).notes
    assert (
        note
        == "Changed by hand: of what the tool writes, 1 line is not here: “replicate(model, **replicate_config)”."
    )
    assert "Changed by hand" in (text := review.as_markdown(found))
    assert_inert_markdown(text)
    assert_inert_page(as_html(found))
    for file in tool.files:
        assert file.path == PLAN or file_of(found, file.path) == file


def test_every_line_of_the_tool_that_a_person_takes_out_puts_in_or_changes_is_said(
    tmp_path,
):
    tree = migrated(fork(tmp_path))
    compared = comparison.compare(tree, target="1d")
    for path in (PLAN, UTILS):
        planned = lines(compared.after[path].decode())
        tool = attribute(compared.before[path].text, compared.outcome.stages[path])
        for n in [n for n, by in enumerate(tool.added) if by != Touch()]:
            line = planned[n]
            for instead in ([], [line, line], ["x" + line], [line, "\n"]):
                text = "".join([*planned[:n], *instead, *planned[n + 1 :]])
                edited = replace(compared, after={path: text.encode()})
                (file,) = (f for f in gather._files(edited) if f.path == path)
                assert file.by_hand or file.notes, (path, n, instead)
                said = [note for note in file.notes if "not what the tool" in note]
                assert not said, "only where nothing better can be said"


def test_what_only_bytes_tell_from_the_tools_is_said(tmp_path):
    tree = migrated(fork(tmp_path))
    (tree / PLAN).write_bytes(b"\xef\xbb\xbf" + (tree / PLAN).read_bytes())
    found = file_of(reviewed(tree), PLAN)
    assert found.by_hand or found.notes


PLANS = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "\n"]), max_size=7)


@given(PLANS, PLANS, PLANS)
def test_whatever_a_person_takes_back_is_by_hand(was, wanted, now):
    before, planned, after = map("".join, (was, wanted, now))
    made = [Stage("TM101", planned)]
    gone, lacking = undone(before, planned, after, made)
    if planned == after:
        assert not gone and not lacking
        return
    hunks = hunks_of(before, after, [*made, Stage(BY_HAND, after)], ())
    assert gone or lacking or any(hunk.touch.by_hand for hunk in hunks)


def test_files_that_no_rule_can_read_are_shown_all_the_same(tmp_path):
    tree = fork(tmp_path)
    (tree / "torchtitan/bytes.py").write_bytes(b"x = '\xff'\n")
    (tree / "words.txt").write_text("one\n")
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", "more")
    migrated(tree)
    (tree / "torchtitan/bytes.py").write_bytes(b"x = '\xfe'\n")
    (tree / "words.txt").write_text("two\n")
    found = reviewed(tree)
    (hunk,) = file_of(found, "torchtitan/bytes.py").hunks
    assert [row.line.text for _, row in hunk.unified()] == [
        "x = '\\xff'",
        "x = '\\xfe'",
    ]
    assert "Besides, 1 other file differs" in " ".join(found.about)


def test_hazards_at_lines_of_the_base_that_changed_are_said_to_be(tmp_path):
    tree = fork(tmp_path, "fork_quirks")
    planned = reviewed(tree)
    found = reviewed(migrated(tree))
    assert [(h.path, h.code) for h in found.hazards] == [
        (h.path, h.code) for h in planned.hazards
    ]
    # Those whose line the tool itself rewrote are still to be looked at.
    rewritten = [hazard for hazard in found.hazards if hazard.before]
    assert {hazard.code for hazard in rewritten} == {"TM203", "TM210", "TM212"}
    mended = found.hazards[0]
    texts = (tree / mended.path).read_text().split("\n")
    texts[mended.line - 1] += f"  # titan-migrate: ignore[{mended.code}]"
    (tree / mended.path).write_text("\n".join(texts))
    now = reviewed(tree).hazards
    also = replace(planned.hazards[0], before=True)
    assert [h for h in now if h.before] == [also, *rewritten]
    assert "of the base" in review.as_markdown(reviewed(tree))


def test_line_ends_that_git_converts_are_no_difference(tmp_path):
    tree = fork(tmp_path)
    planned = reviewed(tree)
    git(tree, "config", "core.autocrlf", "true")
    for path in tree.rglob("*.py"):
        path.unlink()
    git(tree, "-c", "core.autocrlf=true", "checkout", "-q", "--", ".")
    assert b"\r\n" in (tree / PLAN).read_bytes()
    same_as_planned(reviewed(migrated(tree)), planned)


def test_nothing_is_written_and_nothing_of_the_checkout_is_run(tmp_path):
    tree = migrated(fork(tmp_path))
    (tree / ".gitattributes").write_text("*.py filter=evil diff=evil\n")
    program = f"touch {tmp_path / 'ran'}; cat"
    for key in (
        "filter.evil.smudge",
        "filter.evil.clean",
        "diff.evil.textconv",
        "diff.external",
        "core.fsmonitor",
    ):
        git(tree, "config", key, program)
    before = {path: path.read_bytes() for path in tree.rglob("*") if path.is_file()}
    assert reviewed(tree).files and run(tree).exit_code == 0
    assert not (tmp_path / "ran").exists()
    assert before == {
        path: path.read_bytes() for path in tree.rglob("*") if path.is_file()
    }


def test_nothing_of_a_submodule_is_run(tmp_path):
    tree = fork(tmp_path)
    inner = tree / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    (inner / ".gitattributes").write_text("*.txt filter=evil\n")
    (inner / "words.txt").write_text("one\n")
    git(inner, "add", "-A")
    git(inner, "commit", "-qm", "inner")
    git(tree, "add", "inner")
    git(tree, "commit", "-qm", "outer")
    git(inner, "config", "filter.evil.clean", f"touch {tmp_path / 'ran'}; cat")
    (inner / "words.txt").write_text("two\n")
    assert reviewed(migrated(tree)).facts["Revision"]
    assert not (tmp_path / "ran").exists()
    git(tree, "status")
    assert (tmp_path / "ran").exists(), "else this tests nothing"


def test_links_to_a_file_are_that_file(tmp_path):
    tree = fork(tmp_path)
    (tree / "torchtitan/linked.py").symlink_to(tree / PLAN)
    (tree / "torchtitan/linked.py").unlink()
    os.symlink("models/llama3/infra/parallelize.py", tree / "torchtitan/linked.py")
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", "link")
    planned = reviewed(tree)
    assert "torchtitan/linked.py" not in {file.path for file in planned.files}
    same_as_planned(reviewed(migrated(tree)), planned)


# Nothing to do


def test_nothing_to_do_is_a_sentence(tmp_path):
    tree = migrated(fork(tmp_path))
    (tree / ".git").rename(tmp_path / "away")
    found = run(committed(tree))
    assert (
        found.exit_code == 0 and "already uses the composable replicate" in found.stdout
    )
    assert not found.stderr and len(found.stdout.splitlines()) == 3
    git(tree, "commit", "-q", "--allow-empty", "-m", "more")
    assert run(tree).stdout == found.stdout
    assert run(tree, "--html", tmp_path / "page.html").exit_code == 0
    assert (
        "already uses the composable replicate" in (tmp_path / "page.html").read_text()
    )


def test_replicate_that_nobody_migrated_to_is_nothing_to_do(tmp_path):
    tree = migrated(fork(tmp_path))
    (tree / ".git").rename(tmp_path / "away")
    git(tree, "init", "-q")
    git(tree, "commit", "-q", "--allow-empty", "-m", "before")
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", "all of it")
    assert reviewed(tree).files == ()
    assert "already uses the composable replicate" in run(tree).stdout
    assert reviewed(tree, base="HEAD~").files, "unless it is asked for"


def test_what_was_changed_and_changed_back_is_no_change(tmp_path):
    tree = fork(tmp_path)
    planned, base = reviewed(tree), head(tree)
    (tree / "torchtitan/train.py").write_text("x = 1\n")
    git(tree, "commit", "-qam", "more")
    git(tree, "checkout", "-q", base, "--", "torchtitan/train.py")
    migrated(tree)
    same_as_planned(reviewed(tree, base=base), planned)


def test_a_torchtitan_past_ddp_is_a_sentence(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/job.py").write_text(
        "class JobConfig:\n    pass\n\n\ndef parallelize_llama():\n    pass\n"
    )
    result = run(tmp_path, "--no-git")
    assert result.exit_code == 0 and "there is no apply_ddp here" in result.stdout
    assert run(tmp_path, "--no-git", "--base", "x").exit_code in (0, 2)
    assert run(tmp_path / "nowhere").exit_code == 2


# Hunks


TEXTS = st.lists(
    st.sampled_from(["a b", "a c", "d", "", "  a b", "é\u2028", "x\x0c"]), max_size=9
)


@given(TEXTS, TEXTS, st.booleans(), st.booleans())
def test_hunks_are_a_patch_of_any_text(was, now, closed, closes):
    before = "\n".join(was) + "\n" * (closed and bool(was))
    after = "\n".join(now) + "\n" * (closes and bool(now))
    hunks = hunks_of(before, after, [Stage("TM101", after)], ())
    old, new = lines(before), lines(after)
    rows = [row for hunk in hunks for row in hunk.rows]
    for row in rows:
        for line, texts in ((row.old, old), (row.new, new)):
            if line is not None:
                text = texts[line.number - 1]
                assert line.text == model.visible(text.removesuffix("\n"))
                assert line.ended == text.endswith("\n")
    gone = {row.old.number for row in rows if row.changed and row.old}
    come = {row.new.number for row in rows if row.changed and row.new}
    kept = [text for n, text in enumerate(old, 1) if n not in gone]
    assert kept == [text for n, text in enumerate(new, 1) if n not in come]
    for hunk in hunks:
        signs = [(sign, row.line.number) for sign, row in hunk.unified()]
        for sign in "-+":
            numbers = [n for s, n in signs if s == sign]
            assert numbers == sorted(numbers)


def marked(line) -> list[str]:
    return [text for text, mark in line.parts if mark]


def test_the_words_that_changed_are_marked():
    before = "one\n    apply_ddp(model, mesh)\ntwo\n"
    after = "one\n    apply_replicate(model, mesh, dtype)\ntwo\n"
    (hunk,) = hunks_of(before, after, [Stage("TM102", after)], ())
    (row,) = (row for row in hunk.rows if row.changed)
    assert marked(row.old) == ["apply_ddp"] and marked(row.new) == [
        "apply_replicate",
        ", dtype",
    ]


def test_lines_that_are_too_unlike_are_not_marked_and_stand_as_they_come():
    before, after = (
        "a\nif enable_compile:\n    gone()\n",
        'a\n"""New words."""\nwholly_other = 1\n',
    )
    (hunk,) = hunks_of(before, after, [Stage("TM101", after)], ())
    changed = [row for row in hunk.rows if row.changed]
    assert len(changed) == 2 and not any(
        marked(row.old) + marked(row.new) for row in changed
    )


def test_lines_alike_stand_side_by_side():
    after = 'def apply_replicate(\n    """One."""\n    """Two."""\n    replicate(model, mesh)\n'
    (hunk,) = hunks_of(
        "def apply_ddp(\n    replicate(model, other)\n",
        after,
        [Stage("TM101", after)],
        (),
    )
    sides = [(row.old and row.old.text, row.new.text) for row in hunk.rows]
    assert (
        sides[0][0] == "def apply_ddp("
        and sides[-1][0] == "    replicate(model, other)"
    )
    assert sides[1][0] is sides[2][0] is None


def test_a_very_long_line_is_shown_unmarked():
    before, after = (f"x = [{'1, ' * 1000}{last}]\n" for last in (2, 3))
    (hunk,) = hunks_of(before, after, [Stage(BY_HAND, after)], ())
    assert all(not marked(row.line) for row in hunk.rows) and hunk.touch.by_hand


# The report of verify


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


def alone(*arguments: object):
    """`report` in a process of its own, for what would hang this one."""
    command = [sys.executable, "-m", "migrator.cli", "report", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


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


# How to see it again


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


# Markdown


ALLOWED = {
    "details",
    "/details",
    "summary",
    "/summary",
    "b",
    "/b",
    "code",
    "/code",
    "br",
}


def parsed(text: str) -> list:
    """The tokens of Markdown as GitHub reads it, nested ones too."""
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    return [t for token in tokens for t in (token, *(token.children or []))]


def assert_inert_markdown(text: str) -> None:
    tokens = parsed(text)
    for token in tokens:
        if token.type in ("html_block", "html_inline"):
            tags = set(re.findall(r"<(/?[A-Za-z!?][^\s>/]*)", token.content))
            assert tags <= ALLOWED, token.content
            assert not re.search(r"<\w+\s+\w", token.content), token.content
        if token.type == "image":
            assert re.fullmatch(r"plots/[\w.+-]+\.png", token.attrs["src"])
        assert token.type != "link_open", token
        if token.type in ("text", "html_block", "html_inline"):
            assert not re.search(r"(?<!&)[@#]\w", token.content), token.content
            assert (
                "https://evil" not in token.content.replace("&#58;", ":")
                or "&#58;" in text
            )
    assert len(text) < markdown.LIMIT and escapes_nothing(text)
    opened = [t.content for t in tokens if t.type == "html_block"]
    assert sum(c.count("<details>") for c in opened) == sum(
        c.count("</details>") for c in opened
    )


def test_markdown_of_a_migration(tmp_path):
    tree = migrated(fork(tmp_path))
    found = reviewed(
        tree,
        verify_report=verify_report(
            tmp_path / "r", tree, dp=PASSED, **{"dp+tp": FAILED}
        ),
    )
    text = review.as_markdown(found)
    assert_inert_markdown(text)
    tokens = parsed(text)
    heads = [
        tokens[n + 1].content for n, t in enumerate(tokens) if t.type == "heading_open"
    ]
    assert (
        heads
        == [
            "DDP becomes the composable `replicate`",
            "What changed, and why",
            "Verdicts: **failed**",
            "How to see it again",
        ]
        or "Left for a person" in heads
    )
    fences = [t for t in tokens if t.type == "fence" and t.info == "diff"]
    assert len(fences) == len(found.hunks), "each hunk once"
    added = sum(line.startswith("+") for t in fences for line in t.content.split("\n"))
    assert added == found.added
    for file in found.files:
        assert f"`{file.path}` | +{file.added} −{file.removed}" in text
    for hunk in found.hunks:
        for reason in hunk.reasons:
            assert f":{reason.line}`: " in text
    assert "plots/00-llama3-dp.png" in text and "drag each image" in text
    assert "❌ **failed**" in text


def test_markdown_of_a_hostile_checkout(tmp_path):
    tree = hostile_checkout(tmp_path, f"# {EVIL}\n")
    result = run(tree, "--target", "1d")
    assert result.exit_code == 0 and not result.stderr
    assert_inert_markdown(result.stdout)
    words = tree / "torchtitan/words.py"
    words.write_text("'''\n  ::add-mask::x\n'''\n")
    git(tree, "add", "-A")
    git(tree, "commit", "-qm", "words")
    migrated(tree)
    words.write_text(words.read_text() + "x = 1\n")
    (tree / "torchtitan" / f"{'`' * 7}.py").write_text(
        f"'''\n{'`' * 9}\n::add-mask::x\n'''\n"
    )
    folder = verify_report(
        tmp_path / "r",
        tree,
        dp=evil(FAILED),
        **{"dp+tp": replace(NOT_RUN, not_run=EVIL)},
    )
    result = run(tree, "--verify-report", folder)
    assert result.exit_code == 0, result.stderr
    assert_inert_markdown(result.stdout)
    assert (
        "Changed by hand" in result.stdout and "   \\x3a:add-mask::x" in result.stdout
    )


def test_markdown_that_would_be_too_long_leaves_hunks_out(tmp_path):
    tree = migrated(fork(tmp_path))
    whole = review.as_markdown(reviewed(tree))
    edit(
        tree,
        "torchtitan/train.py",
        "import",
        "".join(f"# {n} `x` <b>\n" for n in range(9000)) + "import",
    )
    found = reviewed(tree)
    text = review.as_markdown(found)
    assert_inert_markdown(text)
    assert "1 hunk of" in text and "left out" in text
    assert whole.count("```diff") == text.count("```diff"), "the others are all there"


def test_markdown_of_very_much_is_still_short_enough(tmp_path):
    tree = migrated(fork(tmp_path))
    for n in range(400):
        (tree / f"torchtitan/{'long' * 20}{n}.py").write_text(f"x = {n}\n")
    text = review.as_markdown(reviewed(tree))
    assert_inert_markdown(text)
    assert "more" in text


# The page


ELEMENTS = set(
    "html head meta title link style body a header p h1 h2 h3 dl dt dd div main section b span form fieldset legend "
    "label input small select option button output details summary table thead tbody tr th td colgroup col article "
    "code ins del wbr ul ol li pre figure img footer dialog kbd script".split()
)
ATTRIBUTES = set(
    "lang charset http-equiv content name rel href class id aria-label tabindex hidden type value title aria-pressed "
    "disabled role aria-live scope data-folders data-rules data-n data-s src alt aria-labelledby".split()
)


def elements(page: str) -> list:
    parser = html5lib.HTMLParser(strict=False, namespaceHTMLElements=False)
    tree = parser.parse(page)
    problems = list(parser.errors)
    assert not problems, problems[:3]
    return list(tree.iter())


def assert_inert_page(page: str) -> list:
    found = elements(page)
    for element in found:
        if not isinstance(element.tag, str):
            continue  # a comment
        assert element.tag in ELEMENTS, element.tag
        assert set(element.attrib) <= ATTRIBUTES, element.attrib
        assert re.fullmatch(r"|#[\w-]+|data:,", element.get("href", "")), element.attrib
        assert re.fullmatch(
            r"|data:image/(svg\+xml|png);base64,[\w+/=]+", element.get("src", "")
        )
    tags = [element.tag for element in found]
    assert (
        tags.count("script") == tags.count("style") == tags.count("form") == 1
        or "form" not in tags
    )
    ids = [element.get("id") for element in found if element.get("id")]
    assert len(ids) == len(set(ids))
    return found


def test_the_page_of_a_migration(tmp_path):
    tree = migrated(fork(tmp_path))
    found = reviewed(tree, verify_report=verify_report(tmp_path / "r", tree, dp=PASSED))
    page = as_html(found)
    tree_of = assert_inert_page(page)

    def by_class(name):
        return [e for e in tree_of if name in e.get("class", "").split()]

    hunks = by_class("hunk")
    assert [h.get("data-rules") for h in hunks] == [
        " ".join(h.codes) for h in found.hunks
    ]
    for element, hunk in zip(hunks, found.hunks):
        for view in ("unified", "split"):
            (table,) = (
                e for e in element.iter("div") if view in e.get("class", "").split()
            )
            code = [
                "".join(td.itertext())
                for td in table.iter("td")
                if td.get("class", "").startswith("c")
            ]
            if view == "unified":
                wanted = [row.line.text for _, row in hunk.unified()]
            else:
                wanted = [
                    side.text if side else ""
                    for row in hunk.rows
                    for side in (row.old, row.new)
                ]
            assert code == wanted
        why = next(element.iter("details"))
        for reason in hunk.reasons:
            assert reason.message in "".join(why.itertext())
    assert len([e for e in tree_of if e.tag == "img"]) == 1
    assert 'class="word passed">passed</b><span>verdict' in page


def test_the_policy_lets_run_what_is_ours_and_nothing_else(tmp_path):
    page = as_html(reviewed(fork(tmp_path)))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1].replace(
        "&#39;", "'"
    )
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy
    for name in ("style", "script"):
        text = re.search(rf"<{name}>(.*?)</{name}>", page, re.S)[1]
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"{name}-src 'sha256-{digest}'" in policy
    assert "http:" not in page and "https:" not in page and "url(" not in page


def test_the_page_of_a_hostile_checkout(tmp_path):
    tree = hostile_checkout(tmp_path, f"# {EVIL}\n")
    page = as_html(reviewed(tree))
    assert_inert_page(page)
    migrated(tree)
    edit(tree, HOSTILE, "import", f"import os  # {EVIL}\nimport")
    folder = verify_report(
        tmp_path / "r",
        tree,
        dp=evil(FAILED),
        **{"dp+tp": replace(NOT_RUN, not_run=EVIL)},
    )
    for plot in (folder / "plots").glob("*.svg"):
        plot.write_text(
            '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" onload="window.pwned=3"><script>window.pwned=4</script></svg>'
        )
    page = as_html(reviewed(tree, verify_report=folder))
    texts = [
        "".join(e.itertext())
        for e in assert_inert_page(page)
        if e.tag in ("td", "h3", "li")
    ]
    assert any(
        "<script>alert(1)<script>" in text and "\\n::error::b" in text for text in texts
    )
    assert any(EVIL in text for text in texts)
    assert "onload" not in page


def test_a_page_that_filters_nothing_is_a_page_too(tmp_path):
    found = reviewed(fork(tmp_path))
    bare = replace(found, files=(), hazards=(), rules={}, claims=(), verified="")
    assert_inert_page(as_html(bare))
    blocked = replace(bare, problems=(EVIL,), verified=EVIL)
    assert_inert_page(as_html(blocked))
    assert_inert_markdown(review.as_markdown(blocked))


def luminance(colour: str) -> float:
    parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_can_be_told_apart(scheme):
    css = (Path(review.__file__).parent / "assets/page.css").read_text()
    blocks = re.findall(r":root \{(.*?)\}", css, re.S)
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", blocks[scheme == "dark"]))
    grounds = {
        "paper": ("ink", "soft", "link", "add-ink", "del-ink", "hand", "doubt"),
        "panel": ("ink", "soft", "hand"),
        "add": ("ink", "soft", "add-ink", "hand"),
        "del": ("ink", "soft", "del-ink", "hand"),
        "add-word": ("ink",),
        "del-word": ("ink",),
    }
    for ground, inks in grounds.items():
        for ink in inks:
            assert contrast(colours[ink], colours[ground]) >= 4.5, (ink, ground)
    assert contrast(colours["edge"], colours["paper"]) >= 3, (
        "the edges of what can be pressed"
    )


# Where it is written


def test_a_page_is_written_and_written_again(tmp_path):
    tree, page = fork(tmp_path), tmp_path / "a page.html"
    for _ in range(2):
        result = run(tree, "--html", page)
        assert result.exit_code == 0 and not result.stdout
        assert result.stderr == f"The report is in {page}: open it in a browser.\n"
        assert page.read_text().endswith("</html>\n")
    assert page.stat().st_mode & 0o777 == 0o666 & ~umask()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a page.html", "fork"]


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def test_places_that_no_page_goes_to(tmp_path):
    tree = fork(tmp_path)
    (tmp_path / "notes.html").write_text("mine")
    (tmp_path / "other/.git").mkdir(parents=True)
    (tmp_path / "to git").symlink_to(tree / ".git")
    (tree / "page.html").write_text(
        "<!doctype html>\n<!-- a titan-migrate report -->\n"
    )
    git(tree, "add", "page.html")
    git(tree, "commit", "-qm", "page")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for place, why in {
        "none/x.html": "is not a folder",
        "fork": "is a folder",
        "notes.html": "is there and no report",
        "fork/.git/x.html": "among git's own",
        "to git/x.html": "among git's own",
        "other/.git/x.html": "among git's own",
        f"fork/{PLAN}": "is a file of the checkout",
        "fork/page.html": "is a file of the checkout",
    }.items():
        result = run(tree, "--html", tmp_path / place)
        assert result.exit_code == 2 and why in result.stderr, place
    assert before == {
        path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
    }


def test_a_pipe_is_no_earlier_page(tmp_path):
    tree = fork(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    result = alone(tree, "--html", tmp_path / "pipe")
    assert result.returncode == 2 and "is there and no report" in result.stderr


@pytest.mark.parametrize("name", ["conftest.py", "torchtitan/page.py", "X.PY"])
def test_no_page_becomes_python_of_the_checkout(tmp_path, name):
    tree = fork(tmp_path)
    result = run(tree, "--html", tree / name)
    assert result.exit_code == 2 and "would be read as Python" in result.stderr
    assert not (tree / name).exists()
    assert run(tree, "--html", tmp_path / "page.py").exit_code == 0


def test_a_worktrees_git_folder_is_gits_own(tmp_path):
    tree = fork(tmp_path)
    git(tree, "worktree", "add", "-q", str(tmp_path / "other"))
    (tree / ".git").rename(tmp_path / "store")
    (tree / ".git").write_text(f"gitdir: {tmp_path / 'store'}\n")
    result = run(tree, "--html", tmp_path / "store" / "x.html")
    assert result.exit_code == 2 and "among git's own" in result.stderr


def test_a_page_that_cannot_be_written_leaves_the_earlier_one(tmp_path, monkeypatch):
    page = tmp_path / "page.html"
    review.write("one", page)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(TitanMigrateError, match="No space left"):
        review.write("two", page)
    assert page.read_text() == "one" and [*tmp_path.iterdir()] == [page]


def test_errors_that_name_hostile_files_are_inert(tmp_path):
    tree = hostile_checkout(tmp_path)
    (tree / HOSTILE).write_text("def apply_ddp(:\n")
    result = run(tree)
    assert (
        result.exit_code == 3 and not result.stdout and escapes_nothing(result.stderr)
    )


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    command = f"{sys.executable} -m migrator.cli report {fork(tmp_path)} | true"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True
    )
    assert done.returncode == 0 and not done.stderr


def test_markdown_says_where_the_hunks_of_a_rule_stand(tmp_path):
    text = review.as_markdown(reviewed(migrated(fork(tmp_path))))
    section = text.partition("<b>TM103</b>")[2].partition("</details>")[0]
    assert "hunks stand under TM102." in section and "```diff" not in section
