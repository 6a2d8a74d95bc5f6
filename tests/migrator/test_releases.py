"""A release is downloaded when somebody asks for it, and kept."""

import subprocess
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest

from migrator import releases
from migrator.errors import TitanMigrateError


def test_a_registry_that_does_not_answer_is_told_from_a_release_that_there_is_not(
    tmp_path, monkeypatch
):
    said = "ERROR: no route\nERROR: No matching distribution found\n"

    def pip(*_, **__):
        return SimpleNamespace(returncode=1, stderr=said)

    monkeypatch.setattr(releases.subprocess, "run", pip)
    assert releases.download("0.2.1", tmp_path) == "No matching distribution found"
    said = "ERROR: Could not find it (from versions: 0.1.0, 0.2.0)\n" + said
    with pytest.raises(FileNotFoundError, match="no torchtitan 9 on PyPI.*0.1.0"):
        releases.download("9", tmp_path)

    def slow(*_, **__):
        raise subprocess.TimeoutExpired("pip", 180)

    monkeypatch.setattr(releases.subprocess, "run", slow)
    assert "180 seconds" in releases.download("0.2.1", tmp_path)
    assert not list(tmp_path.iterdir())


def test_pip_is_asked_where_nothing_of_a_checkout_is_taken_for_it(
    tmp_path, monkeypatch
):
    """`python -m` looks in the working directory first."""
    (tmp_path / "pip.py").write_text("open('ran', 'w')\nraise SystemExit(1)\n")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.chdir(tmp_path)
    assert "No matching distribution" in str(releases.download("9", tmp_path))
    assert not (tmp_path / "ran").exists()
    monkeypatch.setattr(releases, "find_spec", lambda name: None)
    assert "ensurepip" in str(releases.download("9", tmp_path))


def test_a_release_is_kept_and_not_asked_for_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked = []

    def download(version: str, tree: Path) -> None:
        asked.append(version)
        (tree / "torchtitan").mkdir()

    monkeypatch.setattr(releases, "download", download)
    place = releases.fetch("0.2.2")
    assert place == releases.cached("0.2.2") == releases.fetch("0.2.2")
    assert asked == ["0.2.2"] and (place / "torchtitan").is_dir()


@pytest.mark.parametrize(
    "error", [None, FileNotFoundError("there is none; there are 1")]
)
def test_what_cannot_be_had_leaves_nothing(tmp_path, monkeypatch, error):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def download(version: str, tree: Path) -> str:
        if error:
            raise error
        return "no route"

    monkeypatch.setattr(releases, "download", download)
    with pytest.raises(TitanMigrateError, match="no route|there are 1"):
        releases.fetch("9.9")
    assert not list(releases.cached("9.9").parent.iterdir())


def test_a_wheel_is_unpacked_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    wheel = tmp_path / "torchtitan-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr("torchtitan/train.py", "x = 1\n")
        made.writestr("other/train.py", "x = 1\n")
    place = releases.unpacked(wheel)
    assert [p.name for p in place.iterdir()] == ["torchtitan"]
    (place / "torchtitan" / "mark").touch()
    assert (releases.unpacked(wheel) / "torchtitan" / "mark").exists()
    assert len(list(place.parent.iterdir())) == 1
