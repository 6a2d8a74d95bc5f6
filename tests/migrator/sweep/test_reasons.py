"""Reasons, alike ones together."""

from migrator.sweep.reasons import groups, place_of

LEFT = (
    "{}:{}: this call of {} is left for a person: it reads code that cannot be followed"
)


def test_alike_reasons_are_one_and_the_most_common_comes_first(row):
    rows = [
        row("a", "failed", reasons=("the object 0a1b is missing",), codes=("",)),
        row(
            "b",
            "person",
            reasons=(LEFT.format("m/a.py", 3, "x.apply_ddp"),),
            codes=("TM102",),
        ),
        row(
            "c",
            "person",
            reasons=(LEFT.format("n/b.py", 7, "apply_ddp"),) * 2,
            codes=("TM102",) * 2,
        ),
        row("d", "ready"),
    ]
    first, second = groups(rows)
    assert (first.refs, first.code, first.example.ref) == (2, "TM102", "refs/heads/b")
    assert first.what.startswith("this call of …") and "a.py" not in first.what
    assert (second.refs, second.state) == (1, "failed")


def test_what_is_the_same_in_all_of_them_is_said(row):
    why = "{}: does not parse: '(' was never closed, as torch {} has it in {} {}"
    given = [("a.py:1", "2.7.0", "x_a", "y_b"), ("b.py:9", "2.8.0", "x_a", "`z`")]
    rows = [row("a", "failed", reasons=(why.format(*g),), codes=("",)) for g in given]
    (group,) = groups(rows)
    assert group.what == "does not parse: '(' was never closed, as torch … has it in …"
    assert group.shown == group.said == why.format(*given[0])
    (alone,) = groups(rows[:1])
    assert f"a.py:1: {alone.what}" == alone.said and alone.shown == "a.py:1"


def test_a_reason_may_begin_with_its_place():
    assert place_of("a/b.py:3: why: so") == ("a/b.py", 3, "why: so")
    assert place_of("a/b.py: why") == ("a/b.py", 0, "why")
    assert place_of("why: so") == ("", 0, "why: so")


def test_a_name_may_hold_what_stands_for_names(row):
    why = ("foo.b x: y.py:1: does not parse", "… x: y.py:1: does not parse")
    rows = [
        row(str(n), "failed", reasons=(one,), codes=("",)) for n, one in enumerate(why)
    ]
    assert sum(group.refs for group in groups(rows)) == 2
