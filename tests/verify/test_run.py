"""One verification from beginning to end, without training: what it refuses, and what becomes of the report."""

from __future__ import annotations

import errno
import json
import math
import os
import subprocess
import sys
from contextlib import nullcontext

import pytest
from rich.console import Console

from migrator.verify import VerifyError, run, run_verify
from migrator.verify.choose import scenarios
from migrator.verify.choose.models import Model
from migrator.verify.judge.verdict import Verdict
from migrator.verify.rehearse.layouts import layout
from migrator.verify.rehearse.verdict import Rehearsal, Scene
from migrator.verify.show import terminal
from migrator.verify.train.launch import Nodes
from migrator.verify.train.worktrees import PREFIX

from places import TOP
from releases import git
from verifiable import NEW, fill, listed, write


@pytest.fixture
def fork(tmp_path, monkeypatch):
    """A migrated checkout, in an environment that could train."""
    monkeypatch.setattr(run, "_check_environment", lambda: None)
    tree = tmp_path / "fork"
    fill(tree, "torchtitan/train.py", text="")
    git(tree, "init", "-q")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "base")
    fill(tree, "torchtitan/train.py", text="x = 1\n")
    return tree


class Trained:
    """Stands in for Job: every cell is over at once."""

    def __init__(self, trees, model, plan, *, scratch, **_):
        self.model, self.folder, self.seconds = model, scratch / "job", {}

    def verdicts(self, chosen, broken, show):
        return {}


@pytest.fixture
def trained(monkeypatch):
    monkeypatch.setattr(run, "_models", lambda trees, titles: ([Model("llama3")], {}))
    monkeypatch.setattr(run.metadata, "version", lambda name: "1.0")
    monkeypatch.setattr(run, "Job", Trained)


def test_an_earlier_report_stays_until_there_is_something_to_train(fork, ours):
    before = fill(ours, "report.json", "report.md", "llama3/dp/rank0.jsonl")
    with pytest.raises(VerifyError, match="There is no model lama3"):
        run_verify(fork, model=("lama3",), report_dir=ours)
    git(fork, "checkout", "-q", ".")
    with pytest.raises(VerifyError, match="does not differ"):
        run_verify(fork, base="HEAD", report_dir=ours)
    assert listed(ours) == before


def test_an_earlier_report_makes_way_for_the_next(fork, ours, trained):
    fill(ours, "notes.txt", "report.json", "report.md", "llama3/dp/rank0.jsonl")
    run_verify(fork, report_dir=ours, rehearsed=False)
    assert "rank0.jsonl" not in " ".join(listed(ours)) and "notes.txt" in listed(ours)
    assert json.loads((ours / "report.json").read_text())["models"] == {"llama3": {}}


def test_the_report_is_written_before_anything_is_shown(
    fork, tmp_path, trained, monkeypatch
):
    def show(*_):
        raise UnicodeEncodeError("ascii", "…", 0, 1, "ordinal not in range")

    monkeypatch.setattr(terminal, "show_summary", show)
    with pytest.raises(UnicodeEncodeError):
        run_verify(fork, report_dir=tmp_path / "report", rehearsed=False)
    assert {"report.json", "report.md"} <= set(listed(tmp_path / "report"))


def test_the_last_lines_name_the_report_however_its_path_looks(fork, tmp_path, trained):
    place = tmp_path / "a [b]" / "[/x]"
    console = Console(record=True, file=open(os.devnull, "w"), width=40)
    run_verify(fork, report_dir=place, console=console, rehearsed=False)
    last = console.export_text().splitlines()[-2:]
    assert last[0].endswith(str(place / "report.md"))
    assert last[1].endswith(str(place))


def test_what_fails_in_rehearsal_is_not_trained(fork, tmp_path, trained, monkeypatch):
    scene = Scene("llama3", layout(dp_replicate=2), ("layers.0: not wrapped.",))
    monkeypatch.setattr(run, "Theatre", lambda scratch: nullcontext())
    monkeypatch.setattr(run, "rehearse", lambda *_: Rehearsal((scene,)))
    monkeypatch.setattr(Trained, "verdicts", lambda *_: pytest.fail("it trains"))
    file = tmp_path / "runs.gz"
    found = run_verify(fork, report_dir=tmp_path / "report", export=file)
    assert found.exit_code == 1 and {v.word for v in found.verdicts} == {"not run"}
    assert not file.exists()
    text = (tmp_path / "report" / "report.md").read_text()
    assert "FAILED" in text and "layers.0: not wrapped." in text
    assert "Exit status 1: the rehearsal failed, before anything trained" in text


def test_a_rehearsal_that_cannot_be_made_keeps_nobody_from_training(
    fork, tmp_path, trained
):
    found = run_verify(fork, report_dir=tmp_path / "report")
    said = found.rehearsal.problem.said
    assert "has no JobConfig" in said and PREFIX not in said
    assert run_verify(fork, report_dir=tmp_path / "report", rehearsed=False)


def test_a_rehearsal_that_broke_is_no_pass_and_keeps_nobody_from_training(
    fork, tmp_path, trained, monkeypatch
):
    scene = Scene("llama3", layout(dp_replicate=2), broken="boom", details="T: x")
    monkeypatch.setattr(run, "Theatre", lambda scratch: nullcontext())
    monkeypatch.setattr(run, "rehearse", lambda *_: Rehearsal((scene,)))
    ran = []
    monkeypatch.setattr(
        Trained, "verdicts", lambda *_: ran.append(1) or {"dp": Verdict()}
    )
    found = run_verify(fork, report_dir=tmp_path / "report")
    assert ran and found.exit_code == 4 and not found.passed
    text = (tmp_path / "report" / "report.md").read_text()
    assert "NO VERDICT" in text and "T: x" in text


@pytest.mark.parametrize("timeout", [math.nan, math.inf, -math.inf])
def test_a_time_limit_that_is_no_number_is_refused(fork, timeout):
    with pytest.raises(VerifyError, match="--timeout (nan|-?inf) .*seconds"):
        run_verify(fork, timeout=timeout)


def test_no_cells_are_no_question(fork):
    with pytest.raises(VerifyError, match="No cell is named"):
        run_verify(fork, cells=())


@pytest.mark.parametrize("name", ["a[1]", "a*", "b?", "]", "a::b"])
def test_paths_that_training_data_are_not_found_below_are_refused(
    fork, tmp_path, monkeypatch, name
):
    odd = tmp_path / name
    odd.mkdir()
    two = Nodes(2, 0, "127.0.0.1:1")
    with pytest.raises(VerifyError, match="name another folder with --report"):
        run_verify(fork, report_dir=odd, among=two)
    assert listed(odd) == []
    monkeypatch.setattr(run.tempfile, "gettempdir", lambda: str(odd))
    with pytest.raises(VerifyError, match="set TMPDIR to another folder"):
        run_verify(fork, report_dir=tmp_path / "report")


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"nproc": 1}, {"timeout": 0}])
def test_arguments_that_compare_nothing_are_refused(fork, wrong):
    with pytest.raises(VerifyError):
        run_verify(fork, **wrong)


def test_report_inside_the_checkout_is_refused(fork):
    pytest.importorskip("torchdata")
    write(fork, plan=NEW)
    with pytest.raises(VerifyError, match="inside the checkout"):
        run_verify(fork, report_dir=fork / "report")


def test_a_wrong_cell_is_named_with_the_nearest(fork):
    with pytest.raises(VerifyError, match=r"no cell dp\+pt: did you mean dp\+tp"):
        run_verify(fork, cells=("dp+pt",))


def test_what_cells_lack_is_said_once_before_anything_trains(
    fork, tmp_path, trained, monkeypatch
):
    monkeypatch.setattr(
        scenarios.Cell,
        "lacks",
        lambda cell: "no g++: apt adds it" if cell.name == "dp" else None,
    )
    console = Console(record=True, file=open(os.devnull, "w"), width=200)
    seen = []
    monkeypatch.setattr(
        Trained,
        "verdicts",
        lambda *_: seen.append(console.export_text(clear=False)) or {},
    )
    report = tmp_path / "report"
    run_verify(fork, report_dir=report, console=console, rehearsed=False)
    assert seen[0].count("dp will not run: no g++: apt adds it.") == 1
    assert "will not run" not in seen[0].replace("dp will not run", "")


def test_golden_runs_are_written_or_taken_by_one_node(fork, tmp_path):
    file = tmp_path / "runs.gz"
    with pytest.raises(VerifyError, match="--export and --against contradict"):
        run_verify(fork, export=file, against=file)
    two = Nodes(2, 0, "127.0.0.1:1")
    with pytest.raises(VerifyError, match="are for one node"):
        run_verify(fork, export=file, among=two, report_dir=tmp_path / "report")
    with pytest.raises(VerifyError, match="Name a file in a folder that is there"):
        run_verify(fork, export=tmp_path / "nowhere" / "runs.gz")
    with pytest.raises(VerifyError, match="could not be read .*--export"):
        run_verify(fork, against=file)


def test_golden_runs_of_another_base_are_refused_before_anything_trains(
    fork, tmp_path, trained, monkeypatch
):
    file, report = tmp_path / "runs.gz", tmp_path / "report"
    run_verify(fork, export=file, report_dir=report, rehearsed=False)
    run_verify(fork, against=file, report_dir=report, rehearsed=False)
    monkeypatch.setattr(Trained, "verdicts", lambda *_: pytest.fail("it trains"))
    with pytest.raises(VerifyError, match="--steps is 10 in it, and 5 here"):
        run_verify(fork, against=file, report_dir=report, steps=5)
    with pytest.raises(VerifyError, match="no runs of llama3 in fsdp"):
        run_verify(fork, against=file, report_dir=report, cells=("dp", "fsdp"))
    git(fork, "stash", "-q")
    fill(fork, "torchtitan/notes.toml", text="a = 1\n")
    git(fork, "add", "-A")
    git(fork, "commit", "-q", "-m", "another")
    git(fork, "stash", "pop", "-q")
    with pytest.raises(VerifyError, match="base revision's files is .* in it, and "):
        run_verify(fork, against=file, report_dir=report)


def test_verify_imports_no_torch():
    code = "import migrator.verify, migrator.demo, sys; raise SystemExit('torch' in sys.modules)"
    root = TOP
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


def test_no_folder_for_temporary_files_is_said(monkeypatch):
    def none():
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(run.tempfile, "gettempdir", none)
    with pytest.raises(VerifyError, match="No usable temporary .*TMPDIR"):
        run._temporary()
