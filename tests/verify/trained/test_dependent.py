"""A repository that uses torchtitan 0.2.2 as a package, migrated, imported and trained on two ranks."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from commands import run
from places import FIXTURES, TOP
from releases import git, release

SPECS = TOP / "tests" / "verify" / "lab_specs.py"

STARTER = """\
from torchtitan.train import Trainer, main


class LabTrainer(Trainer):
    def train(self):
        print("LabTrainer trains")
        super().train()


if __name__ == "__main__":
    main(LabTrainer)
"""
"""A trainer of the checkout's own, which verify has to start as the checkout does."""

pytestmark = [pytest.mark.torchrun, pytest.mark.release]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What each way of training each model came to."""
    folder = tmp_path_factory.mktemp("dependent")
    tree, out = folder / "tree", folder / "out.json"
    shutil.copytree(FIXTURES / "dependent", tree)
    titan = release("0.2.2")
    done = run("apply", "--no-git", tree, "--torchtitan", titan)
    assert done.exit_code == 0, done.stderr
    script = Path(__file__).with_name("dependents.py")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(script), str(tree), str(titan), str(out)]
    env = {**os.environ, "PYTHONPATH": str(TOP), "OMP_NUM_THREADS": "1"}
    ended = subprocess.run(
        command, capture_output=True, text=True, env=env, timeout=300
    )
    assert ended.returncode == 0, ended.stderr[-3000:]
    return json.loads(out.read_text())


@pytest.mark.parametrize(
    "model, groups",
    [
        ("tower", ["", "layers.0", "layers.1", "layers.2", "norm", "output", "tok_embeddings"]),
        ("fan", ["", "blades.0", "blades.1", "blades.2"]),
    ],
)  # fmt: skip
def test_replicate_trains_as_fsdp_does(trained, model, groups):
    replicate, fsdp = trained[model]["replicate"], trained[model]["fsdp"]
    assert replicate["last"] < replicate["first"]
    assert replicate["losses"] == fsdp["losses"]
    assert replicate["weights"] == fsdp["weights"]
    assert replicate["groups"] == fsdp["groups"] == groups
    assert replicate["autocast"] == fsdp["autocast"] == [False]


@pytest.mark.parametrize("model", ["tower", "fan"])
def test_what_a_migration_without_tm105_leaves_on_is_seen(trained, model):
    assert trained[model]["autocast"]["autocast"] == [True]


@pytest.mark.usefixtures("warm_ranks", "short")
@pytest.mark.parametrize("spoilt", [False, True])
def test_verify_trains_its_plans_with_the_torchtitan_that_is_named(tmp_path, spoilt):
    tree, titan = tmp_path / "tree", release("0.2.2")
    shutil.copytree(FIXTURES / "dependent", tree)
    shutil.copy(SPECS, tree / "lab" / "specs.py")
    (tree / "lab" / "start.py").write_text(STARTER)
    git(tree, "init", "-q", "-b", "main")
    git(tree, "add", "-A")
    git(tree, "commit", "-q", "-m", "base")
    options = (tree, "--torchtitan", titan)
    assert run("apply", *options, "--ignore", "TM105").exit_code == 0
    if spoilt:
        plan = tree / "lab/models/fan/parallelize.py"
        text = plan.read_text()
        assert text.count("        replicate(blade, ") == 1
        plan.write_text(text.replace("        replicate(blade, ", "        dict("))
    more = ("--cells", "dp", "--model", "fan", "--steps", 2, "--no-rehearse")
    done = run("verify", *options, *more, "--report", tmp_path / "report")
    assert done.exit_code == spoilt, done.output
    assert ("failed" if spoilt else "passed") in done.stdout
    assert "Trained by lab.start.LabTrainer." in " ".join(done.stdout.split())
    logs = list((tmp_path / "report").rglob("migrated/rank*.log"))
    assert logs and all("LabTrainer trains" in log.read_text() for log in logs)
    told = run("report", *options, "--verify-report", tmp_path / "report").stdout
    assert "the report records" in told and "cannot be told" not in told
    edited = tree / "lab" / "config.py"
    edited.write_text(edited.read_text() + "\n# since\n")
    told = run("report", *options, "--verify-report", tmp_path / "report").stdout
    assert "the report records" not in told
