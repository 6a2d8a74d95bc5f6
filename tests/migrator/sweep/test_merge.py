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
    found, said = merged([tmp_path / f"{n}.json" for n in parts])
    assert [(r.ref[-1], r.planned.state) for r in found] == [
        *(("a", "done"), ("b", "ready"), ("c", "ready"))
    ]
    assert said == ["Of the shards, 2/3 is not here."]


@pytest.mark.parametrize(
    "text", ["", "[]", '{"rows": [{}], "shard": null}', '{"rows": [']
)
def test_what_is_no_table_is_refused(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(TitanMigrateError, match="is no table of a sweep"):
        merged([tmp_path / "a.json"])
    with pytest.raises(TitanMigrateError, match="could not be read"):
        merged([tmp_path / "b.json"])
