"""The report folder: whose it is, what goes from it and when, and what is said where it will not do."""

from __future__ import annotations

import errno
import os
import pathlib
from pathlib import Path

import pytest

from migrator.verify import VerifyError
from migrator.verify.show.folder import MARKER, clear, report_folder, written_alone

from verifiable import fill, listed

# --- whose it is ---


def test_a_new_folder_becomes_ours_and_says_what_it_is(tmp_path):
    place = report_folder(tmp_path / "fork", tmp_path / "a" / "report")
    assert listed(place) == []
    with written_alone(place):
        assert listed(place) == [MARKER]
        (line,) = (place / MARKER).read_text().splitlines()
        assert "titan-migrate verify" in line
    with written_alone(report_folder(tmp_path / "fork", place)):
        assert listed(place) == [MARKER]


@pytest.mark.parametrize(
    "name",
    ["report.md", "report.json", "llama3/w.bin", "plots/a.svg", "run/a", "nodes/a.txt"],
)
def test_a_folder_of_somebody_else_is_left_alone(tmp_path, name):
    before = fill(tmp_path, name)
    for use in (
        lambda: report_folder(Path("/fork"), tmp_path),
        lambda: _write(tmp_path),
    ):
        with pytest.raises(VerifyError, match="no report of verify.*--report"):
            use()
    with pytest.raises(VerifyError, match="no report of verify.*--report"):
        clear(tmp_path)
    assert listed(tmp_path) == before


def _write(place: Path) -> None:
    with written_alone(place):
        raise AssertionError("it was taken")


def test_nodes_that_came_first_do_not_make_it_foreign(tmp_path):
    fill(tmp_path, "nodes/node1.json", "nodes/node12.tmp", f"{MARKER}.new")
    with written_alone(report_folder(Path("/fork"), tmp_path)):
        assert "nodes/node1.json" in listed(tmp_path)


def test_two_verifies_do_not_share_a_report_folder(tmp_path):
    with written_alone(tmp_path):
        with pytest.raises(VerifyError, match="Another verify is writing"):
            with written_alone(tmp_path):
                pass
    with written_alone(tmp_path):
        pass


# --- what goes from it ---


def test_an_earlier_report_goes_and_nothing_else(ours):
    names = ("report.json", "report.md", "plots/a.svg", "llama3/dp/rank0.jsonl")
    before = fill(ours, "notes.txt", *names)
    with written_alone(ours):
        assert listed(ours) == before
        clear(ours, ["llama3"])
        assert listed(ours) == [MARKER, "notes.txt"]


def test_a_link_goes_and_what_it_leads_to_stays(ours, tmp_path):
    fill(tmp_path / "mine", "weights")
    fill(ours, "report.json")
    (ours / "llama3").symlink_to(tmp_path / "mine")
    clear(ours)
    assert listed(ours) == [MARKER]
    assert listed(tmp_path / "mine") == ["weights"]


@pytest.mark.parametrize("text", ["[1]", "{", '{"models": [1]}', '{"models": 1}'])
def test_a_report_json_of_somebody_else_is_left_alone(ours, text):
    fill(ours, "report.json", text=text)
    with pytest.raises(VerifyError, match="no report of verify.*--report"):
        _write(ours)
    assert (ours / "report.json").read_text() == text


@pytest.mark.parametrize(
    "name", ["llama3", "plots", "deepseek_v3-debug", "report.md/a", "report.json/a"]
)
def test_what_is_in_the_way_is_named_and_nothing_removed(ours, name):
    before = fill(ours, name)
    if "report.json" not in name:
        before = fill(ours, "report.json", text='{"models": {}}')
    with pytest.raises(VerifyError, match=name.partition("/")[0] + " .*--report"):
        clear(ours, ["llama3", "deepseek_v3/debug"])
    assert listed(ours) == before


# --- where it lies ---


def test_a_folder_around_the_checkout_or_inside_is_refused(tmp_path):
    """A second verify would have removed the checkout for a model's traces."""
    root = tmp_path / "x" / "llama3"
    fill(root, "train.py")
    # As if it had been a report folder once.
    fill(root.parent, MARKER, "report.json")
    for place in (root.parent, tmp_path):
        with pytest.raises(VerifyError, match="holds the checkout itself.*--report"):
            report_folder(root, place)
    for place in (root, root / "report"):
        with pytest.raises(VerifyError, match="inside the checkout"):
            report_folder(root, place)
    assert listed(root) == ["train.py"]


def test_folders_that_cannot_be_are_said(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    fill(tmp_path, "file")
    for place in (loop, tmp_path / "file", tmp_path / "file" / "a", Path("/proc")):
        with pytest.raises(VerifyError, match="--report"):
            _write(report_folder(Path("/fork"), place))


@pytest.mark.parametrize("marked", [True, False])
def test_a_folder_that_cannot_be_written_to_is_said(tmp_path, monkeypatch, marked):
    if marked:
        with written_alone(tmp_path):
            pass

    def write(path, text, **_):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(pathlib.Path, "write_text", write)
    with pytest.raises(VerifyError, match="cannot be written to .*--report"):
        _write(tmp_path)


def test_a_full_disk_is_left_to_who_explains_it(tmp_path, monkeypatch):
    def write(path, text, **_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(pathlib.Path, "write_text", write)
    with pytest.raises(OSError, match="No space"):
        _write(tmp_path)


def test_traces_of_a_verify_that_was_broken_off_go(tmp_path):
    with written_alone(tmp_path):
        (tmp_path / "llama3" / "seed").mkdir(parents=True)
        (tmp_path / "llama3" / "seed" / "job.toml").touch()
        (tmp_path / "notes").mkdir()
        clear(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {MARKER, "notes"}
