"""Which models are rehearsed, and what a configuration says."""

from __future__ import annotations

import pytest

from migrator.verify.errors import VerifyError
from migrator.verify.rehearse import wanted

from places import TOP

TREE = TOP / "fixtures" / "v0_2_1"


def test_any_flavor_of_a_model_can_be_meant():
    found = wanted.wanted(TREE, ["llama3/405B", "llama3", "llama3/*"])
    assert [(one.name, one.flavor) for one in found] == [
        ("llama3", "405B"),
        ("llama3", "debugmodel"),
        ("llama3", "*"),
    ]


def test_all_is_every_folder():
    found = wanted.wanted(TREE, ["all/*"])
    assert {"llama3", "models/qwen3"} <= {one.name for one in found}
    assert {one.flavor for one in found} == {wanted.EVERY}


def test_what_there_is_not_is_refused():
    with pytest.raises(VerifyError, match="There is no model llama9/8B here"):
        wanted.wanted(TREE, ["llama9/8B"])


def test_a_configuration_is_a_file_or_the_name_of_one(tmp_path):
    place = tmp_path / "torchtitan" / "models" / "llama3" / "train_configs" / "big.toml"
    place.parent.mkdir(parents=True)
    place.write_text(
        '[model]\nname = "llama3"\nflavor = "70B"\n'
        "[parallelism]\ntensor_parallel_degree = 8\ndata_parallel_shard_degree = -1\n"
    )
    assert wanted.configuration(str(place), TREE) == place
    assert wanted.configuration("big", tmp_path) == place
    settings = wanted.read(place)
    assert wanted.title_of(settings) == "llama3/70B"
    assert wanted.degrees_of(settings) == {"tp": 8, "dp_shard": -1}
    assert wanted.title_of({}) is None


def test_a_configuration_that_is_not_there_or_does_not_parse_is_refused(tmp_path):
    with pytest.raises(VerifyError, match="is no file, and no train_configs/huge.toml"):
        wanted.configuration("huge", TREE)
    (tmp_path / "bad.toml").write_text("[model\n")
    with pytest.raises(VerifyError, match="cannot be read"):
        wanted.read(tmp_path / "bad.toml")
