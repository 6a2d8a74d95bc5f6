"""Tables of parts, put together."""

import pytest

from migrator.errors import TitanMigrateError
from migrator.sweep import table
from migrator.sweep.merge import merged


def test_parts_become_one_table_and_a_missing_one_is_told(tmp_path, row):
    parts = {1: [row("c"), row("a", "failed")], 3: [row("b")], 9: [row("a", "done")]}
    for n, rows in parts.items():
        shard = (n, 3) if n < 4 else None
        (tmp_path / f"{n}.json").write_text("".join(table.as_json(rows, shard)))
    found, said, _ = merged([tmp_path / f"{n}.json" for n in parts])
    assert [(r.ref[-1], r.planned.state) for r in found] == [
        *(("a", "done"), ("b", "ready"), ("c", "ready"))
    ]
    assert said == ["Of the shards, 2/3 is not here."]


def test_tables_that_were_asked_otherwise_do_not_go_together(tmp_path, row):
    for name, asked in (("a", "1d"), ("b", "2d"), ("c", "1d")):
        text = "".join(table.as_json([row(name)], None, asked))
        (tmp_path / f"{name}.json").write_text(text)
    with pytest.raises(TitanMigrateError, match="other options"):
        merged([tmp_path / "a.json", tmp_path / "b.json"])
    assert merged([tmp_path / "a.json", tmp_path / "c.json"])[2] == "1d"


def table_of(shard: str) -> str:
    return f'{{"tool": "t", "asked": "", "rows": [], "shard": {shard}}}'


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", '{"rows": [{}], "shard": null}', '{"rows": [', "[" * 200_000),
        *map(table_of, ('"x"', '"1/2/3"', "[1]", "3")),
        table_of("null").replace("[]", "[1]"),
        table_of("null").replace("[]", "3"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(TitanMigrateError, match="is no table of a sweep"):
        merged([tmp_path / "a.json"])
    with pytest.raises(TitanMigrateError, match="could not be read"):
        merged([tmp_path / "b.json"])
