"""The table in its formats."""

import csv
import io
import json

from migrator.sweep import table

from hostile import escapes_nothing


def test_people_get_a_line_for_each_ref_and_the_reasons(row):
    rows = [
        row("main", findings={"TM101": 2}, files=("a.py",), hazards={"loud": 3}),
        row("x", "person", reasons=("a.py:3: cannot be followed",), codes=("TM102",)),
        row("y", "done", reasons=("Nothing to do.",), codes=("",)),
    ]
    head, *lines = table.as_text(rows, [])
    assert head.split() == ["ref", "generation", "target", "files", "hazards", "what"]
    assert lines[0].split()[:5] == ["main", "0.2.2", "1d", "1", "3"]
    assert lines[0].endswith("can be migrated now: 2 TM101")
    assert lines[1].endswith("needs a person: a.py:3: cannot be followed")
    assert (
        "3 refs, 1 distinct tree: 1 done, 1 can be migrated now, 1 needs a person."
        in lines
    )
    assert lines[-2:] == [
        "  1 × TM102 cannot be followed",
        "      x: a.py:3",
    ]


def test_lines_fit_a_terminal_and_nothing_acts_on_one(row):
    rows = [
        row(
            "a\n::error::\x1b[31m" + "b" * 80,
            "failed",
            reasons=("\x1b[2J",),
            codes=("",),
        )
    ]
    lines = list(table.as_text(rows, {rows[0].repository, "other"}, width=80))
    assert escapes_nothing("\n".join(lines))
    assert all(len(line) <= 80 for line in lines[:2])


def test_programs_get_all_of_it(row):
    rows = [row("a", files=("a.py",)), row("b\udce9")]
    text = "".join(table.as_json(rows, (2, 3)))
    read = json.loads(text)
    assert read["shard"] == "2/3" and read["rows"] == [
        json.loads(json.dumps(one.as_data())) for one in rows
    ]
    assert json.loads("".join(table.as_json([])))["rows"] == []


def test_spreadsheets_get_cells_and_no_formulas(row):
    odd = '=HYPERLINK("x")\nwith, both "quotes"'
    rows = [row("a", "failed", reasons=(odd,), codes=("",), findings={"TM101": 2})]
    head, line = csv.reader(io.StringIO("".join(table.as_csv(rows))))
    read = dict(zip(head, line))
    assert read["reasons"] == f"'{odd}" and read["findings"] == "TM101:2"
    assert tuple(head) == table.FIELDS


def test_nothing_in_a_cell_acts_on_a_terminal(row):
    odd = row("a", "failed", reasons=("bad\x1b[31m.py:1: no",), codes=("",))
    text = "".join(table.as_csv([odd]))
    assert "\x1b" not in text and "bad\\x1b[31m.py" in text


def test_the_exit_code_is_that_of_the_worst_ref(row):
    states = ("done", "other", "ready", "person", "failed")
    codes = [table.exit_code([row("a", state), row("b", "done")]) for state in states]
    assert codes == [0, 0, 1, 1, 3]


def test_repositories_of_one_name_are_told_apart():
    paths = ["one/torchtitan.git", "forks/two/torchtitan.git", "other", "./x/other/"]
    assert table.told_apart(paths) == {
        "one/torchtitan.git": "one/torchtitan.git",
        "forks/two/torchtitan.git": "two/torchtitan.git",
        "other": "other",
        "./x/other/": "x/other",
    }


def test_a_reason_of_several_repositories_names_the_one_of_its_example(row):
    rows = [row("x", "person", reasons=("a.py:3: cannot",), codes=("TM102",))]
    *_, last = table.as_text(rows, {rows[0].repository, "b.git"})
    assert last == "      a.git x: a.py:3"
