"""Where a place lies below a folder."""

from pathlib import Path, PurePosixPath

from migrator.place import inside


def test_a_place_is_told_by_its_path_from_the_folder():
    assert inside(Path("/w"), Path("/w/a/b.py")) == "a/b.py"
    assert inside(Path("/w"), Path("/w")) == "."


def test_what_lies_elsewhere_is_not_in_it():
    assert inside(Path("/w/a"), Path("/w/ab")) is None
    assert inside(Path("/w"), PurePosixPath("/w/a")) is None
