"""What is read of a checkout is noted, and held against another."""

import ast
import re
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codemods.bindings import Checkout
from codemods.modules import Named
from codemods.names import Definition, Import
from codemods.source import SourceFile
from migrator.sweep.watch import (
    Difference,
    Trace,
    WatchedCheckout,
    WatchedSource,
    Words,
    noting,
)

FILES = {
    "pkg/__init__.py": b"from pkg.a import one\n",
    "pkg/a.py": b"def one():\n    return 1\n",
    "pkg/b.py": b"import os\nfrom pkg import one\n\nx = one()  # word\n",
    "c.py": b"y = 2\n",
}
_DEFINED = re.compile(rb"def (\w+)")


def _functions(file: SourceFile) -> tuple[str, ...]:
    return tuple(name.decode() for name in _DEFINED.findall(file.raw))


def _origin(found: Import | Definition | None) -> object:
    """What a name stands for, without the line of an import, which ``lookup`` does not promise."""
    return replace(found, line=0) if isinstance(found, Import) else found


def _dumped(found: tuple[tuple[str, ast.AST], ...]) -> list[str]:
    return [ast.dump(node, include_attributes=True) for _, node in found]


def files_of(raws: dict[str, bytes]) -> dict[str, WatchedSource]:
    return {path: WatchedSource(path, raw) for path, raw in raws.items()}


READS = {
    "text": lambda c: c.files["c.py"].text,
    "raw": lambda c: c.files["c.py"].raw,
    "segment": lambda c: c.files["c.py"].segment(c.files["c.py"].syntax.body[0]),
    "opted out": lambda c: c.files["c.py"].opted_out(1, "TM101"),
    "looked up": lambda c: _origin(c.files["pkg/b.py"].lookup("one", "")),
    "its line": lambda c: c.files["pkg/b.py"].names.lookup("one", "").line,
    "functions": lambda c: _dumped(c.files["pkg/a.py"].all(Named("one"))),
    "defining": lambda c: [file.path for file in c.defining("one")],
    "word": lambda c: [file.path for file in c.mentioning("word")],
    "word of one": lambda c: c.files["c.py"].mentions(b"y"),
    "pattern": lambda c: c.files["pkg/a.py"].found(_DEFINED),
    "module": lambda c: c.path_of("pkg.a"),
    "resolved": lambda c: c.resolve("pkg/b.py", "", "one"),
    "exported": lambda c: c.files["pkg/a.py"].exported("one"),
    "all": lambda c: c.files["pkg/a.py"].all(_functions),
    "imports": lambda c: c.files["pkg/b.py"].imports,
    "there": lambda c: "d.py" in c.files,
    "got": lambda c: c.files.get("d.py"),
    "listed": lambda c: sorted(c.own),
    "path": lambda c: c.has_path("^d"),
    "torchtitan": lambda c: (c.path_of("pkg.a"), c.holds_torchtitan),
}
EDITS = {
    "another word": {"c.py": b"y = 2  # word\n"},
    "another text": {"c.py": b"y = 3\n"},
    "another name": {"pkg/a.py": b"def two():\n    return 1\n"},
    "a function more": {"pkg/a.py": FILES["pkg/a.py"] + b"\n\ndef two():\n    pass\n"},
    "a line before": {"pkg/a.py": b"# one\n" + FILES["pkg/a.py"]},
    "a mistake": {"pkg/a.py": b"def one(\n"},
    "an opt-out": {"c.py": b"y = 2  # titan-migrate: ignore[TM101]\n"},
    "another body": {"pkg/a.py": b"def one():\n    return 2\n"},
    "another import": {
        "pkg/b.py": b"import sys\nfrom c import one\nx = one()  # word\n"
    },
    "a line before an import": {"pkg/b.py": b"# one\n" + FILES["pkg/b.py"]},
    "a new file": {"d.py": b""},
    "a new file below": {"pkg/d.py": b"word = 1\n"},
    "another origin": {"pkg/__init__.py": b"from c import one\n"},
    "a torchtitan": {"torchtitan/dims.py": b"class ParallelDims:\n    pass\n"},
    "a file less": {"pkg/a.py": None},
}


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("edit", EDITS)
def test_what_held_gives_the_same_again(read, edit):
    """Whatever is read: where the trace holds, it is read again as it was."""
    before = files_of(FILES)
    trace = Trace()
    with noting(trace):
        first = READS[read](WatchedCheckout(before))
    fresh = {p: r for p, r in {**FILES, **EDITS[edit]}.items() if r is not None}
    same = {p: f for p, f in before.items() if fresh.get(p) == f.raw}
    after = {p: same.get(p) or WatchedSource(p, raw) for p, raw in fresh.items()}
    if trace.holds(Difference(before, after), Checkout(after), None, None):
        assert READS[read](Checkout(after)) == first


@pytest.mark.parametrize(
    ("read", "edit"),
    [
        ("text", "another text"),
        ("raw", "another word"),
        ("segment", "another text"),
        ("opted out", "an opt-out"),
        ("looked up", "another import"),
        ("its line", "a line before an import"),
        ("functions", "another body"),
        ("functions", "a line before"),
        ("functions", "a mistake"),
        ("defining", "another name"),
        ("exported", "a mistake"),
        ("word", "another word"),
        ("word", "a new file below"),
        ("pattern", "another name"),
        ("module", "a file less"),
        ("resolved", "another origin"),
        ("exported", "another name"),
        ("all", "another name"),
        ("imports", "another import"),
        ("there", "a new file"),
        ("got", "a new file"),
        ("listed", "a new file below"),
        ("path", "a new file"),
        ("torchtitan", "a torchtitan"),
    ],
)
def test_what_is_read_otherwise_does_not_hold(read, edit):
    assert not holds(read, edit)


@pytest.mark.parametrize(
    ("read", "edit"),
    [
        ("text", "another name"),
        ("opted out", "another text"),
        ("looked up", "a line before an import"),
        ("functions", "a function more"),
        ("defining", "a function more"),
        ("defining", "a line before"),
        ("word", "another text"),
        ("pattern", "another body"),
        ("module", "a new file"),
        ("exported", "another body"),
        ("all", "another body"),
        ("there", "a new file below"),
        ("path", "a new file below"),
    ],
)
def test_what_is_not_read_may_be_another(read, edit):
    assert holds(read, edit)


def holds(read: str, edit: str) -> bool:
    before = files_of(FILES)
    trace = Trace()
    with noting(trace):
        READS[read](WatchedCheckout(before))
    changed = {p: r for p, r in EDITS[edit].items() if r is not None}
    gone = [p for p, r in EDITS[edit].items() if r is None]
    after = {**before, **files_of(changed)}
    for path in gone:
        del after[path]
    return trace.holds(Difference(before, after), Checkout(after), None, None)


def test_what_nests_too_deeply_to_be_compared_does_not_hold():
    """Whether that matters is for the phase to say."""
    deep = b"x = " + b"+".join([b"1"] * 600)
    text = b"def one():\n    " + deep + b"\n"
    before, after = files_of({"a.py": text}), files_of({"a.py": b"#\n" + text})
    trace = Trace()
    with noting(trace):
        WatchedCheckout(before).files["a.py"].all(Named("one"))
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(500)
    try:
        assert not trace.holds(Difference(before, after), Checkout(after), None, None)
    finally:
        sys.setrecursionlimit(limit)


def test_files_of_trees_that_a_result_holds_count_as_read_whole():
    """They are found again in the file that they are of, as the same objects."""
    before = files_of(FILES)
    for read, kept in (("functions", True), ("all", False), ("defining", False)):
        trace = Trace()
        with noting(trace):
            READS[read](WatchedCheckout(before))
        trace.count_whole(before)
        assert trace.whole == ({"pkg/a.py"} if kept else set())


def test_a_file_that_is_excluded_now_does_not_hold():
    before = files_of(FILES)
    after = {**before, "c.py": WatchedSource("c.py", FILES["c.py"], excluded=True)}
    assert not Trace().holds(Difference(before, after), Checkout(after), None, None)


def test_a_watched_file_is_as_any_other():
    one, other = (WatchedSource("a.py", b"\xef\xbb\xbfx = 1\n") for _ in range(2))
    assert (
        one == other and hash(one) == hash(other) and one != WatchedSource("a.py", b"")
    )
    assert one.text == "x = 1\n" and one.encoding == "utf-8-sig"
    assert one.syntax is one.syntax and one.encode("y") == b"\xef\xbb\xbfy"


TREES = st.dictionaries(
    st.sampled_from(["a.py", "b.py", "c.py", "d.py", "e.py"]),
    st.tuples(st.sampled_from([b"one", b"one two", b"two", b""]), st.booleans()),
)


@given(st.lists(TREES, min_size=2, max_size=4), st.sampled_from(["one", "two", "o"]))
def test_words_are_found_as_if_each_file_were_looked_into(trees, word):
    """Whatever files come, change, go or turn out to be of a dependency."""
    made: dict[object, WatchedSource] = {}
    files = [
        {
            path: made.setdefault(
                (path, what),
                WatchedSource(path, what[0], dependency="lib" if what[1] else ""),
            )
            for path, what in sorted(tree.items())
        }
        for tree in trees
    ]
    words = Words(files[0])
    for one in files:
        found = words.held(Difference(files[0], one), word)
        assert found == [
            file
            for file in one.values()
            if not file.dependency and word.encode() in file.raw
        ]


def test_a_module_is_another_where_torchtitan_has_become_part_of_the_checkout():
    """Which changes what a part of a package is called, though all files are where they were."""
    raws = {
        "lib/torchtitan/__init__.py": b"",
        "lib/torchtitan/dims.py": b"",
        "lib/__init__.py": b"",
    }
    before = files_of(raws)
    trace = Trace()
    with noting(trace):
        WatchedCheckout(before).path_of("torchtitan.dims")
    dims = "lib/torchtitan/dims.py"
    after = {**before, dims: WatchedSource(dims, b"class ParallelDims:\n    pass\n")}
    found = [Checkout(one).path_of("torchtitan.dims") for one in (before, after)]
    assert found[0] != found[1]
    assert not trace.holds(Difference(before, after), Checkout(after), None, None)
