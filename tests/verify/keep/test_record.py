"""One run as plain values in a file: what goes in comes out, and what is damaged is said."""

from __future__ import annotations

import gzip
import json

import pytest

from migrator.verify.keep import record
from migrator.verify.train.launch import Outcome

WELL = Outcome(0, 1.5, False)
LEFT = {
    "rank0.jsonl": '{"event": "step", "loss": 0.1}\n{"half',
    "rank1.jsonl": '{"é": 1e-320}\n',
    "rank0.log": "said\n",
    "torchrun.log": "Root Cause\n",
    "job.toml": "[job]\n",
}


@pytest.fixture
def traces(tmp_path):
    place = tmp_path / "traces"
    place.mkdir()
    for name, text in LEFT.items():
        (place / name).write_text(text, encoding="utf-8")
    return place


def read(folder):
    return {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}


def test_traces_come_back_as_they_were_written(traces, tmp_path):
    file, place = tmp_path / "run.gz", tmp_path / "again"
    place.mkdir()
    record.write(file, record.packed("told", WELL, traces))
    run = record.read(file)
    assert run["what"] == "told" and record.laid_out(run, place) == WELL
    assert read(place) == {k: v for k, v in LEFT.items() if k.endswith(".jsonl")}


def test_of_a_run_that_failed_the_logs_are_kept_too(traces, tmp_path):
    failed = Outcome(1, 2.0, False)
    place = tmp_path / "again"
    place.mkdir()
    assert record.laid_out(record.packed("told", failed, traces), place) == failed
    assert read(place).keys() == LEFT.keys() - {"job.toml"}


def test_the_same_values_make_the_same_file(tmp_path):
    for name in ("a", "b"):
        record.write(tmp_path / name, {"x": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def shortened(raw):
    return raw[:-9]


def flipped(raw):
    at = len(raw) // 2
    return raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :]


def plain(raw):
    return gzip.decompress(raw)


def without_a_format(raw):
    return gzip.compress(b"{}")


def of_a_later_version(raw):
    values = json.loads(gzip.decompress(raw))
    return gzip.compress(json.dumps({**values, "version": 99}).encode())


def changed_by_hand(raw):
    values = json.loads(gzip.decompress(raw))
    values["x"][7] = 8
    return gzip.compress(json.dumps(values).encode())


def without_a_digest(raw):
    values = json.loads(gzip.decompress(raw))
    del values["digest"]
    return gzip.compress(json.dumps(values).encode())


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (changed_by_hand, "changed after it was written"),
        (without_a_digest, "changed after it was written"),
        (shortened, "damaged"),
        (flipped, "damaged"),
        (plain, "damaged"),
        (lambda raw: b"", "damaged"),
        (lambda raw: gzip.compress(b"[" * 10**5), "damaged"),
        (without_a_format, "no file of titan-migrate"),
        (lambda raw: gzip.compress(b"[]"), "no file of titan-migrate"),
        (of_a_later_version, "its version is 99"),
    ],
)
def test_what_is_no_such_file_is_said(tmp_path, damage, said):
    file = tmp_path / "run.gz"
    record.write(file, {"x": list(range(1000))})
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(record.Damaged, match=said):
        record.read(file)


@pytest.mark.parametrize("name", ["../rank0.jsonl", "/rank0.log", "rank0.jsonl/x", ""])
def test_nothing_is_written_elsewhere(traces, tmp_path, name):
    run = record.packed("told", WELL, traces)
    run["files"][name] = "x"
    before = read(traces)
    with pytest.raises(record.Damaged, match="has a file"):
        record.laid_out(run, traces)
    assert read(traces) == before


@pytest.mark.parametrize("key", ["files", "status", "seconds", "timed_out"])
def test_a_run_that_is_not_whole_is_said(traces, tmp_path, key):
    run = record.packed("told", WELL, traces)
    del run[key]
    with pytest.raises(record.Damaged, match="not whole"):
        record.laid_out(run, tmp_path)


def test_a_file_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(OSError):
        record.write(tmp_path / "nowhere" / "run.gz", {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError):
        record.write(tmp_path / "folder", {})
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
