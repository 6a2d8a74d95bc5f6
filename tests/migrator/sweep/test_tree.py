"""A tree that git keeps, read as a checkout of it is."""

from pathlib import Path

import pytest

from migrator.checkout import open_checkout
from migrator.place import inside
from migrator.sweep import tree as module
from migrator.sweep.objects import Repository, Unreadable
from migrator.sweep.shared import Shared
from migrator.sweep.tree import Entry, Tree, TreeCheckout, TreePath, Trees, _entries

from hostile import committed
from organisation import files_of
from places import FIXTURES
from releases import as_checkout, git

LINKS = {
    "a.py": "there/b.py",
    "out.py": "../elsewhere.py",
    "root.py": "/etc/hostname",
    "loop.py": "loop2.py",
    "loop2.py": "loop.py",
    "nowhere.py": "none.py",
    "folder.py": "there",
    "up/again.py": "../there/../there/b.py",
    "slash.py": "there/b.py/",
    "through.py": "README.md/../there/b.py",
}


@pytest.fixture
def linked(tmp_path):
    """A checkout with links of all kinds."""
    place = tmp_path / "linked"
    (place / "there").mkdir(parents=True)
    (place / "up").mkdir()
    (place / "there/b.py").write_text("b = 1\n")
    (place / "there/.gitignore").write_text("*.tmp\n")
    (place / "README.md").write_text("# It\n")
    (place / "pyproject.toml").write_text("[tool.black]\nline-length = 99\n")
    (tmp_path / "elsewhere.py").write_text("secret = 1\n")
    for name, target in LINKS.items():
        (place / name).symlink_to(target)
    return committed(place)


def in_git(place: Path) -> TreeCheckout:
    """The tree of a checkout's HEAD."""
    trees = Trees(Repository(place))
    tree = Tree(trees, git(place, "rev-parse", "HEAD^{tree}").strip())
    root = trees.repository.git_dir
    return TreeCheckout(root, is_git=True, tree=tree, shared=Shared())


def test_files_and_texts_are_those_of_a_checkout(linked):
    on_disk, kept = open_checkout(linked), in_git(linked)
    assert (
        list(kept.files) == list(on_disk.files) == ["a.py", "there/b.py", "up/again.py"]
    )
    assert {p: f.raw for p, f in kept.files.items()} == {
        p: f.raw for p, f in on_disk.files.items()
    }
    assert list(kept.texts) == list(on_disk.texts) == ["README.md", "pyproject.toml"]


@pytest.mark.parametrize("name", ["v0_2_2", "fork_quirks", "dependent"])
def test_a_whole_fixture_is_read_as_it_is_on_disk(tmp_path, name):
    on_disk = open_checkout(as_checkout(FIXTURES / name, tmp_path / "c"))
    kept = in_git(tmp_path / "c")
    assert [(path, file.raw) for path, file in kept.files.items()] == [
        (path, file.raw) for path, file in on_disk.files.items()
    ]
    assert list(kept.texts.items()) == list(on_disk.texts.items())
    assert kept.dependency == on_disk.dependency


def test_a_path_answers_as_one_on_disk_does(linked):
    top = in_git(linked).folder
    for path in ("there/b.py", "there", *LINKS, "none", "there/b.py/c", ""):
        if path in ("out.py", "root.py"):
            continue  # they are there on disk, and not in the tree
        on_disk, kept = linked / path, top / path
        for ask in ("exists", "is_file", "is_dir", "is_symlink"):
            assert getattr(kept, ask)() == getattr(on_disk, ask)(), (path, ask)
    assert sorted(map(str, top.iterdir())) == sorted(
        p.name for p in linked.iterdir() if p.name != ".git"
    )
    for pattern in ("*.py", "there/*", "*/b.py", "none/*"):
        assert sorted(map(str, top.glob(pattern))) == sorted(
            p.relative_to(linked).as_posix() for p in linked.glob(pattern)
        )
    assert (top / "a.py").read_bytes() == b"b = 1\n"
    assert (top / "a.py").stat().st_size == 6
    with pytest.raises(FileNotFoundError):
        (top / "none").read_bytes()


def test_nothing_outside_of_the_tree_is_read(linked):
    top = in_git(linked).folder
    for name in ("out.py", "root.py", "loop.py"):
        assert not (top / name).exists()
        assert inside(top, (top / name).resolve()) is None
    assert inside(top, (top / "a.py").resolve()) == "there/b.py"
    assert inside(top, (top / "new.py").resolve()) == "new.py"
    assert top / "/etc" == Path("/etc")


def test_a_submodule_is_an_empty_folder(linked):
    head = git(linked, "rev-parse", "HEAD").strip()
    git(
        linked,
        "update-index",
        "--add",
        "--cacheinfo",
        f"160000,{head},third_party/x.py",
    )
    git(linked, "commit", "-q", "-m", "with a submodule")
    kept = in_git(linked)
    place = kept.folder / "third_party/x.py"
    assert place.is_dir() and not list(place.iterdir())
    assert kept._gitlinks() == {"third_party/x.py": head}
    assert "third_party/x.py" not in kept.files


@pytest.mark.parametrize("name", ["..", ".git", ".GIT", "a/b", ""])
def test_a_name_that_no_file_can_have_is_refused(name):
    raw = b"100644 %s\0%s" % (name.encode(), bytes(20))
    with pytest.raises(Unreadable, match="which is no name"):
        list(_entries("0" * 40, raw))


def test_a_broken_tree_is_refused():
    raw = b"100644 a.py\0" + bytes(20)
    assert list(_entries("0" * 40, raw)) == [("a.py", Entry(0o100644, "0" * 40))]
    for broken in (raw[:-1], raw[:9], b"100644a.py\0" + bytes(20)):
        with pytest.raises(Unreadable, match="is broken"):
            list(_entries("0" * 40, broken))


def test_a_tree_with_too_much_in_it_is_refused(tree_of, monkeypatch):
    monkeypatch.setattr(module, "MOST", 3)
    tree = tree_of({"a/b.py": b"", "a/c.py": b"", "d.py": b"", "e.py": b""})
    with pytest.raises(Unreadable, match="more than 3 files"):
        _ = tree.entries


def test_what_two_trees_share_is_one_file(checkout_of):
    files = files_of(FIXTURES / "legacy")
    one = checkout_of(files)
    two = TreeCheckout(one.root, is_git=True, tree=one.tree, shared=one.shared)
    assert all(two.files[path] is file for path, file in one.files.items())


def test_a_path_says_where_it_is_in_the_tree(tree_of):
    top = TreePath(tree_of({"a/b.py": b""}))
    assert str(top) == "this tree" and str(top / "a/./b.py") == "a/b.py"
    assert (top / "a/b.py").name == "b.py" and (top / "a/b.py").parent == top / "a"
    assert top / "a" < top / "b" and top.name == ""
