"""What `check` says about the rest where a place is left for a person, run as printed."""

import json
import re
import shlex
import shutil

import pytest
from click.testing import CliRunner

from migrator.cli import main

from places import FIXTURES
from releases import git

TRAINER = """\
def prepare(backend, model):
    if backend.replicated:
        if backend.get_mesh().ndim > 1:
            raise ValueError("DDP not supported for > 1D parallelism")
        backend.apply_ddp(model, backend.get_mesh())
"""
STALE = """\
from torchtitan.models.gone.parallelize import apply_ddp


def plan(model, world_mesh):
    apply_ddp(model, world_mesh, enable_compile=False)
"""
SHARED = """\
from torchtitan.models.llama3.parallelize import apply_ddp

WRAP = {"ddp": apply_ddp}
"""
OWN = """\
from torch.distributed._composable.replicate import replicate


def apply_fsdp(model, dp_mesh):
    fully_shard(model, mesh=dp_mesh)


def apply_ddp(model, dp_mesh):
    replicate(model, device_mesh=dp_mesh)


WRAP = {"ddp": apply_ddp}
"""


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def fork(tmp_path):
    """A clean checkout with files put into it by path."""

    def make(**files):
        tree = tmp_path / "a fork"
        shutil.copytree(FIXTURES / "flat", tree)
        for name, source in files.items():
            place = tree / f"{name.replace('__', '/')}.py"
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_text(source)
        git(tree, "init", "-q")
        git(tree, "add", "-A")
        git(tree, "commit", "-q", "-m", "base")
        return tree

    return make


def printed_command(said):
    (line,) = (x for x in said.splitlines() if x.startswith("    titan-migrate apply"))
    return shlex.split(line)[1:]


def opt_out(tree, said):
    """Do what it says of lines; how many there were."""
    found = re.findall(r"^    (\S+):(\d+):(  # titan-migrate: .*)$", said, re.M)
    for path, number, comment in found:
        lines = (tree / path).read_text().splitlines()
        lines[int(number) - 1] += comment
        (tree / path).write_text("\n".join(lines) + "\n")
    return len(found)


@pytest.mark.parametrize(
    "source, lines, options",
    [
        (STALE, 2, ()),
        (TRAINER, 1, ("--target", "2d")),
        (TRAINER, 1, ("--ignore", "TM106", "--exclude", "scripts")),
    ],
)
def test_one_place_does_not_hold_up_the_rest(fork, source, lines, options):
    tree = fork(torchtitan__experiments__mine__trainer=source)
    plan = tree / "torchtitan/models/llama3/parallelize.py"
    said = run("check", tree, *options).stderr
    assert run("apply", tree, *options).exit_code == 1
    command = printed_command(said)
    assert command[-1] == "torchtitan/experiments/mine/trainer.py"
    result = run(*command)
    assert result.exit_code == 0, result.stderr
    assert "replicate_with_fsdp" in plan.read_text()
    assert (tree / "torchtitan/experiments/mine/trainer.py").read_text() == source

    git(tree, "checkout", "-q", ".")
    assert opt_out(tree, said) == lines
    assert run("apply", tree, *options, "--allow-dirty").exit_code == 0
    assert "replicate_with_fsdp" in plan.read_text()


def test_several_files_at_once_and_names_with_signs(fork):
    tree = fork(**{"torchtitan__experiments__a[1]__trainer": TRAINER, "stale": STALE})
    result = run(*printed_command(run("check", tree).stderr))
    assert result.exit_code == 0, result.stderr
    assert (tree / "stale.py").read_text() == STALE


def test_what_has_to_go_together_is_named(fork):
    """The table needs the apply_ddp of llama3, and so do the plans that import it."""
    tree = fork(
        torchtitan__table=SHARED,
        torchtitan__experiments__own__plan=OWN.replace("WRAP", "# "),
    )
    said = run("check", tree).stderr
    assert (
        "torchtitan/table.py goes only together with "
        "torchtitan/models/llama3/parallelize.py"
    ) in said
    result = run(*printed_command(said))
    assert result.exit_code == 0, result.stderr
    assert (
        "replicate_with_fsdp"
        in (tree / "torchtitan/experiments/own/plan.py").read_text()
    )


def test_where_nothing_else_can_go(fork):
    tree = fork(torchtitan__table=SHARED)
    said = run("check", tree).stderr
    assert "titan-migrate apply" not in said
    assert "Nothing else can be migrated before these places are seen to." in said


def test_nothing_is_said_of_the_rest_where_no_place_is_left(fork):
    said = run("check", fork()).stderr
    assert "to rewrite" in said and "Nothing else can be migrated" not in said


def test_for_programs(fork):
    tree = fork(torchtitan__experiments__mine__trainer=TRAINER)
    data = json.loads(run("check", tree, "--format", "json").stdout)
    assert data["rest_without"] == {
        "exclude": ["torchtitan/experiments/mine/trainer.py"],
        "lines": [
            {
                "path": "torchtitan/experiments/mine/trainer.py",
                "line": 5,
                "code": "TM211",
            }
        ],
    }
