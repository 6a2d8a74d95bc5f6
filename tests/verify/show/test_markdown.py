"""The report on planted verdicts: what the terminal, report.md, report.json and the curves say of them."""

from __future__ import annotations

import io
import json
import math
import re
import sys
import xml.etree.ElementTree as xml
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt
from rich.console import Console

from migrator.verify.choose.scenarios import CELLS
from migrator.verify.judge.judges import (
    judge_combination,
    judge_parity,
    judge_resumed,
    judge_unchanged,
)
from migrator.verify.judge.trace import Trace
from migrator.verify.judge.verdict import Verdict, Verification
from migrator.verify.show import files, markdown, plots, terminal, wording

from planted import (
    BASELINE,
    CONTROL,
    CRASHED,
    FAILED,
    HOSTILE,
    MIGRATED,
    NEAR,
    NOT_RUN,
    PASSED,
    REFERENCE,
    REFUSED,
    STEPS,
    TWICE,
    UNCHANGED,
    failing,
    judged,
    run,
)


def resumed() -> Verdict:
    """A cell whose pairs are not all compared in all quantities: DDP trains otherwise."""
    value = {"layers.0.w": {"norm": 3.0, "sum": 1.0, "digest": "half"}}

    def rest(party, kind, **changes):
        whole = run(party, kind, initial=value, **changes)
        ranks = (replace(rank, steps=rank.steps[2:]) for rank in whole.ranks)
        return Trace(party, tuple(ranks))

    return judged(
        judge_resumed,
        run("baseline", "ddp", scale=0.5, halfway=value),
        run("migrated", "replicate", halfway=value),
        rest("resumed", "replicate"),
        rest("resumed-reference", "fsdp"),
        rest("returned", "ddp", scale=0.5),
    )


def document(environment=None, **cells: Verdict) -> str:
    """The Markdown of these cells of llama3; an underscore stands for the plus of a cell's name."""
    verification = Verification(
        {"llama3": {name.replace("_", "+"): v for name, v in cells.items()}},
        environment or {},
    )
    return markdown.render(verification, {})


def printed(*shown, width: int = 80, **environment) -> str:
    """What is printed of (cell, verdict) pairs and their summary, not on a terminal."""
    console = Console(record=True, width=width, file=io.StringIO())
    for name, verdict in shown:
        terminal.show_cell("llama3", CELLS[name], verdict, console)
    terminal.show_summary(Verification({"llama3": dict(shown)}, environment), console)
    return console.export_text()


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
    assert "- llama3, hsdp was not run: this torchtitan has no setting a&#124;b" in text
    assert "## llama3, hsdp" not in text


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
    assert found["peak memory of a rank"][:2] == ["800 MB", "1000 MB"]
    assert found["all-reduce"][0] == "7 calls, 24,654,864 bytes"


def test_ratios_are_given_and_decide_nothing():
    assert "throughput 1.25, peak memory 1.25" in document(dp=PASSED)
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
    assert "`x`" not in prose and "**y**" not in prose
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
    assert any("a|b <script>alert(1)</script> `x` **y** [z](" in part for part in shown)


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


# Files


def test_all_files_are_written(tmp_path):
    pytest.importorskip("matplotlib")
    cells = {"dp": NEAR, "dp+tp": CRASHED, "fsdp": UNCHANGED, "hsdp": NOT_RUN}
    files.write(Verification({"llama3": cells}), tmp_path)
    plain = json.loads((tmp_path / "report.json").read_text())
    assert plain["models"]["llama3"]["dp"]["verdict"] == "passed"
    text = (tmp_path / "report.md").read_text()
    images = re.findall(r"!\[.*\]\((.*)\)", text)
    assert len(images) == 3
    for image in images:
        png = tmp_path / image
        assert png.read_bytes().startswith(b"\x89PNG")
        assert xml.parse(png.with_suffix(".svg")).getroot().tag.endswith("svg")


def test_the_same_figures_give_the_same_images(tmp_path):
    pytest.importorskip("matplotlib")
    for folder in ("a", "b"):
        plots.draw("llama3", "dp", NEAR, tmp_path / folder, "plot")
    for name in ("plot.svg", "plot.png"):
        first, second = (tmp_path / folder / name for folder in ("a", "b"))
        assert first.read_bytes() == second.read_bytes()
    assert "dc:date" not in (tmp_path / "a" / "plot.svg").read_text()


def axes_of(verdict: Verdict, name: str = "dp"):
    pytest.importorskip("matplotlib")
    return plots._figure("llama3", name, verdict).axes


def test_equality_is_drawn_and_labelled():
    differences = axes_of(NEAR)[2]
    labels = [text.get_text() for text in differences.get_legend().get_texts()]
    assert "migrated – baseline: bitwise" in labels
    line = differences.get_lines()[labels.index("migrated – baseline: bitwise")]
    low, high = differences.get_ylim()
    assert len(line.get_ydata()) == STEPS
    assert all(low < value < high for value in line.get_ydata())
    ticks = [tick.get_text() for tick in differences.get_yticklabels()]
    assert ticks[0] == "bitwise"
    assert differences.get_yticks()[0] == line.get_ydata()[0]


def test_the_tolerance_is_a_dashed_line():
    differences = axes_of(NEAR)[2]
    dashed = [line for line in differences.get_lines() if line.get_ydata()[0] == 1e-5]
    assert len(dashed) == 1 and dashed[0].get_linestyle() == "--"
    assert "tolerance 1.0e-05" in [text.get_text() for text in differences.texts]


def test_a_loss_that_is_not_a_number_is_drawn_at_the_top():
    steps = tuple(replace(step, loss=math.nan) for step in MIGRATED.steps)
    ranks = tuple(replace(rank, steps=steps) for rank in MIGRATED.ranks)
    bad = Trace("migrated", ranks)
    verdict = judged(judge_parity, BASELINE, bad, REFERENCE, CONTROL)
    differences = axes_of(verdict)[2]
    assert "not finite" in [t.get_text() for t in differences.get_yticklabels()]


def test_without_two_runs_there_are_curves_alone():
    assert len(axes_of(NEAR)) == 4
    alone = judged(
        judge_combination,
        failing("baseline", "no"),
        failing("migrated", "no"),
        REFERENCE,
    )
    assert len(axes_of(alone)) == 2


def test_without_matplotlib_the_report_is_written_and_says_how_to_get_it(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(plots, "installed", lambda: False)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    files.write(Verification({"llama3": {"dp": PASSED}}), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "no matplotlib: run" in text and "in titan-migrate" in text
    assert "![" not in text and not (tmp_path / "plots").exists()
    assert json.loads((tmp_path / "report.json").read_text())["passed"]


def test_curves_that_cannot_be_drawn_do_not_cost_the_report(tmp_path, monkeypatch):
    def broken(*_):
        raise ValueError("no <fonts>")

    monkeypatch.setattr(plots, "draw_all", broken)
    files.write(Verification({"llama3": {"dp": PASSED}}), tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "could not be drawn: ValueError: no &#60;fonts&#62;" in text


def test_json_has_no_numbers_that_json_has_no_word_for(tmp_path):
    steps = tuple(replace(step, loss=math.nan) for step in MIGRATED.steps)
    ranks = tuple(replace(rank, steps=steps) for rank in MIGRATED.ranks)
    verdict = judged(
        judge_parity, BASELINE, Trace("migrated", ranks), REFERENCE, CONTROL
    )
    files.write(Verification({"llama3": {"dp": verdict}}), tmp_path)

    def refuse(word: str):
        raise AssertionError(word)

    text = (tmp_path / "report.json").read_text()
    plain = json.loads(text, parse_constant=refuse)
    trace = plain["models"]["llama3"]["dp"]["traces"]["migrated"]
    assert trace["ranks"][0]["steps"][0]["loss"] == "nan"


# The terminal


def test_steps_are_shown_only_where_a_cell_failed():
    assert "by step" not in printed(("dp", NEAR))
    failed = printed(("dp", FAILED))
    assert "loss by step" in failed and "grad_norm by step" in failed
    assert "7.83333333" in failed


def test_the_agreement_fits_in_one_line_a_quantity():
    lines = printed(("dp", NEAR)).splitlines()
    loss = next(line for line in lines if line.startswith(" loss  "))
    assert loss.split() == [
        "loss",
        *"within 1.5e-06 bitwise within 1.5e-06 1.0e-05".split(),
    ]


@pytest.mark.parametrize(
    ("name", "verdict"),
    [
        ("dp", FAILED),
        ("dp", TWICE),
        ("dp+tp", replace(CRASHED, details="")),
        ("dp-checkpoint", resumed()),
        ("dp-checkpoint", replace(resumed(), failures=("planted",))),
    ],
)
def test_nothing_is_wider_than_80_columns_or_cut_off(name, verdict):
    text = printed((name, verdict))
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text and "\x1b" not in text


def test_the_summary_has_every_cell_with_its_ratios():
    text = printed(("dp", NEAR), ("dp+tp", FAILED), ("hsdp", NOT_RUN))
    found = [line.split() for line in text.splitlines() if line.startswith(" llama3 ")]
    assert found == [
        ["llama3", "dp", "passed", "1.5e-06", "bitwise", "1.25", "1.25"],
        ["llama3", "dp+tp", "failed", "!", "7.5e-02", "bitwise", "1.25", "1.25"],
        ["llama3", "hsdp", "not", "run", "-", "-", "-", "-"],
    ]
    assert "FAILED in llama3 dp+tp: do not merge this migration yet." in text


def test_the_summary_says_how_long_it_took():
    text = printed(
        ("dp", PASSED), total_seconds=113.0, seconds={"llama3/dp/baseline": 100.0}
    )
    assert "Took 113 s, of which 100 s were training runs (1)." in text
    assert "Took" not in printed(("dp", PASSED))


def test_a_model_with_a_plan_of_its_own_is_not_said_to_equal_fsdp():
    bare = {**MIGRATED.model, "wrapped": {}}
    runs = (
        replace(run, ranks=tuple(replace(r, model=bare) for r in run.ranks))
        for run in (BASELINE, MIGRATED)
    )
    verdict = judged(judge_parity, *runs, REFERENCE, CONTROL)
    word, sentence = wording.conclusion(CELLS["dp"], verdict)
    assert (word, sentence) == ("PASSED", "the same bits before and after.")
