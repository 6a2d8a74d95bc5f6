"""report.md on planted verdicts, and that nothing in it acts."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from migrator.verify.judge.judges import judge_unchanged
from migrator.verify.judge.trace import Step
from migrator.verify.judge.verdict import ENOUGH, Verdict, Verification
from migrator.verify.show import files, markdown

from planted import (
    CRASHED,
    FAILED,
    HOSTILE,
    NEAR,
    NOT_RUN,
    PASSED,
    REFUSED,
    TWICE,
    UNCHANGED,
    judged,
    printed,
    resumed,
    run,
)


def document(environment=None, **cells: Verdict) -> str:
    """The Markdown of these cells of llama3; an underscore stands for the plus of a cell's name."""
    verification = Verification(
        {"llama3": {name.replace("_", "+"): v for name, v in cells.items()}},
        environment or {},
    )
    return markdown.render(verification, {})


def rows(text: str) -> list[list[str]]:
    """The cells of every table row."""
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in text.splitlines()
        if line.startswith("|")
    ]


# report.md


def test_the_verdict_table_states_every_quantity():
    found = rows(document(dp=PASSED, fsdp=UNCHANGED))
    assert found[0][:4] == ["model", "cell", "verdict", "loss"]
    same = ["bitwise"] * 4
    assert found[2] == ["llama3", "`dp`", "✅ passed", *same, "bitwise"]
    assert found[3] == ["llama3", "`fsdp`", "✅ passed", *same, "-"]


def test_a_figure_within_its_tolerance_comes_with_the_tolerance_and_its_source():
    text = document(dp=NEAR)
    assert rows(text)[2][3] == "within 1.5e-06 (tolerance 1.0e-05)"
    loss = next(row for row in rows(text) if row[0] == "loss")
    assert loss == [
        "loss",
        "within 1.5e-06",
        "bitwise",
        "within 1.5e-06",
        "1.0e-05",
        "ten times what was planted",
    ]


def test_a_difference_is_placed_and_measured():
    text = document(dp=FAILED)
    assert text.startswith("# titan-migrate verify: FAILED\n")
    assert "Exit status 1: a cell failed" in text
    different = "**different** from step 2 on, by up to 7.5e-02 (tolerance 1.0e-05)"
    assert rows(text)[2][2:4] == ["❌ **failed**", different]
    assert text.count("**Failed:**") == len(FAILED.failures)


def test_a_baseline_that_departs_is_named_with_its_cause():
    text = document(dp=TWICE)
    assert rows(text)[2][-1] == "DDP differs" and "Exit status 0" in text
    assert "- DDP divided the gradients twice" in text


def test_a_cell_that_ddp_refuses_says_so():
    text = document(dp_tp=REFUSED)
    assert rows(text)[2][-1] == "DDP fails"
    assert "- DDP refuses: RuntimeError: DDP has no TP" in text


def test_a_cell_that_did_not_run_is_listed_with_the_reason_and_nothing_else():
    text = document(hsdp=NOT_RUN)
    assert "# titan-migrate verify: NO VERDICT" in text and "Exit status 2" in text
    assert "- Not run: llama3, hsdp: this torchtitan has no setting a&#124;b" in text
    assert "## llama3, hsdp" not in text


def test_cells_that_did_not_run_for_one_reason_are_named_together():
    text = document(dp_tp=NOT_RUN, hsdp=NOT_RUN, dp=Verdict(not_run="another"))
    assert "- Not run: llama3, dp+tp and hsdp: this torchtitan" in text
    assert "- Not run: llama3, dp: another" in text


def test_what_failed_comes_first():
    text = document(dp=PASSED, dp_tp=FAILED)
    assert rows(text)[2][1] == "`dp+tp`"
    assert text.index("## llama3, dp+tp") < text.index("## llama3, dp:")
    assert text.index("**llama3, dp+tp failed:**") < text.index("| model |")


def test_words_are_explained_and_runs_that_were_not_trained_named():
    text = document({"taken": {"llama3/dp/control": "the cache"}}, dp=PASSED)
    for word in ("reference", "control", "noise"):
        assert len(re.findall(f"^- {word}: .*[.]$", text, re.M)) == 1
    assert ["`llama3/dp/control`", "the cache"] in rows(text)
    assert "not trained for this" not in document(dp=PASSED)


def test_figures_by_step_have_nine_digits():
    text = document(dp=NEAR)
    assert ["2", "7.33333333", "7.33333333", "7.33334333", "7.33334333"] in rows(text)
    # The float32 neighbours of a loss are told apart.
    assert f"{7.33333333:.9g}" != f"{7.33333333 + 2**-21:.9g}"


def test_what_each_run_was_is_one_column_a_run():
    found = {row[0]: row[1:] for row in rows(document(dp=PASSED))}
    assert found["run"][:2] == ["base revision, DDP", "migrated tree, replicate"]
    assert found["placements over the mesh"] == [
        "plain tensor: 1",
        "R over dp=2 (1-D): 1",
        "S(0) over dp=2 (1-D): 1",
        "S(0) over dp=2 (1-D): 1",
    ]
    assert found["block outputs"][0] == "bfloat16: 1"
    assert found["median step"][:2] == ["0.5 s", "0.4 s"]
    assert found["steps a second"][:2] == ["2", "2.5"]
    assert found["peak memory of a rank"][:2] == ["800 MB", "1000 MB"]
    assert found["all-reduce"][0] == "7 calls, 24,654,864 bytes"


def test_ratios_are_given_and_decide_nothing():
    short = document(dp=PASSED)
    assert "peak memory 1.25" in short and "throughput" not in short
    steps = [Step(n, 8.0, 1.0, tokens=512, seconds=0.5) for n in range(1, 3 + ENOUGH)]
    quicker = [replace(step, seconds=0.4) for step in steps]
    runs = run("baseline", "ddp", steps=steps), run("migrated", "fsdp", steps=quicker)
    long = replace(PASSED, traces={one.party: one for one in runs})
    assert "throughput 1.25, peak memory 1.25" in document(dp=long)
    assert PASSED.passed


def test_the_parameter_and_the_element_furthest_apart_are_named():
    last = PASSED.comparisons[4]
    assert last.quantity == "parameters"
    far = replace(
        last, verdict="within", largest=2e-5, at="layers.0.w", element="2.5e-01 in a|b"
    )
    text = document(dp=replace(PASSED, comparisons=(far,)))
    assert (
        "furthest apart in `layers.0.w` (relative norm of the difference 2.0e-05)"
        in text
    )
    assert "one element is 2.5e-01, in <code>a&#124;b</code>." in text


def test_pairs_compared_in_fewer_quantities_leave_a_dash():
    verdict = resumed()
    assert verdict.passed and len({(c.left, c.right) for c in verdict.comparisons}) == 2
    name = "dp-checkpoint"
    found = rows(document(**{name: verdict}))
    assert next(row for row in found if row[0] == "grad_norm")[1:3] == ["bitwise", "-"]
    assert "dp-checkpoint: PASSED" in printed((name, verdict))


def test_the_environment_and_the_command_are_there():
    text = document(
        {
            "torch": "2.13.0",
            "gpus": ["H100", "H100"],
            "base_revision": "abc",
            "migrated_revision": "abc",
            "changed_files": ["a|b.py"],
            "packages": {"torch": "2.13.0"},
            "seconds": {"llama3/dp/baseline": 20.0, "llama3/dp/migrated": 22.5},
            "total_seconds": 50.0,
            "something_new": {"x": 1},
            "command": ["titan-migrate", "verify", "my tree"],
        },
        dp=PASSED,
    )
    found = {row[0]: row[1:] for row in rows(text)}
    assert "Took 50 s, of which 42 s were training runs (2)." in text
    assert found["GPUs"] == ["2 × H100"]
    assert found["migrated tree"] == ["abc and the changes in the working tree"]
    assert found["`llama3/dp/migrated`"] == ["22.5"]
    assert "something_new" in found
    assert "- <code>a&#124;b&#46;py</code>" in text
    assert "```text\ntitan-migrate verify 'my tree'\n```" in text


def test_every_row_of_a_table_has_as_many_cells_as_its_head():
    text = document(
        dp=replace(PASSED, notes=(HOSTILE,)),
        dp_tp=CRASHED,
        fsdp=UNCHANGED,
        hsdp=NOT_RUN,
    )
    assert "\n\n\n" not in text
    for table in re.findall(r"(?:^\|.*\n)+", text, re.M):
        assert len({len(row) for row in rows(table)}) == 1, table


# Text from the checkout


def test_hostile_messages_stay_inert():
    text = document(dp_tp=CRASHED)
    prose = re.sub(r"^(`{3,})text\n.*?^\1$", "", text, flags=re.M | re.S)
    assert prose != text
    assert "<script" not in prose and "&#60;script&#62;" in prose
    assert " `x` " in prose and "**y**" not in prose
    assert "](http" not in prose and "http://" not in prose
    assert "@octocat" not in prose and " #12" not in prose
    # GitHub finds mentions and issues behind entities, unless something is between.
    assert "&#64;&#8203;octocat &#35;&#8203;12" in prose
    assert "\x1b" not in text
    # The only HTML is the report's own.
    assert set(re.findall(r"</?(\w+)", prose)) <= {"details", "summary", "br", "code"}


def test_a_markdown_parser_sees_the_reports_own_markup_alone():
    text = document(dp_tp=CRASHED, dp=replace(PASSED, notes=(HOSTILE, "1. x", "- y")))
    parser = MarkdownIt("commonmark").enable("table")
    tokens = [
        t for token in parser.parse(text) for t in [token, *(token.children or ())]
    ]
    markup = "".join(t.content for t in tokens if t.type.startswith("html"))
    assert set(re.findall(r"</?(\w+)", markup)) == {"details", "summary"}
    kinds = {t.type for t in tokens}
    assert not kinds & {"link_open", "image", "em_open", "ordered_list_open"}
    assert max(t.level for t in tokens if t.type == "bullet_list_open") == 0
    shown = [t.content for t in tokens if t.type == "text"]
    assert any(part.endswith("a|b <script>alert(1)</script> ") for part in shown)
    assert any(part.startswith(" **y** [z](") for part in shown)
    assert "x" in [t.content for t in tokens if t.type == "code_inline"]


def test_a_fence_is_longer_than_any_in_a_traceback():
    text = document(dp_tp=CRASHED)
    assert re.search(
        r"^````text\nTraceback:\n```\n(.*\n)+?  the end\n````$", text, re.M
    )


@pytest.mark.parametrize("name", ["a|b", "a`b", "<b>", "a_b_ c", "a\nb", "x\\"])
def test_names_are_code_and_cannot_leave_it(name):
    found = markdown.code(name)
    assert "\n" not in found and "|" not in found
    inner = re.fullmatch(r"`([^`]+)`|<code>([^<>]+)</code>", found)
    assert inner and not (inner[2] and re.search(r"[`<>|*\\]", inner[2]))


def test_plain_text_stays_readable():
    plain = "layers.0.attention.wq.weight is float32, grad_norm 0.5 - 2.13.0+cpu"
    assert markdown.text(plain) == plain


def test_hostile_names_of_parameters_and_models_stay_inert(tmp_path):
    one, other = (
        run(party, kind, name=HOSTILE, scale=scale)
        for party, kind, scale in (("control", "fsdp", 1.0), ("reference", "fsdp", 2.0))
    )
    verdict = judged(judge_unchanged, one, other)
    assert verdict.word == "failed"
    files.write(Verification({HOSTILE: {"fsdp": verdict}}), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "<script" not in text and "@octocat" not in text
    assert len(rows(text)[2]) == 8
    for path in (tmp_path / "plots").iterdir():
        assert re.fullmatch(r"[\w.+-]+", path.name)
