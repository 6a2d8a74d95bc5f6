"""What a run depends on: a change of any of it is seen."""

from __future__ import annotations

import pytest

from migrator.verify.keep import facts

from verifiable import fill

READS = (
    "import os\nfor name in ('MY_FLAG', 'fork_lr', 'FORK_lr'):\n    os.environ[name]\n"
)


@pytest.fixture
def base(tmp_path):
    place = tmp_path / "base"
    fill(place, "torchtitan/train.py", text=READS)
    fill(place, "torchtitan/words.txt", "top.py", text="abc")
    fill(place, ".git", "pkg/__pycache__/a.pyc", text="elsewhere")
    (place / "link").symlink_to("top.py")
    return place


def append(path):
    path.write_bytes(path.read_bytes() + b" ")


def lead(link, target):
    link.unlink()
    link.symlink_to(target)


@pytest.mark.parametrize(
    "change",
    [
        lambda base: append(base / "torchtitan/train.py"),
        lambda base: (base / "torchtitan/words.txt").write_text("abd"),
        lambda base: append(base / "top.py"),
        lambda base: (base / "torchtitan/words.txt").rename(base / "words.txt"),
        lambda base: fill(base, "new/empty", text=""),
        lambda base: (base / "torchtitan/words.txt").unlink(),
        lambda base: lead(base / "link", "gone"),
        # What is there reads the same.
        lambda base: lead(base / "link", "torchtitan/words.txt"),
    ],
)
def test_one_byte_of_any_file_is_seen(base, change):
    before = facts.facts(facts.tree(base), [], {})
    change(base)
    after = facts.facts(facts.tree(base), [], {})
    assert [name for name in before if before[name] != after[name]] == [
        "the digest of the base revision's files"
    ]


def test_what_is_no_part_of_the_revision_is_not(base):
    before = facts.tree(base)
    append(base / ".git")
    append(base / "pkg/__pycache__/a.pyc")
    assert facts.tree(base) == before


def test_the_same_files_elsewhere_are_the_same(base, tmp_path):
    before = facts.tree(base)
    assert facts.tree(base.rename(tmp_path / "other")) == before


def test_machine_data_packages_and_our_own_files_are_among_them(base, monkeypatch):
    before = facts.facts(facts.tree(base), [], {"torch": "2.13.0"})
    monkeypatch.setattr(facts.corpus, "documents", lambda: ["other"])
    monkeypatch.setattr(facts.platform, "python_version", lambda: "3.99")
    after = facts.facts(facts.tree(base), ["H100", "H100"], {"torch": "2.14.0"})
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {
        "the machine",
        "Python",
        "torch",
        "the digest of the training data",
    }
    assert after["the machine"].endswith(", 2 x H100")


def test_an_edit_of_our_own_files_is_seen(base, tmp_path, monkeypatch):
    ours = tmp_path / "verify"
    fill(ours, "train/probe.py", "job.py", text="a")
    monkeypatch.setattr(facts, "_OURS", ours)
    name = "the digest of titan-migrate's own files for training"
    found = facts.tree(base)
    before = facts.facts(found, [], {})[name], facts.surroundings(found)
    append(ours / "job.py")
    assert facts.facts(found, [], {})[name] == before[0]
    assert facts.surroundings(found) != before[1]
    append(ours / "train/probe.py")
    assert facts.facts(found, [], {})[name] != before[0]


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("MY_FLAG", True),
        ("fork_lr", True),
        ("FORK_lr", True),
        ("NCCL_ALGO", True),
        ("LS_COLORS", False),
    ],
)
def test_variables_count_that_the_revision_or_a_library_reads(
    base, monkeypatch, name, counts
):
    found = facts.tree(base)
    monkeypatch.delenv(name, raising=False)
    before = facts.surroundings(found)
    monkeypatch.setenv(name, "1")
    assert (facts.surroundings(found) != before) == counts


def test_every_package_counts(base):
    names = facts.surroundings(facts.tree(base)).keys()
    assert {"package click", "package libcst", "titan-migrate"} <= names
