"""What a review says of a checkout: the plan, what a person changed, what is left, and that there is nothing to do."""

from dataclasses import replace

import pytest

from codemods.attribution import Touch, attribute, lines
from codemods.findings import rank, worst_first
from migrator import review
from migrator.apply import plan, resolve_target
from migrator.checkout import Checkout
from migrator.patch import count as counts_of
from migrator.review import compare as comparison
from migrator.review import gather
from migrator.review.page import as_html

from hostile import HOSTILE, committed, escapes_nothing, hostile_checkout
from inert import assert_inert_markdown, assert_inert_page
from places import FORKS
from releases import git
from reviewed import PLAN, UTILS, edit, file_of, fork, migrated, reviewed, run

# A checkout that is not migrated yet


@pytest.mark.parametrize("name", FORKS)
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
    hazards = worst_first(f for f in made.findings if f.status == "hazard")
    assert [(h.path, h.line, h.suggestion) for h in found.hazards] == [
        (f.path, f.line, f.suggestion) for f in hazards
    ]


# A checkout that is migrated


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


def test_hazards_at_lines_of_the_base_that_changed_are_said_to_be(tmp_path):
    tree = fork(tmp_path, "fork_quirks")
    planned = reviewed(tree)
    found = reviewed(migrated(tree))
    assert [(h.path, h.code) for h in found.hazards] == [
        (h.path, h.code) for h in planned.hazards
    ]
    # Those whose line the tool itself rewrote are still to be looked at.
    rewritten = [hazard for hazard in found.hazards if hazard.before]
    assert {hazard.code for hazard in rewritten} == {
        *("TM203", "TM210", "TM212", "TM214", "TM215", "TM233", "TM234", "TM235")
    }
    mended = next(hazard for hazard in found.hazards if not hazard.before)
    texts = (tree / mended.path).read_text().split("\n")
    texts[mended.line - 1] += f"  # titan-migrate: ignore[{mended.code}]"
    (tree / mended.path).write_text("\n".join(texts))
    now = reviewed(tree).hazards
    also = replace(mended, before=True)
    assert [h for h in now if h.before] == sorted(
        [also, *rewritten], key=lambda h: (rank(h.severity), h.path, h.line)
    )
    assert "of the base" in review.as_markdown(reviewed(tree))


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


def test_a_torchtitan_past_ddp_is_a_sentence(tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x/job.py").write_text(
        "class JobConfig:\n    pass\n\n\ndef parallelize_llama():\n    pass\n"
    )
    result = run(tmp_path, "--no-git")
    assert result.exit_code == 0 and "there is no apply_ddp here" in result.stdout
    assert run(tmp_path, "--no-git", "--base", "x").exit_code in (0, 2)
    assert run(tmp_path / "nowhere").exit_code == 2


def test_errors_that_name_hostile_files_are_inert(tmp_path):
    tree = hostile_checkout(tmp_path)
    (tree / HOSTILE).write_text("def apply_ddp(:\n")
    result = run(tree)
    assert (
        result.exit_code == 3 and not result.stdout and escapes_nothing(result.stderr)
    )
