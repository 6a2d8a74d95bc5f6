"""What a review is about: against which base, for which target, and that nothing of the checkout is run."""

import os

import pytest

from migrator import review

from releases import git
from reviewed import PLAN, UTILS, edit, file_of, fork, head, migrated, reviewed, run

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


def test_where_a_part_was_left_only_that_is_a_persons(tmp_path):
    """The tool wrote the rest, though it writes nothing of the base as that is."""
    tree = fork(tmp_path)
    shape = (
        "    if parallel_dims.fsdp_enabled:",
        "    if bool(parallel_dims.fsdp_enabled):",
    )
    edit(tree, UTILS, *shape)
    git(tree, "commit", "-qam", "A shape that is left")
    base = head(tree)
    assert reviewed(tree).problems
    edit(tree, UTILS, shape[1], "    if parallel_dims.fsdp_enabled or parallel_dims.dp_replicate_enabled:")  # fmt: skip
    git(tree, "commit", "-qam", "See to it")
    git(tree, "commit", "-qam", "Migrate", "--allow-empty")
    migrated(tree)
    git(tree, "commit", "-qam", "Migrate")
    found = reviewed(tree, base=base)
    assert [f.path for f in found.files if f.by_hand] == [UTILS]
    plan = next(f for f in found.files if f.path == PLAN)
    assert plan.codes and not plan.by_hand


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
