"""Where the tool keeps what it may use again."""

from pathlib import Path

from migrator import caches, releases
from migrator.verify.keep import cache


def test_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.folder() == tmp_path / "titan-migrate" / "runs"
    assert releases.cached("0.2.2") == tmp_path / "titan-migrate" / "releases" / "0.2.2"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.setattr(caches.sys, "platform", "linux")
    assert cache.folder() == tmp_path / "home" / ".cache" / "titan-migrate" / "runs"
    monkeypatch.setattr(caches.sys, "platform", "darwin")
    assert cache.folder().parts[-4:] == ("Library", "Caches", "titan-migrate", "runs")
