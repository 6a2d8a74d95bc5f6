"""The cells and the job configuration of each of their runs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from migrator.cli import verify
from migrator.verify import VerifyError
from migrator.verify.choose import scenarios
from migrator.verify.choose.scenarios import (
    CELLS,
    PARTIES,
    QUICK,
    job_settings,
    known_settings,
    steps_of,
    to_toml,
)

from places import TOP


def write(tree: Path, **files: str) -> None:
    """Writes modules of a torchtitan package."""
    (tree / "torchtitan").mkdir(exist_ok=True)
    for name, text in files.items():
        (tree / "torchtitan" / f"{name}.py").write_text(text)


CONFIG = """
class Training:
    steps: int = 1
    seed: int = 0
    mixed_precision_param: str = ""
class Checkpoint:
    enable_checkpoint: bool = False
    create_seed_checkpoint: bool = False
    initial_load_path: str = ""
class Parallelism:
    data_parallel_replicate_degree: int = 1
    data_parallel_shard_degree: int = 1
class Model:
    tokenizer_path: str = ""
class JobConfig:
    training: Training = None
    checkpoint: Checkpoint = None
    parallelism: Parallelism = None
    model: Model = None
"""


def settings(tmp_path, party, cell="dp"):
    return job_settings(
        known_settings(tmp_path),
        model="llama3",
        flavor="debugmodel",
        precision="float32",
        steps=6,
        cell=CELLS[cell],
        party=party,
        dp=2,
        assets=tmp_path / "assets",
        dump=tmp_path / "dump",
        start=tmp_path / "seed",
        timeout=60,
    )


def test_a_run_can_go_without_a_seed(tmp_path):
    write(tmp_path, config_manager=CONFIG)
    with_seed = settings(tmp_path, PARTIES["migrated"], "dp-fresh")
    without = settings(tmp_path, PARTIES["migrated"], "dp-unseeded")
    assert "seed = 42" in to_toml(with_seed) and "seed = " not in to_toml(without)
    assert with_seed["checkpoint"] == without["checkpoint"]


def test_only_settings_that_the_checkout_knows_are_written(tmp_path):
    write(tmp_path, config_manager=CONFIG)
    found = settings(tmp_path, PARTIES["migrated"])
    assert found["training"] == {
        "steps": 6,
        "mixed_precision_param": "float32",
        "seed": 42,
    }
    assert found["checkpoint"] == {
        "enable_checkpoint": True,
        "initial_load_path": str(tmp_path / "seed"),
    }
    assert found["model"]["tokenizer_path"].endswith("tokenizer.model")
    assert (
        to_toml({"job": {"on": True, "name": 'a "b"'}})
        == '[job]\non = true\nname = "a \\"b\\""\n'
    )


def test_cells_that_cannot_run_say_why(monkeypatch):
    def why(cell: str, torch: str = "2.13.0+cpu", steps: int = 10) -> str | None:
        return CELLS[cell].reason_not_to_run({}, torch, steps)

    assert why("dp+pp") is None
    assert "pipeline" in why("dp+pp", torch="2.9.1")
    assert "global_batch_size" in why("dp-accumulate")
    assert "training.compile or compile.enable" in why("dp-compile")
    assert "no halfway" in why("dp-checkpoint", steps=2)
    assert "early_step_in_backward" in why("dp-early")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    converts = {"model": {"converters"}}
    said = CELLS["dp-float8"].reason_not_to_run(converts, "2.13.0", 10)
    assert "pip install torchao adds it" in said
    monkeypatch.setenv("PATH", "")
    known = {"compile": {"enable"}}
    compiled = CELLS["dp-compile"].reason_not_to_run(known, "2.13.0", 10)
    assert "C++ compiler" in compiled


def test_what_is_missing_is_named_with_what_adds_it(monkeypatch):
    assert CELLS["dp"].lacks() is None
    monkeypatch.setenv("PATH", "")
    assert "apt-get install g++" in CELLS["dp-compile"].lacks()
    monkeypatch.setattr(scenarios.importlib.util, "find_spec", lambda name: None)
    assert "pip install safetensors adds it" in CELLS["export"].lacks()
    assert CELLS["dp"].lacks() is None


def test_ranks_and_degrees_of_the_cells():
    assert {name: 2 * CELLS[name].other_ranks for name in QUICK} == {
        "dp": 2,
        "dp+tp": 4,
        "dp+pp": 4,
        "dp-bf16": 2,
        "dp-together": 2,
        "dp-fresh": 2,
        "dp-unseeded": 2,
    }
    assert CELLS["dp+tp"].degrees(PARTIES["reference"], 2) == (1, 2)
    assert CELLS["dp+tp"].degrees(PARTIES["baseline"], 2) == (2, 1)
    assert CELLS["hsdp"].degrees(PARTIES["control"], 2) == (2, 2)
    # Context parallelism shards over its own ranks, beside those that replicate.
    assert CELLS["cp"].degrees(PARTIES["control"], 2) == (2, 1)
    assert [CELLS[name].other_ranks for name in ("cp", "ep", "dp+tp+pp")] == [2, 2, 4]


def test_every_cell_is_in_the_reference_and_in_the_help():
    table = (
        (TOP / "migrator/verify/README.md")
        .read_text()
        .split("| cell | what is compared |")[1]
    )
    named = {
        name
        for row in table.split("\n\n")[0].splitlines()
        for name in re.findall(r"`([^`]+)`", row.split("|")[1] if "|" in row else "")
    }
    assert named == set(CELLS)
    (cells,) = (o for o in verify.params if o.name == "cells")
    listed = set(re.findall(r"[\w+-]+", cells.help))
    assert set(CELLS) <= listed


def test_what_a_run_saves_and_starts_from(tmp_path):
    write(
        tmp_path,
        config_manager=CONFIG.replace(
            "    enable_checkpoint",
            "    interval: int = 1\n    load_step: int = -1\n    load_only: bool = False\n"
            "    last_save_in_hf: bool = False\n    initial_load_in_hf: bool = False\n    enable_checkpoint",
        ),
    )

    def checkpoint(cell: str, party: str) -> dict:
        return settings(tmp_path, PARTIES[party], cell)["checkpoint"]

    assert checkpoint("dp", "migrated")["load_only"]
    assert checkpoint("dp-checkpoint", "baseline")["interval"] == 3
    assert checkpoint("dp-checkpoint", "resumed")["load_step"] == 3
    assert checkpoint("export", "migrated")["last_save_in_hf"]
    assert checkpoint("export", "reloaded")["initial_load_in_hf"]


def test_a_setting_that_cannot_be_spelled_is_an_error(tmp_path):
    write(tmp_path, config_manager=CONFIG.replace("    seed: int = 0\n", ""))
    with pytest.raises(VerifyError, match="no setting for the seed"):
        settings(tmp_path, None)


def test_cells_that_show_it_sooner_train_half_the_steps_but_five():
    long, short = CELLS["dp"], CELLS["dp-together"]
    assert [steps_of(long, steps) for steps in (2, 10, 30)] == [2, 10, 30]
    assert [steps_of(short, steps) for steps in (2, 6, 10, 30)] == [2, 5, 5, 15]
    assert steps_of(None, 10) == 10
