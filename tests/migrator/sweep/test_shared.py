"""Files that trees share."""

from codemods.source import SourceFile
from codemods.texts import TextFile
from migrator.sweep.shared import Shared


def test_a_blob_is_read_once_for_each_path():
    shared, read = Shared(), []

    def raw() -> bytes:
        read.append(1)
        return b"x = 1\n"

    first = shared.file(SourceFile, "a.py", "1" * 40, raw)
    assert shared.file(SourceFile, "a.py", "1" * 40, raw) is first
    assert shared.file(SourceFile, "b.py", "1" * 40, raw) is not first
    assert shared.file(TextFile, "a.py", "1" * 40, raw) == TextFile("a.py", b"x = 1\n")
    assert len(read) == 3


def test_what_was_not_asked_for_longest_goes_where_there_is_no_room():
    shared = Shared(room=10)
    files = [shared.file(SourceFile, p, p, lambda: b"12345") for p in ("a", "b")]
    assert shared.file(SourceFile, "a", "a", lambda: b"") is files[0]
    shared.file(SourceFile, "c", "c", lambda: b"12345")
    assert shared.file(SourceFile, "a", "a", lambda: b"") is files[0]
    assert shared.file(SourceFile, "b", "b", lambda: b"12345") is not files[1]


def test_a_file_that_is_alike_in_all_is_the_same():
    shared, made = Shared(), SourceFile("a.py", b"x", dependency="torchtitan")
    assert shared.same(made) is made
    assert shared.same(SourceFile("a.py", b"x", dependency="torchtitan")) is made
    assert shared.same(SourceFile("a.py", b"x")) is not made
