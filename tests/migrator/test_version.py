"""What --version says of a clone, of an installation from a repository, and of any other."""

import json
import subprocess
import sys
from importlib import metadata

import pytest

from migrator import version

from commands import run
from places import TOP
from releases import git

HERE = f"titan-migrate {version.VERSION}, revision "


def test_the_command_says_version_revision_and_torch():
    revision = version._revision()
    told = f"{HERE}{revision}, torch {metadata.version('torch')}\n"
    assert revision is not None and run("--version").output == told
    assert version.adding("demo") == f"pip install -e '{TOP}[demo]'"


def test_a_clone_is_described_wherever_the_command_was_called_from(
    tmp_path, monkeypatch
):
    for place in ("ours", "the fork"):
        (tmp_path / place).mkdir()
        git(tmp_path / place, "init", "-q")
        git(tmp_path / place, "commit", "-q", "--allow-empty", "-m", place)
    git(tmp_path / "ours", "tag", "-am", "v9", "v9")
    monkeypatch.setattr(version, "_TOP", tmp_path / "ours")
    monkeypatch.chdir(tmp_path / "the fork")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "the fork" / ".git"))
    assert version._revision() == "v9"
    monkeypatch.setenv("PATH", "")
    assert version._revision() is None


@pytest.mark.parametrize(
    ("noted", "revision", "source"),
    [
        (
            {
                "url": "ssh://host/a",
                "vcs_info": {"vcs": "git", "commit_id": "8c2ab0e13d5f77"},
            },
            "8c2ab0e13d5f",
            "git+ssh://host/a",
        ),
        ({"url": "file:///a", "dir_info": {}}, "unknown", "file:///a"),
        (None, "unknown", "git+URL"),
    ],
)
def test_an_installation_says_what_pip_noted(
    tmp_path, monkeypatch, noted, revision, source
):
    info = tmp_path / "titan_migrate-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Name: titan-migrate\nVersion: 0.1.0\n")
    if noted:
        (info / "direct_url.json").write_text(json.dumps(noted))
    monkeypatch.setattr(version, "_TOP", tmp_path)
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    told = f"{HERE}{revision}, no torch in this environment"
    assert version.line() == told
    added = f"pip install 'titan-migrate[verify] @ {source}'"
    assert version.adding("verify") == added


def test_a_clone_says_it_at_once_by_its_module():
    command = [sys.executable, "-X", "importtime", "-m", "migrator", "--version"]
    done = subprocess.run(command, cwd=TOP, capture_output=True, text=True)
    assert done.stdout.startswith(HERE) and "| torch" not in done.stderr
    assert "migrator.version" in done.stderr and "libcst" not in done.stderr
