"""Golden runs in a file: taken where all is the same, refused with both values where it is not."""

from __future__ import annotations

import gzip
import json

import pytest

from migrator.verify.errors import VerifyError
from migrator.verify.keep import golden, record
from migrator.verify.keep.golden import Exported, Golden
from migrator.verify.train.launch import Outcome

from verifiable import fill, listed

WELL = Outcome(0, 1.5, False)
FACTS = {"torch": "2.13.0", "the machine": "M"}
WHERE = "llama3/dp/baseline"


def told(**settings):
    return json.dumps({"tree": "base", "settings": {"training": settings}})


TOLD = told(steps=10, seed=42)


@pytest.fixture
def file(tmp_path):
    fill(tmp_path / "traces", "rank0.jsonl", text="{}\n")
    made = Exported(tmp_path / "runs.gz", FACTS, "b" * 40)
    made.cells = {"llama3": ["dp", "dp+tp"]}
    made.add(WHERE, TOLD, WELL, tmp_path / "traces")
    made.noise["llama3/dp"] = {"parameters": (1e-6, "measured")}
    made.bitwise.append("llama3/dp")
    made.write()
    return made.path


def test_a_run_comes_back(file, tmp_path):
    found = Golden(file)
    assert found.get("any/name", TOLD, tmp_path) == WELL
    assert (tmp_path / "rank0.jsonl").read_text() == "{}\n"
    assert found.noise("llama3/dp") == {"parameters": (1e-6, "measured")}
    assert found.noise("llama3/dp+tp") == {} and found.bitwise == {"llama3/dp"}


def test_no_temporary_folder_is_exported(tmp_path):
    fill(tmp_path / "traces", "rank0.jsonl", text='{"traceback": "/tmp/x/base/a.py"}\n')
    made = Exported(
        tmp_path / "f", {}, "", lambda text: text.replace("/tmp/x/base/", "abc:")
    )
    made.add(WHERE, TOLD, Outcome(1, 1.0, False), tmp_path / "traces")
    made.write()
    Golden(made.path).get(WHERE, TOLD, tmp_path)
    assert (tmp_path / "rank0.jsonl").read_text() == '{"traceback": "abc:a.py"}\n'


def test_what_was_not_needed_then_is_not_there(file, tmp_path):
    assert Golden(file).get("llama3/dp/alone", told(steps=1), tmp_path) is None


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({**FACTS, "torch": "2.14.0"}, "torch is 2.13.0 in it, and 2.14.0 here"),
        ({**FACTS, "the machine": "N"}, "the machine is M in it, and N here"),
        ({**FACTS, "numpy": "2.0"}, "numpy is none in it, and 2.0 here"),
        ({"torch": "2.13.0"}, "the machine is M in it, and none here"),
    ],
)
def test_another_fact_is_refused_with_both_values(file, facts, said):
    Golden(file).refuse_others(dict(reversed(FACTS.items())))
    with pytest.raises(VerifyError, match=said) as refused:
        Golden(file).refuse_others(facts)
    assert str(file) in str(refused.value) and "export it again" in str(refused.value)


@pytest.mark.parametrize("titles, cells", [(["qwen3"], ["dp"]), (["llama3"], ["fsdp"])])
def test_a_model_or_a_cell_without_runs_is_refused(file, titles, cells):
    Golden(file).refuse_cells(["llama3"], ["dp+tp", "dp"])
    with pytest.raises(VerifyError, match=r"it has llama3: dp, dp\+tp"):
        Golden(file).refuse_cells(titles, cells)


def test_another_setting_is_refused_with_both_values(file, tmp_path):
    said = f"settings.training.seed of {WHERE} is 42 in it, and 7 here"
    with pytest.raises(VerifyError, match=said):
        Golden(file).get(WHERE, told(steps=10, seed=7), tmp_path)


def test_a_file_that_is_not_there_or_none_of_ours_is_said(tmp_path):
    with pytest.raises(VerifyError, match="could not be read .*No such file"):
        Golden(tmp_path / "nowhere")
    (tmp_path / "text").write_text("x")
    with pytest.raises(VerifyError, match="cannot be used: it is damaged"):
        Golden(tmp_path / "text")


@pytest.mark.parametrize("key", ["facts", "cells", "runs", "noise", "bitwise"])
@pytest.mark.parametrize("value", [None, [1], {"a": 1}, "gone"])
def test_a_file_that_is_not_whole_is_said_and_breaks_nothing(
    file, tmp_path, key, value
):
    values = record.read(file)
    if value == "gone":
        del values[key]
    else:
        values[key] = value
    record.write(file, values)
    try:
        found = Golden(file)
        found.refuse_others(FACTS)
        found.refuse_cells(["llama3"], ["dp"])
        found.get(WHERE, TOLD, tmp_path)
        found.noise("a")
    except VerifyError as error:
        assert f"--against {file} cannot be used" in str(error)
    else:
        # What it has is right, if not of use.
        assert key in ("noise", "bitwise")


def test_a_file_in_which_a_noise_was_changed_by_hand_is_refused(file):
    values = json.loads(gzip.decompress(file.read_bytes()))
    values["noise"]["llama3/dp"]["parameters"][0] = 1e9
    file.write_bytes(gzip.compress(json.dumps(values).encode()))
    with pytest.raises(VerifyError, match="was changed after it was written: export"):
        Golden(file)


def test_where_no_file_can_be_is_said_before_anything_trains(tmp_path):
    golden.refuse_place(tmp_path / "runs.gz")
    for place in (tmp_path, tmp_path / "nowhere" / "runs.gz"):
        with pytest.raises(VerifyError, match="Name a file in a folder"):
            golden.refuse_place(place)


def test_a_file_that_cannot_be_written_is_said(tmp_path):
    with pytest.raises(VerifyError, match="could not be written .*--export"):
        Exported(tmp_path / "nowhere" / "runs.gz", {}, "").write()
    assert listed(tmp_path) == []
