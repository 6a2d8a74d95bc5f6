"""Which rules changed which lines: on stages of our own, and on whole migrations."""

from difflib import SequenceMatcher

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codemods.attribution import (
    BY_HAND,
    CLEANUP,
    LAYOUT,
    Stage,
    Touch,
    attribute,
    lines,
)
from codemods.engine import migrate

from support import BASE, HERE, IMPORT, PLAN, aim, checkout, outcome

BEFORE = "a\nb\nc\nd\ne\nf\ng\nh\n"


def by(*codes: str) -> Touch:
    return Touch(frozenset(codes))


def touches(before: str, *stages: Stage) -> list[tuple[str, Touch]]:
    """Each hunk without context, as its text, and who made it."""
    found = attribute(before, stages)
    old, new = lines(before), lines(stages[-1].text)
    hunks = []
    for kind, *ends in SequenceMatcher(None, old, new).get_opcodes():
        if kind != "equal":
            i, j, k, m = ends
            text = "".join(f"-{x}" for x in old[i:j]) + "".join(
                f"+{x}" for x in new[k:m]
            )
            hunks.append((text.replace("\n", ""), found.of(range(i, j), range(k, m))))
    return hunks


def test_one_rule_made_what_changed():
    assert touches(BEFORE, Stage("TM101", BEFORE.replace("b", "B"))) == [
        ("-b+B", by("TM101"))
    ]


def test_each_hunk_is_put_down_to_its_own_rule():
    one = BEFORE.replace("b\n", "")
    two = one.replace("f\n", "F\nF2\n")
    found = touches(BEFORE, Stage("TM103", one), Stage("TM102", two))
    assert found == [("-b", by("TM103")), ("-f+F+F2", by("TM102"))]


def test_lines_that_are_only_laid_out_stay_with_who_wrote_them():
    one = BEFORE.replace("c", "call(old, x)")
    laid = one.replace("call(old, x)", "call(\n    old,\n    x,\n)")
    found = touches(BEFORE, Stage("TM102", one), Stage(LAYOUT, laid))
    assert found == [("-c+call(+    old,+    x,+)", by("TM102"))]


def test_lines_that_moved_down_are_followed():
    one = "x\ny\n" + BEFORE
    two = one.replace("g", "G")
    found = touches(BEFORE, Stage("TM101", one), Stage("TM102", two))
    assert found == [("+x+y", by("TM101")), ("-g+G", by("TM102"))]


def test_a_line_that_two_rules_wrote_is_of_both():
    one = BEFORE.replace("c", "call(old, x)")
    two = one.replace("old", "new")
    found = touches(BEFORE, Stage("TM102", one), Stage("TM105", two))
    assert found == [("-c+call(old, x)".replace("old", "new"), by("TM102", "TM105"))]


def test_what_a_rule_added_and_another_took_out_again_is_no_hunk():
    found = touches(BEFORE, Stage("TM101", BEFORE + "x\n"), Stage("TM102", BEFORE))
    assert found == []


def test_a_clean_up_is_put_down_to_the_rule_that_took_out_the_last_use():
    before = "import old\nmesh = 1\nkept\nold(2)\nother\nguard(mesh)\n"
    one = before.replace("old(2)\n", "fresh(2)\n")
    two = one.replace("guard(mesh)\n", "")
    three = two.replace("mesh = 1\n", "")
    found = touches(
        before, Stage("TM102", one), Stage("TM103", two), Stage(CLEANUP, three)
    )
    assert ("-mesh = 1", Touch(cleans_up=frozenset({"TM103"}))) in found


def test_a_clean_up_that_nothing_explains_is_put_down_to_all_rules():
    before = "mesh = 1\na\nmesh\nb\nc\n"
    one = before.replace("b", "B")
    two = one.replace("mesh = 1\n", "")  # and it is still read somewhere
    found = touches(before, Stage("TM102", one), Stage(CLEANUP, two))
    assert found[0] == ("-mesh = 1", Touch(cleans_up=frozenset({"TM102"})))


def test_a_hand_edit_is_told_from_a_rule():
    one = BEFORE.replace("b", "B")
    two = one.replace("g", "G").replace("B", "B2")
    found = touches(BEFORE, Stage("TM101", one), Stage(BY_HAND, two))
    both = Touch(frozenset({"TM101"}), by_hand=True)
    assert found == [("-b+B2", both), ("-g+G", Touch(by_hand=True))]


CALLER = f"""
    {IMPORT} apply_ddp, apply_fsdp


    def parallelize(model, world_mesh, job_config):
        if job_config.shard:
            apply_fsdp(model, world_mesh["dp_shard"], job_config.a, job_config.b)
        else:
            dp_mesh = world_mesh
            if dp_mesh.ndim > 1:
                raise RuntimeError("DDP has not supported > 1D parallelism")
            apply_ddp(model, world_mesh, enable_compile=job_config.compile)
"""


def test_the_engine_keeps_a_stage_for_each_rule_that_ran():
    made = outcome({HERE: CALLER})
    assert [stage.by for stage in made.stages[HERE]] == [
        "TM102",
        "TM103",
        CLEANUP,
        LAYOUT,
    ]
    assert [stage.by for stage in made.stages[PLAN]] == ["TM101", CLEANUP, LAYOUT]
    for path, stages in made.stages.items():
        assert stages[-1].text.encode() == made.changes[path]


def test_each_change_of_a_migration_has_its_rule():
    made, before = outcome({HERE: CALLER}), checkout({HERE: CALLER})
    found = dict(touches(before[HERE].text, *made.stages[HERE]))
    imported = next(text for text in found if "import apply_ddp" in text)
    assert found[imported] == by("TM102")
    guard = next(touch for text, touch in found.items() if "raise" in text)
    assert {"TM103"} <= guard.codes
    unused = next(touch for text, touch in found.items() if "dp_mesh = " in text)
    assert "TM103" in unused.cleans_up


def test_where_nothing_is_written_there_are_no_stages():
    unclear = CALLER.replace("apply_ddp(model, world_mesh,", "apply_ddp(model, self.m,")
    assert outcome({HERE: unclear}).stages == {}
    assert migrate({}, aim()).stages == {} == outcome(BASE_MIGRATED).stages


BASE_MIGRATED = {
    path: raw.decode() for path, raw in migrate(checkout(BASE), aim()).changes.items()
}

TEXTS = st.lists(st.sampled_from("abcd"), max_size=8).map(
    lambda parts: "".join(f"{part}\n" for part in parts)
)


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=4))
def test_every_hunk_is_put_down_to_somebody(before, texts):
    stages = [Stage(f"TM10{n}", text) for n, text in enumerate(texts)]
    for _, touch in touches(before, *stages):
        assert touch.codes and touch.codes <= {stage.by for stage in stages}
        assert not touch.by_hand


@pytest.mark.parametrize("text", ["", "\n", "a", "a\n", "a\r\n\x0cb\u2028c\n\nd"])
def test_lines_are_those_of_git(text):
    assert "".join(lines(text)) == text
    assert len(lines(text)) == text.count("\n") + (
        not text.endswith("\n") and bool(text)
    )


def test_a_rewritten_line_that_another_rule_had_added_is_of_both():
    one, two = BEFORE + "import x\n", BEFORE + "import y\n"
    found = touches(BEFORE, Stage("TM101", one), Stage("TM102", two))
    assert found == [("+import y", by("TM101", "TM102"))]


def test_a_change_seen_on_other_lines_is_put_down_to_all_at_the_file():
    # Stage by stage a goes and comes back; first to last, b moves up.
    found = touches("a\nb\n", Stage("TM101", "b\n"), Stage("TM102", "b\na\n"))
    assert {text for text, _ in found} == {"+b", "-b"}
    assert all(touch == by("TM101", "TM102") for _, touch in found)
