"""Hunks: a patch of any text, the words that changed, and what a person took back."""

from hypothesis import given
from hypothesis import strategies as st

from codemods.attribution import BY_HAND, Stage, lines
from migrator.review import model
from migrator.review.hunks import hunks_of, undone

PLANS = st.lists(st.sampled_from(["a\n", "b\n", "c\n", "\n"]), max_size=7)


@given(PLANS, PLANS, PLANS)
def test_whatever_a_person_takes_back_is_by_hand(was, wanted, now):
    before, planned, after = map("".join, (was, wanted, now))
    made = [Stage("TM101", planned)]
    gone, lacking = undone(before, planned, after, made)
    if planned == after:
        assert not gone and not lacking
        return
    hunks = hunks_of(before, after, [*made, Stage(BY_HAND, after)], ())
    assert gone or lacking or any(hunk.touch.by_hand for hunk in hunks)


TEXTS = st.lists(
    st.sampled_from(["a b", "a c", "d", "", "  a b", "é\u2028", "x\x0c"]), max_size=9
)


@given(TEXTS, TEXTS, st.booleans(), st.booleans())
def test_hunks_are_a_patch_of_any_text(was, now, closed, closes):
    before = "\n".join(was) + "\n" * (closed and bool(was))
    after = "\n".join(now) + "\n" * (closes and bool(now))
    hunks = hunks_of(before, after, [Stage("TM101", after)], ())
    old, new = lines(before), lines(after)
    rows = [row for hunk in hunks for row in hunk.rows]
    for row in rows:
        for line, texts in ((row.old, old), (row.new, new)):
            if line is not None:
                text = texts[line.number - 1]
                assert line.text == model.visible(text.removesuffix("\n"))
                assert line.ended == text.endswith("\n")
    gone = {row.old.number for row in rows if row.changed and row.old}
    come = {row.new.number for row in rows if row.changed and row.new}
    kept = [text for n, text in enumerate(old, 1) if n not in gone]
    assert kept == [text for n, text in enumerate(new, 1) if n not in come]
    for hunk in hunks:
        signs = [(sign, row.line.number) for sign, row in hunk.unified()]
        for sign in "-+":
            numbers = [n for s, n in signs if s == sign]
            assert numbers == sorted(numbers)


def marked(line) -> list[str]:
    return [text for text, mark in line.parts if mark]


def test_the_words_that_changed_are_marked():
    before = "one\n    apply_ddp(model, mesh)\ntwo\n"
    after = "one\n    apply_replicate(model, mesh, dtype)\ntwo\n"
    (hunk,) = hunks_of(before, after, [Stage("TM102", after)], ())
    (row,) = (row for row in hunk.rows if row.changed)
    assert marked(row.old) == ["apply_ddp"] and marked(row.new) == [
        "apply_replicate",
        ", dtype",
    ]


def test_lines_that_are_too_unlike_are_not_marked_and_stand_as_they_come():
    before, after = (
        "a\nif enable_compile:\n    gone()\n",
        'a\n"""New words."""\nwholly_other = 1\n',
    )
    (hunk,) = hunks_of(before, after, [Stage("TM101", after)], ())
    changed = [row for row in hunk.rows if row.changed]
    assert len(changed) == 2 and not any(
        marked(row.old) + marked(row.new) for row in changed
    )


def test_lines_alike_stand_side_by_side():
    after = 'def apply_replicate(\n    """One."""\n    """Two."""\n    replicate(model, mesh)\n'
    (hunk,) = hunks_of(
        "def apply_ddp(\n    replicate(model, other)\n",
        after,
        [Stage("TM101", after)],
        (),
    )
    sides = [(row.old and row.old.text, row.new.text) for row in hunk.rows]
    assert (
        sides[0][0] == "def apply_ddp("
        and sides[-1][0] == "    replicate(model, other)"
    )
    assert sides[1][0] is sides[2][0] is None


def test_a_very_long_line_is_shown_unmarked():
    before, after = (f"x = [{'1, ' * 1000}{last}]\n" for last in (2, 3))
    (hunk,) = hunks_of(before, after, [Stage(BY_HAND, after)], ())
    assert all(not marked(row.line) for row in hunk.rows) and hunk.touch.by_hand


CODE = '''\
class Trainer:
    """For one, and
    not another."""

    def step(self, closure=None):
        # the loss
        loss = closure() if closure else 0.5

        return loss


def apply_fsdp(
    model,
    mesh,
):
    return model
'''


def hunk_at(old: str, new: str) -> model.Hunk:
    after = CODE.replace(old, new)
    (hunk,) = hunks_of(CODE, after, [Stage("TM101", after)], ())
    return hunk


def test_a_hunk_names_the_function_it_is_in():
    assert hunk_at("return loss", "return 2 * loss").within == "Trainer.step"
    assert hunk_at("    mesh,\n", "").within == "apply_fsdp"
    assert hunk_at("return model", "return 1").within == "apply_fsdp"
    assert hunk_at("class Trainer", "import x\nclass Trainer").within == ""
    assert hunk_at("loss = cl", "l = cl").head.endswith(" @@ Trainer.step")


def test_pieces_of_a_line_are_what_they_are_to_python():
    hunk = hunk_at("0.5", "0.25")
    line = next(row.new for row in hunk.rows if row.changed)
    kinds = {text.strip(): kind for text, _, kind in line.pieces}
    assert kinds["if"] == kinds["else"] == "keyword"
    assert kinds["25"] == "number" and kinds["loss = closure()"] == ""
    assert [text for text, mark, _ in line.pieces if mark] == ["25"]
    # What is inside a docstring of several lines is no code.
    inside = next(
        row.new
        for row in hunk_at("For one", "For two").rows
        if row.new and "not another" in row.new.text
    )
    assert inside.pieces == [('    not another."""', False, "string")]
    for row in hunk.rows:
        assert "".join(text for text, _, _ in row.line.pieces) == row.line.text


def test_how_far_a_line_is_from_a_hunk():
    hunk = hunk_at("return model", "return 1")
    first, last = hunk.rows[0].new.number, hunk.rows[-1].new.number
    assert hunk.distance(first, before=False) == hunk.distance(last, before=True) == 0
    assert hunk.distance(first - 3, before=False) == 3
    assert hunk.distance(last + 2, before=False) == 2
