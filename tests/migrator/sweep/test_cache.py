"""What was planned before."""

from migrator import caches
from migrator.sweep import cache
from migrator.sweep.cache import Cache, key_of
from migrator.sweep.plan import Options
from migrator.sweep.row import Planned

TREE = "a" * 40


def test_what_was_planned_is_known_again():
    cache = Cache(key_of(Options()))
    assert cache.get(TREE) is None
    cache.put(TREE, Planned("ready", files=("a.py",)))
    assert Cache(key_of(Options())).get(TREE) == Planned("ready", files=("a.py",))


def test_another_option_or_another_torchtitan_is_another_key(tmp_path):
    given = Options(torchtitan=str(tmp_path))
    before = key_of(given)
    (tmp_path / "a.py").write_text("x = 1\n")
    assert (
        len({key_of(Options()), key_of(Options(target="2d")), before, key_of(given)})
        == 4
    )


def test_the_commit_of_an_installed_torchtitan_is_in_the_key(tmp_path, monkeypatch):
    noted = tmp_path / "torchtitan-0.1.9.dist-info"
    noted.mkdir()
    monkeypatch.setattr(cache, "installed", lambda: [noted])
    keys = set()
    for commit in ("aaaa", "bbbb"):
        (noted / "direct_url.json").write_text(f'{{"commit_id": "{commit}"}}')
        keys.add(key_of(Options()))
    assert len(keys) == 2


def test_what_is_broken_in_it_is_not_taken():
    cache = Cache("key")
    cache.put(TREE, Planned("ready"))
    (place,) = (caches.folder() / "sweep").rglob("*.json")
    for text in ("", "{}", '{"state": "odd"}', "[1]", "[" * 200_000):
        place.write_text(text)
        assert cache.get(TREE) is None


def test_where_it_cannot_be_written_nothing_is_kept(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    cache = Cache("key")
    cache.put(TREE, Planned("ready"))
    assert cache.get(TREE) is None
