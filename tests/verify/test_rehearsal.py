"""One rehearsal from beginning to end, as the command line starts it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from migrator import cli
from migrator.verify import rehearsal
from migrator.verify.errors import VerifyError

from places import TOP
from releases import as_checkout, git


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A checkout whose migration is not committed."""
    place = as_checkout(TOP / "fixtures" / "v0_2_1", tmp_path_factory.mktemp("c") / "c")
    assert (
        CliRunner().invoke(cli.main, ["apply", str(place), "--torch", "2.10"]).exit_code
        == 0
    )
    return place


def rehearsed(*arguments):
    return CliRunner().invoke(cli.main, ["rehearse", *map(str, arguments)])


def test_it_says_what_passes_and_leaves_nothing(checkout):
    before = git(checkout, "status", "--porcelain"), git(checkout, "worktree", "list")
    done = rehearsed(
        checkout, "--model", "llama3", "--world", "dp_replicate=8", "--json",
        "--", "--training.mixed_precision_reduce=bfloat16",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    (scene,) = json.loads(done.stdout)["scenes"]
    assert (scene["verdict"], scene["world"]) == ("passed", 8)
    after = git(checkout, "status", "--porcelain"), git(checkout, "worktree", "list")
    assert after == before


def test_a_configuration_names_the_model_and_lays_out_a_world_of_any_size(
    checkout, tmp_path
):
    file = tmp_path / "mine.toml"
    file.write_text(
        '[model]\nname = "llama3"\nflavor = "debugmodel_deep"\n'
        "[parallelism]\ntensor_parallel_degree = 4\n"
        '[training]\nmixed_precision_param = "float32"\n'
    )
    done = rehearsed(
        checkout, "--config", file, "--world-size", 64, "--json", "--no-step",
        "--", "--training.mixed_precision_reduce=bfloat16",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    (scene,) = json.loads(done.stdout)["scenes"]
    assert scene["model"] == "llama3/debugmodel_deep"
    assert scene["layout"] == {"dp_replicate": 16, "tp": 4}
    says = scene["plans"]["migrated"]["says"]
    assert says[:2] == ["computes in float32", "reduces in bfloat16"]


def test_wrong_arguments_are_a_sentence(checkout):
    done = rehearsed(checkout, "--world", "dp=2")
    assert done.exit_code == 2 and "--world dp=2" in done.stderr


def test_a_torch_that_is_too_old_is_a_sentence(monkeypatch):
    monkeypatch.setattr(rehearsal.metadata, "version", lambda name: "2.8.1+cpu")
    with pytest.raises(VerifyError, match="torch 2.8.1.* is too old for a rehearsal"):
        rehearsal.check_torch()
