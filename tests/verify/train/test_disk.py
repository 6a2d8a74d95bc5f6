"""A full disk, for real where this machine lets a small one be mounted, and as errors of all spellings."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from migrator.verify import VerifyError
from migrator.verify.train import disk

from places import TOP
from releases import git
from verifiable import FULL


def sentence(error: OSError, report: Path, temporary: Path) -> str:
    with pytest.raises(VerifyError) as raised:
        with disk.full_disk_explained(report, temporary):
            raise error
    return str(raised.value)


def test_the_folder_that_is_full_is_named_with_what_to_do(tmp_path):
    report, temporary = tmp_path / "report", tmp_path / "tmp"
    inside = OSError(*FULL.args, str(report / "llama3" / "job.toml"))
    said = sentence(inside, report, temporary)
    assert f"disk of {report} " in said and "--report" in said
    inside = OSError(*FULL.args, str(temporary / "titan-migrate-1" / "base"))
    said = sentence(inside, report, temporary)
    assert f"disk of {temporary} " in said and "TMPDIR" in said
    elsewhere = OSError(errno.EDQUOT, "Disk quota exceeded", "/somewhere/file")
    assert "disk of /somewhere " in sentence(elsewhere, report, temporary)


def test_the_disk_with_least_room_is_named_where_the_error_names_none(
    tmp_path, monkeypatch
):
    report, temporary = tmp_path / "report", tmp_path / "tmp"
    free = {report: 7, temporary: 2**30}
    monkeypatch.setattr(disk, "free_bytes", free.get)
    assert f"disk of {report} (0 MiB free)" in sentence(FULL, report, temporary)


def test_a_copied_folder_that_does_not_fit_is_a_full_disk(tmp_path, monkeypatch):
    def copy(source, target, **_):
        raise OSError(*FULL.args, str(target))

    source, target = tmp_path / "checkpoint", tmp_path / "tmp" / "run"
    source.mkdir()
    (source / "weights").write_text("")
    monkeypatch.setattr(shutil, "copy2", copy)
    with pytest.raises(VerifyError, match=f"disk of {tmp_path / 'tmp'} "):
        with disk.full_disk_explained(tmp_path / "report", tmp_path / "tmp"):
            shutil.copytree(source, target, copy_function=copy)


def test_other_errors_go_through(tmp_path):
    with pytest.raises(PermissionError):
        with disk.full_disk_explained(tmp_path, tmp_path):
            raise PermissionError(errno.EACCES, "no")


@pytest.fixture
def fork(tmp_path):
    """A checkout with a change, and 3 MB in it."""
    tree = tmp_path / "fork"
    (tree / "torchtitan").mkdir(parents=True)
    (tree / "torchtitan" / "train.py").write_text("")
    (tree / "torchtitan" / "large.bin").write_bytes(os.urandom(3 * 2**20))
    git(tree, "init", "-q")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "base")
    (tree / "torchtitan" / "train.py").write_text("x = 1\n")
    return tree


def test_worktrees_on_a_full_disk_end_in_a_sentence_and_are_taken_away(fork, tmp_path):
    pytest.importorskip("torchdata")
    small = tmp_path / "small"
    small.mkdir()
    # A mount of this process's own: nothing is left of it when it ends.
    script = (
        'mount -t tmpfs -o size=2m tmpfs "$1" || exit 77;'
        ' TMPDIR="$1" "$2" -m migrator.cli verify "$3" --report "$4";'
        ' code=$?; echo "left: $(ls -A "$1")" >&2; exit $code'
    )
    words = [str(small), sys.executable, str(fork), str(tmp_path / "report")]
    if not shutil.which("unshare"):
        pytest.skip("there is no unshare to mount a small disk with")
    done = subprocess.run(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", *words],
        cwd=TOP,
        capture_output=True,
        text=True,
    )
    if "left:" not in done.stderr:
        pytest.skip(f"no small disk can be mounted here: {done.stderr.strip()}")
    assert done.returncode == 2, done.stderr
    assert f"No space is left on the disk of {small} " in done.stderr
    assert "set TMPDIR" in done.stderr
    assert done.stderr.endswith("left: \n")
    assert len(git(fork, "worktree", "list").splitlines()) == 1
