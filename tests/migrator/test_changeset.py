"""A migration is written as a whole or not at all, and its patch is exact to the byte."""

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys

import pytest
from click.testing import CliRunner

from migrator import apply
from migrator.cli import main
from migrator.errors import FileProblem

from commands import AUTOCAST, PLAN, diff, git_apply, run, snapshot
from places import FIXTURES
from releases import git


def test_patch_of_a_path_with_odd_characters(tmp_path):
    tree = tmp_path / "fork"
    shutil.copytree(FIXTURES / "v0_1", tree)
    plan = tree / PLAN
    odd = plan.with_name('odd "name" é\ttab.py')
    odd.write_text(plan.read_text())
    git(tree, "init", "-q")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "base")
    result = run("diff", tree)
    assert result.exit_code == 0
    subprocess.run(
        ["git", "apply", "-"], cwd=tree, input=result.stdout_bytes, check=True
    )
    assert "apply_ddp" not in odd.read_text()


def test_apply_keeps_the_mode_and_the_symlink(fork):
    plan = fork / PLAN
    real = plan.with_name("real_plan.py")
    plan.rename(real)
    plan.symlink_to("real_plan.py")
    real.chmod(0o755)
    git(fork, "add", "-A")
    git(fork, "commit", "-q", "-m", "link")
    assert run("apply", fork).exit_code == 0
    assert plan.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o755
    assert "apply_replicate" in real.read_text()


def test_a_file_that_cannot_be_written_rolls_everything_back(fork, monkeypatch):
    import migrator.changeset

    before = snapshot(fork)
    real, calls = os.replace, []

    def third_fails(source, place):
        calls.append(place)
        if len(calls) == 3:
            raise PermissionError(13, "Permission denied")
        real(source, place)

    monkeypatch.setattr(migrator.changeset.os, "replace", third_fails)
    result = run("apply", fork)
    assert result.exit_code == 3
    assert "every file is as it was" in result.stderr
    assert snapshot(fork) == before


@pytest.mark.parametrize("number", ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"])
def test_a_signal_while_writing_rolls_everything_back(fork, number):
    before = snapshot(fork)
    script = (
        "import os, signal, sys\n"
        "import migrator.changeset as changeset\n"
        "real, calls = os.replace, []\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "def replace(source, place):\n"
        "    calls.append(place)\n"
        "    real(source, place)\n"
        f"    if len(calls) == 2: os.kill(os.getpid(), signal.{number})\n"
        "changeset.os.replace = replace\n"
        "from migrator.cli import main\n"
        "main(['apply', sys.argv[1]])\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(fork)], capture_output=True
    )
    assert done.returncode == 128 + getattr(signal, number)
    assert snapshot(fork) == before


@pytest.mark.parametrize("stays_full", [False, True])
def test_a_disk_that_fills_up_gives_room_for_the_old_files_back(
    fork, monkeypatch, stays_full
):
    from migrator import changeset
    from migrator.checkout import open_checkout

    def planned():
        return apply.plan(open_checkout(fork), apply.resolve_target("1d"))

    first, *_, last = planned().changes
    with open(fork / first, "a") as file:
        file.write("# large\n" * 100_000)
    before, found = snapshot(fork), planned()
    # Once the first file is written, and others grew too, there is not room for its
    # old version until they are small again.
    room = len(found.changes[first])
    real, full = changeset.replace_file, []

    def replace(place, content):
        nonlocal room
        if place == fork / last or len(content) > room or full and stays_full:
            full.append(place)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room -= len(content) - len(place.read_bytes())
        real(place, content)

    monkeypatch.setattr(changeset, "replace_file", replace)
    with pytest.raises(FileProblem) as caught:
        found.write()
    said = str(caught.value)
    assert "No space left on device" in said and "permission" not in said
    assert "Make room on the disk" in said
    if stays_full:
        assert all(path in said for path in list(found.changes)[:-1])
    else:
        assert "every file is as it was" in said and snapshot(fork) == before


@pytest.mark.parametrize("lines", [0, 1, 3])
@pytest.mark.parametrize(
    "encode",
    [
        lambda raw: raw.replace(b"\n", b"\r\n"),
        lambda raw: b"\xef\xbb\xbf" + raw,
        lambda raw: b"# -*- coding: latin-1 -*-\n# caf\xe9\n" + raw,
        lambda raw: raw.rstrip(b"\n"),
    ],
    ids=["CRLF", "BOM", "latin-1", "no line end at the end"],
)
def test_the_patch_is_exact_to_the_byte(fork, encode, lines, tmp_path):
    place = fork / AUTOCAST
    place.write_bytes(encode(place.read_bytes()))
    place.chmod(0o755)
    git(fork, "commit", "-q", "-a", "-m", "as somebody has it")
    applied = shutil.copytree(fork, tmp_path / "applied")
    assert CliRunner().invoke(main, ["apply", str(applied)]).exit_code == 0
    patch = diff(fork, "--unified", str(lines))
    git_apply(fork, patch, *["--unidiff-zero"][lines:])
    assert place.read_bytes() == (applied / AUTOCAST).read_bytes()
    assert place.stat().st_mode == (applied / AUTOCAST).stat().st_mode
    assert git(fork, "diff") == git(applied, "diff")


def test_a_file_name_that_is_no_utf_8_is_in_the_patch(fork, tmp_path):
    plain = fork / AUTOCAST
    odd = plain.with_name(os.fsdecode(b"caf\xe9.py"))
    odd.write_bytes(plain.read_bytes())
    command = [sys.executable, "-m", "migrator.cli"]
    patch = subprocess.run(
        [*command, "diff", str(fork)],
        cwd=FIXTURES.parent,
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    for words in (["diff", "--stat"], ["check"], ["check", "--format", "json"]):
        done = subprocess.run(
            [*command, *words, str(fork)],
            cwd=FIXTURES.parent,
            capture_output=True,
        )
        assert b"Traceback" not in done.stderr
    assert rb"b/torchtitan/distributed/caf\351.py" in patch
    git_apply(fork, patch)
    assert odd.read_bytes() == plain.read_bytes()


def test_the_patch_is_of_the_file_that_a_symlink_leads_to(fork):
    plan = fork / PLAN
    plan.rename(plan.with_name("real_plan.py"))
    plan.symlink_to("real_plan.py")
    git(fork, "add", "-A")
    git(fork, "commit", "-q", "-m", "a symlink")
    patch = diff(fork)
    assert patch.count(b"real_plan.py b/") == 1
    git_apply(fork, patch)
    assert plan.is_symlink() and "apply_ddp" not in plan.read_text()
    assert "real_plan.py" in git(fork, "diff", "--name-only")
