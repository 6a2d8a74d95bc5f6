"""How bad a hazard is: an order, and a name."""

from codemods.findings import Finding, kind_of, worst_first


def hazard(severity, line):
    return Finding("a.py", line, "TM201", "", "hazard", None, severity)


def test_the_worst_comes_first_and_else_the_order_stays():
    mixed = [
        hazard("note", 1),
        hazard("loud", 2),
        hazard("silent", 4),
        hazard("silent", 3),
    ]
    assert [f.line for f in worst_first(mixed)] == [4, 3, 2, 1]


def test_a_note_is_not_called_a_hazard():
    names = [kind_of(severity) for severity in ("silent", "loud", "note", None)]
    assert names == ["silent hazard", "loud hazard", "note", "hazard"]
