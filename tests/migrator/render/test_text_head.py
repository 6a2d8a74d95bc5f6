"""The first sentence of `check`: what a checkout is, and no more than that."""

import shutil

import pytest

from codemods.engine import migrate
from codemods.source import SourceFile
from codemods.targets import choose_target
from migrator import render
from migrator.apply import plan
from migrator.changeset import Changeset
from migrator.checkout import open_checkout
from migrator.errors import TitanMigrateError

from places import FIXTURES

FAR = "from torchtitan.models.llama3.infra.parallelize import apply_ddp\n"
DDP = "from torch.distributed._composable.replicate import replicate\n\n\ndef apply_ddp(model, dp_mesh):\n    replicate(model, device_mesh=dp_mesh)\n"
NEAR = "from torchtitan.models.llama3.parallelize import apply_replicate\n\n\ndef p(model, mesh):\n    apply_replicate(model, mesh)\n"
TRIED = """\
try:
    from torchtitan.a import apply_ddp
except ImportError:
    from torchtitan.b import apply_replicate as apply_ddp
apply_ddp(1)
"""
KEEPS = """\
class ParallelDims:
    def _mesh_exist(self, name, degree):
        if name == "fsdp":
            return True
        return degree > 1
"""
DROPS = KEEPS.replace("True", "degree > 1")


def head(tree, files, target="1d"):
    for path, source in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(source)
    checkout = open_checkout(tree, require_git=False)
    return render.sentence(plan(checkout, choose_target(target, None)))


@pytest.mark.parametrize(
    "files, sentence",
    [
        ({"pkg/plan.py": FAR}, "torchtitan is a dependency here, and not part of this checkout, and its apply_ddp is used: 1 place in 1 file to see to."),
        ({"pkg/plan.py": FAR, "pkg/x.py": DDP.replace("apply_ddp", "wrap")}, "torchtitan is a dependency here, and not part of this checkout, and its apply_ddp is used, beside DDP in another place: 2 places in 2 files to see to."),
        ({"pkg/plan.py": NEAR + "F = apply_replicate\n" + FAR}, "torchtitan is a dependency here, and not part of this checkout, and its apply_ddp is used: 1 place in 1 file to see to."),
        ({"pkg/plan.py": "X = 1\n", "pkg/run.py": TRIED}, "torchtitan is a dependency here, and not part of this checkout, and its apply_ddp is used: 3 places in 1 file to see to."),
        ({"pkg/plan.py": NEAR}, "Nothing to do: torchtitan is a dependency here, and not part of this checkout; what is called of it is replicate's already."),
        ({"pkg/plan.py": DDP}, "A copy of torchtitan's DDP path: 1 place in 1 file to migrate."),
        ({"pkg/dims.py": KEEPS}, "Nothing to do: there is no apply_ddp here, and pure replication is fully_shard over a mesh whose fsdp dimension has degree 1, as from PR 2900 on (release 0.3.0)."),
        ({"pkg/dims.py": DROPS}, "Nothing to do: there is no apply_ddp here, nor any other data-parallel path of torchtitan's."),
        ({"pkg/plan.py": NEAR + "X = {'apply_ddp': 1}\n"}, "Nothing to rewrite, and a hazard is for a person to look at: torchtitan is a dependency here, and not part of this checkout; what is called of it is replicate's already."),
        ({"pkg/dims.py": DROPS, "pkg/plan.py": DDP}, "A torchtitan of generation 0.1, with DDP: 1 place in 1 file to migrate."),
    ],
)  # fmt: skip
def test_what_it_is(tmp_path, files, sentence):
    assert head(tmp_path, files) == sentence


@pytest.mark.parametrize("has", ["1d", "2d"])
def test_what_is_migrated_is_said_for_which_target(tmp_path, has):
    shutil.copytree(FIXTURES / "flat", tmp_path / "tree")
    checkout = open_checkout(tmp_path / "tree", require_git=False)
    first = migrate(checkout.files, choose_target(has, None))
    files = dict(checkout.files)
    files |= {path: SourceFile(path, raw) for path, raw in first.changes.items()}

    def said(target):
        return render.sentence(
            Changeset(checkout, migrate(files, choose_target(target, None)))
        )

    uses = f"this checkout already uses the composable replicate ({has})"
    assert said(has) == f"Nothing to do: {uses}."
    other = "2d" if has == "1d" else "1d"
    assert uses in said(other).replace("This", "this")
    assert f"{other} is asked for" in said(other)


def test_what_is_nothing_of_ours(tmp_path):
    with pytest.raises(TitanMigrateError, match="does not look like a torchtitan"):
        head(tmp_path, {"pkg/plan.py": "from other import apply_ddp\n"})
